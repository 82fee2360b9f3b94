"""The mirror of DocDB's records in RDS: what changed is written, what did not is left alone.

A pass is many small transactions, so that it can be killed at any point and simply run again. Nothing is removed
before a complete pass has seen the whole source, and never much at once.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    Table,
    Text,
    cast,
    delete,
    exists,
    func,
    literal,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by, insert
from sqlalchemy.exc import OperationalError

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.rds.load import RowWriter, copy_rows
from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.hashing import hash_text
from aind_pipelines.records.normalise import normalise
from aind_pipelines.tables.findings import FindingsPass
from aind_pipelines.tables.schema import docdb_findings
from aind_pipelines.tables.schema import docdb_records as mirror

SERVICE = "DocDB mirror"

VANISHING_RECORDS = 20
VANISHING_SHARE = 0.05

_LOCK = 0x61696E64_646F6364
_LOCK_NOT_AVAILABLE = "55P03"
_PATIENCE_SECONDS = 5
_BATCH_CHARACTERS = 8_000_000

_temporary = MetaData()
_batch_table = Table(
    "docdb_batch",
    _temporary,
    *(Column(name, Text) for name in ("record_version", "id", "name", "location", "schema_version")),
    Column("created", DateTime(timezone=True)),
    Column("modified", DateTime(timezone=True)),
    Column("content_hash", Text),
    Column("body", Text),
    prefixes=["TEMPORARY"],
)
_seen = Table(
    "docdb_seen",
    _temporary,
    Column("record_version", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    prefixes=["TEMPORARY"],
)


class MirrorBusy(ServiceError):
    """Another run is writing the mirror."""


class PassRefused(ServiceError):
    """A complete pass saw so much less than the mirror holds that nothing is removed on its word."""


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What a pass did to the mirror of one source.

    Attributes:
        read: Records of the source, each once.
        inserted: New ones.
        changed: Ones whose content differs from the mirror's.
        unchanged: Ones that were as the mirror has them already, and were not written.
        vanished: Ones that the source has no more, removed from the mirror (complete passes only).
        findings_by_code: What is odd about the records read.
    """

    read: int
    inserted: int
    changed: int
    unchanged: int
    vanished: int
    findings_by_code: Counter[str] = field(default_factory=Counter)


def ingest(
    engine: Engine,
    source_name: str,
    records: Iterable[Mapping[str, Any]],
    *,
    run_id: str | None = None,
    complete: bool = True,
    batch: int = 500,
) -> IngestResult:
    """Bring the mirror of one source up to date.

    A record's identity is (record version, ``_id``). Should two sources hold the same one, the later modified of the
    two is mirrored, and a finding on the other source says so.

    Args:
        engine: On a database with our schema.
        source_name: ``database.collection`` the records come from.
        records: The records, read once in bounded memory. What it raises passes through; what was read before is
            kept, and nothing is removed.
        run_id: Dagster run, if any.
        complete: Whether `records` is everything the source has. If so, what it lacks is removed from the mirror.
        batch: Records per transaction, at most; large ones are fewer.

    Raises:
        MirrorBusy: Another run is writing the mirror.
        PassRefused: The pass was complete and saw nothing of a source that the mirror holds records of, or would
            remove more than 20 records and more than 5 % of the source's. What it read is kept; nothing is removed.
        ServiceUnavailable: Postgres cannot be reached, or the connection was lost.
    """
    with translated(f"mirroring {source_name}"), _locked(engine) as connection:
        ingestion = _Ingestion(connection, source_name, run_id)
        for prepared in _batches(records, batch):
            with connection.begin():
                ingestion.write(prepared)
        with connection.begin():
            vanished = ingestion.finish() if complete else 0
        with connection.begin():
            return ingestion.result(vanished)


@contextlib.contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """A connection that holds the mirror's lock and the temporary tables of a pass."""
    with engine.connect() as connection:
        try:
            with connection.begin():
                _lock(connection)
                _temporary.create_all(connection, checkfirst=False)
            yield connection
            with connection.begin():
                _temporary.drop_all(connection, checkfirst=False)
                connection.execute(select(func.pg_advisory_unlock(_LOCK)))
        except BaseException:
            # Lock and tables end with the session; ending it is the one clean-up that cannot fail.
            connection.invalidate()
            raise


