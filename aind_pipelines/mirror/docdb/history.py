"""History of the mirror: every content ever seen, with the time in which it held.

Each statement belongs in the transaction that changes ``docdb.records``, so that the open versions are always exactly
the records of the mirror.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import (
    Connection,
    Select,
    Text,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from aind_pipelines.mirror.docdb.prepare import Identity
from aind_pipelines.mirror.docdb.session import batch_table
from aind_pipelines.tables.schema import docdb_record_versions as versions
from aind_pipelines.tables.schema import docdb_records as mirror

# A clock that was set back must not end a version before it began, nor leave it without any time.
_END = func.greatest(func.now(), versions.c.valid_from + literal_column("interval '1 microsecond'"))


def write_batch(connection: Connection, source: str, run_id: str | None) -> None:
    """Close the versions that the batch table replaces, and open those that it brings.

    A record whose content and source are those of its open version keeps it.
    """
    batch = batch_table.c
    same = (versions.c.record_version == batch.record_version) & (versions.c.id == batch.id)
    is_open = versions.c.valid_to.is_(None)
    connection.execute(
        update(versions)
        .where(same, is_open, (versions.c.content_hash != batch.content_hash) | (versions.c.source != source))
        .values(valid_to=_END)
        .execution_options(synchronize_session=False)
    )
    ended = select(func.max(versions.c.valid_to)).where(same).correlate(batch_table).scalar_subquery()
    still_open = select(literal(1)).where(same, is_open).correlate(batch_table).exists()
    opened = select(
        batch.record_version,
        batch.id,
        # Where the one before ended, so that there is no moment between them; null if there was none is ignored.
        func.greatest(func.now(), ended),
        literal(source),
        batch.content_hash,
        batch.body,
        literal(run_id, Text),
    ).where(~still_open)
    columns = ["record_version", "id", "valid_from", "source", "content_hash", "body", "run_id"]
    connection.execute(insert(versions).from_select(columns, opened))


def remove(connection: Connection, source: str, identities: Collection[Identity]) -> int:
    """Take records of a source out of the mirror; their last version ends now. Returns how many there were.

    What the mirror has from another source stays.
    """
    if not identities:
        return 0
    key = tuple_(mirror.c.record_version, mirror.c.id)
    removed = (
        delete(mirror)
        .where(mirror.c.source == source, key.in_(_rows(identities)))
        .returning(mirror.c.record_version, mirror.c.id)
    )
    gone: list[Identity] = [(version, identity) for version, identity in connection.execute(removed)]
    if gone:
        ended = tuple_(versions.c.record_version, versions.c.id).in_(_rows(gone))
        connection.execute(update(versions).where(versions.c.valid_to.is_(None), ended).values(valid_to=_END))
    return len(gone)


def _rows(identities: Collection[Identity]) -> Select[tuple[str, str]]:
    numbers, ids = zip(*identities, strict=True)
    texts = ARRAY(Text)
    return select(func.unnest(cast(list(numbers), texts)), func.unnest(cast(list(ids), texts)))
