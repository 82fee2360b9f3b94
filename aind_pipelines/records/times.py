"""Reading times and dates as records write them.

One rule for zones: a time that states none is UTC. Every time returned is aware and in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime

_LONGEST = 64
_WRITTEN = re.compile(
    r"(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})[-/](?P<day>[0-9]{1,2})"
    r"(?:[T _]+(?P<hour>[0-9]{1,2})(?P<separator>[:-])(?P<minute>[0-9]{2})"
    r"(?:(?P=separator)(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?"
    r"\s*(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_MAIL_HEADER = re.compile(r"[A-Z][a-z]{2}, [0-9]{1,2} ")
# Numbers are seconds since 1970 from 1973 to 5138, above that milliseconds: nothing recorded is older or newer.
_SECONDS = (10**8, 10**11)
_MILLISECONDS = (10**11, 10**14)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that was read.

    Attributes:
        value: The time in UTC.
        has_zone: Whether what was read stated its zone; without one `value` takes it for UTC.
        offset: How far from UTC the zone is that was written; zero where none was.
    """

    value: datetime
    has_zone: bool
    offset: timedelta = timedelta(0)


def read_time(value: object, *, zone: tzinfo | None = None) -> Moment | None:
    """Read a time in any of the forms met in records.

    These are ISO 8601 and its relatives (``T``, space or underscore between date and time, hyphens in the time, one
    to any number of fractional digits, ``Z``, ``UTC`` or an offset), a date alone (midnight), RFC 5322 dates, BSON
    dates (`datetime`; a naive one is UTC, as pymongo gives it) and their extended JSON, and seconds or milliseconds
    since 1970.

    Args:
        value: Anything.
        zone: Zone of a written time that states none; known from elsewhere in the record.

    Returns:
        The time, or None when `value` is none that can be read.
    """
    try:
        if isinstance(value, datetime):
            return Moment((value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC), True)
        if isinstance(value, date):
            return Moment(datetime(value.year, value.month, value.day, tzinfo=UTC), False)
        if isinstance(value, Mapping):
            return _from_extended_json(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _from_number(value)
        if isinstance(value, str) and len(value) <= _LONGEST:
            return _from_text(value.strip(), zone)
    except (ValueError, OverflowError, TypeError, IndexError):
        # A month 13, an offset of 25 hours, a year beyond the calendar; email.utils raises the last two.
        return None
    return None


def read_date(value: object) -> date | None:
    """Read a date; of a time, its date as written.

    Args:
        value: Anything.

    Returns:
        The date, or None when `value` is none that can be read.
    """
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str) and (match := _WRITTEN.match(value.strip()[:_LONGEST])):
        try:
            return date(int(match["year"]), int(match["month"]), int(match["day"]))
        except ValueError:
            return None
    moment = read_time(value)
    return None if moment is None else moment.value.date()


def _from_text(text: str, zone: tzinfo | None) -> Moment | None:
    found = _from_iso(text)
    if found is not None:
        return _moment(found, zone)
    match = _WRITTEN.fullmatch(text)
    if match is None:
        found = parsedate_to_datetime(text) if _MAIL_HEADER.match(text) else datetime.fromisoformat(text)
    else:
        found = datetime(
            int(match["year"]),
            int(match["month"]),
            int(match["day"]),
            int(match["hour"] or 0),
            int(match["minute"] or 0),
            int(match["second"] or 0),
            int((match["fraction"] or "0")[:6].ljust(6, "0")),
            tzinfo=_zone(match["zone"]),
        )
    return _moment(found, zone)


def _from_iso(text: str) -> datetime | None:
    """The commonest form, at a tenth of the pattern's cost; None for what the pattern must look at."""
    if len(text) < 19 or text[10] != "T":
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _moment(found: datetime, zone: tzinfo | None) -> Moment:
    if found.tzinfo is None:
        return Moment(found.replace(tzinfo=zone or UTC).astimezone(UTC), zone is not None)
    return Moment(found.astimezone(UTC), True, found.utcoffset() or timedelta(0))


def _zone(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _from_number(value: float) -> Moment | None:
    if _SECONDS[0] <= value < _SECONDS[1]:
        return Moment(_EPOCH + timedelta(seconds=value), True)
    if _MILLISECONDS[0] <= value < _MILLISECONDS[1]:
        return Moment(_EPOCH + timedelta(milliseconds=value), True)
    return None


def _from_extended_json(value: Mapping[object, object]) -> Moment | None:
    if set(value) != {"$date"}:
        return None
    inner = value["$date"]
    if isinstance(inner, Mapping):
        digits = inner.get("$numberLong")
        inner = int(digits) if isinstance(digits, str | int) and len(str(digits)) < _LONGEST else None
    if isinstance(inner, int) and not isinstance(inner, bool):
        return Moment(_EPOCH + timedelta(milliseconds=inner), True)
    return _from_text(inner.strip(), UTC) if isinstance(inner, str) and len(inner) <= _LONGEST else None
