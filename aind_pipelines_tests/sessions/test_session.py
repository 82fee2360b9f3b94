"""`Session` and `Subject` as objects: what a name alone says."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

import aind_pipelines.sessions as aind_session
from aind_pipelines.sessions import Namespace, NotFound, Session, Subject, get_sessions, register_namespace
from aind_pipelines.sessions.namespaces import flat_subject

ID = "ecephys_676909_2023-12-13_13-43-40"


def test_the_id_alone_says_platform_subject_and_time() -> None:
    session = Session(ID)
    assert (session.id, session.platform, session.subject_id) == (ID, "ecephys", "676909")
    assert session.dt == datetime(2023, 12, 13, 13, 43, 40)
    assert (session.date, session.time, session.datetime) == ("2023-12-13", "13:43:40", "2023-12-13 13:43:40")
    assert (repr(session), str(session)) == (f"Session('{ID}')", ID)
    assert session.subject == Subject("676909")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ID, ID),
        (f"/capsule/aind_session/{ID}", ID),
        (f"{ID}_sorted_2024-03-01_16-02-45", ID),
        (f"s3://aind-ephys-data/{ID}/ecephys_clipped", ID),
        ("ecephys_686740_2023_10_26_12_29_08_to_dlc_side", "ecephys_686740_2023-10-26_12-29-08"),
        ("FIP_1234567_2024-01-01_00-00-00", "FIP_1234567_2024-01-01_00-00-00"),
    ],
)
def test_objects_refer_to_the_session_however_they_were_made(text: str, expected: str) -> None:
    assert Session(text) == Session(expected)
    assert hash(Session(text)) == hash(Session(expected))
    assert len({Session(text), Session(expected)}) == 1


@pytest.mark.parametrize(
    "text", ["", "676909_2023-12-13", "ecephys_676909_2023-12-13", "ecephys_676909_2015-12-13_13-43-40"]
)
def test_a_text_without_a_session_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no session id"):
        Session(text)


def test_a_session_of_a_year_to_come_is_refused_for_its_date() -> None:
    year = datetime.now(UTC).year + 1
    with pytest.raises(ValueError, match=f"is dated {year}-01-05, which is yet to come"):
        Session(f"ecephys_676909_{year}-01-05_13-43-40")


@pytest.mark.parametrize(("year", "why"), [(2031, "is past 2029"), (2015, "is before 2016")])
def test_a_session_of_a_year_that_is_not_read_is_refused_for_its_year(year: int, why: str) -> None:
    with pytest.raises(ValueError, match=f"holds no session id that is read: its year {year} {why};"):
        Session(f"ecephys_676909_{year}-01-05_13-43-40")


def test_sessions_sort_by_id_and_compare_only_with_sessions() -> None:
    early, late = Session("ecephys_676909_2023-12-11_14-24-35"), Session(ID)
    assert sorted([late, early]) == [early, late]
    assert early < late
    assert late >= early
    assert early != late
    assert late != ID
    with pytest.raises(TypeError):
        _ = late < "x"
    assert sorted([Subject("2222222"), Subject("111111")]) == [Subject("111111"), Subject("2222222")]


@pytest.mark.parametrize(
    ("text", "expected"), [("676909", "676909"), (676909, "676909"), (ID, "676909"), ("x-1234567", "1234567")]
)
def test_a_subject_is_made_from_any_text_that_holds_its_id(text: str | int, expected: str) -> None:
    assert Subject(text).id == expected
    assert Subject(text) == Subject(expected)


def test_a_range_and_a_day_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        get_sessions("676909", date="2023-12-13", start_date="2023-01-01")
    with pytest.raises(ValueError, match="'yesterday' is no date"):
        get_sessions("676909", date="yesterday")


def test_what_is_missing_is_an_attribute_and_a_lookup_error() -> None:
    assert issubclass(NotFound, AttributeError)
    assert issubclass(NotFound, LookupError)


def test_namespaces_are_made_once_per_session() -> None:
    class Depth(Namespace):
        @property
        def subject(self) -> str:
            return self._base.subject_id

    register_namespace("depth_of_test")(Depth)
    try:
        session = Session(ID)
        namespace = session.depth_of_test  # type: ignore[attr-defined]
        assert namespace.subject == "676909"
        assert session.depth_of_test is namespace  # type: ignore[attr-defined]
        assert Session.depth_of_test is Depth  # type: ignore[attr-defined]
        assert repr(namespace) == f"Depth(Session('{ID}'))"
    finally:
        del Session.depth_of_test  # type: ignore[attr-defined]


def test_a_namespace_takes_no_name_that_means_something_else() -> None:
    with pytest.raises(ValueError, match="no namespace"):
        register_namespace("data_assets")(Namespace)


def test_fields_of_a_subject_are_on_the_first_level_in_every_version() -> None:
    older = {"subject_id": "1", "genotype": "wt/wt"}
    newer = {"subject_id": "1", "subject_details": {"genotype": "wt/wt", "subject_id": "other"}}
    assert flat_subject(older) == older
    assert flat_subject(newer)["genotype"] == "wt/wt"
    assert flat_subject(newer)["subject_id"] == "1"
    assert flat_subject(None) is None


def test_importing_the_room_loads_nothing_heavy_and_making_a_session_asks_nobody() -> None:
    code = (
        "import sys, aind_pipelines.sessions as s; "
        "heavy = {'sqlalchemy', 'boto3', 'requests', 'codeocean', 'pandas', 'upath', 'dagster'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        f"s.Session({ID!r}); "
        "assert not (heavy - {'sqlalchemy'}) & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_room_offers_its_names_and_no_others() -> None:
    assert {"Session", "Subject", "get_sessions", "get_codeocean_client"} <= set(dir(aind_session))
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        _ = aind_session.Sesion
