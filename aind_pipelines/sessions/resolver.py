"""Resolving whole months of sessions from what RDS holds: records and indexes, no request per session.

One pass reads what the months need in one snapshot, applies the rules of `aind_pipelines.sessions.rules` to each
session, and publishes the months' rows of `session_assets` together with their findings in one transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, any_, delete, false, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import Text

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.rds.publish import publish
from aind_pipelines.mirror.indexes import ARCHIVED, CODE_OCEAN
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.names import LATEST_YEAR, SessionId, parse_session_id, without_session
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
class MonthResult:
    """What a pass did in one month.

    Attributes:
        sessions: Sessions of the month.
        changed: Its rows of `session_assets` that are new, differ or are gone.
        findings_by_code: Its standing findings.
    """

    sessions: int
    changed: int
    findings_by_code: Counter[str]


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """What a pass over months did.

    Attributes:
        by_month: What it did in each month, months without any session included.
        findings_about_names: Standing findings of the scope `NAMES_SCOPE`, by code: they belong to no month.
    """

    by_month: Mapping[date, MonthResult]
    findings_about_names: Counter[str]

    @property
    def sessions(self) -> int:
        """Sessions of all these months."""
        return sum(month.sessions for month in self.by_month.values())

    @property
    def changed(self) -> int:
        """Rows of all these months that are new, differ or are gone."""
        return sum(month.changed for month in self.by_month.values())

    @property
    def findings_by_code(self) -> Counter[str]:
        """Standing findings of all these months, and those about names."""
        return sum((month.findings_by_code for month in self.by_month.values()), self.findings_about_names)


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
    Names without a session id, and those of a month that is yet to come, become findings of the scope `NAMES_SCOPE`.

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
        of_no_month = list(_names_of_no_month(connection, buckets, first_of_month(datetime.now(UTC).date())))
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
    return _publish(engine, wanted, resolved, of_no_month, run_id)


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


def _names_of_no_month(connection: Connection, buckets: Sequence[str], this_month: date) -> Iterator[Finding]:
    """A finding per name that no month holds, saying where it is used: it has no session id, or one yet to come."""
    places: dict[str, set[str]] = defaultdict(set)
    for name, place in _names_in_use(connection, buckets, this_month):
        places[name].add(place)
    for name in sorted(places):
        used = f"used in {', '.join(sorted(places[name]))}."
        session = parse_session_id(name, latest_year=LATEST_YEAR)
        if session is None:
            yield Finding(
                NAME_WITHOUT_SESSION, name, "", f"{name!r} {without_session(name)}, so that it belongs to none; {used}"
            )
        elif session.month > this_month:
            yield Finding(
                SESSION_YET_TO_COME, name, "", f"{name!r} is dated after this month, and is not resolved; {used}"
            )


def _names_in_use(connection: Connection, buckets: Sequence[str], this_month: date) -> Iterator[tuple[str, str]]:
    """Every name that may belong to no month, and a place where it is used; some others too."""
    for name in connection.scalars(select(data_assets.c.name).where(data_assets.c.name.is_not(None)).distinct()):
        yield name, "DocDB records"
    # The indexes keep no session id that is dated in a year to come.
    later = [this_month.replace(month=month) for month in range(this_month.month + 1, 13)]
    asset, folder = code_ocean_assets.c, s3_prefixes.c
    for name in connection.scalars(
        select(asset.name).where(or_(asset.session_id.is_(None), _of_months(asset.session_id, later)), ~_IS_ARCHIVED)
    ):
        yield name, "Code Ocean"
    for bucket, prefix in connection.execute(
        select(folder.bucket, folder.prefix).where(
            or_(folder.session_id.is_(None), _of_months(folder.session_id, later)), _among(folder.bucket, buckets)
        )
    ):
        if not _is_uuid(prefix):  # Code Ocean's own folders are named by id
            yield prefix, f"s3://{bucket}"


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
    of_no_month: Sequence[Finding],
    run_id: str | None,
) -> ResolveResult:
    now = datetime.now(UTC)
    by_month: dict[date, list[ResolvedSession]] = {month: [] for month in months}
    for item in resolved:
        by_month[item.session.month].append(item)
    table = session_assets.c
    of_these = table.month == any_(literal(list(months), ARRAY(table.month.type)))
    with translated("publishing public.session_assets"), engine.begin() as connection:
        publish(
            connection,
            session_assets,
            (_row(item, now, run_id) for item in resolved),
            key=["session_id"],
            delete_missing=False,
            stamps=["resolved_at", "run_id"],
        )
        gone = connection.scalars(
            delete(session_assets)
            .where(of_these, ~_among(table.session_id, (item.session.id for item in resolved)))
            .returning(table.month)
        )
        changed = Counter(gone)
        # The stamp tells the rows that this pass wrote from those that were so already.
        changed.update(connection.scalars(select(table.month).where(of_these, table.resolved_at == now)))
        findings = {
            month: record_findings(
                connection,
                session_findings,
                [finding for item in items for finding in item.findings],
                scope=f"month {month:%Y-%m}",
                run_id=run_id,
            )
            for month, items in by_month.items()
        }
        about_names = record_findings(connection, session_findings, of_no_month, scope=NAMES_SCOPE, run_id=run_id)
    return ResolveResult(
        {month: MonthResult(len(items), changed[month], findings[month]) for month, items in by_month.items()},
        about_names,
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
