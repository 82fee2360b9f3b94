"""How far each source was read, and the question that a tick asks: what was modified since?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from aind_pipelines.tables.schema import docdb_watermarks as watermarks


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a source was read.

    Attributes:
        modified: Highest modified time seen; None when no record states one.
        manifest_passes: Manifest passes so far.
    """

    modified: datetime | None
    manifest_passes: int


def read_watermark(connection: Connection, source: str) -> Watermark | None:
    """The watermark of a source; None when it was never read to its end."""
    row = connection.execute(
        select(watermarks.c.modified, watermarks.c.manifest_passes).where(watermarks.c.source == source)
    ).first()
    return None if row is None else Watermark(row.modified, row.manifest_passes)


def note_full(connection: Connection, source: str, highest: datetime | None, *, without_modified: int) -> None:
    """Note that a full pass ended."""
    _note(connection, source, modified=highest, full_at=func.now(), without_modified=without_modified)


def note_tick(connection: Connection, source: str, highest: datetime | None) -> None:
    """Note that a tick ended; the watermark never goes back."""
    _note(connection, source, modified=func.greatest(watermarks.c.modified, highest), ticked_at=func.now())


def note_manifest(connection: Connection, source: str, *, without_modified: int) -> None:
    """Note that a manifest pass has read what it wanted."""
    passes = watermarks.c.manifest_passes + 1
    _note(connection, source, manifest_passes=passes, manifest_at=func.now(), without_modified=without_modified)


def _note(connection: Connection, source: str, **values: Any) -> None:
    if not connection.execute(update(watermarks).where(watermarks.c.source == source).values(values)).rowcount:
        connection.execute(insert(watermarks).values(source=source, **values))
