"""The passes over a source: full, tick and manifest.

A *tick* reads what was modified since the watermark; it costs what changed. A *manifest pass* lists every ``_id`` with
its modified times, and so finds what a tick cannot: deletions, and records whose modified time is missing, was set
back or cannot be compared by the server. Edits that leave the modified time as it was are found by reading a part of
the records again whole, another one in each pass; a *full* pass finds them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, exists, func, select, text

from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.rds.load import RowWriter, copy_rows
from aind_pipelines.mirror.docdb import deletions, watermark
from aind_pipelines.mirror.docdb.deletions import DeletionGuard
from aind_pipelines.mirror.docdb.errors import SERVICE, NeverRead
from aind_pipelines.mirror.docdb.ingest import IngestResult, Writer, ingest, raise_if_held, reconsider
from aind_pipelines.mirror.docdb.oversized import is_about
from aind_pipelines.mirror.docdb.session import listed_table, locked
from aind_pipelines.mirror.docdb.source import Source, modified_time
from aind_pipelines.mirror.docdb.watermark import Watermark, read_watermark
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.normalise import record_id
from aind_pipelines.tables.schema import docdb_records as mirror

Mode = Literal["auto", "full", "tick", "manifest"]

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LISTED_AT_ONCE = 5_000


def update(
    engine: Engine,
    source: Source,
    mode: Mode = "auto",
    *,
    sources: Sequence[Source] = (),
    run_id: str | None = None,
    batch: int = 500,
    overlap: timedelta = timedelta(minutes=10),
    guard: DeletionGuard = DeletionGuard(),  # noqa: B008 - immutable
    reconcile_passes: int = 24,
    confirm_deletions: bool = False,
) -> list[tuple[str, IngestResult]]:
    """Bring the mirror of one source up to date.

    Args:
        engine: On a database with our schema.
        source: The collection.
        mode: Which pass; ``auto`` is a tick and a manifest pass. Of a source that was never read to its end, it is a
            full one in their place, as for ``manifest``.
        sources: Every source, this one too: those that are asked about records which change hands.
        run_id: Dagster run, if any.
        batch: Records per transaction, at most.
        overlap: See `tick`.
        guard: How much may vanish in one pass.
        reconcile_passes: See `manifest`.
        confirm_deletions: Whether a person confirmed the deletions that are held.

    Returns:
        The passes that were made, by name, with what each did.

    Raises:
        MirrorBusy: Another run is writing the mirror.
        PassRefused: Deletions were held; see `ingest`.
        NeverRead: A tick was asked for before the first full pass.
        ServiceError: The source or Postgres failed.
    """
    results: list[tuple[str, IngestResult]] = []
    passes: tuple[str, ...] = ("tick", "manifest") if mode == "auto" else (mode,)
    if mode in ("auto", "manifest"):
        with translated(f"looking for the watermark of {source.name}"), engine.connect() as connection:
            if read_watermark(connection, source.name) is None:
                passes = ("full",)
    for name in passes:
        if name == "full":
            result = ingest(
                engine,
                source.name,
                source.everything(),
                sources=sources,
                run_id=run_id,
                batch=batch,
                guard=guard,
                confirm_deletions=confirm_deletions,
                confirm_gone=source.confirm_gone,
            )
        elif name == "tick":
            result = tick(engine, source, sources=sources, run_id=run_id, batch=batch, overlap=overlap)
        else:
            result = manifest(
                engine,
                source,
                sources=sources,
                run_id=run_id,
                batch=batch,
                guard=guard,
                reconcile_passes=reconcile_passes,
                confirm_deletions=confirm_deletions,
            )
        results.append((name, result))
    return results


def tick(
    engine: Engine,
    source: Source,
    *,
    sources: Sequence[Source] = (),
    run_id: str | None = None,
    batch: int = 500,
    overlap: timedelta = timedelta(minutes=10),
) -> IngestResult:
    """Read what was modified since the watermark, and write what changed. Removes nothing.

    Args:
        engine: On a database with our schema.
        source: The collection.
        sources: Every source, this one too: those that are asked about records which change hands.
        run_id: Dagster run, if any.
        batch: Records per transaction, at most.
        overlap: How far before the watermark to begin: it bears records of one and the same time, writers whose
            clocks are so far apart, and writes that arrive so much later than the time they state.

    Raises:
        MirrorBusy: Another run is writing the mirror.
        NeverRead: There is no watermark yet.
        ServiceError: The source or Postgres failed; the watermark is as it was.
    """
    with translated(f"mirroring {source.name}"), locked(engine) as connection:
        with connection.begin():
            known = _watermark(connection, source.name)
        writer = Writer(connection, source.name, run_id, sources)
        writer.write_all(source.modified_since(since(known.modified, overlap)), batch)
        with connection.begin():
            writer.note_duplicates()
            watermark.note_tick(connection, source.name, writer.highest)
        with connection.begin():
            result = writer.result(without_modified=None)
        changed = reconsider(connection, sources, run_id)
    return replace(result, changed=result.changed + changed)


def _watermark(connection: Connection, source: str) -> Watermark:
    known = read_watermark(connection, source)
    if known is None:
        raise NeverRead(
            SERVICE, f"{source} was never read to its end. Run docdb_records once in mode auto, which reads it whole."
        )
    return known


def since(modified: datetime | None, overlap: timedelta) -> datetime:
    """Where a tick begins, given the watermark's modified time."""
    return _BEGINNING if modified is None else max(_BEGINNING, modified - overlap)


