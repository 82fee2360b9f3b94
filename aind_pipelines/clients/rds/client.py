"""The RDS client that scientists use: tables as DataFrames, queries, and writing that cannot half-succeed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, CursorResult, Engine, MetaData, Table, TextClause, event, inspect, text, types
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.types import TypeEngine

from aind_pipelines.clients.rds.encode import ServerType
from aind_pipelines.clients.rds.engine import SslMode, make_engine
from aind_pipelines.clients.rds.errors import RdsError, SchemaMismatch, translated
from aind_pipelines.clients.rds.frames import frame_of, table_for
from aind_pipelines.clients.rds.load import RowWriter, columns_of
from aind_pipelines.clients.rds.names import listed, qualified
from aind_pipelines.clients.rds.publish import PublishResult, publish, replace
from aind_pipelines.clients.rds.sources import Rows, Source, source_of
from aind_pipelines.clients.rds.targets import natural_key

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import pandas as pd
    from sqlalchemy.engine import ExceptionContext

    from aind_pipelines.clients.rds.bastion import SSHBastion
    from aind_pipelines.clients.rds.credentials import RDSCredentials

_Types = Mapping[str, TypeEngine[Any] | type[TypeEngine[Any]]]


class Client:
    """A client of one RDS database, with one pooled engine.

    Use it as a context manager, or `close` it, to give the connections back at once.

    Args:
        credentials: Where and who.
        application_name: What the server's ``pg_stat_activity`` shows.
        statement_timeout: Seconds after which a query is cancelled; None for no limit.
        sslmode: libpq's TLS mode.
        sslrootcert: CA bundle for the ``verify-`` modes.
        pool_size: Connections kept; as many more may be opened for a while.
        bastion: SSH bastion to go through, e.g. ``SSHBastion()`` for the one of the environment.
    """

    def __init__(
        self,
        credentials: RDSCredentials,
        *,
        application_name: str = "aind_pipelines",
        statement_timeout: float | None = None,
        sslmode: SslMode = "prefer",
        sslrootcert: Path | None = None,
        pool_size: int = 5,
        bastion: SSHBastion | None = None,
    ) -> None:
        self.credentials = credentials
        self.engine: Engine = make_engine(
            credentials.url(),
            application_name=application_name,
            statement_timeout=statement_timeout,
            sslmode=sslmode,
            sslrootcert=sslrootcert,
            pool_size=pool_size,
            bastion=bastion,
        )
        event.listen(self.engine, "handle_error", _name_unreadable)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections and the tunnel; the client can be used again."""
        self.engine.dispose()

    def read_table(
        self,
        table_name: str,
        where_clause: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        schema: str | None = None,
        exact: bool = False,
    ) -> pd.DataFrame:
        """A table as a DataFrame.

        Integers are ``int64``, or ``Int64`` in a column that holds NULL. ``numeric`` values become floats, and
        so do numbers in JSON that are no integers.

        Args:
            table_name: Name as the database has it; capitals and reserved words are fine.
            where_clause: SQL condition, e.g. ``subject_id = :subject``.
            columns: Columns to read; None for all.
            parameters: Values for the ``:names`` in `where_clause`.
            schema: Schema; None for the server's search path.
            exact: Keep ``numeric`` values as `decimal.Decimal`.

        Raises:
            SchemaMismatch: There is no such table or column.
            RdsError: A parameter is missing or unknown, or a value (e.g. an infinite time) is none of Python's.
            ServiceError: The database refused or cannot be reached.
        """
        selection = "*" if columns is None else listed(list(columns))
        query = f"SELECT {selection} FROM {qualified(table_name, schema)}"  # noqa: S608 - quoted names
        if parameters:
            query = query.replace(":", "\\:")  # in a name it begins no parameter
        if where_clause is not None:
            query += f" WHERE {where_clause}"
        result = self.execute_query(query, parameters)
        described: Any = result.cursor  # psycopg's, which names the types
        codes = [column.type_code for column in described.description]
        with translated(f"reading table {table_name}"):
            return frame_of(result.fetchall(), list(result.keys()), codes, exact=exact)

    def execute_query(self, query: str, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Run one SQL statement and commit.

        Without `parameters` the text goes to the server as it is, colons and percent signs included.

        Args:
            query: One statement.
            parameters: Values for the ``:names`` in `query`.

        Returns:
            The open result; its rows are held by this process, the connection is free again.

        Raises:
            RdsError: A parameter is missing or unknown; reading the rows, a value is none of Python's.
            ServiceError: The database refused the statement or cannot be reached.
        """
        with translated("running a query"), self.engine.begin() as connection:
            if parameters:
                return connection.execute(_with_parameters(query, parameters), dict(parameters))
            return connection.exec_driver_sql(query, execution_options={"no_parameters": True})

    def overwrite_table_with_df(
        self,
        df: Rows,
        table_name: str,
        dtype: _Types | None = None,
        *,
        schema: str | None = None,
        allow_empty: bool = False,
        max_shrink: float = 0.5,
    ) -> PublishResult:
        """Make a DataFrame (without its index), an Arrow table or batches of them the content of a table, atomically.

        An existing table keeps its column types, indexes, grants, views and comments; readers see the old content or
        the new one and do not wait. With a primary key, or columns that are unique and never NULL, only rows that
        differ are written. Columns that the server generates may be left out. A table that does not exist is created.

        Args:
            df: What the table shall hold: a DataFrame, where NaN is NULL, an Arrow table or reader, or an iterator of
                such batches, of which a new table gets the first one's types.
            table_name: Table to overwrite or create.
            dtype: Types by column for a table that is created; the others are found from the values.
            schema: Schema; None for the server's search path.
            allow_empty: Take a DataFrame without rows as right.
            max_shrink: Largest share of the table's rows that may be lost; 1 allows any.

        Raises:
            SchemaMismatch: The columns are not the table's, or a column mixes kinds of values.
            BadValue: A value does not fit its column.
            PublishRefused: No rows, too few rows, a key that is repeated or null, or a table without a key whose rows
                take others along when they are deleted.
            ServiceError: The database refused or cannot be reached.
        """
        df = source_of(df)
        table = self._existing(table_name, schema)
        if table is None:
            made = self._create(df, table_name, schema, dtype or {}, allow_empty=allow_empty)
            if isinstance(made, PublishResult):
                return made
            table = made
        _expect_columns(table, df.names, complete=True)
        with translated(f"looking at table {table_name}"), self.engine.connect() as connection:
            key = natural_key(connection, table)
        if key:
            return publish(self.engine, table, df, key=key, allow_empty=allow_empty, max_shrink=max_shrink)
        return replace(self.engine, table, df, allow_empty=allow_empty, max_shrink=max_shrink)

    def append_df_to_table(
        self, df: Rows, table_name: str, dtype: _Types | None = None, *, schema: str | None = None
    ) -> int:
        """Add the rows of a DataFrame or Arrow table to a table, all or none; a table that does not exist is created.

        Args:
            df: Rows to add, as for `overwrite_table_with_df`; columns that it lacks take their defaults.
            table_name: Table to add to or create.
            dtype: Types by column for a table that is created.
            schema: Schema; None for the server's search path.

        Returns:
            How many rows were added.

        Raises:
            SchemaMismatch: The table has no such column.
            BadValue: A value does not fit its column.
            ServiceError: The database refused or cannot be reached.
        """
        source = source_of(df)
        table = self._existing(table_name, schema)
        if table is None:
            made = self._create(source, table_name, schema, dtype or {}, allow_empty=True)
            if isinstance(made, PublishResult):
                return made.rows
            table = made
        _expect_columns(table, source.names, complete=False)
        return self._append(source, table)

    append_table = append_df_to_table

    def upsert_table(
        self, df: Rows, table_name: str, *, key: Sequence[str], schema: str | None = None
    ) -> PublishResult:
        """Insert the new rows of a DataFrame or Arrow table, and update those whose key exists; nothing is deleted.

        Raises:
            SchemaMismatch: No such table or column.
            PublishRefused: A key is repeated or null among the rows.
            BadValue: A value does not fit its column.
            ServiceError: The database refused or cannot be reached.
        """
        source = source_of(df)
        table = self._existing(table_name, schema)
        if table is None:
            raise SchemaMismatch(f"there is no table {qualified(table_name, schema)}.")
        _expect_columns(table, source.names, complete=False)
        return publish(self.engine, table, source, key=key, delete_missing=False)

    def _existing(self, name: str, schema: str | None) -> Table | None:
        with translated(f"looking at table {name}"), self.engine.connect() as connection:
            if not inspect(connection).has_table(name, schema=schema):
                return None
            table = Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
            if any(_is_unknown(column.type) for column in table.columns):
                _name_unknown_types(connection, table)
            return table

    def _create(
        self, source: Source, name: str, schema: str | None, given: _Types, *, allow_empty: bool
    ) -> PublishResult | Table:
        """Make the table and fill it; where somebody else made it meanwhile, that one."""
        if source.head is None:
            raise SchemaMismatch(
                f"table {qualified(name, schema)} cannot be created: its columns are those of a first DataFrame or "
                "Arrow batch, and there is none."
            )
        table = table_for(source.head, name, schema, given)
        with translated(f"creating table {name}"):
            try:
                with self.engine.begin() as connection:
                    table.create(connection)
                    return replace(connection, table, source, allow_empty=allow_empty)
            except (ProgrammingError, IntegrityError) as error:
                # Who creates it at the same time waits for the first to commit, and is refused then.
                if getattr(error.orig, "sqlstate", None) not in _THERE_ALREADY:
                    raise
                meanwhile = self._existing(name, schema)
                if meanwhile is None:
                    raise
                return meanwhile

    def _append(self, source: Source, table: Table) -> int:
        names = source.names
        if names is None:
            return 0
        with translated(f"appending to {table.fullname}"), self.engine.begin() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                cursor.execute("SET LOCAL timezone TO 'UTC'")
                return source.load(
                    cursor, qualified(table.name, table.schema), columns_of(table, names),
                    nan_is_null=source.means_nan_is_null,
                )  # fmt: skip


_THERE_ALREADY = {"42P07", "42710", "23505"}
"""Table or type of this name, and an index of the catalog that says so while the other one commits."""
_TIME_OIDS = {1082, 1114, 1184, 1182, 1115, 1185}


def _with_parameters(query: str, parameters: Mapping[str, Any]) -> TextClause:
    statement = text(query)
    wanted = statement.compile().params.keys()
    said = [f"there is no value for :{name}" for name in wanted if name not in parameters]
    said += [f"there is no :{name} in the text" for name in parameters if name not in wanted]
    if said:
        raise RdsError(f"running a query: {'; '.join(said)}. A colon that begins no parameter is written `\\:`.")
    return statement


def _name_unreadable(context: ExceptionContext) -> RdsError | None:
    """A value that the driver cannot turn into one of Python's, found while rows are fetched."""
    import psycopg

    error = context.original_exception
    cursor: Any = getattr(context.execution_context, "cursor", None)
    if (
        not isinstance(error, psycopg.DataError)
        or error.sqlstate is not None
        or getattr(cursor, "description", None) is None
    ):
        return None
    times = [column.name for column in cursor.description if column.type_code in _TIME_OIDS]
    where = f" (in {' or '.join(map(repr, times))})" if times else ""
    return RdsError(
        f"reading rows: {error}{where}. Python has no such value; leave its row out, or select it as `column::text`."
    )


def _is_unknown(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind.item_type if isinstance(kind, types.ARRAY) else kind, types.NullType)


def _name_unknown_types(connection: Connection, table: Table) -> None:
    query = text(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped"
    )
    for name, kind in connection.execute(query, {"name": qualified(table.name, table.schema)}):
        if _is_unknown(table.c[name].type):
            table.c[name].type = ServerType(kind)


def _expect_columns(table: Table, names: Sequence[str] | None, *, complete: bool) -> None:
    if names is None:
        return  # no rows at all
    extra = [name for name in names if name not in table.c]
    wanted = [column.name for column in table.columns if column.computed is None] if complete else []
    lacking = [name for name in wanted if name not in names]
    if extra or lacking:
        said = [f"the table has no column {name!r}" for name in extra]
        said += [f"the DataFrame has no column {name!r}" for name in lacking]
        raise SchemaMismatch(f"{table.fullname}: {'; '.join(said)}. Nothing was changed.")
    RowWriter.for_columns(columns_of(table, names))  # refuses types that no rule covers
