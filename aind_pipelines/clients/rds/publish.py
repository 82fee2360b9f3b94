"""Publish: rows become the content of a table, atomically, and no reader waits.

The rows, whatever holds them, are streamed by COPY into a temporary table of this session, which nobody else sees and
which vanishes with the session. There they are checked: keys unique and not null, rows within the part they stand
for, columns as the database has them. Only then one short transaction merges them into the target: it deletes what is
missing, updates what differs, inserts what is new, and leaves every other row unwritten. Under MVCC a reader sees the
table before or after it; views, grants, indexes and comments stay. Whatever fails, at whatever point, leaves the
table as it was. Where much was replaced, a vacuum follows, so that publishing again and again costs no more room.

Two publishers of one table queue on an advisory lock.
"""

# ruff: noqa: S608 - statements are built from quoted names only; values travel through COPY

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, types
from sqlalchemy.dialects import postgresql

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds.errors import PublishRefused, RdsError, SchemaMismatch, translated
from aind_pipelines.clients.rds.load import RowWriter, columns_of, copy_rows
from aind_pipelines.clients.rds.names import listed, qualified, quoted
from aind_pipelines.clients.rds.sources import Rows, source_of
from aind_pipelines.clients.rds.targets import Target, look_up

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[tuple[Any, ...]]

_log = logging.getLogger(__name__)

_STAGED = 'pg_temp."publish_rows"'
_PART = 'pg_temp."publish_part"'
_GONE = 'pg_temp."publish_gone"'
_REWRITTEN = 'pg_temp."publish_rewritten"'
_WORK_MEMORY = "64MB"
# The thresholds of the server's own vacuum.
_VACUUM_BASE, _VACUUM_SHARE = 50, 0.2


@dataclass(frozen=True)
class PublishResult:
    """What a publish did.

    Attributes:
        rows: Rows that were given.
        inserted: Rows that are new.
        updated: Rows that differed and were rewritten.
        deleted: Rows of the table that were not given.
        unchanged: Rows that were as given already, and were not written.
    """

    rows: int
    inserted: int
    updated: int
    deleted: int
    unchanged: int

    @property
    def changed(self) -> bool:
        """Whether the table's content is another than before."""
        return bool(self.inserted or self.updated or self.deleted)


def publish(
    connection_or_engine: Connection | Engine,
    table: Table,
    rows: Rows,
    *,
    key: Sequence[str],
    delete_missing: bool = True,
    allow_empty: bool = False,
    max_shrink: float = 0.5,
    stamps: Sequence[str] = (),
    part: Mapping[str, Any] | None = None,
    nan_is_null: bool | None = None,
) -> PublishResult:
    """Make `rows` the content of `table`, or of one part of it.

    Args:
        connection_or_engine: With an engine, or a connection that is in no transaction, publishing commits. With a
            connection in a transaction it happens inside of it, and becomes visible when the caller commits; no vacuum
            can follow then.
        table: The table as SQLAlchemy knows it; its column types say how values are stored
            (`aind_pipelines.clients.rds.encode` has the rules).
        rows: Mappings of column to value, a DataFrame, an Arrow table or reader, or an iterator of such batches
            (`aind_pipelines.clients.rds.sources.Rows`). Read once, in constant memory. All rows have the same columns,
            those of the first one; columns that no row has keep their value in rows that exist and take their default
            in new ones.
        key: Columns that identify a row: unique among the rows, never null.
        delete_missing: Delete the table's rows that are not among `rows`. False merges: nothing is deleted, and
            neither an empty nor a small result is refused.
        allow_empty: Take no rows at all as a right result, which empties the table (or the part).
        max_shrink: Largest share of the table's rows (or the part's) that may be lost; 1 allows any.
        stamps: Columns that say when or by which run a row was written. They are written with a row that is new or
            differs, and do not themselves make a row differ.
        part: The part of the table that `rows` stand for, as values by column, e.g. ``{"bucket": "b"}``. Every row
            must lie in it, and nothing outside of it is deleted.
        nan_is_null: Take NaN in float and numeric columns as NULL; None does so for DataFrames, which mean it.

    Columns that the server generates are left to it, whatever the rows say.

    Raises:
        PublishRefused: No rows, too few rows, a repeated or null key, or a row outside of the part.
        BadValue: A value cannot be stored; the message names column and row.
        SchemaMismatch: The table in the database is missing or has other columns or types.
        AccessRefused: The database refused the login or the right.
        ServiceUnavailable: The database cannot be reached, or the connection was lost.
        RdsError: The database refused the rows for another reason, e.g. a constraint.
    """
    if not key:
        raise ValueError("publish needs the columns that identify a row; use `replace` for a table without any.")
    options = _Options(delete_missing, allow_empty, max_shrink, tuple(stamps), dict(part or {}), nan_is_null)
    return _publish(connection_or_engine, table, rows, list(key), options)


