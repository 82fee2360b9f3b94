"""The grammar of session ids and asset names.

A session id is ``platform_subject_date_time``, e.g. ``ecephys_676909_2023-12-13_13-43-40``. An asset's name is a
session id, or a session id with what was done to it: ``<session id>_sorted_2024-03-01_16-02-45``. Older names lack
the platform or the time of the process, or keep underscores in dates.

The times in names are local to the instrument and carry no zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TypeAlias

EARLIEST_YEAR = 2016
LATEST_YEAR = 2029
"""The last year that the grammar can write. Sessions are at most of the current one; a later date is yet to come."""

_Date: TypeAlias = date

_MONTH_AND_DAY = r"[-/_](?:0[1-9]|1[0-2])[-/_](?:0[1-9]|[12][0-9]|3[01])"
_DATE = rf"20[12][0-9]{_MONTH_AND_DAY}"
_TIME = r"(?:[01][0-9]|2[0-3])[-:._][0-5][0-9][-:._][0-5][0-9](?:\.[0-9]{1,6})?"
_WHEN = rf"(?P<date>{_DATE})_(?P<time>{_TIME})"
# The platform before it is found by walking back from the match: a pattern that began with it would take quadratic
# time on long texts.
_SUBJECT_AND_WHEN = re.compile(rf"_(?P<subject>[0-9]{{6,7}})_{_WHEN}")
_NO_PLATFORM = re.compile(rf"(?P<subject>[0-9]{{6,7}})_{_WHEN}")
_OF_ANY_YEAR = re.compile(rf"(?:\A|_)(?P<subject>[0-9]{{6,7}})_(?P<year>[0-9]{{4}}){_MONTH_AND_DAY}_{_TIME}")
_PROCESS = re.compile(rf"_(?P<process>[^\\/]+?)_{_WHEN}(?![0-9])")
_NOT_PLATFORM = re.compile(r"[\\/_]")


@dataclass(frozen=True, slots=True, order=True)
class SessionId:
    """A session id, taken apart.

    Attributes:
        platform: As the text spells it, e.g. ``ecephys``, ``multiplane-ophys``, ``SmartSPIM``.
        subject_id: Six or seven digits.
        date: Local date of the session.
        time: Local time of the session, whole seconds.
    """

    platform: str
    subject_id: str
    date: date
    time: time

    @property
    def id(self) -> str:
        """The normalised session id."""
        return f"{self.platform}_{self.subject_id}_{self.date:%Y-%m-%d}_{self.time:%H-%M-%S}"

    @property
    def dt(self) -> datetime:
        """Local date and time, without zone."""
        return datetime.combine(self.date, self.time)

    @property
    def month(self) -> _Date:
        """First day of the session's month."""
        return self.date.replace(day=1)

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class AssetName:
    """An asset's name, taken apart as far as it goes; what the name does not say is None.

    Attributes:
        name: The whole name.
        session_id: The session it belongs to.
        platform: The session's platform.
        subject_id: The subject, also of names without a platform.
        session_time: Local time of the session, also of names without a platform.
        process_name: What was done last, e.g. ``sorted``; None for a raw asset.
        process_time: When, as the name says it (no zone; the indexers write UTC, older jobs local time).
        input_name: Name of the asset that it was done to.
    """

    name: str
    session_id: SessionId | None = None
    platform: str | None = None
    subject_id: str | None = None
    session_time: datetime | None = None
    process_name: str | None = None
    process_time: datetime | None = None
    input_name: str | None = None


def _when(match: re.Match[str], latest_year: int | None) -> datetime | None:
    """The date and time of a match, if the calendar has them and the year is one of ours."""
    year, month, day = (int(part) for part in re.split(r"[-/_]", match["date"]))
    hour, minute, second = (int(part) for part in re.split(r"[-:._]", match["time"])[:3])
    latest = datetime.now().astimezone().year if latest_year is None else latest_year
    if not EARLIEST_YEAR <= year <= latest:
        return None
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - names carry no zone
    except ValueError:  # the 30th of February
        return None


