"""Publishing the analysts' tables from the mirrored records.

One pass over the records that changed feeds every table. They are read through a server-side cursor in one snapshot
and never all held in memory; their rows wait on disk until the pass is over. Then one transaction merges them into
the tables: a reader sees all tables before it or all after it, and waits for no lock.

``tables.derived_records`` keeps from which content, and by which code, the rows of each record were derived. A record
is derived again when one of the two is another; new code therefore derives everything once.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from blake3 import blake3
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    cast,
    delete,
    exists,
    func,
    not_,
    null,
    or_,
    select,
    text,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from aind_pipelines import records
from aind_pipelines.clients.rds.errors import PublishRefused, translated
from aind_pipelines.clients.rds.load import RowWriter, copy_rows
from aind_pipelines.clients.rds.publish import after_the_commit, publish, vacuum_where_much_was_replaced
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.normalise import NormalisedRecord, normalise
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables import analysts, derivations, schema
from aind_pipelines.tables.derivations import DERIVATIONS, Derivation
from aind_pipelines.tables.derivations.subjects import subject_rows
from aind_pipelines.tables.findings import FindingsPass
from aind_pipelines.tables.lineage import resolve_lineage
from aind_pipelines.tables.spool import Spool

_log = logging.getLogger(__name__)

_RECORDS_AT_A_TIME = 50
"""Records may weigh 100 KB each and some times that as Python objects."""

_LOCK = "aind_pipelines.tables"

# How much may go is decided by records, see `_Merge.take`; the subjects follow them.
_ANY_SHRINKING = 1.0

_LARGEST_LOSS, _LOSS_FLOOR = 0.5, 20
"""Share of the records that one pass may remove without a person's word, and how many whatever share they are. What
leaves the mirror is guarded there, more strictly; this is for a mirror that was emptied by something else."""

# What was derived of a content or by code that is no longer that of the record is derived again when it is asked for.
_NOTE_DERIVED = text("""
INSERT INTO tables.derived_records AS known (record_version, record_id, content_hash, code, tables)
SELECT record_version, record_id, content_hash, :code, CAST(:names AS text[]) FROM pg_temp.tables_touched
ON CONFLICT (record_version, record_id) DO UPDATE SET
    content_hash = excluded.content_hash,
    code = excluded.code,
    tables = CASE
        WHEN known.content_hash = excluded.content_hash AND known.code = excluded.code
        THEN ARRAY(SELECT unnest(known.tables) UNION SELECT unnest(excluded.tables))
        ELSE excluded.tables
    END
