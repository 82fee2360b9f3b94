"""The role that may read the analysts' tables and views, and nothing else.

Roles belong to the whole server, and not every owner of a database may make them; so no migration makes this one.
Whoever migrates sees each time to it that the role is there, where that is allowed, and may read what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from aind_pipelines.tables.schema import ANALYSTS_TABLES, session_assets
from aind_pipelines.tables.views import VIEWS

READER = "aind_pipelines_reader"
READABLE = tuple(sorted({*VIEWS, *(table.name for table in ANALYSTS_TABLES), session_assets.name}))
"""Names of tables and views in ``public``."""

_EXISTS = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)")
_WITHHELD = text(
    "SELECT name FROM unnest(CAST(:names AS text[])) AS name "
    "WHERE NOT has_schema_privilege(:role, 'public', 'USAGE') "
    "OR NOT has_table_privilege(:role, to_regclass(format('public.%I', name)), 'SELECT') "
    "ORDER BY name"
)
_HAS_USAGE = text("SELECT has_schema_privilege(:role, 'public', 'USAGE')")
_NOT_ALLOWED = "42501"
# Another database's migration made the role meanwhile: which of the two is said depends on how far it was.
_THERE_ALREADY = ("42710", "23505")


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """What the role may do.

    Attributes:
        exists: Whether this server has it.
        withheld: Tables and views that it should read and may not. One that is missing is none of them.
    """

    exists: bool
    withheld: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One or two sentences for a person: what is, and the next step."""
        if not self.exists:
            return (
                f"There is no role {READER}, and this login may not create one. To let others read, have an "
                f"administrator run CREATE ROLE {READER} NOLOGIN, then run aind-pipelines db migrate again."
            )
        if self.withheld:
            return (
                f"The role {READER} may not read {', '.join(self.withheld)}. "
                "Run aind-pipelines db migrate as the owner of the tables."
            )
        return f"The role {READER} may read the tables and views."


def status(connection: Connection) -> ReaderStatus:
    """What the role may do now."""
    role = {"role": READER}
    if not connection.scalar(_EXISTS, role):
        return ReaderStatus(exists=False)
    return ReaderStatus(True, tuple(connection.scalars(_WITHHELD, role | {"names": list(READABLE)})))


def let_read(connection: Connection) -> ReaderStatus:
    """Make the role and give it its rights, as far as this login may; what is as it should be is left alone.

    Args:
        connection: In a transaction, which the caller commits.

    Returns:
        The status afterwards.
    """
    found = status(connection)
    if not found.exists:
        _try(connection, f"CREATE ROLE {READER} NOLOGIN")
        found = status(connection)
    if found.exists and found.withheld:
        if not connection.scalar(_HAS_USAGE, {"role": READER}):
            _try(connection, f"GRANT USAGE ON SCHEMA public TO {READER}")
        for name in found.withheld:
            _try(connection, f"GRANT SELECT ON public.{name} TO {READER}")
        found = status(connection)
    return found


def _try(connection: Connection, statement: str) -> None:
    """Run it, unless this login may not; the status says what came of it."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in (_NOT_ALLOWED, *_THERE_ALREADY):
            raise
