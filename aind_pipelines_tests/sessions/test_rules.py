"""The rules of resolution, as tables of cases and as properties."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_pipelines.sessions.rules import CodeOceanAsset, Derived, Folder, Record, ResolvedSession, resolve

SESSION = "ecephys_676909_2023-12-13_13-43-40"
SORTED = f"{SESSION}_sorted_2024-03-01_16-02-45"
BUCKETS = ("codeocean", "open", "ephys")
START = datetime(2024, 1, 1, tzinfo=UTC)


def record(name: str = SESSION, **values: Any) -> Record:
    defaults: dict[str, Any] = {
        "record_version": "v1",
        "id": f"r-{name[-12:]}",
        "location": f"s3://ephys/{name}",
        "data_level": "raw" if name == SESSION else "derived",
        "created": START,
        "modified": START,
    }
    return Record(name=name, **(defaults | values))


def asset(id_: str, name: str = SESSION, days: int = 0, **values: Any) -> CodeOceanAsset:
    defaults = {"created": START + timedelta(days=days), "state": "ready", "session_id": SESSION}
    return CodeOceanAsset(id_, name, **(defaults | values))


def folder(prefix: str = SESSION, *children: str, bucket: str = "ephys", session_id: str | None = SESSION) -> Folder:
    return Folder(bucket, prefix, children, session_id)


def solved(
    records: list[Record] | None = None,
    assets: list[CodeOceanAsset] | None = None,
    folders: list[Folder] | None = None,
) -> ResolvedSession:
    return resolve(SESSION, records or [], assets or [], folders or [], buckets=BUCKETS)


def codes(found: ResolvedSession) -> list[tuple[str, str]]:
    return [(finding.code, finding.key) for finding in found.findings]


def test_a_session_in_order_has_everything_and_no_finding() -> None:
    found = solved(
        [
            record(code_ocean_ids=("raw",)),
            record(SORTED, process_name="sorted", code_ocean_ids=("sorted",), location="s3://codeocean/sorted"),
        ],
        [asset("raw"), asset("sorted", SORTED, 60, data_level="derived data")],
        [
            folder(
                SESSION, "behavior", "behavior_videos", "ecephys_clipped", "ecephys_compressed", "original_metadata"
            ),
            folder("sorted", bucket="codeocean", session_id=None),
        ],
    )
    assert (found.raw_asset_name, found.raw_code_ocean_id) == (SESSION, "raw")
    assert found.raw_data_dir == f"s3://ephys/{SESSION}"
    assert found.modalities == ("behavior", "behavior_videos", "ecephys")
    assert found.derived == (Derived(SORTED, "sorted", "sorted", "s3://codeocean/sorted", START + timedelta(days=60)),)
    assert found.findings == ()


def test_a_session_of_which_nothing_is_known_is_empty_and_no_finding() -> None:
    found = solved()
    assert found == ResolvedSession(found.session)
    assert found.findings == ()


@pytest.mark.parametrize("text", ["", "676909_2023-12-13", "ecephys_676909_2023-13-13_13-43-40"])
def test_what_is_no_session_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no session id"):
        resolve(text, [], [], [], buckets=BUCKETS)


def test_a_session_id_that_is_not_read_is_refused_for_its_year() -> None:
    with pytest.raises(ValueError, match="its year 2031 is past 2029"):
        resolve("ecephys_676909_2031-12-13_13-43-40", [], [], [], buckets=BUCKETS)


# --- raw asset -------------------------------------------------------------------------------------------------------

RAW_ASSETS: list[tuple[str, list[Record], list[CodeOceanAsset], str | None]] = [
    ("the record's link", [record(code_ocean_ids=("a",))], [asset("a"), asset("b", days=9)], "a"),
    ("the latest of several links", [record(code_ocean_ids=("a", "b", "c"))], [asset("b", days=9), asset("a")], "b"),
    (
        "a dead link falls back to the search",
        [record(code_ocean_ids=("dead",))],
        [asset("a"), asset("b", days=1)],
        "b",
    ),
    ("a dead link beside a live one", [record(code_ocean_ids=("dead", "a"))], [asset("a"), asset("b", days=1)], "a"),
    ("no record", [], [asset("a"), asset("b", days=1)], "b"),
    (
        "a link to an asset of another name",
        [record(code_ocean_ids=("x",))],
        [asset("x", "mine", session_id=None)],
        "x",
    ),
    ("a newer but failed asset", [], [asset("a"), asset("b", days=1, state="failed")], "a"),
    ("only a failed asset", [], [asset("b", state="failed")], "b"),
    ("a link to an archived asset", [record(code_ocean_ids=("a",))], [asset("a", archived=True), asset("b")], "a"),
    (
        "of several links one that is not archived",
        [record(code_ocean_ids=("a", "b"))],
        [asset("a"), asset("b", days=9, archived=True)],
        "a",
    ),
    ("a record without a link, and an archived asset", [record()], [asset("a", archived=True)], "a"),
    ("an archived asset and no record", [], [asset("a", archived=True)], None),
    ("derived assets only", [], [asset("s", SORTED, data_level="derived data")], None),
    (
        "a derived asset that was registered as raw",
        [record(SORTED, data_level="raw", process_name="sorted", code_ocean_ids=("s",))],
        [asset("s", SORTED, data_level="raw data", tags=("raw",))],
        None,
    ),
    ("a raw one by its level alone", [], [asset("x", f"{SESSION}_copy", data_level="raw data")], "x"),
    ("a raw one by its tag alone", [], [asset("x", f"{SESSION}_copy", tags=("RAW",))], "x"),
    (
        "v2 wins over v1, whatever was modified later",
        [
            record(id="1", code_ocean_ids=("a",), modified=START + timedelta(days=9)),
            record(id="2", record_version="v2", code_ocean_ids=("b",)),
        ],
        [asset("a", days=9), asset("b")],
        "b",
    ),
    (
        "v1 serves when v2 links to nothing that lives",
        [record(id="1", code_ocean_ids=("a",)), record(id="2", record_version="v2", code_ocean_ids=("dead",))],
        [asset("a"), asset("b", days=9)],
        "a",
    ),
    (
        "of one generation the record modified last",
        [
            record(id="1", code_ocean_ids=("a",), modified=START + timedelta(days=1)),
            record(id="2", code_ocean_ids=("b",)),
            record(id="3", code_ocean_ids=("b",), modified=None),
        ],
        [asset("a"), asset("b", days=9)],
        "a",
    ),
]


@pytest.mark.parametrize(
    ("records", "assets", "expected"), [case[1:] for case in RAW_ASSETS], ids=[case[0] for case in RAW_ASSETS]
)
def test_the_raw_asset_in_code_ocean(
    records: list[Record], assets: list[CodeOceanAsset], expected: str | None
) -> None:
    assert solved(records, assets).raw_code_ocean_id == expected


def test_an_exact_name_wins_over_another_spelling() -> None:
    legacy = "ecephys_676909_2023_12_13_13_43_40"
    found = solved([record(legacy, record_version="v2", data_level="raw"), record()], [], [folder(legacy), folder()])
    assert found.raw_asset_name == SESSION
    alone = solved([record(legacy, data_level=None)], [], [folder(legacy, "ecephys")])
    assert (alone.raw_asset_name, alone.raw_data_dir) == (legacy, f"s3://ephys/{legacy}")


# --- raw data directory ----------------------------------------------------------------------------------------------

HELD = asset("uuid", location=None)
RAW_DATA: list[tuple[str, list[Record], list[CodeOceanAsset], list[Folder], str | None, list[str]]] = [
    (
        "where the record says, with a slash too many",
        [record(location=f"s3://ephys/{SESSION}/", code_ocean_ids=("uuid",))],
        [HELD],
        [folder()],
        f"s3://ephys/{SESSION}",
        [],
    ),
    (
        "the record is wrong: where Code Ocean says",
        [record(location="s3://open/gone", code_ocean_ids=("a",))],
        [asset("a", location="s3://ephys/elsewhere")],
        [folder("elsewhere", session_id=None), folder()],
        "s3://ephys/elsewhere",
        ["raw_data_missing"],
    ),
    (
        "nobody is right: in the first bucket that has the asset's id or name",
        [record(location="s3://open/gone", code_ocean_ids=("uuid",))],
        [HELD],
        [folder(), folder("uuid", bucket="codeocean", session_id=None), folder(bucket="open")],
        "s3://codeocean/uuid",
        ["raw_data_missing"],
    ),
    (
        "no asset: in the first bucket that has the session",
        [record(location=None, code_ocean_ids=("x",))],
        [asset("x", "other", session_id=None)],
        [folder(), folder(bucket="open")],
        f"s3://open/{SESSION}",
        [],
    ),
    ("nothing anywhere", [record(code_ocean_ids=("uuid",))], [HELD], [], None, ["raw_data_missing"]),
    ("no location at all", [record(location=None, code_ocean_ids=("uuid",))], [HELD], [], None, ["raw_data_missing"]),
    ("no place", [record(location="S3://", code_ocean_ids=("uuid",))], [HELD], [], None, ["raw_data_missing"]),
    ("a bucket", [record(location="s3://ephys/", code_ocean_ids=("uuid",))], [HELD], [], None, ["raw_data_missing"]),
    ("no S3 URI", [record(location="/allen/data", code_ocean_ids=("uuid",))], [HELD], [], None, ["raw_data_missing"]),
    (
        "a bucket that is not indexed",
        [record(location="s3://private/x", code_ocean_ids=("uuid",))],
        [HELD],
        [],
        None,
        ["raw_data_unchecked"],
    ),
    (
        "another cloud",
        [record(location="gs://ephys/x", code_ocean_ids=("uuid",))],
        [HELD],
        [],
        None,
        ["raw_data_unchecked"],
    ),
    (
        "not indexed, but found elsewhere",
        [record(location="s3://private/x", code_ocean_ids=("uuid",))],
        [HELD],
        [folder()],
        f"s3://ephys/{SESSION}",
        [],
    ),
    (
        "a folder below a top-level one",
        [record(location=f"S3://ephys//{SESSION}/ecephys/", code_ocean_ids=("uuid",))],
        [HELD],
        [folder(SESSION, "ecephys", "behavior")],
        f"s3://ephys/{SESSION}/ecephys",
        [],
    ),
    (
        "a missing folder below a top-level one",
        [record(location=f"s3://ephys/{SESSION}/fib", code_ocean_ids=("uuid",))],
        [HELD],
        [folder(SESSION, "ecephys", "behavior")],
        f"s3://ephys/{SESSION}",
        ["raw_data_missing"],
    ),
    (
        "the older generation is wrong",
        [record(location="s3://open/gone", code_ocean_ids=("uuid",)), record(record_version="v2", id="2")],
        [HELD],
        [folder()],
        f"s3://ephys/{SESSION}",
        ["raw_data_missing"],
    ),
    (
        "a folder of a bucket that is not searched",
        [record(code_ocean_ids=("uuid",))],
        [HELD],
        [folder(bucket="private")],
        None,
        ["raw_data_missing"],
    ),
]


@pytest.mark.parametrize(
    ("records", "assets", "folders", "expected", "findings"),
    [case[1:] for case in RAW_DATA],
    ids=[case[0] for case in RAW_DATA],
)
def test_the_raw_data_directory(
    records: list[Record],
    assets: list[CodeOceanAsset],
    folders: list[Folder],
    expected: str | None,
    findings: list[str],
) -> None:
    found = solved(records, assets, folders)
    assert found.raw_data_dir == expected
    assert codes(found) == [(code, SESSION) for code in findings]
    assert (found.modalities is None) == (expected is None)


# --- findings --------------------------------------------------------------------------------------------------------


def test_a_dead_link_is_one_finding_of_both_generations() -> None:
    both = [record(id="1", code_ocean_ids=("dead",)), record(id="2", record_version="v2", code_ocean_ids=("dead",))]
    found = solved(both, [], [folder()])
    assert [(item.code, item.key, item.field) for item in found.findings] == [
        ("dead_code_ocean_link", SESSION, "dead")
    ]
    assert "dead" in found.findings[0].message
    assert found.raw_code_ocean_id is None


def test_a_dead_link_of_a_derived_asset_is_found_by_its_name() -> None:
    found = solved(
        [record(code_ocean_ids=("raw",)), record(SORTED, code_ocean_ids=("dead",))], [asset("raw")], [folder()]
    )
    assert codes(found) == [("dead_code_ocean_link", SORTED)]
    assert [entry.code_ocean_id for entry in found.derived] == [None]


def test_data_without_a_record_is_one_finding_however_much_there_is() -> None:
    assert codes(solved([], [asset("a"), asset("b")], [folder()])) == [("record_missing", SESSION)]
    assert codes(solved([], [], [folder()])) == [("record_missing", SESSION)]
    derived = solved([], [asset("s", SORTED, data_level="derived data")], [folder(SORTED)])
    assert codes(derived) == [("record_missing", SORTED)]


@pytest.mark.parametrize("session_id", [SESSION, None])
def test_what_a_record_links_to_or_is_located_at_has_a_record_whatever_its_name(session_id: str | None) -> None:
    found = solved(
        [
            record(code_ocean_ids=("raw",)),
            record(SORTED, code_ocean_ids=("s",), location=f"s3://open/{SESSION}_copied/", process_name="sorted"),
        ],
        [asset("raw"), asset("s", f"{SESSION}_renamed", data_level="derived data", session_id=session_id)],
        [folder(), folder(f"{SESSION}_copied", bucket="open")],
    )
    assert found.findings == ()
    assert found.derived == (Derived(SORTED, "sorted", "s", f"s3://open/{SESSION}_copied", START),)


def test_a_failed_asset_needs_no_record() -> None:
    found = solved(
        [record(code_ocean_ids=("raw",))],
        [asset("raw"), asset("s", SORTED, data_level="derived data", state="failed")],
        [folder()],
    )
    assert found.findings == ()


def test_a_record_without_an_asset_is_a_finding() -> None:
    found = solved([record(), record(SORTED)], [], [folder(), folder(SORTED)])
    assert codes(found) == [("code_ocean_asset_missing", SESSION), ("code_ocean_asset_missing", SORTED)]
    assert solved([record()], [asset("a")], [folder()]).findings == ()


# --- derived ---------------------------------------------------------------------------------------------------------


def test_derived_assets_come_oldest_first_and_name_their_process() -> None:
    again = f"{SESSION}_sorted-ks4_2024-05-01_00-00-00"
    face = f"{SESSION}_dlc_face_2024-04-25_12-15-20"
    found = solved(
        [record(code_ocean_ids=("raw",)), record(face, process_name="dlc_face", created=START + timedelta(days=100))],
        [
            asset("raw"),
            asset("2", again, 120, data_level="derived data"),
            asset("1", SORTED, 60, data_level="derived data"),
        ],
        [folder(), folder(f"{SESSION}_nwb_2025-01-01_00-00-00", bucket="open")],
    )
    assert [(entry.process, entry.code_ocean_id) for entry in found.derived] == [
        ("nwb", None),
        ("sorted", "1"),
        ("dlc_face", None),
        ("sorted-ks4", "2"),
    ]
    assert found.derived[0].location == f"s3://open/{SESSION}_nwb_2025-01-01_00-00-00"


def test_two_assets_of_one_name_are_two_entries_each_with_its_record() -> None:
    found = solved(
        [
            record(SORTED, id="1", code_ocean_ids=("1",), location="s3://codeocean/1"),
            record(SORTED, id="2", code_ocean_ids=("2",), location="s3://codeocean/2"),
        ],
        [asset("1", SORTED, 1, data_level="derived data"), asset("2", SORTED, 2, data_level="derived data")],
        [folder("1", bucket="codeocean", session_id=None), folder("2", bucket="codeocean", session_id=None)],
    )
    assert [(entry.code_ocean_id, entry.location) for entry in found.derived] == [
        ("1", "s3://codeocean/1"),
        ("2", "s3://codeocean/2"),
    ]


def test_a_derived_location_is_given_when_it_is_not_known_to_be_wrong() -> None:
    def location(stated: str) -> str | None:
        return solved([record(SORTED, location=stated)]).derived[0].location

    assert location("s3://private/x/") == "s3://private/x"
    assert location("s3://ephys/gone") is None


def test_derived_times_are_written_in_utc() -> None:
    naive = Derived("n", created=datetime(2024, 1, 1))
    assert naive.to_json()["created"] == "2024-01-01T00:00:00+00:00"
    assert Derived("n").to_json()["created"] is None


# --- properties ------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [SESSION, SORTED, "ecephys_676909_2023_12_13_13_43_40", f"{SESSION}_x", "", f"a_{SESSION}", "\0", "676909_x"]
)
IDS = st.sampled_from(["a", "b", "c", "dead", ""])
BUCKET_NAMES = st.sampled_from([*BUCKETS, "private", ""])
LOCATIONS = (
    st.none() | st.text(max_size=12) | st.builds("s3://{}/{}".format, BUCKET_NAMES, NAMES | IDS | st.text(max_size=8))
)
MOMENTS = st.datetimes(timezones=st.none() | st.just(UTC))
RECORDS = st.builds(
    Record,
    st.sampled_from(["v1", "v2"]),
    st.sampled_from(["1", "2", "3"]),
    NAMES,
    LOCATIONS,
    st.sampled_from([None, "raw", "derived", "simulated", "?"]),
    st.sampled_from([None, "", "sorted"]),
    st.lists(IDS, max_size=3).map(tuple),
    st.none() | MOMENTS,
    st.none() | MOMENTS,
)
ASSETS = st.builds(
    CodeOceanAsset,
    IDS,
    NAMES,
    MOMENTS,
    st.sampled_from([None, "ready", "failed"]),
    st.lists(st.sampled_from(["raw", "x"]), max_size=2).map(tuple),
    st.sampled_from([None, "raw data", "derived data", ""]),
    st.sampled_from([None, SESSION]),
    LOCATIONS,
)
FOLDERS = st.builds(
    Folder,
    BUCKET_NAMES,
    NAMES | IDS,
    st.lists(st.sampled_from(["ecephys", "ecephys_clipped", "metadata"]), max_size=3).map(tuple),
    st.sampled_from([None, SESSION]),
)


def unique(key: Any) -> Any:
    return {"unique_by": key, "max_size": 6}


@settings(deadline=None)
@given(
    st.lists(RECORDS, **unique(lambda item: (item.record_version, item.id))),
    st.lists(ASSETS, **unique(lambda item: item.id)),
    st.lists(FOLDERS, **unique(lambda item: (item.bucket, item.prefix))),
    st.randoms(use_true_random=False),
)
def test_anything_resolves_and_the_order_does_not_matter(
    records: list[Record], assets: list[CodeOceanAsset], folders: list[Folder], rng: random.Random
) -> None:
    found = solved(records, assets, folders)
    for items in (records, assets, folders):
        rng.shuffle(items)  # type: ignore[arg-type]
    again = solved(records, assets, folders)
    assert again == found
    assert again.findings == found.findings
    known = {asset.id for asset in assets}
    assert found.raw_code_ocean_id in {*known, None}
    assert {entry.code_ocean_id for entry in found.derived} <= {*known, None}
    indexed = {folder.uri for folder in folders if folder.bucket in BUCKETS}
    if found.raw_data_dir is not None:
        assert "/".join(found.raw_data_dir.split("/")[:4]) in indexed
    assert [entry.to_json() for entry in found.derived] == [entry.to_json() for entry in again.derived]
    keys = [(finding.code, finding.key, finding.field) for finding in found.findings]
    assert len(keys) == len(set(keys))


# --- archived assets -------------------------------------------------------------------------------------------------


def test_a_link_to_an_archived_asset_is_not_dead() -> None:
    sorted_record = record(SORTED, process_name="sorted", code_ocean_ids=("s",), location=f"s3://ephys/{SORTED}")
    found = solved(
        [record(code_ocean_ids=("a",)), sorted_record],
        [asset("a", archived=True), asset("s", SORTED, data_level="derived data", archived=True)],
        [folder(), folder(SORTED)],
    )
    assert found.findings == ()
    assert found.raw_code_ocean_id == "a"
    assert [entry.code_ocean_id for entry in found.derived] == ["s"]


def test_what_was_archived_and_has_no_record_is_put_away() -> None:
    put_away = asset("s", SORTED, data_level="derived data", archived=True)
    found = solved([record(code_ocean_ids=("a",))], [asset("a"), put_away], [folder()])
    assert found.derived == ()
    assert found.findings == ()
    assert solved([], [asset("a", archived=True)]).findings == ()