""")

_IF_MEANT = "If the records are gone on purpose, run analysts_tables with confirm_deletions: true."

_touched = Table(
    "tables_touched",
    MetaData(),
    Column("record_version", Text),
    Column("record_id", Text),
    Column("content_hash", Text),
    Column("rows", ARRAY(Integer), comment="how many rows the record has in each table, in the order of the pass"),
    schema="pg_temp",
)

_gone = Table(
    "tables_gone",
    MetaData(),
    Column("record_version", Text),
    Column("record_id", Text),
    schema="pg_temp",
)
"""Records that have rows and that the mirror has no more. They are looked up once: each statement of a pass would see
another mirror where that changes meanwhile."""


@dataclass(frozen=True, slots=True)
class TableResult:
    """What a pass did to one table.

    Attributes:
        rows: Rows it has now.
        inserted: Rows that are new.
        updated: Rows that differed and were rewritten.
        deleted: Rows that are gone.
        records: Records that were derived for it.
        findings: Standing findings about the values of this table, by code.
    """

    rows: int
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    records: int = 0
    findings: dict[str, int] | None = None

    @property
    def changed(self) -> int:
        """How many rows the pass wrote or removed."""
        return self.inserted + self.updated + self.deleted


@cache
def code_digest() -> str:
    """A digest of the code that rows depend on: everything in `aind_pipelines.records` and the derivations."""
    digest = blake3()
    for package in (records, derivations):
        assert package.__file__ is not None
        for path in sorted(Path(package.__file__).parent.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def publish_tables(
    engine: Engine,
    names: Collection[str] | None = None,
    *,
    full: bool = False,
    confirm_deletions: bool = False,
    run_id: str | None = None,
) -> dict[str, TableResult]:
    """Bring the analysts' tables up to date with the mirrored records.

    Records that the mirror has no more leave every table, whichever were asked for. A second pass at the same time
    waits for the first one.

    Args:
        engine: On a database with our schema.
        names: Tables to publish, of `DERIVATIONS`; all when not given.
        full: Derive every record again, and remove rows of records that the mirror does not have.
        confirm_deletions: Whether a person confirmed that so many records are gone from the mirror, or all of them.
        run_id: Dagster run, if any.

    Returns:
        What was done, by table that was asked for.

    Raises:
        PublishRefused: The mirror is empty, and the tables are not; or it lost more than half, and more than a few,
            of the records that they were derived from. The tables are as they were.
        ServiceError: Postgres cannot be reached or refused; the tables are as they were.
        OSError: The temporary directory is full; the tables are as they were.
    """
    chosen = [derivation for derivation in DERIVATIONS if names is None or derivation.name in names]
    unknown = set(names or ()) - {derivation.name for derivation in DERIVATIONS}
    if unknown:
        raise ValueError(f"no derivation makes {', '.join(sorted(unknown))}")
    with translated("publishing the analysts' tables"), _alone(engine) as connection, contextlib.ExitStack() as stack:
        spools = {derivation.name: stack.enter_context(Spool()) for derivation in chosen}
        found = stack.enter_context(Spool())
        touched = stack.enter_context(Spool())
        with connection.begin():
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            if not confirm_deletions:
                _refuse_an_empty_mirror(connection)
            count = _derive(connection, chosen, full, spools, touched, found)
        with connection.begin():
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            merge = _Merge(connection, chosen, full=full, run_id=run_id)
            merge.take(touched, count, confirmed=confirm_deletions)
            results = {
                derivation.name: merge.table(index, spools[derivation.name]) for index, derivation in enumerate(chosen)
            }
            merge.note_findings(found)
            results = merge.finish(results)
        with after_the_commit(connection, "what was derived"):
            merge.vacuum()
    for name, result in results.items():
        _log.info("run %s published %s: %s", run_id, name, result)
    return results


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A connection that holds the passes' lock."""
    key = func.hashtextextended(_LOCK, 0)
    with engine.connect() as connection:
        try:
            with connection.begin():
                if not connection.scalar(select(func.pg_try_advisory_lock(key))):
                    _log.info("another run is publishing the analysts' tables; waiting for it")
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    connection.execute(select(func.pg_advisory_lock(key)))
            yield connection
            with after_the_commit(connection, "what was derived"), connection.begin():
                connection.execute(select(func.pg_advisory_unlock(key)))
        except BaseException:
            # The lock ends with the session; ending it is the one clean-up that cannot fail.
            connection.invalidate()
            raise


def _refuse_an_empty_mirror(connection: Connection) -> None:
    empty = connection.scalar(select(~exists(select(schema.docdb_records.c.id))))
    filled = connection.scalar(select(func.count()).select_from(schema.data_assets)) or 0
    if empty and filled:
        raise PublishRefused(
            f"docdb.records is empty, public.data_assets has {filled:,} rows; the tables are left as they are. "
            f"Run docdb_records, and look at its log if it stays empty. {_IF_MEANT}"
        )