def merge(
    connection_or_engine: Connection | Engine,
    table: Table,
    rows: Rows,
    *,
    key: Sequence[str],
    deleted: Rows = (),
    allow_empty: bool = False,
    max_shrink: float = 0.5,
    stamps: Sequence[str] = (),
    nan_is_null: bool | None = None,
) -> PublishResult:
    """Publish what changed: rows that are new or other than before, and the keys of those that are gone.

    One transaction, like `publish`; rows that are neither given nor named in `deleted` stay as they are.

    Args:
        connection_or_engine: As for `publish`.
        table: As for `publish`.
        rows: As for `publish`; none at all is no error.
        key: Columns that identify a row.
        deleted: Rows (in any form that `rows` may have) of exactly the key's columns. A key that the table does not
            have is no error, so that the same change can be published again.
        allow_empty: Take it as right that the table is empty afterwards, because all its rows were named in `deleted`.
        max_shrink: Largest share of the table's rows that may be lost; 1 allows any.
        stamps: As for `publish`.
        nan_is_null: As for `publish`.

    Raises:
        PublishRefused: A repeated or null key, one that is both given and deleted, or too large a loss.
        ServiceError: As for `publish`.
    """
    if not key:
        raise ValueError("merge needs the columns that identify a row.")
    options = _Options(False, allow_empty, max_shrink, tuple(stamps), {}, nan_is_null, deleted)
    return _publish(connection_or_engine, table, rows, list(key), options)


def replace(
    connection_or_engine: Connection | Engine,
    table: Table,
    rows: Rows,
    *,
    allow_empty: bool = False,
    max_shrink: float = 0.5,
    nan_is_null: bool | None = None,
) -> PublishResult:
    """Like `publish`, for a table without a key: its rows are deleted and the given ones inserted, atomically.

    Rows that are all there already, no more and no fewer, are left alone. A table whose rows take others along when
    they are deleted (``ON DELETE CASCADE``) is refused: it needs a key.
    """
    options = _Options(True, allow_empty, max_shrink, (), {}, nan_is_null)
    return _publish(connection_or_engine, table, rows, [], options)


@dataclass(frozen=True)
class _Options:
    delete_missing: bool
    allow_empty: bool
    max_shrink: float
    stamps: tuple[str, ...]
    part: dict[str, Any]
    nan_is_null: bool | None
    deleted: Rows = ()


def _publish(
    connection_or_engine: Connection | Engine,
    table: Table,
    rows: Rows,
    key: list[str],
    options: _Options,
) -> PublishResult:
    columns_of(table, [*key, *options.stamps, *options.part])
    with translated(f"publishing {table.fullname}"):
        if isinstance(connection_or_engine, Engine):
            with connection_or_engine.connect() as connection:
                return _in_two_transactions(connection, table, rows, key, options)
        if not connection_or_engine.in_transaction():
            return _in_two_transactions(connection_or_engine, table, rows, key, options)
        with connection_or_engine.begin_nested(), _cursor(connection_or_engine) as cursor:
            job = _stage(cursor, table, rows, key, options)
            result = job.merge()
            _drop(cursor)
            return result


