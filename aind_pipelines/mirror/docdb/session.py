"""The database session of a pass: one writer at a time, with temporary tables that end with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import Column, Computed, Connection, DateTime, Engine, MetaData, Table, Text, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError

from aind_pipelines.mirror.docdb.errors import SERVICE, MirrorBusy

_LOCK = 0x61696E64_646F6364
_LOCK_NOT_AVAILABLE = "55P03"
_PATIENCE_SECONDS = 5

_temporary = MetaData()
batch_table = Table(
    "docdb_batch",
    _temporary,
    *(Column(name, Text) for name in ("record_version", "id", "name", "location", "schema_version")),
    Column("created", DateTime(timezone=True)),
    Column("modified", DateTime(timezone=True)),
    Column("body", JSONB),
    Column("content_hash", Text, Computed("docdb.content_hash(body)", persisted=True)),
    prefixes=["TEMPORARY"],
)
"""The records of one batch that are to be written."""
seen_table = Table(
    "docdb_seen",
    _temporary,
    Column("source", Text, primary_key=True),
    Column("record_version", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    prefixes=["TEMPORARY"],
)
"""What the pass has read whole, of its source and of those that it asked about single records."""
listed_table = Table(
    "docdb_listed",
    _temporary,
    Column("id", Text),
    Column("modified", DateTime(timezone=True)),
    prefixes=["TEMPORARY"],
)
"""What the source has, as a manifest pass lists it."""


@contextlib.contextmanager
def locked(engine: Engine) -> Iterator[Connection]:
    """A connection that holds the mirror's lock and the temporary tables of a pass.

    Raises:
        MirrorBusy: Another run holds the lock.
    """
    with engine.connect() as connection:
        try:
            with connection.begin():
                _lock(connection)
                _temporary.create_all(connection, checkfirst=False)
            yield connection
            with connection.begin():
                _temporary.drop_all(connection, checkfirst=False)
                connection.execute(select(func.pg_advisory_unlock(_LOCK)))
        except BaseException:
            # Lock and tables end with the session; ending it is the one clean-up that cannot fail.
            connection.invalidate()
            raise


def _lock(connection: Connection) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'"))
    try:
        connection.execute(select(func.pg_advisory_lock(_LOCK)))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        message = "Another run is writing the mirror. Wait for it to end, then run this again."
        raise MirrorBusy(SERVICE, message, retryable=True) from None