def mirrored_records(connection: Connection, names: list[str], *, full: bool = False) -> Iterator[Any]:
    """Records of the mirror whose rows in the tables `names` are of another content or code, or all of them.

    Yields:
        Rows with record_version, id, content_hash and body; read as they are asked for.
    """
    mirror, known = schema.docdb_records.c, schema.derived_records.c
    same = and_(known.record_version == mirror.record_version, known.record_id == mirror.id)
    query = select(mirror.record_version, mirror.id, mirror.content_hash, mirror.body)
    if not full:
        query = query.outerjoin_from(schema.docdb_records, schema.derived_records, same).where(
            or_(
                known.content_hash.is_distinct_from(mirror.content_hash),
                known.code != code_digest(),
                not_(known.tables.contains(cast(names, ARRAY(Text)))),
            )
        )
    yield from connection.execute(query.execution_options(stream_results=True, yield_per=_RECORDS_AT_A_TIME))


def read_mirrored(row: Any) -> NormalisedRecord:
    """The normalised record of a row; the identity the mirror filed it under is the one that tables refer to."""
    return replace(normalise(row.body), record_version=row.record_version, id=row.id)


def _derive(
    connection: Connection,
    chosen: list[Derivation],
    full: bool,
    spools: dict[str, Spool],
    touched: Spool,
    found: Spool,
) -> int:
    """Derive the rows of every record that changed into the spools; returns how many records these are."""
    count = 0
    for row in mirrored_records(connection, [derivation.name for derivation in chosen], full=full):
        record = read_mirrored(row)
        numbers: list[int] = []
        for derivation in chosen:
            reader = Reader(row.body, f"{record.record_version}/{record.id}")
            rows = derivation.rows(record, reader)
            spools[derivation.name].extend(rows)
            numbers.append(len(rows))
            if reader.findings:
                found.extend([(derivation.name, reader.sorted_findings())])
        touched.extend(
            [
                {
                    "record_version": record.record_version,
                    "record_id": record.id,
                    "content_hash": row.content_hash,
                    "rows": numbers,
                }
            ]
        )
        count += 1
    return count


