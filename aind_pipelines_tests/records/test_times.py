"""Times in the forms met in records."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.records.times import read_date, read_time


@pytest.mark.parametrize(
    ("written", "expected", "has_zone"),
    [
        ("2025-04-14T04:10:39.724Z", "2025-04-14T04:10:39.724+00:00", True),
        ("2025-04-14T04:10:37.796650", "2025-04-14T04:10:37.796650+00:00", False),
        ("2025-04-13T15:30:30.162812-07:00", "2025-04-13T22:30:30.162812+00:00", True),
        ("2024-11-21 05:08:10-08:00", "2024-11-21T13:08:10+00:00", True),
        ("2023-05-11T19-29-48-07:00", "2023-05-12T02:29:48+00:00", True),
        ("2023-05-11T19-29-48", "2023-05-11T19:29:48+00:00", False),
        ("2023-05-11_19-29-48", "2023-05-11T19:29:48+00:00", False),
        ("2024-11-21T05:08:11+0530", "2024-11-20T23:38:11+00:00", True),
        ("2024-11-21T05:08:11 UTC", "2024-11-21T05:08:11+00:00", True),
        ("2024-11-21T05:08:11,5Z", "2024-11-21T05:08:11.500+00:00", True),
        ("2024-11-21T05:08:11.123456789Z", "2024-11-21T05:08:11.123456+00:00", True),
        ("2024/11/21 05:08", "2024-11-21T05:08:00+00:00", False),
        ("2024-11-21", "2024-11-21T00:00:00+00:00", False),
        ("20241121T050811Z", "2024-11-21T05:08:11+00:00", True),
        ("Thu, 21 Nov 2024 05:08:11 GMT", "2024-11-21T05:08:11+00:00", True),
        (1732165691, "2024-11-21T05:08:11+00:00", True),
        (1732165691500, "2024-11-21T05:08:11.500+00:00", True),
        ({"$date": "2024-11-21T05:08:11Z"}, "2024-11-21T05:08:11+00:00", True),
        ({"$date": {"$numberLong": "1732165691500"}}, "2024-11-21T05:08:11.500+00:00", True),
        (datetime.fromisoformat("2024-11-21T05:08:11"), "2024-11-21T05:08:11+00:00", True),
        (datetime(2024, 11, 21, 5, tzinfo=timezone(timedelta(hours=-8))), "2024-11-21T13:00:00+00:00", True),
    ],
)
def test_a_time_is_read(written: object, expected: str, has_zone: bool) -> None:
    moment = read_time(written)
    assert moment is not None
    assert moment.value == datetime.fromisoformat(expected)
    assert moment.value.tzinfo is UTC
    assert moment.has_zone is has_zone


@pytest.mark.parametrize(
    ("written", "hours"),
    [
        ("2025-04-13T15:30:30.162812-07:00", -7),
        ("2023-05-11T19-29-48-07:00", -7),
        ("2024-11-21T05:08:11+0530", 5.5),
        ("2025-04-14T04:10:39Z", 0),
        ("2025-04-14T04:10:39+00:00", 0),
        ("2025-04-14T04:10:39", 0),
        (1732165691, 0),
    ],
)
def test_a_time_says_how_far_from_utc_it_was_written(written: object, hours: float) -> None:
    moment = read_time(written)
    assert moment is not None
    assert moment.offset == timedelta(hours=hours)


@pytest.mark.parametrize(
    "written",
    [
        None, "", "yesterday", "15:17:45", "2023-02-30T00:00:00", "2023-13-01", "2024-01-01T25:00:00", "12/13/2023",
        "2024-01-01T00:00:00+99:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", 0, 7, True,
        float("nan"), float("inf"), 10**400, [], {}, {"$date": []}, {"$date": "x", "b": 1}, {"$date": 10**30},
        "Xyz, 99 Foo", "2024-01-01" * 1000, b"2024-01-01", "\u0662\u0660\u0662\u0664-01-01",
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(written: object) -> None:
    assert read_time(written) is None


def test_a_zone_known_from_elsewhere_holds_for_a_time_without_one() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    with_it = read_time("2024-07-01T12:00:00", zone=zone)
    assert with_it is not None
    assert (with_it.value, with_it.has_zone) == (datetime(2024, 7, 1, 19, tzinfo=UTC), True)
    stated = read_time("2024-07-01T12:00:00Z", zone=zone)
    assert stated is not None
    assert stated.value == datetime(2024, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2022-11-13", date(2022, 11, 13)),
        ("2022-11-13T23:30:00-08:00", date(2022, 11, 13)),
        (datetime(2022, 11, 13, 3, tzinfo=UTC), date(2022, 11, 13)),
        (date(2022, 11, 13), date(2022, 11, 13)),
        ("2022-02-30", None),
        ("unknown", None),
        (None, None),
        ([], None),
    ],
)
def test_a_date_is_read_as_written(written: object, expected: date | None) -> None:
    assert read_date(written) == expected


@given(st.datetimes(timezones=st.timezones()))
def test_any_iso_time_is_read_back(value: datetime) -> None:
    offset = value.utcoffset()
    assert offset is not None
    whole_minutes = value.replace(tzinfo=timezone(timedelta(minutes=offset // timedelta(minutes=1))))
    try:
        expected = whole_minutes.astimezone(UTC)
    except OverflowError:
        expected = None
    moment = read_time(whole_minutes.isoformat())
    assert (moment.value if moment else None) == expected


@given(st.text() | st.integers() | st.floats() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.{0,20}"))
def test_nothing_makes_it_raise(value: object) -> None:
    read_time(value)
    read_date(value)
