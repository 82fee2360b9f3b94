"""Make up an institute from a number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from aind_pipelines.lab.seed import answers, code_ocean, documented, objects, records_v1, records_v2
from aind_pipelines.lab.seed import troubles as planting
from aind_pipelines.lab.seed.model import (
    NOW,
    V1_DATABASE,
    V2_DATABASE,
    Asset,
    Institute,
    Person,
    Project,
    Subject,
    local,
    platform,
)
from aind_pipelines.lab.seed.vocabulary import (
    AI,
    CODE_OCEAN_BUCKET,
    EPHYS_BUCKET,
    FAMILY_NAMES,
    GENOTYPES,
    GIVEN_NAMES,
    OPEN_BUCKET,
    PLATFORMS,
    PRIVATE_BUCKET,
    PROJECT_NAMES,
    SORTED,
    Platform,
    Process,
)

MINIMUM_SESSIONS = len(documented.SESSIONS) + 2
"""Sessions that every seed holds, however few are asked for: the documented ones, and two that may have troubles."""

V2_ONLY_FROM = datetime(2025, 10, 1, tzinfo=UTC)
"""Records created from here on exist as v2 only."""
UPGRADED_FRACTION = 0.8
"""Fraction of older sessions whose records were upgraded: those have a v2 twin, the rest are v1 only."""

_YEARS = {2019: 3, 2020: 4, 2021: 7, 2022: 11, 2023: 17, 2024: 22, 2025: 24, 2026: 12}
_DERIVED_COUNTS = {0: 15, 1: 40, 2: 30, 3: 15}
_LAST_SESSION = (NOW - timedelta(days=14)).date()


def generate(sessions: int, seed: int, troubles: bool = True) -> Institute:
    """Make up an institute.

    Args:
        sessions: Raw sessions to make, but never fewer than `MINIMUM_SESSIONS`.
        seed: Any number. The same `sessions` and `seed` give the same institute, byte for byte.
        troubles: Whether to plant what goes wrong in real institutes (see `troubles`).

    Raises:
        ValueError: `sessions` is negative.
    """
    if sessions < 0:
        raise ValueError(f"An institute cannot have {sessions} sessions; give 0 or more.")
    rng = random.Random(f"institute:{seed}")  # noqa: S311 - made-up data, nothing secret
    people = _people(rng)
    projects = _projects(rng, people)
    made = _Maker(rng, people, projects)
    made.documented()
    sessions = max(sessions, MINIMUM_SESSIONS)
    while len(made.raw) < sessions:
        # Some subjects appear for years: the first one always does.
        made.subject_with_sessions(sessions - len(made.raw), for_years=made.made_up == 0 or rng.random() < 0.12)
    institute = Institute(
        seed=seed,
        subjects=made.subjects,
        projects=projects,
        assets={asset.name: asset for asset in sorted(made.assets(), key=lambda asset: (asset.created, asset.name))},
    )
    for asset in institute.assets.values():
        if V1_DATABASE in asset.record_ids:
            institute.records[V1_DATABASE].append(records_v1.record(asset))
        if V2_DATABASE in asset.record_ids:
            institute.records[V2_DATABASE].append(records_v2.record(asset))
    objects.fill(institute)
    code_ocean.fill(institute)
    answers.fill(institute)
    institute.spike_sorting_urls = _spike_sorting_urls(institute)
    if troubles:
        _plant(institute, sessions)
    return institute


def _spike_sorting_urls(institute: Institute) -> list[dict[str, object]]:
    """Where each probe's sorting can be looked at; rows of the RDS table that the published guide reads."""
    return [
        {
            "asset_name": asset.name,
            "probe": f"Probe{probe}",
            "session_id": asset.session_id,
            "subject_id": asset.subject.id,
            "url": f"https://figurl.example/f?label={asset.name}&probe=Probe{probe}",
            "created": asset.created.isoformat(),
        }
        for asset in institute.assets.values()
        if asset.process is SORTED
        for probe in ("A", "B")
    ]


def _plant(institute: Institute, sessions: int) -> None:
    rng = random.Random(f"troubles:{institute.seed}")  # noqa: S311 - made-up data, nothing secret
    planting.plant_usual(institute, rng, sessions)


def _people(rng: random.Random) -> list[Person]:
    given = rng.sample(GIVEN_NAMES, k=len(GIVEN_NAMES))
    family = rng.sample(FAMILY_NAMES, k=len(FAMILY_NAMES))
    return [
        Person(f"{first} {last}", f"0000-0000-0000-{number:04d}")
        for number, (first, last) in enumerate(zip(given, family, strict=False), start=1)
    ]


def _projects(rng: random.Random, people: list[Person]) -> list[Project]:
    funders: tuple[tuple[str, str | None], ...] = (
        (AI, None),
        ("National Institute of Mental Health", "R01MH000001"),
        ("National Institute of Neurological Disorders and Stroke", "U19NS000002"),
    )
    found = []
    for name in PROJECT_NAMES:
        team = rng.sample(people, k=4)
        funder, grant = (AI, None) if name == documented.PROJECT else rng.choice(funders)
        found.append(Project(name, tuple(team[: rng.randint(1, 2)]), tuple(team[2:]), funder, grant))
    return found


