"""The institute as plain data: people, projects, subjects, assets, and what each service holds of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from aind_pipelines.lab.seed.vocabulary import PLATFORMS, Platform, Process

V1_DATABASE = "metadata_index"
V2_DATABASE = "metadata_index_v2"
COLLECTION = "data_assets"
DATABASES = (V1_DATABASE, V2_DATABASE)

NOW = datetime(2026, 6, 30, 12, 0, 0, tzinfo=UTC)
"""The institute's present. Fixed, so that the same seed gives the same bytes on any day."""


@dataclass(frozen=True)
class Person:
    """An invented scientist."""

    name: str
    orcid: str


@dataclass(frozen=True)
class Project:
    """What sessions are recorded for, and who pays."""

    name: str
    investigators: tuple[Person, ...]
    fundees: tuple[Person, ...]
    funder: str
    grant_number: str | None


@dataclass(frozen=True)
class Subject:
    """A mouse.

    Attributes:
        surgery: When its headframe or injection was done.
        perfusion: When it was perfused; None while it lives.
        injected_lot: Lot number of the virus it was injected with, if it was.
    """

    id: str
    sex: str
    date_of_birth: date
    genotype: str
    project: Project
    maternal_id: str
    paternal_id: str
    cage_id: str
    room_id: str
    surgery: date
    perfusion: date | None
    injected_lot: str | None

    @property
    def paternal_genotype(self) -> str:
        """Genotype of its father: the first of its own alleles."""
        return self.genotype.split(";")[0]

    @property
    def maternal_genotype(self) -> str:
        """Genotype of its mother: the rest of its alleles."""
        return ";".join(self.genotype.split(";")[1:]) or "wt/wt"


@dataclass(frozen=True)
class Asset:
    """One data asset: a raw session, or something derived from one.

    Attributes:
        name: Name of the asset; for a raw one, the session id.
        start: Start of the acquisition, with the institute's local offset.
        end: End of the acquisition.
        process: What derived it; None for a raw asset.
        processed: End of that process (UTC); None for a raw asset.
        sources: Names of the assets it was derived from.
        created: When its record was created (UTC).
        modified: When its record was last modified (UTC).
        bucket: Bucket of its location.
        prefix: Folder within that bucket.
        code_ocean_id: Its id in Code Ocean.
        record_ids: ``_id`` of its record by DocDB database; a missing database has no record of it.
    """

    name: str
    session_id: str
    platform: Platform
    subject: Subject
    experimenter: Person
    instrument: str
    start: datetime
    end: datetime
    process: Process | None
    processed: datetime | None
    sources: tuple[str, ...]
    created: datetime
    modified: datetime
    bucket: str
    prefix: str
    code_ocean_id: str
    record_ids: dict[str, str]
    computation_id: str | None = None

    @property
    def location(self) -> str:
        """S3 location, as records write it."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def is_raw(self) -> bool:
        """Whether it is a raw session."""
        return self.process is None

    def rng(self, purpose: str) -> random.Random:
        """A source of numbers that depends on this asset and `purpose` alone."""
        return random.Random(f"{self.code_ocean_id}:{purpose}")  # noqa: S311 - made-up data, nothing secret


@dataclass
class Institute:
    """Everything the lab's services are seeded with.

    Attributes:
        seed: The number it was made from.
        assets: Every asset by name, before any trouble was planted.
        records: DocDB records by database.
        objects: S3 objects by bucket, folder, and key within that folder.
        code_ocean: ``data_assets``, ``capsules`` and ``computations``, as Code Ocean describes them.
        answers: Tables of the metadata-service.
        spike_sorting_urls: Rows of the RDS table of that name.
        troubles: Keys of what was planted, by code.
    """

    seed: int
    subjects: list[Subject]
    projects: list[Project]
    assets: dict[str, Asset]
    records: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in DATABASES})
    objects: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    code_ocean: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    spike_sorting_urls: list[dict[str, Any]] = field(default_factory=list)
    troubles: dict[str, list[str]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    """Names of assets and ids of subjects that already have their trouble."""

    @property
    def sessions(self) -> list[Asset]:
        """The raw assets."""
        return [asset for asset in self.assets.values() if asset.is_raw]

    def records_named(self, name: str) -> list[dict[str, Any]]:
        """The records of an asset, of both generations."""
        return [record for records in self.records.values() for record in records if record.get("name") == name]

    def files_of(self, asset: Asset) -> dict[str, bytes]:
        """The objects of an asset, by key within its folder."""
        return self.objects.get(asset.bucket, {}).get(asset.prefix, {})


def platform(abbreviation: str) -> Platform:
    """The platform with this abbreviation."""
    return PLATFORMS[abbreviation]


def _nth_sunday(year: int, month: int, nth: int) -> datetime:
    first = datetime(year, month, 1)  # noqa: DTZ001 - local rule
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (nth - 1))


def local(moment: datetime) -> datetime:
    """A naive local time of the institute (US Pacific) with its offset from UTC.

    Computed from the rule in force since 2007, so that it does not depend on the machine's time zone data.
    """
    summer_starts = _nth_sunday(moment.year, 3, 2) + timedelta(hours=2)
    summer_ends = _nth_sunday(moment.year, 11, 1) + timedelta(hours=2)
    hours = -7 if summer_starts <= moment < summer_ends else -8
    return moment.replace(tzinfo=timezone(timedelta(hours=hours)))
