"""The mirror of DocDB's records in RDS: what changed is written, what did not is left alone.

A pass is many small transactions, so that it can be killed at any point and simply run again. History is written in
the transaction of the record it tells of. Nothing is removed before a complete pass has seen the whole source, and
never much at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Text,
    cast,
    exists,
    func,
    literal,
    select,
    text,
    tuple_,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert

from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.mirror.docdb import deletions, held_twice, history, staging, watermark
from aind_pipelines.mirror.docdb.deletions import DeletionGuard
from aind_pipelines.mirror.docdb.errors import SERVICE, CollectionEmpty, PassRefused
from aind_pipelines.mirror.docdb.oversized import Oversized, TooLarge
from aind_pipelines.mirror.docdb.prepare import Identity, Prepared, Record, batches
from aind_pipelines.mirror.docdb.session import batch_table, locked, seen_table
from aind_pipelines.mirror.docdb.staging import identities
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.findings import FindingsPass
from aind_pipelines.tables.schema import docdb_findings
from aind_pipelines.tables.schema import docdb_records as mirror

if TYPE_CHECKING:
    from aind_pipelines.mirror.docdb.source import Source


_RECORD_VERSIONS = ("v1", "v2")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What a pass did to the mirror of one source.

    Attributes:
        read: Records read whole, each once.
        inserted: New ones.
        changed: Ones whose content differs from the mirror's, or that another source is mirrored for now.
        unchanged: Ones that were as the mirror has them already, and were not written.
        vanished: Ones removed from the mirror: no source has them any more, or under the other record version.
        findings_by_code: What is odd about the records read.
        without_modified: Records of the source without usable modified time; None when the pass did not see them all.
    """

    read: int
    inserted: int
    changed: int
    unchanged: int
    vanished: int
    findings_by_code: Counter[str] = field(default_factory=Counter)
    without_modified: int | None = None

    @property
    def written(self) -> int:
        """How many records of the mirror are not as they were."""
        return self.inserted + self.changed + self.vanished


def ingest(
    engine: Engine,
    source_name: str,
    records: Iterable[Record | TooLarge],
    *,
    sources: Sequence[Source] = (),
    run_id: str | None = None,
    complete: bool = True,
    batch: int = 500,
    guard: DeletionGuard = DeletionGuard(),  # noqa: B008 - immutable
    confirm_deletions: bool = False,
    confirm_gone: Callable[[Sequence[str]], None] = lambda _: None,
) -> IngestResult:
    """Bring the mirror of one source up to date.

    A record's identity is (record version, ``_id``). Should two sources hold the same one, the later modified of the
    two is mirrored, and a finding on the other source says so. When that one goes, or is no longer the later one, the
    other source is asked for its record, in this pass: see `reconsider` and `Writer.let_go`.

    Args:
        engine: On a database with our schema.
        source_name: ``database.collection`` the records come from.
        records: The records, read once in bounded memory. What it raises passes through; what was read before is
            kept, and nothing is removed. One that is `TooLarge` leaves the mirror's as it is, with a finding.
        sources: Every source, this one too: those that are asked about records which change hands.
        run_id: Dagster run, if any.
        complete: Whether `records` is everything the source has. If so, what it lacks is removed from the mirror, and
            the source's watermark is set.
        batch: Records per transaction, at most; large ones are fewer.
        guard: How much a complete pass may remove.
        confirm_deletions: Whether a person confirmed the deletions listed in ``docdb.held_deletions``.
        confirm_gone: Raises when the source has one of these ids after all; asked before records are removed.

    Raises:
        MirrorBusy: Another run is writing the mirror.
        PassRefused: The pass was complete and saw nothing of a source that the mirror holds records of, would remove
            more than the guard allows, or every record of a bucket that had more than one. What it read is kept, and
            the deletions are listed in ``docdb.held_deletions``.
        ServiceUnavailable: Postgres cannot be reached, or the connection was lost.
    """
    with translated(f"mirroring {source_name}"), locked(engine) as connection:
        writer = Writer(connection, source_name, run_id, sources)
        writer.write_all(records, batch)
        if complete:
            with connection.begin():
                settled = deletions.settle(
                    connection,
                    source_name,
                    seen=select(seen_table).where(seen_table.c.source == source_name),
                    missing=~_seen(source_name),
                    guard=guard,
                    confirmed=confirm_deletions,
                    confirm_gone=confirm_gone,
                    let_go=writer.let_go,
                )
                if not settled.refusal:
                    writer.finish()
                    watermark.note_full(
                        connection, source_name, writer.highest, without_modified=writer.without_modified
                    )
        else:
            settled = deletions.Settled()
            with connection.begin():
                writer.note_duplicates()
        with connection.begin():
            result = writer.result(without_modified=writer.without_modified if complete else None)
        changed = reconsider(connection, sources, run_id)
        raise_if_held(settled)
    return replace(result, changed=result.changed + changed)