class _Merge:
    """The transaction that brings rows from the spools into the tables."""

    def __init__(self, connection: Connection, chosen: list[Derivation], *, full: bool, run_id: str | None) -> None:
        self._connection = connection
        self._chosen = chosen
        self._full = full
        self._run_id = run_id
        self._records = 0
        self._removed: list[str] = []
        # Rows written or removed, by table; and those of them that leave room behind.
        self._changed: Counter[Table] = Counter()
        self._replaced: Counter[Table] = Counter()
        self._findings = {
            derivation.name: FindingsPass(connection, schema.table_findings, scope=derivation.name, run_id=run_id)
            for derivation in chosen
        }

    def take(self, touched: Spool, count: int, *, confirmed: bool) -> None:
        """Note which records were derived, and remove the rows of those that the mirror has no more.

        Raises:
            PublishRefused: That would be more of them than may go unless `confirmed`.
        """
        self._records = count
        connection = self._connection
        _touched.create(connection)
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor:
            writer = RowWriter.for_columns(list(_touched.columns), ("record_version", "record_id"))
            copy_rows(cursor, "pg_temp.tables_touched", writer, touched)
        connection.execute(text("ANALYZE pg_temp.tables_touched"))
        gone = self._find_gone(confirmed=confirmed)
        for derivation in DERIVATIONS if gone else ():
            table, identity = derivation.table, derivation.id_column
            deleted = connection.execute(delete(table).where(_is_gone(table, identity))).rowcount
            self._note(table, deleted=deleted)
        known = schema.derived_records
        forgotten = delete(known).where(_is_gone(known, "record_id"))
        self._note(known, deleted=connection.execute(forgotten).rowcount)
        identities = connection.execute(select(_gone.c.record_version, _gone.c.record_id))
        self._removed = [f"{version}/{identity}" for version, identity in identities]
        _gone.drop(connection)

    def _find_gone(self, *, confirmed: bool) -> int:
        """Note which records have rows and are in the mirror no more; returns how many these are."""
        connection, known = self._connection, schema.derived_records
        named = [select(known.c.record_version, known.c.record_id)]
        if self._full:  # rows of unknown origin too
            tables = [(derivation.table.c, derivation.id_column) for derivation in DERIVATIONS]
            named += [select(columns.record_version, columns[identity]) for columns, identity in tables]
        derived = (union(*named) if self._full else named[0]).subquery()
        _gone.create(connection)
        found = select(derived).where(~_in_mirror(derived, "record_id"))
        connection.execute(insert(_gone).from_select(["record_version", "record_id"], found))
        connection.execute(text("ANALYZE pg_temp.tables_gone"))
        gone = self._rows_of(_gone)
        if gone > _LOSS_FLOOR and not confirmed:
            before = connection.scalar(select(func.count()).select_from(derived)) or 0
            if gone > before * _LARGEST_LOSS:
                raise PublishRefused(
                    f"docdb.records no longer has {gone:,} of the {before:,} records that the analysts' tables were "
                    "derived from, more than half of them; the tables are left as they are. Look at docdb.records and "
                    f"the log of docdb_records, which brings back what DocDB has. {_IF_MEANT}"
                )
        return gone

    def _note(self, table: Table, *, inserted: int = 0, updated: int = 0, deleted: int = 0) -> None:
        self._changed[table] += inserted + updated + deleted
        self._replaced[table] += updated + deleted

    def table(self, index: int, rows: Spool) -> TableResult:
        """Merge the rows of one table; those that its records no longer have are deleted."""
        derivation, connection = self._chosen[index], self._connection
        table = derivation.table
        deleted = self._changed[table]
        if not self._records:
            return TableResult(0, deleted=deleted)
        merged = publish(connection, table, rows, key=derivation.key, delete_missing=False)
        numbers = _touched.c.rows[index + 1]
        same = and_(
            table.c.record_version == _touched.c.record_version,
            table.c[derivation.id_column] == _touched.c.record_id,
        )
        surplus = table.c.position >= numbers if "position" in table.c else numbers == 0
        cut = connection.execute(delete(table).where(same, surplus)).rowcount
        self._note(table, inserted=merged.inserted, updated=merged.updated, deleted=cut)
        return TableResult(0, merged.inserted, merged.updated, deleted + cut, self._records)

    def note_findings(self, found: Spool) -> None:
        """Store what was odd about the records, and resolve what no longer is."""
        connection, table = self._connection, schema.table_findings
        held: dict[str, list[Finding]] = {derivation.name: [] for derivation in self._chosen}
        for name, findings in found:
            held[name] += findings
            if len(held[name]) >= 1_000:
                self._findings[name].add(connection, held[name])
                held[name] = []
        for name, findings in held.items():
            self._findings[name].add(connection, findings)
        key = func.concat(_touched.c.record_version, "/", _touched.c.record_id)
        looked_at = exists().where(key == table.c.key)
        started = min(findings.started for findings in self._findings.values())
        not_found_again = and_(table.c.scope.in_(held), table.c.last_seen < started, looked_at)
        resolved = connection.execute(
            update(table)
            .where(table.c.resolved_at.is_(None), or_(table.c.key == func.any(self._removed), not_found_again))
            .values(resolved_at=func.clock_timestamp())
        )
        found_again = and_(table.c.scope.in_(held), table.c.last_seen >= started, table.c.first_seen < func.now())
        again = connection.scalar(select(func.count()).select_from(table).where(found_again)) or 0
        self._note(table, updated=resolved.rowcount + again)

    def finish(self, results: dict[str, TableResult]) -> dict[str, TableResult]:
        """Make what depends on all records, whichever tables were asked for, and note what was done."""
        connection = self._connection
        final = dict(results)
        if "asset_lineage" in final or self._changed[schema.data_assets]:
            resolved = resolve_lineage(connection)
            self._note(analysts.asset_lineage, updated=resolved)
            if "asset_lineage" in final:
                lineage = final["asset_lineage"]
                # New rows are resolved here too; they are new all the same.
                final["asset_lineage"] = replace(lineage, updated=max(lineage.updated, resolved - lineage.inserted))
        if self._changed[schema.subject_statements] or ("subjects" in final and self._full):
            made = self._subjects()
            self._note(schema.subjects, inserted=made.inserted, updated=made.updated, deleted=made.deleted)
            final |= {"subjects": made} if "subjects" in final else {}
        self._note_derived()
        for name, result in final.items():
            final[name] = replace(result, rows=self._note_publication(name, result), findings=self._standing(name))
        for table in schema.ANALYSTS_TABLES:
            if self._changed[table] and table.name not in final:
                self._note_change(table)
        _touched.drop(connection)
        return final

    def vacuum(self) -> None:
        """After the transaction: make the room of rows that were replaced usable again, where these were many."""
        for table, replaced in self._replaced.items():
            if replaced:
                with self._connection.begin():
                    self._connection.execute(text("SET LOCAL statement_timeout = 0"))
                    rows = self._rows_of(table)
                vacuum_where_much_was_replaced(self._connection, table, replaced=replaced, rows=rows)

    def _note_derived(self) -> None:
        connection, known = self._connection, schema.derived_records
        same = and_(known.c.record_version == _touched.c.record_version, known.c.record_id == _touched.c.record_id)
        again = connection.scalar(select(func.count()).select_from(known.join(_touched, same))) or 0
        names = [derivation.name for derivation in self._chosen]
        connection.execute(_NOTE_DERIVED, {"code": code_digest(), "names": names})
        self._note(known, updated=again)

    def _subjects(self) -> TableResult:
        statements = self._connection.execute(select(schema.subject_statements).execution_options(yield_per=1_000))
        rows = list(subject_rows(row._asdict() for row in statements))
        made = publish(
            self._connection, schema.subjects, rows, key=("subject_id",), max_shrink=_ANY_SHRINKING, allow_empty=True
        )
        return TableResult(0, made.inserted, made.updated, made.deleted, self._records)

    def _rows_of(self, table: Table) -> int:
        return self._connection.scalar(select(func.count()).select_from(table)) or 0

    def _note_publication(self, name: str, result: TableResult) -> int:
        """Note that the table is up to date; returns how many rows it has."""
        log = schema.publications
        # Counted each time: a number kept from the last time would hide that somebody else changed the table.
        rows = self._rows_of(next(table for table in schema.ANALYSTS_TABLES if table.name == name))
        statement = insert(log).values(
            table_name=name,
            rows=rows,
            published_at=func.now(),
            changed_at=func.now() if result.changed else null(),
            run_id=self._run_id,
        )
        new = statement.excluded
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[log.c.table_name],
                set_={
                    "rows": new.rows,
                    "published_at": new.published_at,
                    "changed_at": func.coalesce(new.changed_at, log.c.changed_at),
                    "run_id": new.run_id,
                },
            )
        )
        return rows

    def _note_change(self, table: Table) -> None:
        """Note that a table that was not asked for changed: it lost rows, and is no more up to date than before."""
        log = schema.publications
        self._connection.execute(
            update(log)
            .where(log.c.table_name == table.name)
            .values(rows=self._rows_of(table), changed_at=func.now(), run_id=self._run_id)
        )

    def _standing(self, name: str) -> dict[str, int]:
        table = schema.table_findings
        counts = (
            select(table.c.code, func.count().label("standing"))
            .where(table.c.scope == name, table.c.resolved_at.is_(None))
            .group_by(table.c.code)
        )
        return {row.code: row.standing for row in self._connection.execute(counts)}


def _in_mirror(rows: FromClause, id_column: str) -> ColumnElement[bool]:
    mirror = schema.docdb_records.c
    return exists().where(mirror.record_version == rows.c.record_version, mirror.id == rows.c[id_column])


def _is_gone(rows: FromClause, id_column: str) -> ColumnElement[bool]:
    return exists().where(_gone.c.record_version == rows.c.record_version, _gone.c.record_id == rows.c[id_column])
