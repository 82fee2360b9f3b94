"""What the database says of a table that rows are published into: its schema, its keys, and who refers to it."""

# ruff: noqa: S608 - statements are built from the texts in this module only

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aind_pipelines.clients.rds.names import qualified

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Table

_KEY_COLUMNS = (
    "ARRAY(SELECT a.attname::text "
    "FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, place) "
    "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place)"
)
_OF_WHOLE_ROWS = "i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL"


@dataclass(frozen=True, slots=True)
class Target:
    """A table that exists.

    Attributes:
        name: Quoted, with its schema: the same whatever the search path is, and whatever temporary tables there are.
        key_is_unique: Whether an index keeps the given key unique.
        has_other_keys: Whether another unique index might refuse a row for the sake of one that changes later.
        is_referred_to: Whether a foreign key refers to it.
        takes_others_along: Whether a row that is deleted here deletes or changes rows that refer to it.
    """

    name: str
    key_is_unique: bool
    has_other_keys: bool
    is_referred_to: bool
    takes_others_along: bool


def look_up(cursor: psycopg.Cursor[Any], table: Table, key: Sequence[str]) -> Target:
    """The table as the database has it.

    Args:
        cursor: Of an open transaction.
        table: Schema and name.
        key: Columns that are to identify its rows.

    Raises:
        psycopg.errors.UndefinedTable: There is no such table.
    """
    cursor.execute(
        f"""
        SELECT format('%%I.%%I', n.nspname, c.relname),
            EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND {_OF_WHOLE_ROWS}
                AND {_KEY_COLUMNS} <@ %(key)s::text[]),
            EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate
                AND NOT (i.indexprs IS NULL AND {_KEY_COLUMNS} <@ %(key)s::text[])),
            EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = c.oid),
            EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = c.oid
                AND f.confdeltype IN ('c', 'n', 'd'))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(table)s::regclass
        """,
        {"table": qualified(table.name, table.schema), "key": list(key)},
    )
    row = cursor.fetchone()
    assert row is not None
    return Target(*row)


def natural_key(connection: Connection, table: Table) -> list[str]:
    """The columns by which a table's rows can be told apart: its primary key, or unique columns that are never NULL.

    Returns:
        Names in the index's order; none where there is no such index.
    """
    row = connection.exec_driver_sql(
        f"""
        SELECT {_KEY_COLUMNS} FROM pg_index i
        WHERE i.indrelid = %(table)s::regclass AND {_OF_WHOLE_ROWS}
            AND (SELECT bool_and(a.attnotnull) FROM pg_attribute a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1
        """,
        {"table": qualified(table.name, table.schema)},
    ).scalar()
    return list(row or ())
