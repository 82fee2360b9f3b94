"""Resolving whole months of sessions from what RDS holds: records and indexes, no request per session.

One pass reads what the months need in one snapshot, applies the rules of `aind_pipelines.sessions.rules` to each
session, and publishes the months' rows of `session_assets` together with their findings in one transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, any_, delete, false, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import Text

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.rds.publish import publish
from aind_pipelines.mirror.indexes import ARCHIVED, CODE_OCEAN
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.names import SessionId, parse_session_id
from aind_pipelines.sessions.ids import first_of_month, month_patterns
from aind_pipelines.sessions.rules import (
    NAME_WITHOUT_SESSION,
    SESSION_YET_TO_COME,
    CodeOceanAsset,
    Folder,
    Record,
    ResolvedSession,
    resolve,
)
from aind_pipelines.settings import load_policy
from aind_pipelines.tables.findings import record_findings
from aind_pipelines.tables.schema import (
    code_ocean_assets,
    data_assets,
    index_refreshes,
    s3_prefixes,
    session_assets,
    session_findings,
)

__all__ = ["IndexNotReady", "ResolveResult", "resolve", "resolve_month", "resolve_months"]

NAMES_SCOPE = "names"
"""Scope of the findings about names that hold no session id, or one of a month that is yet to come."""

_IS_ARCHIVED = func.coalesce(code_ocean_assets.c.body[ARCHIVED].as_boolean(), false())

_FEW_MONTHS = 12
"""For more months than this, reading everything is quicker than matching every name with each month."""


class IndexNotReady(ServiceError):
    """An index was never completed: whatever is not in it cannot be called missing."""


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """What a pass over months did.

    Attributes:
        sessions: Sessions of these months.
        changed: Rows of `session_assets` that are new, differ or are gone.
        findings_by_code: Standing findings of these months, and those about names.
        sessions_by_month: Sessions of each month, months without any included.
    """

    sessions: int
    changed: int
    findings_by_code: Mapping[str, int]
    sessions_by_month: Mapping[date, int] = field(default_factory=dict)


def resolve_month(
    engine: Engine, month: date, *, run_id: str | None = None, buckets: Sequence[str] | None = None
) -> ResolveResult:
    """Resolve the sessions of one month; see `resolve_months`."""
    return resolve_months(engine, [month], run_id=run_id, buckets=buckets)


def resolve_months(
    engine: Engine, months: Iterable[date], *, run_id: str | None = None, buckets: Sequence[str] | None = None
) -> ResolveResult:
    """Resolve the sessions of some months and publish their rows of `session_assets` and their findings.

    The sessions are those whose id is in the name of a record, a Code Ocean asset or a folder of a bucket, and whose
    date is in one of the months. Rows of other months are left alone; rows that did not change are not rewritten.
    Names without a session id, of any month, become findings of the scope `NAMES_SCOPE`.

    Args:
        engine: RDS.
        months: Any day of each month.
        run_id: Dagster run, if any.
        buckets: Buckets in the order in which they are searched; those of the policy when not given.

    Raises:
        IndexNotReady: The Code Ocean index was never completed.
        ServiceError: RDS cannot be reached or refuses.
    """
    wanted = sorted({first_of_month(month) for month in months})
    buckets = load_policy().s3.buckets if buckets is None else buckets
    with (
        translated("reading records and indexes"),
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
    ):
        material = _read(connection, wanted, buckets)
        nameless = [*_names_without_session(connection, buckets), *_names_yet_to_come(connection, buckets)]
    resolved = [
        resolve(
            session,
            material.records.get(session, ()),
            material.assets_of(session),
            material.folders_of(session),
            buckets=material.buckets,
        )
        for session in material.sessions
    ]
    return _publish(engine, wanted, resolved, nameless, run_id)


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Material:
    """What RDS holds about the sessions of some months."""

    sessions: list[SessionId]
    buckets: list[str]
    records: Mapping[SessionId, list[Record]]
    assets: Mapping[str, CodeOceanAsset]
    assets_by_session: Mapping[str, list[CodeOceanAsset]]
    folders: Mapping[tuple[str, str], Folder]
    folders_by_session: Mapping[str, list[Folder]]

    def assets_of(self, session: SessionId) -> list[CodeOceanAsset]:
        """Assets named for the session, and those that its records link to."""
        linked = (id_ for record in self.records.get(session, ()) for id_ in record.code_ocean_ids)
        found = {asset.id: asset for asset in self.assets_by_session.get(session.id, ())}
        found |= {id_: self.assets[id_] for id_ in linked if id_ in self.assets}
        return list(found.values())

    def folders_of(self, session: SessionId) -> list[Folder]:
        """Folders named for the session, and those where its records and assets may be."""
        assets = self.assets_of(session)
        records = self.records.get(session, ())
        places = [place for item in (*records, *assets) if (place := _top_folder(item.location)) is not None]
        places += [(bucket, name) for asset in assets for name in (asset.id, asset.name) for bucket in self.buckets]
        found = {(folder.bucket, folder.prefix): folder for folder in self.folders_by_session.get(session.id, ())}
        found |= {place: self.folders[place] for place in places if place in self.folders}
        return list(found.values())


def _read(connection: Connection, months: Sequence[date], buckets: Sequence[str]) -> _Material:
    sources = set(connection.scalars(select(index_refreshes.c.source)))
    if CODE_OCEAN not in sources:
        raise IndexNotReady(
            "Code Ocean index",
            "it was never completed, so that nothing can be resolved. Materialize code_ocean_index.",
        )
    indexed = [bucket for bucket in buckets if f"s3://{bucket}" in sources]
    chosen = set(months)
    sessions: dict[str, SessionId | None] = {}

    def session_of(text: str) -> SessionId | None:
        """The session in a name or id, if it is one of these months."""
        if text not in sessions:
            parsed = parse_session_id(text)
            sessions[text] = parsed if parsed is not None and parsed.month in chosen else None
        return sessions[text]

    records: dict[SessionId, list[Record]] = defaultdict(list)
    for record in _records(connection, _of_months(data_assets.c.name, months)):
        if (session := session_of(record.name)) is not None:
            records[session].append(record)

    assets_by_session: dict[str, list[CodeOceanAsset]] = defaultdict(list)
    for asset in _assets(connection, _of_months(code_ocean_assets.c.session_id, months)):
        # An archived asset alone makes no session.
        if asset.session_id is not None and (asset.archived or session_of(asset.session_id) is not None):
            assets_by_session[asset.session_id].append(asset)
    assets = {asset.id: asset for group in assets_by_session.values() for asset in group}
    linked = {id_ for group in records.values() for record in group for id_ in record.code_ocean_ids} - assets.keys()
    assets |= {asset.id: asset for asset in _assets(connection, _among(code_ocean_assets.c.id, linked))}

    folders_by_session: dict[str, list[Folder]] = defaultdict(list)
    for folder in _folders(connection, indexed, _of_months(s3_prefixes.c.session_id, months)):
        if folder.session_id is not None and session_of(folder.session_id) is not None:
            folders_by_session[folder.session_id].append(folder)
    folders = {(folder.bucket, folder.prefix): folder for group in folders_by_session.values() for folder in group}
    located: list[Record | CodeOceanAsset] = [
        *(record for group in records.values() for record in group),
        *assets.values(),
    ]
    prefixes = {place[1] for item in located if (place := _top_folder(item.location)) is not None}
    prefixes |= {name for asset in assets.values() for name in (asset.id, asset.name)}
    folders |= {
        (folder.bucket, folder.prefix): folder
        for folder in _folders(connection, indexed, _among(s3_prefixes.c.prefix, prefixes))
    }
    found = {session for session in sessions.values() if session is not None}
    return _Material(
        sorted(found, key=lambda session: session.id),
        indexed,
        records,
        assets,
        assets_by_session,
        folders,
        folders_by_session,
    )


def _of_months(column: ColumnElement[Any], months: Sequence[date]) -> ColumnElement[bool]:
    """Rows whose `column` may hold a session of these months."""
    if len(months) > _FEW_MONTHS:
        return column.is_not(None)
    return column.like(any_(array(month_patterns(months), type_=Text)))


def _among(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    return column == any_(literal(sorted(values), ARRAY(Text)))


def _records(connection: Connection, condition: ColumnElement[bool]) -> Iterator[Record]:
    table = data_assets.c
    columns = (
        table.record_version,
        table.id,
        table.name,
        table.location,
        table.data_level,
        table.process_name,
        table.code_ocean_ids,
        table.created,
        table.modified,
    )
    for row in connection.execute(select(*columns).where(condition)):
        version, id_, name, location, level, process, links, created, modified = row
        yield Record(version, id_, name, location, level, process, tuple(links or ()), created, modified)


def _assets(connection: Connection, condition: ColumnElement[bool]) -> Iterator[CodeOceanAsset]:
    table = code_ocean_assets.c
    columns = (
        table.id,
        table.name,
        table.created,
        table.state,
        table.tags,
        table.data_level,
        table.session_id,
        table.location,
        _IS_ARCHIVED,
    )
    for id_, name, created, state, tags, level, session_id, location, archived in connection.execute(
        select(*columns).where(condition)
    ):
        yield CodeOceanAsset(id_, name, created, state, tuple(tags), level, session_id, location, archived)


def _folders(connection: Connection, buckets: Sequence[str], condition: ColumnElement[bool]) -> Iterator[Folder]:
    table = s3_prefixes.c
    columns = (table.bucket, table.prefix, table.children, table.session_id)
    for bucket, prefix, children, session_id in connection.execute(
        select(*columns).where(_among(table.bucket, buckets), condition)
    ):
        yield Folder(bucket, prefix, tuple(children), session_id)


def _top_folder(location: str | None) -> tuple[str, str] | None:
    """Bucket and top-level folder of an S3 location."""
    if location is None or not location.strip().lower().startswith("s3://"):
        return None
    parts = [part for part in location.strip()[5:].split("/") if part]
    return (parts[0], parts[1]) if len(parts) > 1 else None


def _names_without_session(connection: Connection, buckets: Sequence[str]) -> Iterator[Finding]:
    """A finding per name that holds no session id, saying where the name is used."""
    places: dict[str, set[str]] = defaultdict(set)
    for name in connection.scalars(select(data_assets.c.name).where(data_assets.c.name.is_not(None)).distinct()):
        if parse_session_id(name) is None:
            places[name].add("DocDB records")
    table = code_ocean_assets.c
    for name in connection.scalars(select(table.name).where(table.session_id.is_(None), ~_IS_ARCHIVED)):
        places[name].add("Code Ocean")
    folder = s3_prefixes.c
    for bucket, prefix in connection.execute(
        select(folder.bucket, folder.prefix).where(folder.session_id.is_(None), _among(folder.bucket, buckets))
    ):
        if not _is_uuid(prefix):  # Code Ocean's own folders are named by id
            places[prefix].add(f"s3://{bucket}")
    for name in sorted(places):
        message = (
            f"{name!r} holds no session id, so that it belongs to none; used in {', '.join(sorted(places[name]))}."
        )
        yield Finding(NAME_WITHOUT_SESSION, name, "", message)


def _names_yet_to_come(connection: Connection, buckets: Sequence[str]) -> Iterator[Finding]:
    """A finding per name whose session is dated after this month: no partition holds it, and nothing resolves it."""
    this_month = datetime.now(UTC).date().replace(day=1)
    later = [this_month.replace(month=month) for month in range(this_month.month + 1, 13)]
    if not later:
        return
    assets, folder = code_ocean_assets.c, s3_prefixes.c
    names = {
        "DocDB records": select(data_assets.c.name).where(_of_months(data_assets.c.name, later)),
        "Code Ocean": select(assets.name).where(_of_months(assets.session_id, later), ~_IS_ARCHIVED),
        "S3": select(folder.prefix).where(_of_months(folder.session_id, later), _among(folder.bucket, buckets)),
    }
    places: dict[str, set[str]] = defaultdict(set)
    for place, query in names.items():
        for name in connection.scalars(query):
            parsed = parse_session_id(name)
            if parsed is not None and parsed.month > this_month:
                places[name].add(place)
    for name in sorted(places):
        message = (
            f"{name!r} is dated after this month, and is not resolved; used in {', '.join(sorted(places[name]))}."
        )
        yield Finding(SESSION_YET_TO_COME, name, "", message)


def _is_uuid(text: str) -> bool:
    if len(text) != 36:
        return False
    try:
        UUID(text)
    except ValueError:
        return False
    return True


# --- publishing ------------------------------------------------------------------------------------------------------


def _publish(
    engine: Engine,
    months: Sequence[date],
    resolved: Sequence[ResolvedSession],
    nameless: Sequence[Finding],
    run_id: str | None,
) -> ResolveResult:
    now = datetime.now(UTC)
    by_month: dict[date, list[ResolvedSession]] = {month: [] for month in months}
    for item in resolved:
        by_month[item.session.month].append(item)
    counts: Counter[str] = Counter()
    table = session_assets.c
    with translated("publishing public.session_assets"), engine.begin() as connection:
        result = publish(
            connection,
            session_assets,
            (_row(item, now, run_id) for item in resolved),
            key=["session_id"],
            delete_missing=False,
            stamps=["resolved_at", "run_id"],
        )
        gone = connection.execute(
            delete(session_assets).where(
                table.month == any_(literal(list(months), ARRAY(table.month.type))),
                ~_among(table.session_id, (item.session.id for item in resolved)),
            )
        )
        for month, items in by_month.items():
            findings = [finding for item in items for finding in item.findings]
            counts += record_findings(
                connection, session_findings, findings, scope=f"month {month:%Y-%m}", run_id=run_id
            )
        counts += record_findings(connection, session_findings, nameless, scope=NAMES_SCOPE, run_id=run_id)
    return ResolveResult(
        sessions=len(resolved),
        changed=result.inserted + result.updated + gone.rowcount,
        findings_by_code=dict(sorted(counts.items())),
        sessions_by_month={month: len(items) for month, items in by_month.items()},
    )


def _row(item: ResolvedSession, now: datetime, run_id: str | None) -> dict[str, Any]:
    record = item.raw_record
    return {
        "session_id": item.session.id,
        "month": item.session.month,
        "platform": item.session.platform,
        "subject_id": item.session.subject_id,
        "session_time": item.session.dt,
        "raw_asset_name": item.raw_asset_name,
        "raw_record_version": record.record_version if record else None,
        "raw_record_id": record.id if record else None,
        "raw_code_ocean_id": item.raw_code_ocean_id,
        "raw_data_dir": item.raw_data_dir,
        "modalities": None if item.modalities is None else list(item.modalities),
        "derived": [entry.to_json() for entry in item.derived],
        "resolved_at": now,
        "run_id": run_id,
    }