def _in_two_transactions(
    connection: Connection,
    table: Table,
    rows: Rows,
    key: list[str],
    options: _Options,
) -> PublishResult:
    try:
        with connection.begin(), _cursor(connection) as cursor:
            _own_transaction(cursor)
            job = _stage(cursor, table, rows, key, options)
        with connection.begin(), _cursor(connection) as cursor:
            _own_transaction(cursor)
            result = job.with_cursor(cursor).merge()
    except BaseException:
        # The temporary tables end with the session; ending it is the one clean-up that cannot fail.
        connection.invalidate()
        raise
    _log.info("published %s: %s", table.fullname, result)
    with after_the_commit(connection, table.fullname):
        with connection.begin(), _cursor(connection) as cursor:
            _drop(cursor)
        if result.updated + result.deleted > _VACUUM_BASE + _VACUUM_SHARE * result.rows:
            _vacuum(connection, job.target.name)
    return result


@contextmanager
def after_the_commit(connection: Connection, what: str) -> Iterator[None]:
    """Tidy up. What fails here takes nothing back, so it is told, not raised as if nothing had been published."""
    try:
        with translated("tidying up"):
            yield
    except ServiceError as error:
        connection.invalidate()
        _log.warning("%s is published and stays so; what goes on after that did not succeed: %s", what, error)
    except BaseException:
        connection.invalidate()
        raise


@contextmanager
def _cursor(connection: Connection) -> Iterator[Cursor]:
    import psycopg

    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise RdsError(f"publishing needs the psycopg driver (postgresql+psycopg), not {connection.engine.driver}.")
    if driver.autocommit:
        raise RdsError("publishing needs transactions; this connection commits every statement (AUTOCOMMIT).")
    with driver.cursor() as cursor:
        yield cursor


@contextmanager
def _utc(cursor: Cursor) -> Iterator[None]:
    """Times are written without their zone, as UTC; whoever's transaction this is gets its own zone back."""
    cursor.execute("SELECT current_setting('TimeZone')")
    own = cursor.fetchone()
    assert own is not None
    cursor.execute("SET LOCAL timezone TO 'UTC'")
    yield
    cursor.execute("SELECT set_config('timezone', %s, true)", own)


def _own_transaction(cursor: Cursor) -> None:
    """Each statement of the merge must see what the publisher before us in the queue committed."""
    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    # A time limit meant for queries would cut a publish that waits for its turn or streams a long table.
    cursor.execute("SET LOCAL statement_timeout = 0")
    # Staged rows and the table are hashed against each other; within the usual 4 MB this goes through files.
    cursor.execute(
        "SELECT set_config('work_mem', %s, true) WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes(%s)",
        (_WORK_MEMORY, _WORK_MEMORY),
    )


def _vacuum(connection: Connection, target: str) -> None:
    """Make the room of the rows that were replaced usable again, for a loop would outrun the server's own vacuum.

    Without TRUNCATE no reader waits. Who does not own the table gets a notice instead, and the server does it later.
    """
    with _cursor(connection) as cursor:
        driver = cursor.connection
        driver.autocommit = True
        try:
            cursor.execute("SELECT current_setting('statement_timeout')")
            limit = cursor.fetchone()
            cursor.execute("SET statement_timeout = 0")
            cursor.execute(f"VACUUM (TRUNCATE FALSE, SKIP_LOCKED) {target}")
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", limit)
        finally:
            if not driver.closed:
                driver.autocommit = False


def _drop(cursor: Cursor) -> None:
    cursor.execute(f"DROP TABLE IF EXISTS {_STAGED}, {_PART}, {_GONE}, {_REWRITTEN}")


