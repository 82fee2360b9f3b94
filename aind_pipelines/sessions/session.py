"""One session or subject at a time, for people: what it is from its name, and what belongs to it from live systems.

Making one asks nobody. What is asked for is kept by the object, so a new object asks anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date as Date  # noqa: N812 - `date` is an attribute here, as it is in the published package
from datetime import datetime as DateTime  # noqa: N812
from functools import cached_property, total_ordering
from typing import TYPE_CHECKING, Any

from aind_pipelines.clients.s3 import path
from aind_pipelines.records.names import parse_session_id
from aind_pipelines.sessions import live
from aind_pipelines.sessions.ids import session_id_in
from aind_pipelines.sessions.namespaces import Ecephys, Metadata, NamespaceDescriptor, NotFound

if TYPE_CHECKING:
    from codeocean.data_asset import DataAsset
    from upath import UPath

    from aind_pipelines.sessions.rules import ResolvedSession

_SUBJECT = re.compile(r"(?<![0-9])[0-9]{6,7}(?![0-9])")


@total_ordering
class Session:
    """A session, by its id or any name or path that holds it.

    Objects are equal when they are about the same session, whatever they were made from; they are hashable, and sort
    by id.

    Args:
        session_id: A session id, asset name, path or URI.

    Raises:
        ValueError: It holds no session id.
    """

    ecephys: Ecephys = NamespaceDescriptor("ecephys", Ecephys)  # type: ignore[assignment]
    metadata: Metadata = NamespaceDescriptor("metadata", Metadata)  # type: ignore[assignment]

    def __init__(self, session_id: str) -> None:
        self._parsed = session_id_in(str(session_id))
        self.id = self._parsed.id
        self.subject_id = self._parsed.subject_id
        self.platform = self._parsed.platform
        self.dt: DateTime = self._parsed.dt
        self.date = f"{self.dt:%Y-%m-%d}"
        self.time = f"{self.dt:%H:%M:%S}"
        self.datetime = f"{self.date} {self.time}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Session) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.id < other.id if isinstance(other, Session) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def subject(self) -> Subject:
        """The session's subject."""
        return Subject(self.subject_id)

    @cached_property
    def records(self) -> tuple[dict[str, Any], ...]:
        """The raw asset's metadata records of every generation."""
        return tuple(live.find_records({"name": self.id}))

    @property
    def docdb(self) -> dict[str, Any]:
        """The raw asset's metadata record, of the configured generation if there is one; {} when there is none."""
        return self.records[0] if self.records else {}

    @cached_property
    def data_assets(self) -> tuple[DataAsset, ...]:
        """All Code Ocean data assets whose name starts with the session id, ascending by creation."""
        from codeocean.data_asset import DataAsset

        found = [DataAsset.from_dict(asset) for asset in live.find_data_assets_named(self.id)]
        return tuple(sorted(found, key=lambda asset: (asset.created, asset.id)))

    @cached_property
    def raw_data_asset(self) -> DataAsset:
        """The raw data asset in Code Ocean: the one the record links to, else the latest of this session.

        Raises:
            NotFound: There is none; the message says whether raw data lies in S3.
        """
        identifier = self._resolved.raw_code_ocean_id
        if identifier is None:
            place = self.raw_data_uri
            raise NotFound(
                f"{self.id} has no raw data asset in Code Ocean; "
                + (f"its raw data is at {place}." if place else "no raw data was found in S3 either.")
            )
        return self._known_assets[identifier]

    @property
    def raw_data_uri(self) -> str | None:
        """Where the raw data is, checked to exist; None when it is nowhere."""
        return self._resolved.raw_data_dir

    @cached_property
    def raw_data_dir(self) -> UPath:
        """Where the raw data is, checked to exist.

        Raises:
            NotFound: It is nowhere.
        """
        if self.raw_data_uri is None:
            raise NotFound(f"{self.id} has no raw data in S3: " + self._reasons())
        return path(self.raw_data_uri)

    @property
    def is_uploaded(self) -> bool:
        """Whether there is a raw data asset or raw data in S3."""
        return self._resolved.raw_code_ocean_id is not None or self.raw_data_uri is not None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Folders of the raw data as modalities, sorted; () when nothing is uploaded."""
        return self._resolved.modalities or ()

    def _reasons(self) -> str:
        return " ".join(finding.message for finding in self._resolved.findings) or "nothing is known of it."

    # The systems are asked for what the rules of `aind_pipelines.sessions.rules` need; those decide.

    @cached_property
    def _known_assets(self) -> dict[str, DataAsset]:
        """Assets of this session, and those that its records link to, by id."""
        from aind_pipelines.records.normalise import normalise

        found = {}
        for record in self.records:
            for identifier in normalise(record).code_ocean_ids:
                if identifier not in found and (asset := live.get_data_asset(identifier)) is not None:
                    found[identifier] = asset
        if not found:  # else a search for them all is not needed
            found = {asset.id: asset for asset in self.data_assets}
        return found

    @cached_property
    def _resolved(self) -> ResolvedSession:
        from aind_pipelines.mirror.indexes import code_ocean_row
        from aind_pipelines.records.normalise import normalise
        from aind_pipelines.sessions.rules import CodeOceanAsset, Record, resolve

        records = [
            Record(
                record.record_version,
                record.id,
                record.name or self.id,
                record.location,
                record.data_level,
                record.process_name,
                record.code_ocean_ids,
                record.created,
                record.modified,
            )
            for record in map(normalise, self.records)
        ]
        columns = ("id", "name", "created", "state", "tags", "data_level", "session_id", "location")
        rows = [code_ocean_row(asset.to_dict()) for asset in self._known_assets.values()]
        assets = [CodeOceanAsset(**{name: row[name] for name in columns}) for row in rows]
        located: list[Record | CodeOceanAsset] = [*records, *assets]
        stated = [location for item in located if (location := item.location)]
        buckets = live.policy_buckets()
        folders = live.folders_at(stated)
        found = resolve(self._parsed, records, assets, folders, buckets=[*buckets, *(f.bucket for f in folders)])
        if found.raw_data_dir is None:
            names = [name for asset in assets for name in (asset.id, asset.name)]
            folders += live.folders_named([*names, self.id], buckets)
            found = resolve(self._parsed, records, assets, folders, buckets=[*buckets, *(f.bucket for f in folders)])
        return found


@total_ordering
class Subject:
    """A subject, by its id or any text that holds it.

    Args:
        subject_id: A subject id, session id, asset name or path.
    """

    def __init__(self, subject_id: str | int) -> None:
        text = str(subject_id)
        session = parse_session_id(text)
        if session is not None:
            self.id = session.subject_id
        else:
            match = _SUBJECT.search(text)
            self.id = match[0] if match else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Subject) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.id < other.id if isinstance(other, Subject) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def docdb(self) -> tuple[dict[str, Any], ...]:
        """Every metadata record of the subject."""
        return tuple(live.find_records({"subject.subject_id": self.id}))

    @cached_property
    def data_assets(self) -> tuple[DataAsset, ...]:
        """Every Code Ocean data asset of the subject, each once, ascending by creation."""
        from codeocean.data_asset import DataAsset

        found = {asset["id"]: asset for asset in live.find_data_assets(f"subject id:{self.id}")}
        assets = [DataAsset.from_dict(asset) for asset in found.values()]
        return tuple(sorted(assets, key=lambda asset: (asset.created, asset.id)))

    @cached_property
    def sessions(self) -> tuple[Session, ...]:
        """The subject's sessions, by time."""
        return get_sessions(self.id)