def _platform_before(text: str, end: int) -> tuple[int, str]:
    """Where the platform that ends at `end` starts, and the platform; an empty one is none."""
    start = end
    while start > 0 and not _NOT_PLATFORM.match(text, start - 1):
        start -= 1
    return start, text[start:end]


def _find_session(text: str, latest_year: int | None) -> tuple[SessionId, re.Match[str]] | None:
    for match in _SUBJECT_AND_WHEN.finditer(text):
        _, platform = _platform_before(text, match.start())
        if platform:
            when = _when(match, latest_year)
            return None if when is None else (SessionId(platform, match["subject"], when.date(), when.time()), match)
    return None


def parse_session_id(text: str, *, latest_year: int | None = None) -> SessionId | None:
    """The first session id in a name, path or URI.

    Dates and times may be separated by any of ``- / _`` and ``- : . _``; fractions of a second are dropped.

    Args:
        text: Any text.
        latest_year: A later year is not believed; the current one when not given.

    Returns:
        The session id, or None when the text holds none or the first one has an impossible date or a year outside
        2016 to `latest_year`.
    """
    found = _find_session(text, latest_year)
    return None if found is None else found[0]


def why_not_read(text: str, *, bare: bool = False) -> str | None:
    """Why a text that spells out a session id holds none: its year is outside of those of the grammar.

    Args:
        text: Any text in which `parse_session_id` finds nothing, with `LATEST_YEAR` as the latest year.
        bare: Whether a subject, date and time at the beginning, without a platform, are enough.

    Returns:
        The reason, to end a message with, e.g. ``its year 2031 is past 2029``; None when it is not the year.
    """
    for match in _OF_ANY_YEAR.finditer(text):
        if _platform_before(text, match.start())[1] or (bare and match.start("subject") == 0):
            year = int(match["year"])
            if year > LATEST_YEAR:
                return f"its year {year} is past {LATEST_YEAR}"
            return f"its year {year} is before {EARLIEST_YEAR}" if year < EARLIEST_YEAR else None
    return None


def without_session(text: str) -> str:
    """What a message says of a text without a session id: ``holds no session id``, or why it is not read."""
    why = why_not_read(text)
    return "holds no session id" if why is None else f"holds no session id that is read: {why}"


def parse_asset_name(name: str, *, latest_year: int | None = None) -> AssetName:
    """Take an asset's name apart.

    Args:
        name: The name, without folders.
        latest_year: As in `parse_session_id`.

    Returns:
        What the name says. Of several processes in a row the last one counts, since that one made the asset.
    """
    found = _find_session(name, latest_year)
    if found is not None:
        session, match = found
        process = _last_process(name, match.end())
        return AssetName(
            name, session, session.platform, session.subject_id, session.dt, *_process_parts(name, process)
        )
    bare = _NO_PLATFORM.match(name)
    when = None if bare is None else _when(bare, latest_year)
    if bare is None or when is None:
        return AssetName(name)
    process = _last_process(name, bare.end())
    return AssetName(name, None, None, bare["subject"], when, *_process_parts(name, process))


@dataclass(frozen=True, slots=True)
class _Process:
    start: int
    name: str
    when: datetime | None


def _last_process(name: str, start: int) -> _Process | None:
    """The last process of the chain that begins at `start`."""
    last: _Process | None = None
    while (match := _PROCESS.match(name, start)) is not None:
        last = _Process(start, match["process"], _when(match, 9999))
        start = match.end()
    if name.startswith("_", start) and (rest := name[start + 1 :]):
        last = _Process(start, rest, None)
    return last


def _process_parts(name: str, process: _Process | None) -> tuple[str | None, datetime | None, str | None]:
    return (None, None, None) if process is None else (process.name, process.when, name[: process.start])
