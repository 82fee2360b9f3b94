"""Session ids as this room uses them; the grammar itself is `aind_pipelines.records.names`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from aind_pipelines.records.names import EARLIEST_YEAR, LATEST_YEAR, SessionId, parse_session_id, without_session


def session_id_in(text: str) -> SessionId:
    """The first session id in a name, path or URI.

    Raises:
        ValueError: There is none, and the message says what one looks like; or it is dated in a year to come, or
            outside of the years that are read.
    """
    found = parse_session_id(text)
    if found is None and (future := parse_session_id(text, latest_year=LATEST_YEAR)) is not None:
        raise ValueError(f"{text!r} is dated {future.date}, which is yet to come.")
    if found is None:
        raise ValueError(
            f"{text!r} {without_session(text)}; platform_subject_date_time is expected, e.g. "
            f"ecephys_676909_2023-12-13_13-43-40, from {EARLIEST_YEAR} to this year."
        )
    return found


def first_of_month(day: date) -> date:
    """First day of the month of `day`."""
    return date(day.year, day.month, 1)


def month_patterns(months: Iterable[date]) -> list[str]:
    """SQL LIKE patterns that every name with a session of these months matches, in any spelling of the date.

    Other names may match too: what they select is parsed afterwards.
    """
    return [f"%{month.year}_{month.month:02}_%" for month in months]