def reconsider(connection: Connection, sources: Sequence[Source], run_id: str | None) -> int:
    """Ask sources for records that they hold too, where the mirrored one has changed since they were compared.

    Killed or failed, it is made up for by the next pass of any kind. Returns how many records of the mirror changed.
    """
    changed = 0
    for _ in range(2):  # what a source takes over in the first round, the one it took it from is asked about
        for source in sources:
            writer, after = None, ""
            while keys := _to_reconsider(connection, source.name, after):
                writer, after = writer or Writer(connection, source.name, run_id, sources), keys[-1]
                writer.read_again(source, keys)
            if writer is not None:
                with connection.begin():
                    writer.note_duplicates()
                changed += writer.written
    return changed


def _to_reconsider(connection: Connection, source: str, after: str) -> list[str]:
    with connection.begin():
        return held_twice.to_reconsider(connection, source, after)


def raise_if_held(settled: deletions.Settled) -> None:
    """Fail a pass whose deletions were held.

    Raises:
        PassRefused: They were.
    """
    if not settled.refusal:
        return
    look = "Check that DocDB is up and that this is the right collection" if settled.empty else "Check the source"
    raise PassRefused(
        SERVICE,
        f"{settled.refusal}. Nothing of that was removed; docdb.held_deletions lists it. {look}. If they were deleted "
        "on purpose, run docdb_records in mode manifest with confirm_deletions: true.",
        retryable=settled.empty,
    )


@dataclass(frozen=True, slots=True)
class _Mirrored:
    source: str
    content_hash: str
    modified: datetime | None