def _lock(connection: Connection) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'"))
    try:
        connection.execute(select(func.pg_advisory_lock(_LOCK)))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        message = "Another run is writing the mirror. Wait for it to end, then run this again."
        raise MirrorBusy(SERVICE, message, retryable=True) from None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A record ready to be written: its row, with the body as canonical text, and its findings."""

    row: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def identity(self) -> tuple[str, str]:
        return self.row["record_version"], self.row["id"]

    @property
    def key(self) -> str:
        return "/".join(self.identity)


def _prepare(record: Mapping[str, Any]) -> _Prepared:
    canonical = canonicalise(record)
    found = normalise(canonical.body)
    row = {
        "record_version": found.record_version,
        "id": found.id,
        "name": found.name,
        "location": found.location,
        "schema_version": found.schema_version,
        "created": found.created,
        "modified": found.modified,
        "content_hash": hash_text(canonical.text),
        "body": canonical.text,
    }
    return _Prepared(row, (*found.findings, *canonical.findings(f"{found.record_version}/{found.id}")))


def _batches(records: Iterable[Mapping[str, Any]], batch: int) -> Iterator[dict[tuple[str, str], _Prepared]]:
    """Batches by identity; of a record that comes twice in one, the last counts."""
    held: dict[tuple[str, str], _Prepared] = {}
    characters = 0
    for record in records:
        prepared = _prepare(record)
        held[prepared.identity] = prepared
        characters += len(prepared.row["body"])
        if len(held) >= batch or characters >= _BATCH_CHARACTERS:
            yield held
            held, characters = {}, 0
    if held:
        yield held


@dataclass(frozen=True, slots=True)
class _Mirrored:
    source: str
    content_hash: str
    modified: datetime | None


class _Ingestion:
    """The state of one pass."""

    def __init__(self, connection: Connection, source: str, run_id: str | None) -> None:
        self._connection = connection
        self._source = source
        self._run_id = run_id
        self._inserted = self._changed = self._unchanged = 0
        self._writer = RowWriter.for_columns(list(_batch_table.columns), ("record_version", "id"))
        with connection.begin():
            self._findings = FindingsPass(connection, docdb_findings, scope=source, run_id=run_id)

    def write(self, batch: dict[tuple[str, str], _Prepared]) -> None:
        """Write a batch, within a transaction."""
        first_time = self._note_seen(batch)
        mirrored = self._mirrored(batch)
        to_write: list[dict[str, Any]] = []
        findings: list[Finding] = []
        for identity, prepared in batch.items():
            known = mirrored.get(identity)
            if known is not None and known.source != self._source and not _supersedes(prepared, known):
                message = f"{known.source} holds this record too, modified at least as late; that one is mirrored."
                findings.append(Finding("held_twice", prepared.key, self._source, message))
                self._unchanged += identity in first_time
                continue
            findings += prepared.findings
            if known is None:
                self._inserted += 1
            elif known.source != self._source or known.content_hash != prepared.row["content_hash"]:
                self._changed += 1
            else:
                self._unchanged += identity in first_time
                continue
            to_write.append(prepared.row)
        self._upsert(to_write)
        self._findings.add(self._connection, findings, keys=[prepared.key for prepared in batch.values()])

    def _note_seen(self, batch: dict[tuple[str, str], _Prepared]) -> set[tuple[str, str]]:
        """Note what the pass has seen; returns what it had not seen before."""
        rows = [{"record_version": version, "id": identity} for version, identity in batch]
        new = insert(_seen).values(rows).on_conflict_do_nothing().returning(_seen.c.record_version, _seen.c.id)
        return {(version, identity) for version, identity in self._connection.execute(new)}

    def _mirrored(self, batch: dict[tuple[str, str], _Prepared]) -> dict[tuple[str, str], _Mirrored]:
        versions, ids = zip(*batch, strict=True)
        texts = ARRAY(Text)
        wanted = select(
            func.unnest(cast(list(versions), texts)).label("record_version"),
            func.unnest(cast(list(ids), texts)).label("id"),
        ).subquery()
        known = select(mirror.c.record_version, mirror.c.id, mirror.c.source, mirror.c.content_hash, mirror.c.modified)
        same = tuple_(mirror.c.record_version, mirror.c.id) == tuple_(wanted.c.record_version, wanted.c.id)
        return {
            (version, identity): _Mirrored(source, content_hash, modified)
            for version, identity, source, content_hash, modified in self._connection.execute(known.join(wanted, same))
        }

    def _upsert(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        driver: Any = self._connection.connection.driver_connection
        with driver.cursor() as cursor:
            cursor.execute("TRUNCATE pg_temp.docdb_batch")
            copy_rows(cursor, "pg_temp.docdb_batch", self._writer, rows)
        columns = [column.name for column in _batch_table.columns]
        values = [cast(column, JSONB) if column.name == "body" else column for column in _batch_table.columns]
        selected = select(*values, literal(self._source), literal(self._run_id, Text))
        statement = insert(mirror).from_select([*columns, "source", "run_id"], selected)
        written = [name for name in (*columns, "source", "run_id") if name not in ("record_version", "id")]
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[mirror.c.record_version, mirror.c.id],
                set_={name: statement.excluded[name] for name in written} | {"last_changed": func.now()},
            )
        )

    def finish(self) -> int:
        """End a complete pass: remove what it did not see, if that is little; returns how many records."""
        ours = mirror.c.source == self._source
        held = self._connection.scalar(select(func.count()).select_from(mirror).where(ours)) or 0
        seen = self._connection.scalar(select(func.count()).select_from(_seen)) or 0
        if held and not seen:
            raise PassRefused(
                SERVICE,
                f"{self._source} answered without any record, but the mirror holds {held:,}. Nothing was removed. "
                "Check that DocDB is up and that this is the right collection.",
                retryable=True,
            )
        not_seen = ours & ~exists().where(_seen.c.record_version == mirror.c.record_version, _seen.c.id == mirror.c.id)
        # One that the source holds under the other version now was upgraded in place.
        gone = not_seen & ~exists().where(_seen.c.id == mirror.c.id)
        lost = list(self._connection.scalars(select(mirror.c.id).where(gone).order_by(mirror.c.id)))
        allowed = max(VANISHING_RECORDS, int(held * VANISHING_SHARE))
        if len(lost) > allowed:
            raise PassRefused(
                SERVICE,
                f"{self._source} no longer has {len(lost):,} of the {held:,} records in the mirror, more than the "
                f"{allowed:,} that may vanish at once; among them {', '.join(lost[:3])}. Nothing was removed. Check "
                "the source; if they were deleted on purpose, delete them from docdb.records too.",
            )
        removed = self._connection.execute(delete(mirror).where(not_seen)).rowcount
        self._findings.add(self._connection, self._duplicate_locations())
        self._findings.finish(self._connection)
        return removed

    def _duplicate_locations(self) -> list[Finding]:
        """Locations that more than one record of a generation names; their key is the location."""
        shared = (
            select(
                mirror.c.record_version,
                mirror.c.location,
                func.array_agg(aggregate_order_by(mirror.c.id, mirror.c.id)),
            )
            .where(mirror.c.source == self._source, mirror.c.location.is_not(None))
            .group_by(mirror.c.record_version, mirror.c.location)
            .having(func.count() > 1)
        )
        return [
            Finding("duplicate_location", location, version, f"{len(ids)} records name it: {', '.join(ids[:5])}")
            for version, location, ids in self._connection.execute(shared)
        ]

    def result(self, vanished: int) -> IngestResult:
        """What the pass did."""
        return IngestResult(
            read=self._connection.scalar(select(func.count()).select_from(_seen)) or 0,
            inserted=self._inserted,
            changed=self._changed,
            unchanged=self._unchanged,
            vanished=vanished,
            findings_by_code=self._findings.counts(self._connection),
        )


def _supersedes(prepared: _Prepared, known: _Mirrored) -> bool:
    modified = prepared.row["modified"]
    return modified is not None and (known.modified is None or modified > known.modified)
