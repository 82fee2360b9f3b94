"""How the mirror stands, for reports and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select

from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.mirror.docdb.oversized import is_about, noted
from aind_pipelines.mirror.docdb.passes import since
from aind_pipelines.mirror.docdb.source import Source, modified_time
from aind_pipelines.mirror.docdb.watermark import read_watermark
from aind_pipelines.records.normalise import record_id
from aind_pipelines.tables.schema import docdb_findings, docdb_watermarks
from aind_pipelines.tables.schema import docdb_records as mirror

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """The mirror as a whole.

    Attributes:
        records: How many records it holds.
        findings: Standing findings by code.
        without_modified: Records without usable modified time, when they were last counted.
    """

    records: int
    findings: Mapping[str, int]
    without_modified: int


def standing(engine: Engine) -> Standing:
    """How the mirror stands now.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
    """
    by_code = (
        select(docdb_findings.c.code, func.count())
        .where(docdb_findings.c.resolved_at.is_(None))
        .group_by(docdb_findings.c.code)
    )
    with translated("counting the mirror"), engine.connect() as connection:
        return Standing(
            records=connection.scalar(select(func.count()).select_from(mirror)) or 0,
            findings={str(code): int(count) for code, count in connection.execute(by_code)},
            without_modified=int(connection.scalar(select(func.sum(docdb_watermarks.c.without_modified))) or 0),
        )


def shared_locations(engine: Engine) -> Sequence[tuple[str, str, int]]:
    """Locations that several records of one generation name: (record version, location, how many), most first.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
    """
    count = func.count()
    query = (
        select(mirror.c.record_version, mirror.c.location, count)
        .where(mirror.c.location.is_not(None))
        .group_by(mirror.c.record_version, mirror.c.location)
        .having(count > 1)
        .order_by(count.desc(), mirror.c.record_version, mirror.c.location)
    )
    with translated("looking for shared locations"), engine.connect() as connection:
        return [(version, location, number) for version, location, number in connection.execute(query)]


def never_read(engine: Engine, sources: Sequence[str]) -> list[str]:
    """Those of the sources that were never read to their end: ticks leave them out.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
    """
    with translated("looking for watermarks"), engine.connect() as connection:
        return [source for source in sources if read_watermark(connection, source) is None]


def not_mirrored(engine: Engine, source: Source, *, overlap: timedelta) -> dict[str, datetime] | None:
    """What a tick would write: records modified since the watermark that the mirror has not, or has from before.

    It is told from the mirror itself, so that it is right after a restart, after a run that failed, with records of
    one and the same time and with clocks that differ by less than the overlap.

    Args:
        engine: On a database with our schema.
        source: The collection; asked for ids and times only.
        overlap: As of `tick`.

    Returns:
        Modified times by id; None when the source was never read to its end.

    Raises:
        ServiceError: The source or Postgres failed.
    """
    with translated(f"looking for the watermark of {source.name}"), engine.connect() as connection:
        known = read_watermark(connection, source.name)
    if known is None:
        return None
    listed = {
        record_id(record): time
        for record in source.listing(since(known.modified, overlap))
        if (time := modified_time(record)) is not None
    }
    with translated(f"comparing {source.name}"), engine.connect() as connection:
        # What is too large for the gateway is not new again.
        for identity, finding in noted(connection, source.name).items():
            if identity in listed and is_about(finding, listed[identity]):
                del listed[identity]
        ids = sorted(listed)
        for start in range(0, len(ids), _AT_ONCE):
            rows = connection.execute(
                select(mirror.c.id, mirror.c.source, mirror.c.modified).where(
                    mirror.c.record_version.in_(["v1", "v2"]), mirror.c.id.in_(ids[start : start + _AT_ONCE])
                )
            )
            for identity, holder, modified in rows:
                time = listed.get(identity)
                # One that another source holds, modified at least as late, is mirrored from there.
                if (
                    time is not None
                    and modified is not None
                    and (modified == time or (holder != source.name and modified > time))
                ):
                    del listed[identity]
    return listed
