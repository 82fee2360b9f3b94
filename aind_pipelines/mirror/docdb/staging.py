"""A batch of records in a temporary table of Postgres, which compares and files them there.

Postgres gives each body its content hash, and so what is hashed is what is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, Subquery, Text, cast, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from aind_pipelines.clients.rds.load import RowWriter
from aind_pipelines.clients.rds.names import listed
from aind_pipelines.mirror.docdb.prepare import Identity, Prepared
from aind_pipelines.mirror.docdb.session import batch_table

_KEY = ("record_version", "id")
_TABLE = "pg_temp.docdb_batch"
# JSON may be written in many lines; of what COPY takes for its own, only backslashes stand within its texts.
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"))


def identities(these: Collection[Identity]) -> Subquery:
    """Identities as rows of a query: ``record_version`` and ``id``."""
    versions, ids = zip(*these, strict=True) if these else ((), ())
    texts = ARRAY(Text)
    return select(
        func.unnest(cast(list(versions), texts)).label("record_version"),
        func.unnest(cast(list(ids), texts)).label("id"),
    ).subquery()


def stage(connection: Connection, batch: Iterable[Prepared]) -> dict[Identity, str]:
    """Make these records the content of the batch table, within the caller's transaction.

    Returns:
        The content hashes that Postgres gave them.

    Raises:
        BadValue: A value cannot be stored.
    """
    columns = [column for column in batch_table.columns if column.name not in ("body", "content_hash")]
    writer = RowWriter.for_columns(columns, _KEY)
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute(f"TRUNCATE {_TABLE}")
        names = listed([*writer.columns, "body"])
        with cursor.copy(f"COPY {_TABLE} ({names}) FROM STDIN (FORMAT text, ENCODING 'utf8')") as copy:
            for number, prepared in enumerate(batch, 1):
                before = writer.line(prepared.row, number).removesuffix("\n").encode()
                copy.write(b"%b\t%b\n" % (before, _escaped(prepared.body)))
    hashes = connection.execute(select(batch_table.c.record_version, batch_table.c.id, batch_table.c.content_hash))
    return {(version, identity): content_hash for version, identity, content_hash in hashes}


def _escaped(body: bytes) -> bytes:
    for character, written in _ESCAPES:
        body = body.replace(character, written)
    return body


def unstage(connection: Connection, these: Collection[Identity]) -> None:
    """Take these out of the batch table, and let Postgres know what is left."""
    if these:
        wanted = select(identities(these))
        key = tuple_(batch_table.c.record_version, batch_table.c.id)
        connection.execute(delete(batch_table).where(key.in_(wanted)))
    # Without statistics, Postgres would join the batch to the history by reading all of it.
    connection.execute(text(f"ANALYZE {_TABLE} (record_version, id, content_hash)"))
