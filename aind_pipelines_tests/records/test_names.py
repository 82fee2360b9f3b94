"""Session ids and asset names, by the table of what is accepted and by properties."""

from __future__ import annotations

import time as clock
from datetime import date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.records.names import (
    EARLIEST_YEAR,
    LATEST_YEAR,
    SessionId,
    parse_asset_name,
    parse_session_id,
    why_not_read,
    without_session,
)

FIRST = "ecephys_676909_2023-12-13_13-43-40"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FIRST, FIRST),
        (f"/root/capsule/aind_session/{FIRST}", FIRST),
        (f"{FIRST}_sorted_2024-03-01_16-02-45", FIRST),
        (f"s3://aind-ephys-data/{FIRST}/ecephys_clipped", FIRST),
        (f"C:\\data\\{FIRST}", FIRST),
        ("multiplane-ophys_721291_2024-05-08_08-05-54", "multiplane-ophys_721291_2024-05-08_08-05-54"),
        ("behavior_717121_2024-06-16_11-39-34", "behavior_717121_2024-06-16_11-39-34"),
        (
            "SmartSPIM_717381_2024-07-03_10-49-01_stitched_2024-08-16_23-15-47",
            "SmartSPIM_717381_2024-07-03_10-49-01",
        ),
        ("ecephys_686740_2023_10_26_12_29_08_to_dlc_side", "ecephys_686740_2023-10-26_12-29-08"),
        (
            "sorted_2023-12-16_06-52-11_ecephys_366122_2022-04-25_14-24-35_sorted_2023-01-01_00-00-00",
            "ecephys_366122_2022-04-25_14-24-35",
        ),
        ("FIP_1234567_2024-01-01_00-00-00", "FIP_1234567_2024-01-01_00-00-00"),
        ("ecephys_676909_2023-12-13_13:43:40", FIRST),
        ("ecephys_676909_2023/12/13_13.43.40.123456", FIRST),
        ("motor-observatory_815175_2025-07-16_13-46-00", "motor-observatory_815175_2025-07-16_13-46-00"),
        ("a_123456_2016-01-01_00-00-00", "a_123456_2016-01-01_00-00-00"),
    ],
)
def test_a_session_id_is_found_and_normalised(text: str, expected: str) -> None:
    found = parse_session_id(text, latest_year=2026)
    assert found is not None
    assert found.id == str(found) == expected


@pytest.mark.parametrize(
    "text",
    [
        "366122_2021-06-01_10-12-03_sorted",
        "676909_2023-12-13",
        "ecephys_676909_2023-12-13",
        "ecephys_676909_2023-12-13_13-43",
        "ecephys_676909_20231213_134340",
        "ecephys_676909_2023-13-13_13-43-40",
        "ecephys_676909_2023-02-30_13-43-40",
        "ecephys_676909_2015-12-13_13-43-40",
        "ecephys_676909_2027-12-13_13-43-40",
        "ecephys_676909_2023-12-13_24-43-40",
        "ecephys_12345_2023-12-13_13-43-40",
        "ecephys_12345678_2023-12-13_13-43-40",
        "_676909_2023-12-13_13-43-40",
        "/_676909_2023-12-13_13-43-40",
        "",
    ],
)
def test_what_is_no_session_id_is_none(text: str) -> None:
    assert parse_session_id(text, latest_year=2026) is None


def test_a_session_id_is_taken_apart() -> None:
    found = parse_session_id(FIRST)
    assert found == SessionId("ecephys", "676909", date(2023, 12, 13), time(13, 43, 40))
    assert found.dt == _at("2023-12-13T13:43:40")
    assert found.month == date(2023, 12, 1)


def test_without_a_latest_year_the_current_one_is_the_latest() -> None:
    this_year = datetime.now().astimezone().year
    assert parse_session_id(f"ecephys_676909_{this_year}-01-01_00-00-00") is not None
    assert parse_session_id(f"ecephys_676909_{this_year + 1}-12-31_00-00-00") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ecephys_676909_2031-01-02_03-04-05", "its year 2031 is past 2029"),
        ("s3://bucket/ecephys_676909_2030_12_31_23_59_59_sorted_2031-01-01_00-00-00", "its year 2030 is past 2029"),
        ("ecephys_676909_2015-12-13_13-43-40", "its year 2015 is before 2016"),
        ("ecephys_676909_1999-12-13_13-43-40", "its year 1999 is before 2016"),
        ("ecephys_676909_2023-02-30_13-43-40", None),
        ("ecephys_676909_2031-13-02_03-04-05", None),
        ("676909_2031-01-02_03-04-05", None),
        ("/_676909_2031-01-02_03-04-05", None),
        ("a model of 2031", None),
        ("", None),
    ],
)
def test_a_year_outside_of_the_grammar_is_told_as_the_reason(text: str, why: str | None) -> None:
    assert why_not_read(text) == why
    assert without_session(text) == (
        "holds no session id" if why is None else f"holds no session id that is read: {why}"
    )


