"""Names of schemas, tables and columns in SQL: validated, always quoted, never built from data."""

from __future__ import annotations

from aind_pipelines.clients.rds.errors import RdsError

_LONGEST = 63
"""Bytes; Postgres silently cuts longer names, so that two of them can become one."""


def quoted(name: str) -> str:
    """One identifier, quoted, so that reserved words, capitals and quotes in it are safe.

    Raises:
        RdsError: The name is empty, too long for Postgres, or holds a NUL character.
    """
    if not name or "\0" in name:
        raise RdsError(f"{name!r} cannot be a name in Postgres: it is empty or holds a NUL character.")
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise RdsError(f"{name!r} is too long for a name in Postgres, which allows {_LONGEST} bytes.")
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str, schema: str | None = None) -> str:
    """A table's quoted name, with its quoted schema if it has one."""
    return f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)


def listed(names: list[str], prefix: str = "") -> str:
    """Quoted identifiers separated by commas, each behind `prefix` (e.g. ``t.``)."""
    return ", ".join(prefix + quoted(name) for name in names)
