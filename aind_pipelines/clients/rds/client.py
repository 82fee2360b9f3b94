"""The RDS client that scientists use: tables as DataFrames, queries, and writing that cannot half-succeed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import CursorResult, Engine, MetaData, Table, inspect, text
from sqlalchemy.types import TypeEngine

from aind_pipelines.clients.rds.engine import SslMode, make_engine
from aind_pipelines.clients.rds.errors import PublishRefused, SchemaMismatch, translated
from aind_pipelines.clients.rds.frames import Columnar, column_names, table_for
from aind_pipelines.clients.rds.load import columns_of
from aind_pipelines.clients.rds.names import listed, qualified
from aind_pipelines.clients.rds.publish import PublishResult, publish, replace
from aind_pipelines.clients.rds.sources import source_of
from aind_pipelines.clients.rds.targets import natural_key

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import pandas as pd

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
    ) -> pd.DataFrame:
        """A table as a DataFrame.

        Args:
            table_name: Name as the database has it; capitals and reserved words are fine.
            where_clause: SQL condition, e.g. ``subject_id = :subject``.
            columns: Columns to read; None for all.
            parameters: Values for the ``:names`` in `where_clause`.
            schema: Schema; None for the server's search path.

        Raises:
            SchemaMismatch: There is no such table or column.
            ServiceError: The database refused or cannot be reached.
        """
        import pandas as pd

        selection = "*" if columns is None else listed(list(columns))
        query = f"SELECT {selection} FROM {qualified(table_name, schema)}"  # noqa: S608 - quoted names
        if where_clause is not None:
            query += f" WHERE {where_clause}"
        result = self.execute_query(query, parameters)
        return pd.DataFrame.from_records(result.fetchall(), columns=list(result.keys()), coerce_float=True)

    def execute_query(self, query: str, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Run one SQL statement and commit.

        Without `parameters` the text goes to the server as it is, colons and percent signs included.

        Args:
            query: One statement.
            parameters: Values for the ``:names`` in `query`.

        Returns:
            The open result; its rows are held by this process, the connection is free again.

        Raises:
            ServiceError: The database refused the statement or cannot be reached.
        """
        with translated("running a query"), self.engine.begin() as connection:
            if parameters:
                return connection.execute(text(query), dict(parameters))
            return connection.exec_driver_sql(query, execution_options={"no_parameters": True})

    def overwrite_table_with_df(
        self,
        df: Columnar,
        table_name: str,
        dtype: _Types | None = None,
        *,
        schema: str | None = None,
        allow_empty: bool = False,
        max_shrink: float = 0.5,
    ) -> PublishResult:
        """Make a DataFrame (without its index) or an Arrow table the content of a table, atomically.

        An existing table keeps its column types, indexes, grants, views and comments; readers see the old content or
        the new one and do not wait. With a primary key, or columns that are unique and never NULL, only rows that
        differ are written. Columns that the server generates may be left out. A table that does not exist is created.

        Args:
            df: What the table shall hold; NaN is NULL.
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
        names = column_names(df)
        table = self._existing(table_name, schema)
        if table is None:
            return self._create(df, table_name, schema, dtype or {}, allow_empty=allow_empty)
        _expect_columns(table, names, complete=True)
        with translated(f"looking at table {table_name}"), self.engine.connect() as connection:
            key = natural_key(connection, table)
        if key:
            return publish(self.engine, table, df, key=key, allow_empty=allow_empty, max_shrink=max_shrink)
        return replace(self.engine, table, df, allow_empty=allow_empty, max_shrink=max_shrink)

    def append_df_to_table(
        self, df: Columnar, table_name: str, dtype: _Types | None = None, *, schema: str | None = None
    ) -> int:
        """Add the rows of a DataFrame or Arrow table to a table, all or none; a table that does not exist is created.

        Args:
            df: Rows to add; columns that it lacks take their defaults.
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
        names = column_names(df)
        table = self._existing(table_name, schema)
        if table is None:
            return self._create(df, table_name, schema, dtype or {}, allow_empty=True).rows
        _expect_columns(table, names, complete=False)
        return self._append(df, table, names)

    append_table = append_df_to_table

    def upsert_table(
        self, df: Columnar, table_name: str, *, key: Sequence[str], schema: str | None = None
    ) -> PublishResult:
        """Insert the new rows of a DataFrame or Arrow table, and update those whose key exists; nothing is deleted.

        Raises:
            SchemaMismatch: No such table or column.
            PublishRefused: A key is repeated or null among the rows.
            BadValue: A value does not fit its column.
            ServiceError: The database refused or cannot be reached.
        """
        names = column_names(df)
        table = self._existing(table_name, schema)
        if table is None:
            raise SchemaMismatch(f"there is no table {qualified(table_name, schema)}.")
        _expect_columns(table, names, complete=False)
        return publish(self.engine, table, df, key=key, delete_missing=False)

    def _existing(self, name: str, schema: str | None) -> Table | None:
        with translated(f"looking at table {name}"), self.engine.connect() as connection:
            if not inspect(connection).has_table(name, schema=schema):
                return None
            return Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)

    def _create(
        self, df: Columnar, name: str, schema: str | None, types: _Types, *, allow_empty: bool
    ) -> PublishResult:
        if len(df) == 0 and not allow_empty:
            raise PublishRefused(f"{name}: the DataFrame has no rows. If that is right, pass allow_empty.")
        table = table_for(df, name, schema, types)
        with translated(f"creating table {name}"), self.engine.begin() as connection:
            table.create(connection)
            return replace(connection, table, df, allow_empty=allow_empty)

    def _append(self, df: Columnar, table: Table, names: list[str]) -> int:
        source = source_of(df)
        with translated(f"appending to {table.fullname}"), self.engine.begin() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                cursor.execute("SET LOCAL timezone TO 'UTC'")
                return source.load(
                    cursor, qualified(table.name, table.schema), columns_of(table, names),
                    nan_is_null=source.means_nan_is_null,
                )  # fmt: skip


def _expect_columns(table: Table, names: Sequence[str], *, complete: bool) -> None:
    extra = [name for name in names if name not in table.c]
    wanted = [column.name for column in table.columns if column.computed is None] if complete else []
    lacking = [name for name in wanted if name not in names]
    if extra or lacking:
        said = [f"the table has no column {name!r}" for name in extra]
        said += [f"the DataFrame has no column {name!r}" for name in lacking]
        raise SchemaMismatch(f"{table.fullname}: {'; '.join(said)}. Nothing was changed.")