def test_the_reason_is_told_for_a_name_without_platform_where_that_is_enough() -> None:
    assert why_not_read("676909_2031-01-02_03-04-05", bare=True) == "its year 2031 is past 2029"
    assert why_not_read("a/676909_2031-01-02_03-04-05", bare=True) is None


def test_the_years_that_are_read_are_those_that_are_told() -> None:
    for year in range(EARLIEST_YEAR - 2, LATEST_YEAR + 3):
        name = f"ecephys_676909_{year}-01-02_03-04-05"
        assert (parse_session_id(name, latest_year=LATEST_YEAR) is None) == (why_not_read(name) is not None)


@pytest.mark.parametrize(
    ("name", "session_id", "subject_id", "process_name", "process_time", "input_name"),
    [
        (FIRST, FIRST, "676909", None, None, None),
        (
            f"{FIRST}_sorted-ks25_2024-03-01_16-02-45",
            FIRST,
            "676909",
            "sorted-ks25",
            _at("2024-03-01T16:02:45"),
            FIRST,
        ),
        (
            "669492_2023-07-07_17-52-04_nwb_2025-09-05_16-22-41",
            None,
            "669492",
            "nwb",
            _at("2025-09-05T16:22:41"),
            "669492_2023-07-07_17-52-04",
        ),
        ("669492_2023-07-07_17-52-04", None, "669492", None, None, None),
        (f"{FIRST}_dlc_face_2024-04-25_12-15-20", FIRST, "676909", "dlc_face", _at("2024-04-25T12:15:20"), FIRST),
        (
            "ecephys_686740_2023_10_26_12_29_08_to_dlc_side",
            "ecephys_686740_2023-10-26_12-29-08",
            "686740",
            "to_dlc_side",
            None,
            "ecephys_686740_2023_10_26_12_29_08",
        ),
        (
            f"{FIRST}_sorted_2024-03-01_16-02-45_curated_2024-04-01_00-00-00",
            FIRST,
            "676909",
            "curated",
            _at("2024-04-01T00:00:00"),
            f"{FIRST}_sorted_2024-03-01_16-02-45",
        ),
        (f"{FIRST}_sorted_2024-02-30_16-02-45", FIRST, "676909", "sorted", None, FIRST),
        ("Other_2024-03-01_16-02-45", None, None, None, None, None),
        ("", None, None, None, None, None),
    ],
)
def test_an_asset_name_is_taken_apart(
    name: str,
    session_id: str | None,
    subject_id: str | None,
    process_name: str | None,
    process_time: datetime | None,
    input_name: str | None,
) -> None:
    found = parse_asset_name(name, latest_year=2026)
    assert (found.session_id.id if found.session_id else None) == session_id
    assert found.subject_id == subject_id
    assert (found.process_name, found.process_time, found.input_name) == (process_name, process_time, input_name)


_platforms = st.text(alphabet=st.characters(exclude_characters="\\/_", exclude_categories=["Cs"]), min_size=1)
_sessions = st.builds(
    SessionId,
    platform=_platforms,
    subject_id=st.from_regex(r"\A[0-9]{6,7}\Z"),
    date=st.dates(date(2016, 1, 1), date(2029, 12, 31)),
    time=st.times().map(lambda value: value.replace(microsecond=0)),
)


@given(_sessions, st.text(alphabet=st.characters(exclude_characters="_.0123456789", exclude_categories=["Cs"])))
def test_what_is_written_is_read_back_from_any_path(session: SessionId, after: str) -> None:
    for text in (session.id, f"s3://bucket/{session.id}", f"/a/b/{session.id}{after}"):
        assert parse_session_id(text, latest_year=2029) == session


@given(
    _sessions, st.from_regex(r"\A[a-z-]{1,12}\Z"), st.datetimes(_at("2016-01-01T00:00:00"), _at("2029-12-31T00:00:00"))
)
def test_derived_names_are_read_back(session: SessionId, process: str, when: datetime) -> None:
    when = when.replace(microsecond=0)
    found = parse_asset_name(f"{session.id}_{process}_{when:%Y-%m-%d_%H-%M-%S}", latest_year=2029)
    assert (found.session_id, found.process_name, found.process_time) == (session, process, when)
    assert found.input_name == session.id


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_session_id(text)
    assert parse_asset_name(text).name == text


@pytest.mark.parametrize("text", ["a" * 300_000, "_123456" * 50_000, "_" * 300_000, "x_123456_2024-01-01_" * 20_000])
def test_long_texts_take_linear_time(text: str) -> None:
    started = clock.process_time()
    parse_asset_name(text)
    parse_asset_name(f"{FIRST}_{text}")
    why_not_read(text, bare=True)
    assert clock.process_time() - started < 2