def manifest(
    engine: Engine,
    source: Source,
    *,
    sources: Sequence[Source] = (),
    run_id: str | None = None,
    batch: int = 500,
    guard: DeletionGuard = DeletionGuard(),  # noqa: B008 - immutable
    reconcile_passes: int = 24,
    confirm_deletions: bool = False,
) -> IngestResult:
    """Compare a light list of the source with the mirror, read what differs, and remove what is gone.

    Records without usable modified time are read every time: nothing tells whether they changed. What was too large
    to be read is asked for again once it was modified, and with its part.

    Args:
        engine: On a database with our schema.
        source: The collection.
        sources: Every source, this one too: those that are asked about records which change hands.
        run_id: Dagster run, if any.
        batch: Records per transaction, at most.
        guard: How much may vanish.
        reconcile_passes: Of so many passes in a row, each reads another part of the records whole.
        confirm_deletions: Whether a person confirmed the deletions that are held.

    Raises:
        MirrorBusy: Another run is writing the mirror.
        NeverRead: There was no full pass before.
        PassRefused: Deletions were held; what the pass read is kept.
        ServiceError: The source or Postgres failed; nothing was removed.
    """
    with translated(f"comparing {source.name}"), locked(engine) as connection:
        with connection.begin():
            part = _watermark(connection, source.name).manifest_passes % reconcile_passes
        writer = Writer(connection, source.name, run_id, sources)
        odd_ids = _list(connection, source)
        with connection.begin():
            unreadable = _known_as_too_large(connection, writer.oversized.noted, reconcile_passes, part)
            writer.oversized.stand(connection, unreadable)
            wanted = _wanted(connection, source.name, reconcile_passes, part, unreadable)
            without_modified = _without_modified(connection)
        writer.write_all(source.by_ids([odd_ids.get(identity, identity) for identity in wanted]), batch)
        missing = ~exists().where(listed_table.c.id == mirror.c.id)
        with connection.begin():
            settled = deletions.settle(
                connection,
                source.name,
                seen=select(listed_table),
                missing=missing,
                guard=guard,
                confirmed=confirm_deletions,
                confirm_gone=source.confirm_gone,
                let_go=writer.let_go,
            )
            if not settled.refusal:
                writer.forget_claims()
            writer.note_duplicates()
            writer.oversized.finish(connection)
            watermark.note_manifest(connection, source.name, without_modified=without_modified)
        with connection.begin():
            result = writer.result(without_modified=without_modified)
        changed = reconsider(connection, sources, run_id)
        raise_if_held(settled)
    return replace(result, changed=result.changed + changed)


def _list(connection: Connection, source: Source) -> dict[str, Any]:
    """List the source in a temporary table; returns the ``_id`` that the mirror names differently, by that name."""
    odd_ids: dict[str, Any] = {}
    writer = RowWriter.for_columns(list(listed_table.columns), ("id",))

    def rows(records: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            identity = record_id(record)
            if identity != record["_id"]:
                odd_ids[identity] = record["_id"]
            yield {"id": identity, "modified": modified_time(record)}

    def store(records: list[Mapping[str, Any]]) -> None:
        with connection.begin():
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                copy_rows(cursor, "pg_temp.docdb_listed", writer, rows(records))

    held: list[Mapping[str, Any]] = []
    for record in source.listing():
        held.append(record)
        if len(held) == _LISTED_AT_ONCE:
            store(held)
            held = []
    store(held)
    with connection.begin():
        connection.execute(text("ANALYZE pg_temp.docdb_listed"))
    return odd_ids


def _of_this_pass(parts: int, part: int) -> ColumnElement[bool]:
    return func.abs(func.hashtextextended(listed_table.c.id, 0) % parts) == part


def _known_as_too_large(connection: Connection, noted: Mapping[str, Finding], parts: int, part: int) -> list[str]:
    """Ids of what was too large to be read and has not been modified since, but for this pass's part of them."""
    listed = listed_table.c
    if not noted:
        return []
    query = select(listed.id, listed.modified).where(listed.id.in_(list(noted)), ~_of_this_pass(parts, part))
    return [identity for identity, modified in connection.execute(query) if is_about(noted[identity], modified)]


def _wanted(connection: Connection, source: str, parts: int, part: int, unreadable: list[str]) -> list[str]:
    """Ids to read whole: what the mirror has not, has differently or cannot tell, and this pass's part of the rest."""
    listed = listed_table.c
    ours = (mirror.c.source == source) & (mirror.c.id == listed.id)
    differs = mirror.c.id.is_(None) | listed.modified.is_(None) | mirror.c.modified.is_distinct_from(listed.modified)
    query = (
        select(listed.id)
        .select_from(listed_table.outerjoin(mirror, ours))
        .where(differs | _of_this_pass(parts, part), ~listed.id.in_(unreadable))
        .distinct()
        .order_by(listed.id)
    )
    return list(connection.scalars(query))


def _without_modified(connection: Connection) -> int:
    unusable = select(func.count(listed_table.c.id.distinct())).where(listed_table.c.modified.is_(None))
    return connection.scalar(unusable) or 0
