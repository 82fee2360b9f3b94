"""What Code Ocean and the asset buckets hold, kept in RDS, so that one refresh serves any number of sessions.

A refresh is complete or it changes nothing: a listing that fails in the middle leaves the index as it was, and an
answer from which most of what is known has vanished is refused. Rows that did not change are not rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.rds.publish import PublishResult, publish
from aind_pipelines.clients.s3 import BucketMissing, folders, iter_listing_pages
from aind_pipelines.records.canonical import UNSTORABLE_TEXT, canonicalise
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.names import AssetName, parse_asset_name, parse_session_id
from aind_pipelines.records.reading import LONGEST_KEY, as_text, shown
from aind_pipelines.tables.findings import record_findings
from aind_pipelines.tables.schema import code_ocean_assets, index_refreshes, s3_prefixes, session_findings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CODE_OCEAN = "code_ocean"
"""Source of the Code Ocean index in `indexes.refreshes`; a bucket's source is ``s3://bucket``."""

CODE_OCEAN_SCOPE = "code_ocean index"
S3_SCOPE = "s3 index"
"""Scopes of the findings of the refreshes."""

ARCHIVED = "archived"
"""Key of an asset's body that the index adds: true for what Code Ocean keeps out of searches, and still has."""

ASSET_UNREADABLE = "code_ocean_asset_unreadable"
BUCKET_MISSING = "bucket_missing"

SETTLED_AFTER = timedelta(days=14)
"""A raw session's folders are listed anew until its date is this far back: uploads of its parts arrive apart."""

_LOSS_ALLOWED = 20
_SCHEMES = {"aws": "s3", "gcp": "gs", "local": "file"}


class RefreshRefused(ServiceError):
    """A complete listing lacks most of what the index holds; the index is as it was."""


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What a refresh did.

    Attributes:
        rows: Rows that the index holds for the refreshed sources.
        inserted: Rows that are new.
        updated: Rows that differed.
        deleted: Rows of things that are gone.
        requests: Requests made to the source; 0 when the caller did not count them.
        findings_by_code: Standing findings of the refresh.
    """

    rows: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    requests: int = 0
    findings_by_code: Mapping[str, int] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Rows inserted, updated or deleted."""
        return self.inserted + self.updated + self.deleted

    def __str__(self) -> str:
        return (
            f"{self.rows} rows: {self.inserted} new, {self.updated} changed, {self.deleted} gone; "
            f"{self.requests} requests"
        )


# --- Code Ocean ----------------------------------------------------------------------------------------------------


def refresh_code_ocean(
    engine: Engine,
    assets: Iterable[Mapping[str, Any]],
    *,
    requests: int | Callable[[], int] = 0,
    run_id: str | None = None,
    accept_loss: bool = False,
) -> RefreshResult:
    """Make `indexes.code_ocean_assets` what a complete scan of Code Ocean says.

    An asset without id, name or creation time is a finding and not indexed.

    Args:
        engine: RDS.
        assets: Every data asset as the API describes it (JSON objects), archived ones as `with_archived` marks them;
            read once, in constant memory. When it raises, nothing has changed.
        requests: Requests that the scan took, or a function that tells once the scan is done.
        run_id: Dagster run, if any.
        accept_loss: Take it as right that most known assets, or all of them, are gone.

    Raises:
        RefreshRefused: No assets at all, or more than half of the known ones (and more than 20) are gone.
        ServiceError: RDS, or whatever `assets` raises.
    """
    now = datetime.now(UTC)
    findings: list[Finding] = []
    with translated("refreshing the Code Ocean index"), engine.begin() as connection:
        result = publish(
            connection,
            code_ocean_assets,
            _unique_rows(assets, now, findings),
            key=["id"],
            allow_empty=True,
            max_shrink=1,
            stamps=["seen_at"],
        )
        if not accept_loss:
            _refuse_loss("Code Ocean", _before(result), result.deleted, empty=result.rows == 0)
        made = requests() if callable(requests) else requests
        _note_refresh(connection, CODE_OCEAN, result.rows, made)
        counts = record_findings(connection, session_findings, findings, scope=CODE_OCEAN_SCOPE, run_id=run_id)
    return RefreshResult(result.rows, result.inserted, result.updated, result.deleted, made, counts)


