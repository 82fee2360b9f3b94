"""The rules by which a session's assets are found among what records, Code Ocean and the buckets say. Pure.

The raw asset is the one that the session's record links to; links that lead nowhere fall back to Code Ocean's own
assets of that session, as does a missing record; of several the latest created one is taken. The raw data directory
is where the record says it is, else where Code Ocean or the bucket listings have it, and always checked to exist.
An archived asset serves a record that links to it, or that has no other raw asset; else it is put away, and ignored.
Everything that does not fit is a finding; nothing raises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from aind_pipelines.mirror.indexes import is_raw, is_raw_name
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.names import SessionId, parse_asset_name
from aind_pipelines.sessions.ids import session_id_in

DEAD_CODE_OCEAN_LINK = "dead_code_ocean_link"
RAW_DATA_MISSING = "raw_data_missing"
RAW_DATA_UNCHECKED = "raw_data_unchecked"
RECORD_MISSING = "record_missing"
CODE_OCEAN_ASSET_MISSING = "code_ocean_asset_missing"
NAME_WITHOUT_SESSION = "name_without_session"
SESSION_YET_TO_COME = "session_yet_to_come"

_EPHYS_FOLDERS = frozenset({"ecephys_clipped", "ecephys_compressed"})
_RAW_LEVELS = frozenset({"raw", "raw data"})
_UNUSABLE_STATES = frozenset({"draft", "failed"})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """What a metadata record says of one asset: a row of `data_assets`."""

    record_version: str
    id: str
    name: str
    location: str | None = None
    data_level: str | None = None
    process_name: str | None = None
    code_ocean_ids: tuple[str, ...] = ()
    created: datetime | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class CodeOceanAsset:
    """A Code Ocean data asset: a row of `indexes.code_ocean_assets`."""

    id: str
    name: str
    created: datetime
    state: str | None = None
    tags: tuple[str, ...] = ()
    data_level: str | None = None
    session_id: str | None = None
    location: str | None = None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """A top-level folder of a bucket: a row of `indexes.s3_prefixes`."""

    bucket: str
    prefix: str
    children: tuple[str, ...] = ()
    session_id: str | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Derived:
    """An asset that was derived from a session."""

    name: str
    process: str | None = None
    code_ocean_id: str | None = None
    location: str | None = None
    created: datetime | None = None

    def to_json(self) -> dict[str, str | None]:
        """As the column `derived` keeps it; the time in UTC."""
        return {
            "name": self.name,
            "process": self.process,
            "code_ocean_id": self.code_ocean_id,
            "location": self.location,
            "created": None if self.created is None else _moment(self.created).isoformat(),
        }


@dataclass(frozen=True, slots=True)
class ResolvedSession:
    """What belongs to a session, and where it is.

    Attributes:
        session: Its id.
        raw_asset_name: Name of the raw asset; None when nothing raw is known.
        raw_record: Record of the raw asset.
        raw_code_ocean_id: Code Ocean id of the raw asset.
        raw_data_dir: URI of the raw data, known to exist; None when it is not known to.
        modalities: Folders of the raw data, as modalities, sorted; None without raw data.
        derived: Derived assets, oldest first; those without a known time before all others.
        findings: What does not fit, each keyed by the session id or the derived asset's name.
    """

    session: SessionId
    raw_asset_name: str | None = None
    raw_record: Record | None = None
    raw_code_ocean_id: str | None = None
    raw_data_dir: str | None = None
    modalities: tuple[str, ...] | None = None
    derived: tuple[Derived, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), compare=False)


def resolve(
    session: SessionId | str,
    records: Iterable[Record],
    assets: Iterable[CodeOceanAsset],
    folders: Iterable[Folder],
    *,
    buckets: Sequence[str],
) -> ResolvedSession:
    """Resolve one session. The order of records, assets and folders does not matter.

    Args:
        session: Its id.
        records: Records whose name holds this session id.
        assets: Code Ocean assets whose name does, and all that `records` link to.
        folders: Top-level folders whose name does, and all at which `records` and `assets` are said to be.
        buckets: The buckets whose listing is known, in the order in which they are searched. A location elsewhere
            can be neither confirmed nor called missing.

    Raises:
        ValueError: `session` is a text that holds no session id; see `session_id_in`.
    """
    if isinstance(session, str):
        session = session_id_in(session)
    return _Case(session, records, assets, folders, buckets).solve()


class _Presence(Enum):
    THERE = "there"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Place:
    """A location, and what is known of it.

    Attributes:
        uri: The location, with its slashes in order.
        presence: Whether something is there.
        folder: The top-level folder that is exactly there.
    """

    uri: str
    presence: _Presence
    folder: Folder | None = None


class _Places:
    """What is known of places in S3."""

    def __init__(self, folders: Iterable[Folder], buckets: Sequence[str]) -> None:
        self.buckets = list(dict.fromkeys(buckets))
        self._folders = {(folder.bucket, folder.prefix): folder for folder in folders if folder.bucket in self.buckets}

    def folder(self, bucket: str, prefix: str) -> Folder | None:
        return self._folders.get((bucket, prefix))

    def in_search_order(self) -> list[Folder]:
        rank = {bucket: number for number, bucket in enumerate(self.buckets)}
        return sorted(self._folders.values(), key=lambda folder: (rank[folder.bucket], folder.prefix))

    def presence(self, location: str) -> _Place:
        """Whether something is at `location`."""
        scheme, separator, rest = location.strip().partition("://")
        parts = [part for part in rest.split("/") if part]
        uri = f"{scheme.lower()}://{'/'.join(parts)}"
        if not separator or len(parts) < 2:
            return _Place(location, _Presence.ABSENT)
        if scheme.lower() != "s3":
            return _Place(uri, _Presence.UNKNOWN)
        bucket, top, *below = parts
        if bucket not in self.buckets:
            return _Place(uri, _Presence.UNKNOWN)
        folder = self.folder(bucket, top)
        if folder is None:
            return _Place(uri, _Presence.ABSENT)
        if not below:
            return _Place(uri, _Presence.THERE, folder)
        if not folder.children:  # they are listed for raw sessions only
            return _Place(uri, _Presence.UNKNOWN)
        if below[0] not in folder.children:
            return _Place(uri, _Presence.ABSENT)
        return _Place(uri, _Presence.THERE if len(below) == 1 else _Presence.UNKNOWN)


class _Case:
    """One session while it is resolved."""

    def __init__(
        self,
        session: SessionId,
        records: Iterable[Record],
        assets: Iterable[CodeOceanAsset],
        folders: Iterable[Folder],
        buckets: Sequence[str],
    ) -> None:
        self.session = session
        self.places = _Places(folders, buckets)
        self.findings: dict[tuple[str, str, str], Finding] = {}
        self.assets = {asset.id: asset for asset in sorted(assets, key=_latest_last)}
        ranked = sorted({(record.record_version, record.id): record for record in records}.values(), key=_best_last)
        ranked.reverse()
        self.raw_records = [record for record in ranked if self._is_raw_record(record)]
        # An exact name wins over any other spelling of it.
        self.raw_records.sort(key=lambda record: record.name != session.id)
        self.derived_records: dict[str, list[Record]] = defaultdict(list)
        for record in ranked:
            if not self._is_raw_record(record):
                self.derived_records[record.name].append(record)

    def solve(self) -> ResolvedSession:
        raw_record = self.raw_records[0] if self.raw_records else None
        raw_asset = self._raw_asset()
        raw_data_dir, folder = self._raw_data(raw_asset)
        derived = self._derived(raw_asset)
        self._find_dead_links()
        self._find_missing_records(raw_asset, folder)
        self._find_missing_assets(raw_asset)
        name = raw_record.name if raw_record else raw_asset.name if raw_asset else None
        if name is None and folder is not None:
            name = folder.prefix
        return ResolvedSession(
            session=self.session,
            raw_asset_name=name,
            raw_record=raw_record,
            raw_code_ocean_id=raw_asset.id if raw_asset else None,
            raw_data_dir=raw_data_dir,
            modalities=None if raw_data_dir is None else _modalities(folder),
            derived=derived,
            findings=tuple(sorted(self.findings.values())),
        )

    # --- raw ---------------------------------------------------------------------------------------------------

    def _is_raw_record(self, record: Record) -> bool:
        if record.name == self.session.id:
            return True
        if record.process_name:
            return False
        return record.data_level in _RAW_LEVELS or (
            record.data_level is None and is_raw_name(parse_asset_name(record.name))
        )

    def _is_raw_asset(self, asset: CodeOceanAsset) -> bool:
        return asset.session_id == self.session.id and is_raw(
            asset.name, asset.data_level, asset.tags, asset.session_id
        )

    def _linked(self, records: Iterable[Record]) -> list[CodeOceanAsset]:
        return [self.assets[id_] for record in records for id_ in record.code_ocean_ids if id_ in self.assets]

    def _raw_asset(self) -> CodeOceanAsset | None:
        # The first record that links to anything decides: an older generation may still name what was replaced.
        for record in self.raw_records:
            if linked := self._linked([record]):
                return max(linked, key=_latest_last)
        own = [asset for asset in self.assets.values() if self._is_raw_asset(asset)]
        if not self.raw_records:
            own = [asset for asset in own if not asset.archived]
        return max(own, key=_latest_last, default=None)

    def _raw_data(self, raw_asset: CodeOceanAsset | None) -> tuple[str | None, Folder | None]:
        """Where the raw data is, and the folder if it is a top-level one."""
        stated = [record.location for record in self.raw_records if record.location]
        if raw_asset is not None and raw_asset.location:
            stated.append(raw_asset.location)
        stated = list(dict.fromkeys(stated))
        found: tuple[str, Folder | None] | None = None
        absent: list[str] = []
        unknown: list[str] = []
        for place in map(self.places.presence, stated):
            if place.presence is _Presence.THERE:
                found = found or (place.uri, place.folder)
            else:
                (absent if place.presence is _Presence.ABSENT else unknown).append(place.uri)
        if found is None and (folder := self._search_raw_folder(raw_asset)) is not None:
            found = (folder.uri, folder)
        self._judge_raw_data(
            found[0] if found else None, absent, unknown, expected=bool(self.raw_records or raw_asset)
        )
        return found or (None, None)

    def _search_raw_folder(self, raw_asset: CodeOceanAsset | None) -> Folder | None:
        names = [] if raw_asset is None else [raw_asset.id, raw_asset.name]
        names += [record.name for record in self.raw_records] + [self.session.id]
        for bucket in self.places.buckets:
            for name in names:
                if (folder := self.places.folder(bucket, name)) is not None:
                    return folder
        return next((folder for folder in self.places.in_search_order() if self._is_raw_folder(folder)), None)

    def _is_raw_folder(self, folder: Folder) -> bool:
        return folder.session_id == self.session.id and is_raw_name(parse_asset_name(folder.prefix))

    def _judge_raw_data(self, found: str | None, absent: list[str], unknown: list[str], *, expected: bool) -> None:
        elsewhere = f"it was found at {found}" if found else "it was found nowhere else"
        if absent:
            self._find(RAW_DATA_MISSING, "location", f"nothing is at {', '.join(absent)}; {elsewhere}")
        elif unknown and found is None:
            self._find(
                RAW_DATA_UNCHECKED,
                "location",
                f"{', '.join(unknown)} is not in an indexed bucket, so that it cannot be checked; "
                "add the bucket to the policy's s3.buckets",
            )
        elif expected and found is None:
            self._find(
                RAW_DATA_MISSING, "location", "no location is stated, and no bucket has a folder of this session"
            )

    # --- derived -----------------------------------------------------------------------------------------------

    def _derived(self, raw_asset: CodeOceanAsset | None) -> tuple[Derived, ...]:
        raw_id = raw_asset.id if raw_asset else None
        owners: dict[str, Record] = {}
        for group in self.derived_records.values():
            for record in group:
                for asset in self._linked([record]):
                    owners.setdefault(asset.id, record)
        found = []
        named = set()
        for asset in self.assets.values():
            own = asset.session_id == self.session.id and not self._is_raw_asset(asset) and not asset.archived
            if asset.id == raw_id or not (own or asset.id in owners):
                continue
            same_name = self.derived_records.get(asset.name)
            owner = owners.get(asset.id) or (same_name[0] if same_name else None)
            entry = self._derived_entry(owner.name if owner else asset.name, owner, asset)
            named |= {entry.name, asset.name}
            found.append(entry)
        for name, group in self.derived_records.items():
            if name not in named:
                named.add(name)
                found.append(self._derived_entry(name, group[0], None))
        placed = {entry.location for entry in found}
        for folder in self.places.in_search_order():
            own = folder.session_id == self.session.id and not self._is_raw_folder(folder)
            if own and folder.prefix not in named and folder.uri not in placed:
                named.add(folder.prefix)
                found.append(Derived(folder.prefix, _process(folder.prefix), location=folder.uri))
        return tuple(sorted(found, key=_by_creation))

    def _derived_entry(self, name: str, record: Record | None, asset: CodeOceanAsset | None) -> Derived:
        candidates = [record.location] if record else []
        if asset is not None:
            candidates.append(asset.location)
            candidates += [f"s3://{bucket}/{asset.id}" for bucket in self.places.buckets]
        candidates += [f"s3://{bucket}/{name}" for bucket in self.places.buckets]
        created = asset.created if asset else record.created if record else None
        return Derived(
            name=name,
            process=(record.process_name if record else None) or _process(name),
            code_ocean_id=asset.id if asset else None,
            location=self._best_place([location for location in candidates if location]),
            created=created,
        )

    def _best_place(self, candidates: list[str]) -> str | None:
        """The first that exists, else the first that may: a derived asset's bucket need not be one of ours."""
        maybe = None
        for place in map(self.places.presence, candidates):
            if place.presence is _Presence.THERE:
                return place.uri
            if place.presence is _Presence.UNKNOWN:
                maybe = maybe or place.uri
        return maybe

    # --- findings ----------------------------------------------------------------------------------------------

    def _find(self, code: str, part: str, message: str, *, key: str | None = None) -> None:
        key = key or self.session.id
        self.findings.setdefault((code, key, part), Finding(code, key, part, f"{key}: {message}."))

    def _groups(self) -> Iterable[tuple[str, list[Record]]]:
        """Records by what they are about: the session's raw asset, or a derived asset's name."""
        if self.raw_records:
            yield self.session.id, self.raw_records
        yield from self.derived_records.items()

    def _find_dead_links(self) -> None:
        for key, group in self._groups():
            live = self._linked(group)
            instead = f"; {live[0].id} is used" if live else ""
            for record in group:
                for id_ in record.code_ocean_ids:
                    if id_ not in self.assets:
                        message = (
                            f"{record.record_version} record {record.id} links to Code Ocean asset {id_}, "
                            f"which Code Ocean does not have{instead}"
                        )
                        self._find(DEAD_CODE_OCEAN_LINK, id_, message, key=key)

    def _find_missing_records(self, raw_asset: CodeOceanAsset | None, raw_folder: Folder | None) -> None:
        linked = {asset.id for _, group in self._groups() for asset in self._linked(group)}
        located = {
            folder
            for _, group in self._groups()
            for record in group
            if record.location and (folder := self.places.presence(record.location).folder)
        }
        if not self.raw_records and (raw_asset is not None or raw_folder is not None):
            places = [f"Code Ocean ({raw_asset.id})"] if raw_asset else []
            places += [raw_folder.uri] if raw_folder else []
            self._find(RECORD_MISSING, "", f"no metadata record, but data in {' and '.join(places)}")
        for asset in self.assets.values():
            if (
                asset.session_id == self.session.id
                and asset.id not in linked
                and asset.name not in self.derived_records
                and asset.state not in _UNUSABLE_STATES
                and not asset.archived
                and not self._is_raw_asset(asset)
            ):
                message = f"no metadata record, but data in Code Ocean ({asset.id})"
                self._find(RECORD_MISSING, "", message, key=asset.name)
        for folder in self.places.in_search_order():
            if (
                folder.session_id == self.session.id
                and folder not in located
                and folder.prefix not in self.derived_records
                and not self._is_raw_folder(folder)
            ):
                self._find(RECORD_MISSING, "", f"no metadata record, but data in {folder.uri}", key=folder.prefix)

    def _find_missing_assets(self, raw_asset: CodeOceanAsset | None) -> None:
        names = {asset.name for asset in self.assets.values()}
        for key, group in self._groups():
            has_links = any(record.code_ocean_ids for record in group)
            has_asset = raw_asset is not None if group is self.raw_records else group[0].name in names
            if not has_links and not has_asset:
                record = group[0]
                message = (
                    f"{record.record_version} record {record.id} links to no Code Ocean asset, and none has its name"
                )
                self._find(CODE_OCEAN_ASSET_MISSING, "", message, key=key)


def _moment(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _latest_last(asset: CodeOceanAsset) -> tuple[bool, bool, datetime, str]:
    return asset.state not in _UNUSABLE_STATES, not asset.archived, _moment(asset.created), asset.id


def _best_last(record: Record) -> tuple[str, datetime, str]:
    """The newer generation of a record wins, then the later modification."""
    return record.record_version, _moment(record.modified) if record.modified else _LONG_AGO, record.id


def _by_creation(entry: Derived) -> tuple[datetime, str, str]:
    return _moment(entry.created) if entry.created else _LONG_AGO, entry.name, entry.code_ocean_id or ""


def _process(name: str) -> str | None:
    return parse_asset_name(name).process_name


def _modalities(folder: Folder | None) -> tuple[str, ...]:
    """Folders of the raw data as modalities: the institute's names for ecephys folders, and no metadata."""
    children = () if folder is None else folder.children
    return tuple(
        sorted({"ecephys" if name in _EPHYS_FOLDERS else name for name in children if "metadata" not in name.lower()})
    )