def _stage(cursor: Cursor, table: Table, rows: Rows, key: list[str], options: _Options) -> _Merge:
    """Load the rows into the session's temporary table and check them there."""
    source = source_of(rows)
    names = source.names if source.names is not None else list(key)
    columns = columns_of(table, names)
    absent = [name for name in (*key, *options.part) if name not in names]
    if absent and source.names is not None:
        raise PublishRefused(f"{table.fullname}: the rows have no column {', '.join(map(repr, absent))}.")
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

    def create(target: str, wanted: Sequence[str]) -> None:
        types_ = ", ".join(f"{quoted(name)} {table.c[name].type.compile(dialect)}" for name in wanted)
        cursor.execute(f"CREATE TEMPORARY TABLE {target} ({types_})")

    _drop(cursor)
    # Before there are temporary tables, which a bare name would mean first.
    target = look_up(cursor, table, key)
    create(_STAGED, [column.name for column in columns] or [table.columns[0].name])
    if options.part:
        create(_PART, list(options.part))
        writer = RowWriter.for_columns([table.c[name] for name in options.part])
        copy_rows(cursor, _PART, writer, [options.part])
    gone = source_of(options.deleted)
    if gone.names is not None:
        if set(gone.names) != set(key):
            raise PublishRefused(f"{table.fullname}: what is deleted is named by its key ({', '.join(key)}) alone.")
        create(_GONE, key)
    _compare_with_database(cursor, table, target)
    nan_is_null = source.means_nan_is_null if options.nan_is_null is None else options.nan_is_null
    with _utc(cursor):
        staged = source.load(cursor, _STAGED, columns, key=key, nan_is_null=nan_is_null)
        removed = gone.load(cursor, _GONE, columns_of(table, key), key=key)
    if staged:
        if key:
            cursor.execute(f"ANALYZE {_STAGED} ({listed(key)})")
        _check_keys(cursor, table, key)
        _check_part(cursor, table, options.part)
    if removed:
        _check_gone(cursor, table, key)
    written = [column.name for column in columns if column.computed is None]
    return _Merge(cursor, table, target, written, key, options, staged, removed)


def _compare_with_database(cursor: Cursor, table: Table, target: Target) -> None:
    """Before anything is touched: the columns have the types the rows are written in."""
    cursor.execute(
        """
        SELECT target.attname IS NULL, staged.attname,
               format_type(target.atttypid, target.atttypmod), format_type(staged.atttypid, staged.atttypmod)
        FROM pg_attribute AS staged
        LEFT JOIN pg_attribute AS target
            ON target.attrelid = %(target)s::regclass AND target.attname = staged.attname
            AND target.attnum > 0 AND NOT target.attisdropped
        WHERE staged.attrelid = %(staged)s::regclass AND staged.attnum > 0
            AND (target.attname IS NULL OR (target.atttypid, target.atttypmod) <> (staged.atttypid, staged.atttypmod))
        ORDER BY staged.attnum
        """,
        {"target": target.name, "staged": _STAGED},
    )
    differences = [
        f"it has no column {name!r}" if missing else f"column {name!r} is {actual}, not {wanted}"
        for missing, name, actual, wanted in cursor.fetchall()
    ]
    if differences:
        raise SchemaMismatch(
            f"table {table.fullname} is not as expected: {'; '.join(differences)}. "
            "If it is a table of this project, run `aind-pipelines db migrate`."
        )


def _check_keys(cursor: Cursor, table: Table, key: list[str]) -> None:
    if not key:
        return
    nulls = " OR ".join(f"{quoted(name)} IS NULL" for name in key)
    cursor.execute(
        f"SELECT {listed(key)}, count(*) FROM {_STAGED} GROUP BY {listed(key)} "
        f"HAVING count(*) > 1 OR {nulls} ORDER BY count(*) DESC LIMIT 3"
    )
    wrong = cursor.fetchall()
    if wrong:
        raise PublishRefused(
            f"{table.fullname}: the key ({', '.join(key)}) must be unique and never null among the rows, but: "
            f"{_shown(key, wrong)}."
        )