def with_archived(
    assets: Iterable[Mapping[str, Any]], archived: Iterable[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Two scans as one: Code Ocean lists archived assets apart from the others and says of none which it is.

    The archived ones come last, marked by `ARCHIVED`: what is archived between the scans comes twice, the first time
    as it was, and is not lost.
    """
    yield from assets
    for asset in archived:
        yield {**asset, ARCHIVED: True}


def _unique_rows(
    assets: Iterable[Mapping[str, Any]], now: datetime, findings: list[Finding]
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for asset in assets:
        try:
            row = code_ocean_row(asset)
        except ValueError as error:
            findings.append(Finding(ASSET_UNREADABLE, shown(asset.get("id")), "", str(error)))
            continue
        if row["id"] not in seen:  # an asset that moved between pages during the scan comes twice
            seen.add(row["id"])
            yield row | {"seen_at": now}


def code_ocean_row(asset: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `indexes.code_ocean_assets` for an asset as Code Ocean's API describes it.

    Raises:
        ValueError: It has no id, name or creation time, which the contract promises.
    """
    identifier, name = _required(asset, "id"), _required(asset, "name")
    created = asset.get("created")
    if isinstance(created, bool) or not isinstance(created, int | float):
        raise ValueError(f"The data asset has no creation time in seconds since 1970: {created!r}.")  # noqa: TRY004
    try:
        moment = datetime.fromtimestamp(created, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"The data asset's creation time is impossible: {created!r}.") from None
    session = parse_session_id(name)
    custom = asset.get("custom_metadata")
    level = custom.get("data level") if isinstance(custom, Mapping) else None
    tags = asset.get("tags")
    size = asset.get("size")
    return {
        "id": identifier,
        "name": name,
        "created": moment,
        "state": as_text(asset.get("state")),
        "type": as_text(asset.get("type")),
        "size": size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        "tags": [text for tag in tags if (text := as_text(tag))] if isinstance(tags, list) else [],
        "data_level": as_text(level),
        "session_id": None if session is None else session.id,
        "location": _source_location(asset.get("source_bucket")),
        "body": canonicalise(asset).body,
    }


def _required(asset: Mapping[str, Any], key: str) -> str:
    value = asset.get(key)
    if not isinstance(value, str) or not value or len(value) > LONGEST_KEY or UNSTORABLE_TEXT.search(value):
        raise ValueError(f"The data asset {shown(asset.get('id'))} has no usable {key}: {shown(value)}.")
    return value


def _source_location(source: Any) -> str | None:
    if not isinstance(source, Mapping) or not source.get("bucket"):
        return None
    scheme = _SCHEMES.get(str(source.get("origin") or "aws"), str(source.get("origin")))
    prefix = str(source.get("prefix") or "").strip("/")
    return as_text(f"{scheme}://{source['bucket']}/{prefix}".rstrip("/"))


def is_raw(name: str, data_level: str | None, tags: Collection[str], session_id: str | None) -> bool:
    """Whether a Code Ocean asset is raw data, by the institute's conventions.

    A name that says which process made it, and when, is never that of raw data: real assets were registered with the
    level of what they were made from. Else its custom field ``data level`` decides; without one, a tag that contains
    ``raw`` makes it raw; else it is raw when its name is a session id and nothing more.
    """
    if parse_asset_name(name).process_time is not None:
        return False
    if data_level is not None and data_level.strip():
        return data_level.strip().lower() in {"raw", "raw data"}
    return any("raw" in tag.lower() for tag in tags) or (
        session_id is not None and is_raw_name(parse_asset_name(name))
    )


def is_raw_name(name: AssetName) -> bool:
    """Whether a name is a session id, in any of its spellings, and nothing more."""
    session = name.session_id
    return (
        session is not None
        and name.process_name is None
        and name.name.startswith(f"{session.platform}_{session.subject_id}_")
    )


# --- S3 ------------------------------------------------------------------------------------------------------------


def refresh_s3(
    engine: Engine,
    s3: S3Client,
    buckets: Sequence[str],
    *,
    threads: int = 16,
    run_id: str | None = None,
    everything: bool = False,
    today: date | None = None,
    accept_loss: bool = False,
) -> RefreshResult:
    """Make `indexes.s3_prefixes` what the buckets hold: top-level folders, and the folders directly below raw ones.

    Top-level folders are listed whole, 1,000 to a request. The folders below are listed, one request each, only for
    raw sessions (by name, or by what Code Ocean says of the asset with that id), and only where they are new or the
    session is younger than `SETTLED_AFTER`; else what is known is kept.

    A bucket is done in a transaction of its own. A bucket that does not exist is a finding, and holds nothing.

    Args:
        engine: RDS.
        s3: A client that threads may share.
        buckets: Names of the buckets.
        threads: Listings at the same time.
        run_id: Dagster run, if any.
        everything: List the folders below every raw session anew.
        today: The date that decides which sessions are young; the current one when not given.
        accept_loss: Take it as right that most known folders of a bucket are gone.

    Raises:
        RefreshRefused: More than half of a bucket's known folders (and more than 20) are gone.
        ServiceError: S3 cannot be reached or refuses, or RDS does; buckets that were done before stay refreshed.
    """
    settled = (today or datetime.now(UTC).date()) - SETTLED_AFTER
    total = RefreshResult()
    findings = []
    for bucket in dict.fromkeys(buckets):
        listing = _Listing(s3, bucket, threads)
        try:
            names = listing.top()
        except BucketMissing as missing:
            names = []
            findings.append(Finding(BUCKET_MISSING, bucket, "", str(missing)))
        done = _refresh_bucket(engine, listing, names, settled=settled, relist=everything, accept_loss=accept_loss)
        total = RefreshResult(
            total.rows + done.rows,
            total.inserted + done.inserted,
            total.updated + done.updated,
            total.deleted + done.deleted,
            total.requests + listing.requests,
        )
    with translated("storing the findings of the S3 index"), engine.begin() as connection:
        counts = record_findings(connection, session_findings, findings, scope=S3_SCOPE, run_id=run_id)
    return RefreshResult(
        total.rows, total.inserted, total.updated, total.deleted, total.requests, findings_by_code=counts
    )


class _Listing:
    """Listings of one bucket, counted."""

    def __init__(self, s3: S3Client, bucket: str, threads: int) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.threads = threads
        self.requests = 0

    def top(self) -> list[str]:
        names, requests = self._folders("")
        self.requests += requests
        return names

    def children(self, prefixes: Sequence[str]) -> dict[str, list[str]]:
        """Folders directly below each of `prefixes`."""
        if not prefixes:
            return {}
        with ThreadPoolExecutor(min(self.threads, len(prefixes)), thread_name_prefix="s3-index") as pool:
            answers = list(pool.map(self._folders, (f"{prefix}/" for prefix in prefixes)))
        self.requests += sum(requests for _, requests in answers)
        return {prefix: names for prefix, (names, _) in zip(prefixes, answers, strict=True)}

    def _folders(self, below: str) -> tuple[list[str], int]:
        names: list[str] = []
        requests = 0
        for page in iter_listing_pages(self.s3, self.bucket, below, delimiter="/"):
            requests += 1
            names += folders(page)
        # A folder whose name ends in slashes would come twice.
        return list(dict.fromkeys(names)), max(requests, 1)


def _refresh_bucket(
    engine: Engine, listing: _Listing, names: Sequence[str], *, settled: date, relist: bool, accept_loss: bool
) -> PublishResult:
    bucket = listing.bucket
    with translated(f"reading the index of bucket {bucket}"), engine.connect() as connection:
        known = _known_children(connection, bucket)
        raw_ids = _raw_code_ocean_ids(connection, names)
    if not accept_loss:
        _refuse_loss(f"bucket {bucket!r}", len(known), len(known.keys() - set(names)))
    parsed = {name: parse_asset_name(name) for name in names}

    def wanted(name: str) -> bool:
        asset = parsed[name]
        if name in raw_ids:
            return relist or not known.get(name)
        if not is_raw_name(asset):
            return False
        assert asset.session_id is not None
        return relist or name not in known or asset.session_id.date > settled

    children = listing.children([name for name in names if wanted(name)])
    now = datetime.now(UTC)
    rows = (
        {
            "bucket": bucket,
            "prefix": name,
            "session_id": session.id if (session := parsed[name].session_id) is not None else None,
            "children": children.get(name, known.get(name, [])),
            "seen_at": now,
        }
        for name in names
    )
    with translated(f"refreshing the index of bucket {bucket}"), engine.begin() as connection:
        result = publish(
            connection,
            s3_prefixes,
            rows,
            key=["bucket", "prefix"],
            part={"bucket": bucket},
            allow_empty=True,
            max_shrink=1,
            stamps=["seen_at"],
        )
        _note_refresh(connection, f"s3://{bucket}", result.rows, listing.requests)
    return result


def _known_children(connection: Connection, bucket: str) -> dict[str, list[str]]:
    table = s3_prefixes.c
    found = connection.execute(select(table.prefix, table.children).where(table.bucket == bucket))
    return {row.prefix: row.children for row in found}


def _raw_code_ocean_ids(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of `names` that are ids of raw Code Ocean assets: folders in which Code Ocean itself holds them."""
    table = code_ocean_assets.c
    found = connection.execute(
        select(table.id, table.name, table.data_level, table.tags, table.session_id).where(
            table.session_id.is_not(None), table.id == func.any(list(names))
        )
    )
    return {row.id for row in found if is_raw(row.name, row.data_level, row.tags, row.session_id)}


# --- shared --------------------------------------------------------------------------------------------------------


def _before(result: PublishResult) -> int:
    return result.deleted + result.updated + result.unchanged


def _refuse_loss(source: str, known: int, gone: int, *, empty: bool = False) -> None:
    if (empty and known) or gone > max(_LOSS_ALLOWED, known / 2):
        raise RefreshRefused(
            source,
            f"{gone} of the {known} things in the index are missing from a complete listing. The index is left as it "
            "was. Check that the right system was asked; if they are really gone, refresh with accept_loss.",
        )


def _note_refresh(connection: Connection, source: str, rows: int, requests: int) -> None:
    statement = insert(index_refreshes).values(
        source=source, completed_at=func.clock_timestamp(), rows=rows, requests=requests
    )
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[index_refreshes.c.source],
            set_={"completed_at": new.completed_at, "rows": new.rows, "requests": new.requests},
        )
    )
