"""What a table is bound to beside its columns and indexes, and how a database differs from the models in it.

Alembic compares tables, columns, indexes and unique constraints. The rest is read from the server's catalogue here:
primary keys, checks, foreign keys, triggers, rules, row security, and what lies in our schemas and is no table.
Constraints are compared by name, for Postgres writes their expressions in its own words, which differ between its
versions; primary keys by their columns too.
"""

# ruff: noqa: S608 - the statements are put together from constants

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import CheckConstraint, Connection, ForeignKeyConstraint, Table, text
from sqlalchemy.dialects import postgresql

from aind_pipelines.tables.columns import metadata
from aind_pipelines.tables.schema import SCHEMAS

_OUR_TABLES = """
    WITH ours AS (
        SELECT pg_class.oid, nspname || '.' || relname AS name, relrowsecurity, relforcerowsecurity, relpersistence
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relkind IN ('r', 'p') AND nspname || '.' || relname = ANY(:tables)
    )
"""
_TABLES = text(f"{_OUR_TABLES} SELECT name, relrowsecurity, relforcerowsecurity, relpersistence FROM ours")
# Not-null constraints, which newer servers list here too, are compared with the columns; so are unique ones.
_CONSTRAINTS = text(f"""{_OUR_TABLES}
    SELECT name, contype::text, conname, ARRAY(
        SELECT attname FROM unnest(conkey) WITH ORDINALITY AS key(number, place)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = key.number ORDER BY key.place
    )::text[] AS columns
    FROM pg_constraint JOIN ours ON ours.oid = conrelid WHERE contype IN ('p', 'c', 'f', 'x')
""")
_BY_HAND = text(f"""{_OUR_TABLES}
    SELECT 'trigger' AS kind, name, tgname AS what
    FROM pg_trigger JOIN ours ON ours.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL SELECT 'rule', name, rulename FROM pg_rewrite JOIN ours ON ours.oid = ev_class
    UNION ALL SELECT 'policy', name, polname FROM pg_policy JOIN ours ON ours.oid = polrelid
""")
_NO_TABLES = text("""
    SELECT relkind::text, nspname || '.' || relname
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = ANY(:schemas) AND relkind IN ('v', 'm', 'f')
""")
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}
_CONSTRAINT_KINDS = {"c": "check", "f": "foreign key", "x": "exclusion constraint"}


def differences(connection: Connection) -> Iterator[str]:
    """How the database differs from the models, one line each; tables that are missing are not told again."""
    expected = {f"{table.schema or 'public'}.{table.name}": table for table in metadata.tables.values()}
    ours = {"tables": list(expected)}
    found: dict[str, dict[str, dict[str, list[str]]]] = defaultdict(lambda: defaultdict(dict))
    for name, kind, constraint, columns in connection.execute(_CONSTRAINTS, ours):
        found[name][kind][constraint] = columns
    for name, on, forced, persistence in connection.execute(_TABLES, ours):
        yield from _of_primary_key(name, expected[name], found[name]["p"])
        for kind, words in _CONSTRAINT_KINDS.items():
            wanted = _named(expected[name], kind)
            yield from (f"{words} {each} on {name} is missing" for each in wanted - found[name][kind].keys())
            yield from (f"{words} {each} on {name} is not in the models" for each in found[name][kind].keys() - wanted)
        if on or forced:
            yield f"row security of {name} is {'on' if on else 'forced'}, the models have none"
        if persistence != "p":
            yield f"table {name} is unlogged: a crash of the server would empty it"
    for kind, name, what in connection.execute(_BY_HAND, ours):
        yield f"{kind} {what} on {name} is not in the models"
    for kind, name in connection.execute(_NO_TABLES, {"schemas": list(SCHEMAS)}):
        yield f"{_KINDS[kind]} {name} is not in the models"


def _of_primary_key(name: str, table: Table, found: dict[str, list[str]]) -> Iterator[str]:
    wanted = [column.name for column in table.primary_key]
    if not found:
        yield f"primary key ({', '.join(wanted)}) of {name} is missing"
    for constraint, columns in found.items():
        if columns != wanted:
            yield f"primary key of {name} is ({', '.join(columns)}), the models say ({', '.join(wanted)})"
        elif constraint != table.primary_key.name:
            yield f"primary key of {name} is named {constraint}, the models say {table.primary_key.name}"


def _named(table: Table, kind: str) -> set[str]:
    """The names, as the database has them, of the table's constraints of one kind."""
    of_kind = {"c": CheckConstraint, "f": ForeignKeyConstraint}.get(kind)
    # Names are made by the convention of the models when they are written.
    preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
    constraints = [each for each in table.constraints if of_kind is not None and isinstance(each, of_kind)]
    return {str(preparer.format_constraint(each)).strip('"') for each in constraints}