class _Maker:
    """Adds subjects and their sessions, keeping every id unique."""

    def __init__(self, rng: random.Random, people: list[Person], projects: list[Project]) -> None:
        self.rng = rng
        self.people = people
        self.projects = projects
        self.subjects: list[Subject] = []
        self.raw: list[tuple[Asset, tuple[Asset, ...]]] = []
        self._subject_ids = {*documented.SUBJECTS}
        self._session_ids: set[str] = set()

    def assets(self) -> Iterator[Asset]:
        for raw, derived in self.raw:
            yield raw
            yield from derived

    # --- subjects -----------------------------------------------------------------------------------------------

    def documented(self) -> None:
        """The subjects and sessions that the published documents name."""
        project = next(project for project in self.projects if project.name == documented.PROJECT)
        for subject_id in documented.SUBJECTS:
            sessions = [session for session in documented.SESSIONS if session[1] == subject_id]
            born = documented.BORN[subject_id]
            imaged = [start.date() for name, _, start, _ in sessions if platform(name).images_specimens]
            subject = self._subject(
                subject_id,
                born,
                project,
                genotype=documented.EPHYS_GENOTYPE if subject_id == documented.EPHYS_SUBJECT else GENOTYPES[5],
                perfusion=min(imaged) - timedelta(days=40) if imaged else None,
                lot=documented.LOT if subject_id == documented.ANSWERED_SUBJECT else None,
            )
            for name, _, start, minutes in sessions:
                self._session(platform(name), subject, start, minutes)

    @property
    def made_up(self) -> int:
        """Subjects beside the documented ones."""
        return len(self.subjects) - len(documented.SUBJECTS)

    def subject_with_sessions(self, limit: int, *, for_years: bool) -> None:
        """A new subject with one session or more, at most `limit`."""
        rng = self.rng
        choices = [item for item in PLATFORMS.values() if not (for_years and item.images_specimens)]
        chosen = rng.choices(choices, weights=[item.weight for item in choices])[0]
        first_day = self._day(before=_LAST_SESSION - timedelta(days=600) if for_years else _LAST_SESSION)
        if chosen.images_specimens:
            perfusion = first_day - timedelta(days=rng.randint(20, 60))
            born = perfusion - timedelta(days=rng.randint(80, 240))
            subject = self._subject(self._new_id(), born, rng.choice(self.projects), perfusion=perfusion)
            self._session(chosen, subject, self._time(first_day))
            return
        if for_years:
            count, gap = rng.randint(4, 6), rng.randint(120, 180)
        else:
            count = rng.choices((1, 2, 3, 4, 6, 9), weights=(25, 25, 20, 15, 10, 5))[0]
            gap = rng.choice((1, 2, 7, 14))
        days = [first_day + timedelta(days=gap * number) for number in range(min(count, limit))]
        days = [day for day in days if day <= _LAST_SESSION]
        born = first_day - timedelta(days=rng.randint(70, 150))
        imaged_on = days[-1] + timedelta(days=rng.randint(30, 90)) if rng.random() < 0.15 else None
        if imaged_on is not None and (imaged_on > _LAST_SESSION or len(days) >= limit):
            imaged_on = None
        subject = self._subject(
            self._new_id(),
            born,
            rng.choice(self.projects),
            perfusion=days[-1] + timedelta(days=rng.randint(1, 10)) if imaged_on else None,
        )
        for day in days:
            self._session(chosen, subject, self._time(day))
        if imaged_on is not None:
            self._session(platform("SmartSPIM"), subject, self._time(imaged_on))

    def _new_id(self) -> str:
        while (subject_id := str(self.rng.randint(400000, 869999))) in self._subject_ids:
            pass
        self._subject_ids.add(subject_id)
        return subject_id

    def _day(self, before: date) -> date:
        years = {year: weight for year, weight in _YEARS.items() if date(year, 1, 10) < before}
        year = self.rng.choices(list(years), weights=list(years.values()))[0]
        first = date(year, 1, 10)
        last = min(date(year, 12, 20), before)
        return first + timedelta(days=self.rng.randint(0, (last - first).days))

    def _time(self, day: date) -> datetime:
        # The night in which clocks change would make a local time ambiguous; nobody records then.
        return datetime(  # noqa: DTZ001 - local, as session ids are
            day.year, day.month, day.day, self.rng.randint(8, 17), self.rng.randint(0, 59), self.rng.randint(0, 59)
        )

    def _subject(
        self,
        subject_id: str,
        born: date,
        project: Project,
        *,
        genotype: str | None = None,
        perfusion: date | None = None,
        lot: str | None = None,
    ) -> Subject:
        rng = self.rng
        subject = Subject(
            id=subject_id,
            sex=rng.choice(("Female", "Male")),
            date_of_birth=born,
            genotype=genotype or rng.choice(GENOTYPES),
            project=project,
            maternal_id=str(rng.randint(300000, 399999)),
            paternal_id=str(rng.randint(300000, 399999)),
            cage_id=str(rng.randint(8_000_000, 8_999_999)),
            room_id=str(rng.choice((221, 222, 371))),
            surgery=born + timedelta(days=rng.randint(40, 65)),
            perfusion=perfusion,
            injected_lot=lot
            or (f"VT{rng.randint(1000, 2999)}{rng.choice('ABCDEFH')}" if rng.random() < 0.4 else None),
        )
        self.subjects.append(subject)
        return subject

    # --- sessions -----------------------------------------------------------------------------------------------

    def _session(self, of: Platform, subject: Subject, start: datetime, minutes: int | None = None) -> None:
        rng = self.rng
        name = f"{of.abbreviation}_{subject.id}_{start:%Y-%m-%d_%H-%M-%S}"
        if name in self._session_ids:
            return
        self._session_ids.add(name)
        begin = local(start)
        end = begin + timedelta(minutes=minutes or rng.randint(*of.minutes), seconds=rng.randint(0, 59))
        upgraded = subject.id in documented.SUBJECTS or rng.random() < UPGRADED_FRACTION
        created = end.astimezone(UTC) + timedelta(minutes=rng.randint(12 * 60, 72 * 60), seconds=rng.randint(0, 59))
        code_ocean_id = documented.SORTED_SESSION_RAW_ID if name == documented.SORTED_SESSION else self._uuid()
        raw = Asset(
            name=name,
            session_id=name,
            platform=of,
            subject=subject,
            experimenter=rng.choice(self.people),
            instrument=rng.choice(of.instruments),
            start=begin,
            end=end,
            process=None,
            processed=None,
            sources=(),
            created=created,
            modified=self._modified(created),
            bucket=self._raw_bucket(of, subject, begin),
            prefix=name,
            code_ocean_id=code_ocean_id,
            record_ids=self._record_ids(created, upgraded),
        )
        self.raw.append((raw, tuple(self._derived(raw, upgraded))))

    def _raw_bucket(self, of: Platform, subject: Subject, begin: datetime) -> str:
        if subject.id == documented.EPHYS_SUBJECT:
            return EPHYS_BUCKET
        if begin.year < 2023 and self.rng.random() < 0.6:
            return of.old_bucket
        return self.rng.choices((OPEN_BUCKET, PRIVATE_BUCKET), weights=(55, 45))[0]

    def _derived(self, raw: Asset, upgraded: bool) -> Iterator[Asset]:
        rng = self.rng
        if (sorted_at := documented.SORTED_AT.get(raw.name)) is not None:
            yield self._derive(raw, SORTED, sorted_at, (raw.name,), upgraded)
            return
        count = rng.choices(list(_DERIVED_COUNTS), weights=list(_DERIVED_COUNTS.values()))[0]
        finished, source = raw.created, raw.name
        for process in self._processes(raw.platform, count):
            finished += timedelta(minutes=rng.randint(150, 40 * 24 * 60), seconds=rng.randint(0, 59))
            if finished > NOW - timedelta(days=3):
                return
            sources = (source,) if process.label == "nwb" else (raw.name,)
            made = self._derive(raw, process, finished, sources, upgraded)
            yield made
            finished, source = made.created, made.name

    def _processes(self, of: Platform, count: int) -> list[Process]:
        """`count` processes in their order; when there are more than the platform has, the first was repeated."""
        ways = list(of.processes)
        return [ways[0]] * max(0, count - len(ways)) + ways[:count]

    def _derive(
        self, raw: Asset, process: Process, finished: datetime, sources: tuple[str, ...], upgraded: bool
    ) -> Asset:
        rng = self.rng
        name = f"{raw.name}_{process.label}_{finished:%Y-%m-%d_%H-%M-%S}"
        code_ocean_id = self._uuid()
        created = finished + timedelta(minutes=rng.randint(5, 40), seconds=rng.randint(0, 59))
        moved_out = rng.random() < 0.4
        return Asset(
            name=name,
            session_id=raw.name,
            platform=raw.platform,
            subject=raw.subject,
            experimenter=raw.experimenter,
            instrument=raw.instrument,
            start=raw.start,
            end=raw.end,
            process=process,
            processed=finished,
            sources=sources,
            created=created,
            modified=self._modified(created),
            bucket=OPEN_BUCKET if moved_out else CODE_OCEAN_BUCKET,
            prefix=name if moved_out else code_ocean_id,
            code_ocean_id=code_ocean_id,
            record_ids=self._record_ids(created, upgraded),
            computation_id=self._uuid(),
        )

    def _modified(self, created: datetime) -> datetime:
        rng = self.rng
        soon = created + timedelta(seconds=rng.randint(1, 20), milliseconds=rng.randint(0, 999))
        later = soon + timedelta(minutes=rng.randint(60, 500 * 24 * 60))
        return later if rng.random() < 0.4 and later < NOW else min(soon, NOW)

    def _record_ids(self, created: datetime, upgraded: bool) -> dict[str, str]:
        first, second = self._uuid(), self._uuid()
        if created >= V2_ONLY_FROM:
            return {V2_DATABASE: second}
        return {V1_DATABASE: first, V2_DATABASE: second} if upgraded else {V1_DATABASE: first}

    def _uuid(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))