def _shown(key: list[str], counted: list[tuple[Any, ...]]) -> str:
    return "; ".join(
        ", ".join(f"{name}={str(value)[:80]!r}" for name, value in zip(key, row, strict=False)) + f" {row[-1]} times"
        for row in counted
    )


def _check_part(cursor: Cursor, table: Table, part: Mapping[str, Any]) -> None:
    if not part:
        return
    inside = " AND ".join(f"s.{quoted(name)} = p.{quoted(name)}" for name in part)
    cursor.execute(f"SELECT count(*) FROM {_STAGED} s WHERE NOT EXISTS (SELECT 1 FROM {_PART} p WHERE {inside})")
    outside = _one(cursor)
    if outside:
        raise PublishRefused(f"{table.fullname}: {outside} of the rows lie outside of the part {dict(part)!r}.")


def _check_gone(cursor: Cursor, table: Table, key: list[str]) -> None:
    cursor.execute(f"ANALYZE {_GONE}")
    same = " AND ".join(f"g.{quoted(name)} = s.{quoted(name)}" for name in key)
    cursor.execute(f"SELECT count(*) FROM {_STAGED} s WHERE EXISTS (SELECT 1 FROM {_GONE} g WHERE {same})")
    both = _one(cursor)
    if both:
        raise PublishRefused(f"{table.fullname}: {both} of the rows are also named as deleted.")