class Writer:
    """Writes the records of one pass over one source.

    Args:
        connection: Of `locked`.
        source: ``database.collection``.
        run_id: Dagster run, if any.
        sources: Those asked for records that this one lets go.
        heir_to: A source and what it lets go: that is taken over from it, whatever the modified times.

    Attributes:
        highest: Highest modified time read so far that is not later than the clock at the beginning of the pass.
        without_modified: How many of the records read have no usable modified time.
        too_large: What the source has and could not hand over.
    """

    def __init__(
        self,
        connection: Connection,
        source: str,
        run_id: str | None,
        sources: Sequence[Source] = (),
        *,
        heir_to: tuple[str, Collection[Identity]] = ("", ()),
    ) -> None:
        self._connection = connection
        self._source = source
        self._run_id = run_id
        self._others = [other for other in sources if other.name != source]
        self._giver, self._given = heir_to
        self._inserted = self._changed = self._unchanged = self._removed = 0
        self.highest: datetime | None = None
        self.without_modified = 0
        self.too_large: set[Identity] = set()
        with _transaction(connection):
            self._started: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            self._findings = FindingsPass(connection, docdb_findings, scope=source, run_id=run_id)
            # Apart, because these can be told from the mirror after every pass, whatever part it read.
            self._locations = FindingsPass(connection, docdb_findings, scope=f"{source} locations", run_id=run_id)
            self.oversized = Oversized(connection, source, run_id)

    def write_all(self, records: Iterable[Record | TooLarge], batch: int) -> None:
        """Write records, a transaction per batch; what is too large to be read is noted."""
        too_large: list[TooLarge] = []

        def readable() -> Iterator[Record]:
            for record in records:
                if isinstance(record, TooLarge):
                    too_large.append(record)
                else:
                    yield record

        for prepared in batches(readable(), batch):
            with _transaction(self._connection):
                self._write(prepared)
                self.oversized.resolve(self._connection, [identity for _, identity in prepared])
        with _transaction(self._connection):
            self._note_too_large(too_large)

    def _note_too_large(self, records: list[TooLarge]) -> None:
        for record in records:
            self._note_time(record.modified, first_time=True)
        self.too_large.update((record.record_version, record.id) for record in records)
        self.oversized.note(self._connection, records)

    def _write(self, batch: dict[Identity, Prepared]) -> None:
        first_time = self._note_seen(batch)
        self._note_times(batch, first_time)
        former = self._former_versions(batch)
        claimed = held_twice.claimed(self._connection, former, besides=self._source)
        self.let_go(claimed)
        unclaimed = [identity for identity in former if identity not in claimed]
        self._removed += history.remove(self._connection, self._source, unclaimed)
        mirrored = self._mirrored(batch)
        ours: dict[Identity, Prepared] = {}
        findings: list[Finding] = []
        claims: dict[str, list[Finding]] = {}
        followed = {other.name for other in self._others}
        for identity, prepared in batch.items():
            known = mirrored.get(identity)
            elsewhere = known is not None and known.source != self._source
            given = known is not None and known.source == self._giver and identity in self._given
            if known is not None and elsewhere and not given and not _supersedes(prepared, known):
                findings.append(held_twice.claim(prepared.key, self._source, known.source))
                self._unchanged += identity in first_time
                continue
            if known is not None and elsewhere and not given and known.source in followed:
                claims.setdefault(known.source, []).append(held_twice.claim(prepared.key, known.source, self._source))
            findings += prepared.findings
            ours[identity] = prepared
        self._mirror(ours, mirrored, first_time)
        # A source has an _id once: whatever was found about it under the other record version is over.
        keys = [f"{version}/{identity}" for _, identity in batch for version in _RECORD_VERSIONS]
        self._findings.add(self._connection, findings, keys=keys)
        self._note_claims(claims)

    def _note_claims(self, claims: Mapping[str, list[Finding]]) -> None:
        """Note that the sources that records were taken over from hold them too, until these are asked.

        They are dated before the records' change, and so are to be reconsidered.
        """
        for source, findings in claims.items():
            theirs = FindingsPass(self._connection, docdb_findings, scope=source, run_id=self._run_id)
            theirs.started = self._findings.started
            theirs.add(self._connection, findings)

    def _mirror(
        self, batch: dict[Identity, Prepared], mirrored: dict[Identity, _Mirrored], first_time: set[Identity]
    ) -> None:
        """Write what the mirror has not, or has otherwise."""
        if not batch:
            return
        unchanged: list[Identity] = []
        for identity, content_hash in staging.stage(self._connection, batch.values()).items():
            known = mirrored.get(identity)
            if known is None:
                self._inserted += 1
            elif known.source != self._source or known.content_hash != content_hash:
                self._changed += 1
            else:
                self._unchanged += identity in first_time
                unchanged.append(identity)
        if len(unchanged) < len(batch):
            staging.unstage(self._connection, unchanged)
            self._upsert()
            history.write_batch(self._connection, self._source, self._run_id)

    def _note_seen(self, batch: dict[Identity, Prepared]) -> set[Identity]:
        """Note what the pass has seen; returns what it had not seen before."""
        columns = (seen_table.c.record_version, seen_table.c.id)
        these = select(literal(self._source, Text), identities(batch))
        new = insert(seen_table).from_select((seen_table.c.source, *columns), these)
        noted = self._connection.execute(new.on_conflict_do_nothing().returning(*columns))
        return {(version, identity) for version, identity in noted}

    def _note_times(self, batch: dict[Identity, Prepared], first_time: set[Identity]) -> None:
        for identity, prepared in batch.items():
            self._note_time(prepared.row["modified"], first_time=identity in first_time)

    def _note_time(self, modified: datetime | None, *, first_time: bool) -> None:
        if modified is None:
            self.without_modified += first_time
        elif modified <= self._started and (self.highest is None or modified > self.highest):
            self.highest = modified

    def _former_versions(self, batch: dict[Identity, Prepared]) -> list[Identity]:
        """What the mirror holds under the other record version.

        A collection has an ``_id`` once, so these were upgraded in place.
        """
        former = select(mirror.c.record_version, mirror.c.id).where(
            mirror.c.source == self._source,
            mirror.c.record_version.in_(_RECORD_VERSIONS),  # both there are: the primary key's index serves then
            mirror.c.id == func.any(cast(list({identity for _, identity in batch}), ARRAY(Text))),
            ~_seen(self._source),
        )
        return [(version, identity) for version, identity in self._connection.execute(former)]

    def _mirrored(self, batch: dict[Identity, Prepared]) -> dict[Identity, _Mirrored]:
        wanted = identities(batch)
        known = select(mirror.c.record_version, mirror.c.id, mirror.c.source, mirror.c.content_hash, mirror.c.modified)
        same = tuple_(mirror.c.record_version, mirror.c.id) == tuple_(wanted.c.record_version, wanted.c.id)
        return {
            (version, identity): _Mirrored(source, content_hash, modified)
            for version, identity, source, content_hash, modified in self._connection.execute(known.join(wanted, same))
        }

    def _upsert(self) -> None:
        columns = [column.name for column in batch_table.columns]
        selected = select(*batch_table.columns, literal(self._source), literal(self._run_id, Text))
        statement = insert(mirror).from_select([*columns, "source", "run_id"], selected)
        written = [name for name in (*columns, "source", "run_id") if name not in ("record_version", "id")]
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[mirror.c.record_version, mirror.c.id],
                set_={name: statement.excluded[name] for name in written} | {"last_changed": func.now()},
            )
        )

    def let_go(self, identities: Sequence[Identity]) -> None:
        """Take out of the mirror what this source has no more, within the caller's transaction.

        What another source has is mirrored from there instead, so that there is no moment in which the mirror has it
        not. What another has and cannot hand over now stays as it is.
        """
        if not identities:
            return
        kept: set[Identity] = set()
        for other in self._others:
            heir = Writer(self._connection, other.name, self._run_id, heir_to=(self._source, set(identities)))
            kept |= heir.inherit(other, identities)
            self._changed += heir.written
        going = [identity for identity in identities if identity not in kept]
        self._removed += history.remove(self._connection, self._source, going)
        self._findings.add(self._connection, [], keys=["/".join(identity) for identity in going])

    def inherit(self, source: Source, identities: Sequence[Identity]) -> set[Identity]:
        """Mirror what this source has of what another lets go; returns what it may have and did not hand over."""
        try:
            self.write_all(source.by_ids(sorted({identity for _, identity in identities})), _AT_ONCE)
        except CollectionEmpty:
            # One that had records, and whose own pass will refuse to believe it; or one that never had any.
            return set(identities) if held_twice.holds_any(self._connection, self._source) else set()
        self.note_duplicates()
        return self.too_large

    def read_again(self, source: Source, keys: Sequence[str]) -> None:
        """Read the records of these claims, and resolve the claims that no longer hold."""
        try:
            self.write_all(source.by_ids(sorted({key.partition("/")[2] for key in keys})), _AT_ONCE)
        except CollectionEmpty:
            return  # its own pass says whether that is so
        with self._connection.begin():
            self._findings.add(self._connection, [], keys=keys)

    @property
    def written(self) -> int:
        """How many records of the mirror are not as they were."""
        return self._inserted + self._changed + self._removed

    def forget_claims(self) -> None:
        """Resolve the claims on records that a manifest pass did not find in the source."""
        self._findings.add(self._connection, [], keys=held_twice.not_listed(self._connection, self._source))

    def note_duplicates(self) -> None:
        """Bring the findings about shared locations up to date after a pass that read a part.

        Only a location of what the pass has seen can be shared anew, and only one that was found before can be no
        longer: the others are not looked at.
        """
        # Without statistics, Postgres would join what was seen to the mirror by reading all of it.
        self._connection.execute(text("ANALYZE pg_temp.docdb_seen"))
        known = mirror.alias()
        seen = select(known.c.location).where(
            seen_table.c.source == self._source,
            known.c.record_version == seen_table.c.record_version,
            known.c.id == seen_table.c.id,
        )
        suspects = union(seen, self._locations.standing_keys())
        self._locations.add(self._connection, self._duplicate_locations(mirror.c.location.in_(suspects)))
        self._locations.finish(self._connection)

    def finish(self) -> None:
        """End a pass that read everything whole: findings that it did not find again are resolved."""
        self._locations.add(self._connection, self._duplicate_locations())
        self._locations.finish(self._connection)
        self._findings.finish(self._connection)
        self.oversized.finish(self._connection)

    def _duplicate_locations(self, *conditions: ColumnElement[bool]) -> list[Finding]:
        """Locations that more than one record of a generation names; their key is the location."""
        shared = (
            select(
                mirror.c.record_version,
                mirror.c.location,
                func.array_agg(aggregate_order_by(mirror.c.id, mirror.c.id)),
            )
            .where(mirror.c.source == self._source, mirror.c.location.is_not(None), *conditions)
            .group_by(mirror.c.record_version, mirror.c.location)
            .having(func.count() > 1)
        )
        return [
            Finding("duplicate_location", location, version, f"{len(ids)} records name it: {', '.join(ids[:5])}")
            for version, location, ids in self._connection.execute(shared)
        ]

    def result(self, *, without_modified: int | None) -> IngestResult:
        """What the pass did."""
        ours = seen_table.c.source == self._source
        seen = self._connection.scalar(select(func.count()).select_from(seen_table).where(ours)) or 0
        return IngestResult(
            read=seen - self.oversized.spared,
            inserted=self._inserted,
            changed=self._changed,
            unchanged=self._unchanged,
            vanished=self._removed,
            findings_by_code=sum(
                (each.counts(self._connection) for each in (self._findings, self._locations, self.oversized)),
                Counter(),
            ),
            without_modified=without_modified,
        )


def _seen(source: str) -> ColumnElement[bool]:
    """On the mirror: the pass has read the record in this source."""
    return exists().where(
        seen_table.c.source == source,
        seen_table.c.record_version == mirror.c.record_version,
        seen_table.c.id == mirror.c.id,
    )


def _transaction(connection: Connection) -> AbstractContextManager[object]:
    """A transaction, or a part of the one that is open."""
    return connection.begin_nested() if connection.in_transaction() else connection.begin()


def _supersedes(prepared: Prepared, known: _Mirrored) -> bool:
    modified = prepared.row["modified"]
    return modified is not None and (known.modified is None or modified > known.modified)
