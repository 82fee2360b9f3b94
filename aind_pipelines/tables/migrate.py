"""Bringing the RDS schema to the version this code was written for, and telling whether it is there.

The versions lie beside this module, so that an installed package can migrate too. A migration runs whole in one
transaction: killed at any point, it leaves the schema as it was. Two at once take turns.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.engine import URL, make_url

from aind_pipelines.clients.rds.engine import make_engine
from aind_pipelines.clients.rds.errors import RdsError, translated
from aind_pipelines.tables import constraints, reader
from aind_pipelines.tables.columns import metadata
from aind_pipelines.tables.schema import SCHEMAS
from aind_pipelines.tables.views import differences as differences_of_views

VERSION_TABLE = "aind_pipelines_schema_version"
"""Where the version in force is kept: not Alembic's own name, which another application may use in this database."""

_LOCK = 0x61696E64_6D696772
# Alembic's `op` and `context` are globals of the process.
_one_at_a_time = threading.Lock()


class SchemaOutdated(RdsError):
    """The database's schema is not the one this code was written for."""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where the schema is.

    Attributes:
        current: Version the database is at; None when it was never migrated.
        head: Version this code was written for.
    """

    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        """Whether the database is at the version of this code."""
        return self.current == self.head


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    # Alembic reads its options through configparser, to which a percent sign in a path is special.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _is_ours(item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: ARG001
    """Whether a comparison should look at `item`: not at tables that others keep in ``public``."""
    foreign = type_ == "table" and reflected and compare_to is None and item.schema in (None, "public")
    return not foreign


def _is_our_schema(name: str | None, type_: str, parents: Mapping[str, str | None]) -> bool:  # noqa: ARG001
    return type_ != "schema" or name is None or name in SCHEMAS


def comparison_options() -> dict[str, Any]:
    """How Alembic looks at a database of ours, for migrating and for comparing alike."""
    return {
        "target_metadata": metadata,
        "version_table": VERSION_TABLE,
        "include_schemas": True,
        "include_object": _is_ours,
        "include_name": _is_our_schema,
        "compare_type": True,
        "compare_server_default": True,
        "transaction_per_migration": False,
    }


@contextlib.contextmanager
def _engine_of(target: Engine | URL | str) -> Iterator[Engine]:
    if isinstance(target, Engine):
        yield target
        return
    url = make_url(target)
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def migrate(target: Engine | URL | str) -> SchemaStatus:
    """Bring the schema to the version of this code, and let the role that only reads read it (see `reader`).

    Does nothing when all that is so already.

    Args:
        target: An engine, or a Postgres URL (without a driver, psycopg 3 is taken).

    Returns:
        The status afterwards.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
        ServiceError: Postgres refused a step, e.g. for want of rights; the schema is as it was.
        SchemaOutdated: The database is at a version that this code does not know.
    """
    with _one_at_a_time, _engine_of(target) as engine:
        before = status(engine)
        _require_known(before)
        config = _config()
        with translated("migrating the schema"), engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            config.attributes["connection"] = connection
            if not before.is_current:
                command.upgrade(config, "head")
            reader.let_read(connection)
        return status(engine)


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def status(engine: Engine) -> SchemaStatus:
    """The version the database is at and the one this code was written for.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
    """
    head = _scripts().get_current_head()
    if head is None:
        raise RuntimeError(f"No migrations beside {__file__}: the package is installed incompletely")
    with translated("asking for the schema's version"), engine.connect() as connection:
        return SchemaStatus(_current(connection), head)


def _require_known(found: SchemaStatus) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if found.current is not None and found.current not in known:
        raise SchemaOutdated(
            f"the schema is at version {found.current}, which is newer than this code (it knows {found.head}). "
            "Upgrade aind-pipelines.",
        )


def require_current(engine: Engine) -> None:
    """Refuse to go on unless the schema is the one this code was written for.

    Raises:
        SchemaOutdated: It is not; the message says what to do.
        ServiceUnavailable: Postgres cannot be reached.
    """
    found = status(engine)
    if found.is_current:
        return
    _require_known(found)
    state = "has never been set up" if found.current is None else f"is at version {found.current}"
    raise SchemaOutdated(f"the schema {state}; this code needs version {found.head}. Run: aind-pipelines db migrate")


def drift(engine: Engine) -> list[str]:
    """How the database differs from the models, one line per difference; empty when it does not.

    Tables that others keep in ``public`` are not looked at.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
    """
    with translated("comparing the schema"), engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts=comparison_options()), metadata)
        others = [*constraints.differences(connection), *differences_of_views(connection)]
    return sorted([*(_in_words(difference) for entry in differences for difference in _flat(entry)), *others])


def _flat(entry: Any) -> list[tuple[Any, ...]]:
    # Alembic groups the changes of one column in a list.
    return list(entry) if isinstance(entry, list) else [entry]


def _in_words(difference: tuple[Any, ...]) -> str:
    kind, *rest = difference
    if kind in ("add_table", "remove_table"):
        state = "is missing" if kind == "add_table" else "is not in the models"
        return f"table {_qualified(rest[0].schema, rest[0].name)} {state}"
    if kind in ("add_column", "remove_column"):
        state = "is missing" if kind == "add_column" else "is not in the models"
        return f"column {_qualified(rest[0], rest[1])}.{rest[2].name} {state}"
    if kind.startswith("modify_"):
        schema, table, column, _, found, expected = rest
        what = kind.removeprefix("modify_")
        return f"column {_qualified(schema, table)}.{column}: {what} is {found!r}, the models say {expected!r}"
    if kind in ("add_index", "remove_index", "add_constraint", "remove_constraint"):
        action, what = kind.split("_")
        state = "is missing" if action == "add" else "is not in the models"
        return f"{what} {rest[0].name} on {_qualified(rest[0].table.schema, rest[0].table.name)} {state}"
    if kind in ("add_table_comment", "remove_table_comment"):
        table = rest[0]
        found = rest[1] if kind == "add_table_comment" else table.comment
        expected = table.comment if kind == "add_table_comment" else None
        return f"table {_qualified(table.schema, table.name)}: comment is {found!r}, the models say {expected!r}"
    named = ", ".join(str(getattr(part, "fullname", part)) for part in rest)
    return f"{kind.replace('_', ' ')}: {named}"


def _qualified(schema: str | None, name: str) -> str:
    return f"{schema or 'public'}.{name}"