def get_sessions(
    subject_id: str | int,
    date: str | Date | DateTime | None = None,
    platform: str | None = None,
    start_date: str | Date | DateTime | None = None,
    end_date: str | Date | DateTime | None = None,
) -> tuple[Session, ...]:
    """Sessions of a subject that Code Ocean or DocDB know, by time.

    Args:
        subject_id: The subject.
        date: Only those of this day.
        platform: Only those of this platform.
        start_date: Only those of this day or later.
        end_date: Only those of this day or earlier.

    Returns:
        The sessions; () when there are none.

    Raises:
        ValueError: Both `date` and a range are given, or a date cannot be read.
        ServiceError: Code Ocean or DocDB cannot be reached or refuse.
    """
    if date is not None and (start_date is not None or end_date is not None):
        raise ValueError("Give either date, or start_date and end_date, not both.")
    first = _day(start_date if date is None else date)
    last = _day(end_date if date is None else date)
    subject = Subject(subject_id)
    names = [asset.name for asset in subject.data_assets]
    records = live.find_records({"subject.subject_id": subject.id}, {"name": 1})
    names += [name for record in records if isinstance(name := record.get("name"), str)]
    return tuple(sorted(_sessions_named(names, subject.id, platform, first, last), key=lambda found: found.dt))


def _sessions_named(
    names: Sequence[str], subject_id: str, platform: str | None, first: Date | None, last: Date | None
) -> set[Session]:
    parsed = {session for name in names if (session := parse_session_id(name)) is not None}
    return {
        Session(session.id)
        for session in parsed
        if session.subject_id == subject_id
        and (platform is None or session.platform == platform)
        and (first is None or session.date >= first)
        and (last is None or session.date <= last)
    }


def _day(value: str | Date | DateTime | None) -> Date | None:
    if isinstance(value, DateTime):
        return value.date()
    if isinstance(value, str):
        try:
            return DateTime.fromisoformat(value).date()
        except ValueError:
            raise ValueError(f"{value!r} is no date: YYYY-MM-DD is expected.") from None
    return value