def _one(cursor: Cursor) -> int:
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True)
class _Merge:
    """Rows that are staged and checked, and how they enter the table."""

    cursor: Cursor
    table: Table
    target: Target
    columns: list[str]
    key: list[str]
    options: _Options
    staged: int
    removed: int

    def with_cursor(self, cursor: Cursor) -> _Merge:
        return replaced(self, cursor=cursor)

    def merge(self) -> PublishResult:
        self.cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"aind_pipelines.publish {self.target.name}",)
        )
        if not self.key:
            self._refuse_to_take_others_along()
        elif not self.target.key_is_unique:
            self._refuse_repeated_keys()
        if self.options.delete_missing and self.staged and self.key and not self.options.part:
            return self._merge_whole()
        deleted = 0
        if self.options.delete_missing:
            self.cursor.execute(f"SELECT count(*) FROM {self.target.name} t{self._where_in_part()}")
            present = _one(self.cursor)
            self._refuse_loss(present)
            if not self.key and present == self.staged and self._is_the_same():
                return PublishResult(self.staged, 0, 0, 0, self.staged)
            deleted = self._delete()
        elif self.removed:
            deleted = self._delete_named()
        updated = self._update() if self.staged and self.key else 0
        inserted = self._insert() if self.staged else 0
        if self.removed:
            self._refuse_lost(deleted - inserted)
        return self._result(inserted, updated, deleted)

    def _merge_whole(self) -> PublishResult:
        """One look at all rows says which of the three statements have anything to do."""
        differs = self._any_differs()
        changed = f"count(*) FILTER (WHERE t.ctid IS NOT NULL AND s.ctid IS NOT NULL AND ({differs}))"
        self.cursor.execute(
            f"SELECT count(t.ctid), count(*) FILTER (WHERE s.ctid IS NULL), {changed if differs else 0}, "
            "count(*) FILTER (WHERE t.ctid IS NULL) "
            f"FROM {self.target.name} t FULL JOIN {_STAGED} s ON {self._same_key()}"
        )
        row = self.cursor.fetchone()
        assert row is not None
        present, gone, changed, new = row
        self._refuse_loss(present)
        deleted = self._delete() if gone else 0
        updated = self._update(every=changed == present - gone) if changed else 0
        inserted = self._insert() if new else 0
        return self._result(inserted, updated, deleted)

    def _result(self, inserted: int, updated: int, deleted: int) -> PublishResult:
        return PublishResult(self.staged, inserted, updated, deleted, self.staged - updated - inserted)

    def _refuse_loss(self, present: int) -> None:
        if self.staged == 0:
            if not self.options.allow_empty:
                raise PublishRefused(
                    f"{self.table.fullname}: no rows were given for {present} present ones. "
                    "If that is right, publish with allow_empty."
                )
        elif self.staged < present * (1 - self.options.max_shrink):
            raise PublishRefused(
                f"{self.table.fullname}: only {self.staged} rows were given for {present} present ones, a larger loss "
                f"than the {self.options.max_shrink:.0%} allowed. If that is right, publish with a larger max_shrink."
            )

    def _refuse_lost(self, lost: int) -> None:
        """Refuse what naming rows as deleted came to; of the rows that are left no more are counted than it takes."""
        if lost <= 0:
            return
        share = self.options.max_shrink
        enough = max(1, math.ceil(lost * (1 - share) / share)) if share > 0 else "ALL"
        self.cursor.execute(f"SELECT count(*) FROM (SELECT FROM {self.target.name} LIMIT {enough}) AS t")
        left = _one(self.cursor)
        if left == 0:
            if not self.options.allow_empty:
                raise PublishRefused(
                    f"{self.table.fullname}: all of its {lost} rows are named as deleted. "
                    "If that is right, merge with allow_empty."
                )
        elif left < (left + lost) * (1 - share):
            raise PublishRefused(
                f"{self.table.fullname}: {lost} of {left + lost} rows are named as deleted, a larger loss than the "
                f"{share:.0%} allowed. If that is right, merge with a larger max_shrink."
            )

    def _refuse_to_take_others_along(self) -> None:
        if self.target.takes_others_along:
            raise PublishRefused(
                f"{self.table.fullname}: without a key its rows are deleted and inserted anew, and a foreign key "
                "deletes or changes rows of another table with them. Give it a primary key, or columns that are "
                "unique and never null."
            )

    def _refuse_repeated_keys(self) -> None:
        """No index vouches for the key: a row of ours could stand for several of the table."""
        among = f" WHERE EXISTS (SELECT 1 FROM {_STAGED} s WHERE {self._same_key()})" if self.staged else ""
        self.cursor.execute(
            f"SELECT {listed(self.key, 't.')}, count(*) FROM {self.target.name} t{among} "
            f"GROUP BY {listed(self.key, 't.')} HAVING count(*) > 1 ORDER BY count(*) DESC LIMIT 3"
        )
        repeated = self.cursor.fetchall()
        if repeated:
            raise PublishRefused(
                f"{self.table.fullname}: the table itself holds the key ({', '.join(self.key)}) repeatedly: "
                f"{_shown(self.key, repeated)}. Remove the repetitions, or use a key that is unique."
            )

    def _part_conditions(self) -> list[str]:
        return [f"t.{quoted(name)} = (SELECT {quoted(name)} FROM {_PART})" for name in self.options.part]

    def _where_in_part(self) -> str:
        conditions = self._part_conditions()
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def _same_key(self) -> str:
        return " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in self.key)

    def _delete(self) -> int:
        conditions = self._part_conditions()
        if self.staged and self.key:
            conditions.append(f"NOT EXISTS (SELECT 1 FROM {_STAGED} s WHERE {self._same_key()})")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        self.cursor.execute(f"DELETE FROM {self.target.name} t{where}")
        return self.cursor.rowcount

    def _delete_named(self) -> int:
        same = " AND ".join(f"t.{quoted(name)} = g.{quoted(name)}" for name in self.key)
        self.cursor.execute(f"DELETE FROM {self.target.name} t USING {_GONE} g WHERE {same}")
        return self.cursor.rowcount

    def _update(self, *, every: bool = False) -> int:
        """Write the rows that differ. Where `every` row is known to, none is compared again: that join is narrower."""
        differs = self._any_differs()
        if not differs:
            return 0
        written = [name for name in self.columns if name not in self.key]
        assignments = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in written)
        condition = self._same_key() if every else f"{self._same_key()} AND ({differs})"
        statement = f"UPDATE {self.target.name} t SET {assignments} FROM {_STAGED} s WHERE {condition}"
        if not self.target.has_other_keys or self.target.is_referred_to:
            self.cursor.execute(statement)
            return self.cursor.rowcount
        import psycopg

        try:
            with self.cursor.connection.transaction():
                self.cursor.execute(statement)
                return self.cursor.rowcount
        except psycopg.errors.UniqueViolation:
            # Perhaps only on the way: an UPDATE looks at each row by itself, so that two cannot swap their values.
            return self._rewrite(condition)

    def _rewrite(self, condition: str) -> int:
        """Take the rows that differ out of the table and put them back as they are to be."""
        kept = [column.name for column in self.table.columns if column.computed is None]
        new = {name for name in self.columns if name not in self.key}
        values = ", ".join(f"{'s' if name in new else 't'}.{quoted(name)}" for name in kept)
        self.cursor.execute(
            f"CREATE TEMPORARY TABLE {_REWRITTEN} AS SELECT {values} FROM {self.target.name} t, {_STAGED} s "
            f"WHERE {condition}"
        )
        same = " AND ".join(f"t.{quoted(name)} = r.{quoted(name)}" for name in self.key)
        self.cursor.execute(f"DELETE FROM {self.target.name} t USING {_REWRITTEN} r WHERE {same}")
        self._put(kept, f"SELECT {listed(kept)} FROM {_REWRITTEN}")
        return self.cursor.rowcount

    def _any_differs(self) -> str:
        """The condition under which a row is written again; empty when there is nothing to compare."""
        compared = [name for name in self.columns if name not in self.key and name not in self.options.stamps]
        return " OR ".join(self._differs(name) for name in compared)

    def _differs(self, name: str) -> str:
        return f"{self._comparable(name, 't')} IS DISTINCT FROM {self._comparable(name, 's')}"

    def _comparable(self, name: str, of: str) -> str:
        kind = self.table.c[name].type
        # Plain json has no equality of its own; its text is what is stored.
        cast = "::text" if isinstance(kind, types.JSON) and not isinstance(kind, postgresql.JSONB) else ""
        return f"{of}.{quoted(name)}{cast}"

    def _is_the_same(self) -> bool:
        """Whether as many rows as are staged are the same ones, where there is no key to tell them apart by."""
        if len(self.columns) != sum(column.computed is None for column in self.table.columns):
            return False  # the columns that are not given take their defaults anew
        old, new = (", ".join(self._comparable(name, of) for name in self.columns) for of in "ts")
        self.cursor.execute(
            f"SELECT NOT EXISTS (SELECT {old} FROM {self.target.name} t EXCEPT ALL SELECT {new} FROM {_STAGED} s)"
        )
        row = self.cursor.fetchone()
        return row is not None and bool(row[0])

    def _insert(self) -> int:
        where = f" WHERE NOT EXISTS (SELECT 1 FROM {self.target.name} t WHERE {self._same_key()})" if self.key else ""
        self._put(self.columns, f"SELECT {listed(self.columns, 's.')} FROM {_STAGED} s{where}")
        return self.cursor.rowcount

    def _put(self, columns: list[str], query: str) -> None:
        # What the rows say of an identity column holds, also where the server alone would number them.
        self.cursor.execute(f"INSERT INTO {self.target.name} ({listed(columns)}) OVERRIDING SYSTEM VALUE {query}")


def vacuum_where_much_was_replaced(connection: Connection, table: Table, *, replaced: int, rows: int) -> bool:
    """What `publish` does after it committed, for whoever published inside of a transaction of their own.

    Args:
        connection: In no transaction, after the one that replaced the rows has committed.
        table: The table that was published.
        replaced: How many of its rows were updated or deleted.
        rows: How many rows it has now.

    Returns:
        Whether that was a fifth or more of the table, so that a vacuum was asked for. Who does not own the table
        leaves it to the server.
    """
    due = replaced > _VACUUM_BASE + _VACUUM_SHARE * rows
    if due:
        with translated(f"vacuuming {table.fullname}"):
            _vacuum(connection, qualified(table.name, table.schema))
    return due
