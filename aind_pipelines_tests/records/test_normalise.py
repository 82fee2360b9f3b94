"""One shape for every record: synthetic ones of each odd shape, damage of every kind, and the real ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given, settings

from aind_pipelines.records.canonical import UNSTORABLE_TEXT, canonicalise
from aind_pipelines.records.normalise import NormalisedRecord, normalise, record_version
from aind_pipelines.records.provenance import Process
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.records.real import real_records
from aind_pipelines_tests.records.shapes import SHAPES
from aind_pipelines_tests.records.strategies import RECORDS

_NO_PROCESS = Process("processing.data_processes", *(None,) * 2, "Processing", *(None,) * 9)

EXPECTED = Path(__file__).with_name("expected_records.json")


def _codes(record: NormalisedRecord) -> set[str]:
    return {finding.code for finding in record.findings}


def _changed(shape: str, place: str, value: object) -> NormalisedRecord:
    """The shape with the value at a dotted place replaced; `...` removes it."""
    record = json.loads(json.dumps(SHAPES[shape]))
    *sections, last = place.split(".")
    holder = record
    for section in sections:
        holder = holder[section]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return normalise(record)


def test_a_v1_record_is_read_whole_and_has_no_finding() -> None:
    found = normalise(SHAPES["v1 raw"])
    assert asdict(found) == {
        "id": SHAPES["v1 raw"]["_id"],
        "record_version": "v1",
        "name": "behavior_700001_2025-04-13_15-30-30",
        "location": "s3://aind-open-data/behavior_700001_2025-04-13_15-30-30",
        "subject_id": "700001",
        "platform": "behavior",
        "acquisition_time": datetime(2025, 4, 13, 22, 30, 30, 162812, tzinfo=UTC),
        "data_level": "raw",
        "modalities": ("behavior", "behavior-videos"),
        "process_name": None,
        "project_name": "Project-ABC",
        "institution": "AIND",
        "investigator_count": 2,
        "source_names": (),
        "input_name": None,
        "process_time": None,
        "processes": (),
        "code_ocean_ids": ("aaaaaaaa-0000-4000-8000-000000000001",),
        "created": datetime(2025, 4, 14, 4, 10, 37, 796650, tzinfo=UTC),
        "modified": datetime(2025, 4, 14, 4, 10, 39, 724000, tzinfo=UTC),
        "schema_version": "1.1.1",
        "sex": "Female",
        "date_of_birth": date(2024, 11, 2),
        "genotype": "wt/wt",
        "species": "Mus musculus",
        "findings": (),
    }


@pytest.mark.parametrize(
    ("shape", "expected", "codes"),
    [
        (
            "v1 derived",
            {
                "data_level": "derived",
                "process_name": "processed",
                "record_version": "v1",
                "source_names": ("behavior_700001_2025-04-13_15-30-30",),
                "input_name": "behavior_700001_2025-04-13_15-30-30",
                "process_time": datetime(2025, 4, 14, 4, 9, 6),
            },
            set(),
        ),
        (
            "v0 with bare words",
            {
                "modalities": ("SPIM",),
                "data_level": "raw",
                "platform": "SmartSPIM",
                "institution": "AIBS",
                "species": "Mus musculus",
                "project_name": None,
                "acquisition_time": datetime(2023, 2, 28, 15, 17, 4, tzinfo=UTC),
                "record_version": "v1",
            },
            {"acquisition_time_without_zone", "modality_as_string", "data_level_raw_data"},
        ),
        (
            "v0 with Python reprs",
            {
                "modalities": ("ecephys",),
                "platform": "ecephys",
                "process_name": "sorted-ks25",
                "institution": "AIND",
                "acquisition_time": datetime(2022, 8, 9, 23, 14, tzinfo=UTC),
                "record_version": "v1",
                "source_names": (),
                "input_name": "ecephys_700001_2022-08-09_16-14-38",
            },
            {"modality_as_repr", "source_missing", "processes_nested", "process_time_without_zone"},
        ),
        (
            "v1 with a list of links",
            {
                "code_ocean_ids": (
                    "aaaaaaaa-0000-4000-8000-000000000001",
                    "aaaaaaaa-0000-4000-8000-000000000002",
                )
            },
            {"external_links_as_list"},
        ),
        (
            "v2",
            {
                "record_version": "v2",
                "schema_version": "2.3.3",
                "platform": "ecephys",
                "modalities": ("ecephys",),
                "sex": "Male",
                "date_of_birth": date(2022, 11, 30),
                "genotype": "Sst-IRES-Cre/wt",
                "species": "Mus musculus",
                "code_ocean_ids": ("aaaaaaaa-0000-4000-8000-000000000003",),
                "acquisition_time": datetime(2023, 7, 25, 1, 18, 13, tzinfo=UTC),
                "created": datetime(2024, 6, 20, 21, 14, 9, 236000, tzinfo=UTC),
                "modified": datetime(2026, 3, 9, 16, 35, 42, 382000, tzinfo=UTC),
            },
            set(),
        ),
        (
            "v1 with a v2 data description",
            {
                "record_version": "v2",
                "schema_version": "1.1.1",
                "platform": None,
                "subject_id": "700001",
                "process_name": "nwb",
                "modalities": ("behavior", "fib"),
            },
            {"platform_missing", "hybrid_schema_versions", "name_without_session", "source_missing"},
        ),
    ],
)
def test_each_odd_shape_is_read(shape: str, expected: dict[str, object], codes: set[str]) -> None:
    found = normalise(SHAPES[shape])
    assert {name: getattr(found, name) for name in expected} == expected
    assert _codes(found) == codes


@pytest.mark.parametrize(
    ("shape", "place", "value", "field", "expected", "code"),
    [
        ("v1 raw", "_id", ..., "id", None, "id_missing"),
        ("v1 raw", "_id", {"a": 1}, "id", None, "id_unusable"),
        ("v1 raw", "_id", 17, "id", "17", None),
        ("v1 raw", "_id", {"$oid": "65f000000000000000000001"}, "id", "65f000000000000000000001", None),
        ("v1 raw", "name", ..., "name", "behavior_700001_2025-04-13_15-30-30", "name_missing"),
        ("v1 raw", "name", "behavior_700001_2025-04-13_15-30-31", "name", "behavior_700001_2025-04-13_15-30-31",
         "name_disagrees"),
        ("v1 raw", "name", "x" * 700, "name", "x" * 600, "field_cut"),
        ("v1 raw", "location", None, "location", None, "location_missing"),
        ("v1 raw", "location", ["s3://a/b"], "location", None, "field_unreadable"),
        ("v1 raw", "data_description", None, "data_level", None, "data_description_missing"),
        ("v1 raw", "data_description", [], "modalities", (), "section_unreadable"),
        ("v1 raw", "subject", "none", "subject_id", "700001", "section_unreadable"),
        ("v1 raw", "subject.subject_id", "700002", "subject_id", "700002", "subject_id_disagrees"),
        ("v1 raw", "subject.subject_id", 700001, "subject_id", "700001", None),
        ("v1 raw", "subject.date_of_birth", "spring", "date_of_birth", None, "date_of_birth_unreadable"),
        ("v1 raw", "subject.date_of_birth", None, "date_of_birth", None, None),
        ("v1 raw", "data_description.data_level", "raw level data", "data_level", "raw", None),
        ("v1 raw", "data_description.data_level", "simulated", "data_level", "simulated", None),
        ("v1 raw", "data_description.data_level", "cooked", "data_level", None, "data_level_unknown"),
        ("v1 raw", "data_description.data_level", ..., "data_level", None, "data_level_missing"),
        ("v1 derived", "data_description.data_level", "raw", "data_level", "raw", "data_level_disagrees"),
        ("v1 derived", "data_description.process_name", ..., "process_name", "processed", None),
        ("v1 raw", "data_description.data_level", "raw data", "data_level", "raw", "data_level_raw_data"),
        ("v1 raw", "data_description.schema_version", "2.1.0", "record_version", "v2", "hybrid_schema_versions"),
        ("v2", "data_description.schema_version", "1.0.4", "record_version", "v2", "hybrid_schema_versions"),
        ("v1 raw", "data_description.modality", "ECEPHYS", "modalities", ("ecephys",), "modality_as_string"),
        ("v1 raw", "data_description.modality", "Planar optical physiology", "modalities", ("pophys",),
         "modality_as_string"),
        ("v1 raw", "data_description.modality", ["FIP", "fib"], "modalities", ("fib",), None),
        ("v1 raw", "data_description.modality", "Tarot", "modalities", ("Tarot",), "modality_unknown"),
        ("v1 raw", "data_description.modality", [None], "modalities", (), "modality_unreadable"),
        ("v1 raw", "data_description.modality", [{"a": 1}], "modalities", (), "field_unreadable"),
        ("v1 raw", "data_description.modality", [], "modalities", (), "modality_missing"),
        ("v1 raw", "data_description.modality", "Modality(name=\"Behavior\", abbreviation=\"behavior\")", "modalities",
         ("behavior",), "modality_as_repr"),
        ("v1 raw", "data_description.platform", "name='Behavior platform' abbreviation='behavior'", "platform",
         "behavior", "python_repr"),
        ("v1 raw", "data_description.platform", "SLAP2", "platform", "SLAP2", None),
        ("v1 raw", "data_description.institution", {"name": "Allen Institute", "abbreviation": None}, "institution",
         "AI", None),
        ("v1 raw", "data_description.institution", 1.5, "institution", None, "field_unreadable"),
        ("v1 raw", "session", None, "acquisition_time", datetime(2025, 4, 13, 15, 30, 30, tzinfo=UTC),
         "acquisition_time_from_name"),
        ("v1 raw", "session.session_start_time", "noon", "acquisition_time",
         datetime(2025, 4, 13, 15, 30, 30, tzinfo=UTC), "acquisition_time_unreadable"),
        ("v1 raw", "session.session_start_time", "2025-03-01T00:00:00Z", "acquisition_time",
         datetime(2025, 3, 1, tzinfo=UTC), "acquisition_time_disagrees"),
        ("v2", "acquisition.acquisition_start_tz", -7, "acquisition_time",
         datetime(2023, 7, 25, 1, 18, 13, tzinfo=UTC), None),
        ("v2", "acquisition.acquisition_start_tz", "Nowhere/City", "acquisition_time",
         datetime(2023, 7, 24, 18, 18, 13, tzinfo=UTC), "zone_unreadable"),
        ("v2", "acquisition.acquisition_start_tz", "America", "acquisition_time",
         datetime(2023, 7, 24, 18, 18, 13, tzinfo=UTC), "zone_unreadable"),
        ("v2", "acquisition.acquisition_start_tz", 99, "acquisition_time",
         datetime(2023, 7, 24, 18, 18, 13, tzinfo=UTC), "zone_unreadable"),
        ("v1 raw", "data_description.investigators", ..., "investigator_count", None, None),
        ("v1 raw", "data_description.investigators", [], "investigator_count", 0, None),
        ("v1 raw", "data_description.investigators", "A, B", "investigator_count", None, "investigators_unreadable"),
        ("v1 raw", "data_description.investigators", ["A", None], "investigator_count", 1, "investigators_unreadable"),
        ("v1 derived", "data_description.input_data_name", ..., "source_names", (), "source_missing"),
        ("v1 derived", "data_description.input_data_name", 7.5, "source_names", (), "source_missing"),
        ("v1 derived", "data_description.source_data", ["b", "a", "b"], "source_names",
         ("behavior_700001_2025-04-13_15-30-30", "b", "a"), None),
        ("v2", "data_description.source_data", [{"name": "a"}], "source_names", ("a",), None),
        ("v2", "data_description.source_data", ["ecephys_700002_2023-07-24_18-18-13"], "source_names", (),
         "source_is_itself"),
        ("v2", "processing", [], "processes", (), "section_unreadable"),
        ("v2", "processing.data_processes", "none", "processes", (), "process_unreadable"),
        ("v2", "processing.data_processes", [None], "processes", (), None),
        ("v2", "processing.data_processes", {}, "processes", (_NO_PROCESS,), None),
        ("v1 raw", "external_links", "none", "code_ocean_ids", (), "links_unreadable"),
        ("v1 raw", "external_links", {"Code Ocean": "a"}, "code_ocean_ids", ("a",), None),
        ("v1 raw", "external_links", {"Code Ocean": []}, "code_ocean_ids", (), None),
        ("v1 raw", "external_links", {}, "code_ocean_ids", (), None),
        ("v1 raw", "external_links", None, "code_ocean_ids", (), None),
        ("v1 raw", "created", "long ago", "created", None, "created_unreadable"),
        ("v1 raw", "last_modified", ..., "modified", None, "modified_missing"),
        ("v1 raw", "last_modified", "2025-04-14 04:10:39", "modified", datetime(2025, 4, 14, 4, 10, 39, tzinfo=UTC),
         None),
    ],
)  # fmt: skip
def test_each_oddity_has_its_code_and_the_record_still_arrives(
    shape: str, place: str, value: object, field: str, expected: object, code: str | None
) -> None:
    found = _changed(shape, place, value)
    if expected is not None or field != "id":
        assert getattr(found, field) == expected
    else:
        assert found.id.startswith("content-")
    new = _codes(found) - _codes(normalise(SHAPES[shape]))
    assert (code in new) if code else not new
    assert all(finding.key == f"{found.record_version}/{found.id}" for finding in found.findings)


def test_a_name_dated_in_a_year_to_come_is_not_called_one_without_a_session() -> None:
    year = datetime.now(UTC).year + 1
    assert "name_without_session" not in _codes(_changed("v1 raw", "name", f"behavior_700001_{year}-01-05_15-30-30"))
    assert "name_without_session" in _codes(_changed("v1 raw", "name", f"700001_{year}-01-05_15-30-30"))


@pytest.mark.parametrize(
    ("year", "why"), [(2031, "its year 2031 is past 2029"), (2015, "its year 2015 is before 2016")]
)
def test_a_name_of_a_year_that_is_not_read_is_not_said_to_hold_nothing(year: int, why: str) -> None:
    name = f"ecephys_900022_{year}-01-02_03-04-05"
    assert _messages({"_id": "a", "name": name}) == {
        "name_without_session": f"The name '{name}' holds no session id that is read: {why}.",
        "subject_id_missing": f"The record names no subject, and its name is not read: {why}.",
        "platform_missing": f"The record names no platform, and its name is not read: {why}.",
        "acquisition_time_missing": f"The record does not say when, and its name is not read: {why}.",
    }


def test_a_name_without_platform_holds_no_session_id_in_any_year_and_names_a_subject_all_the_same() -> None:
    found = _messages({"_id": "a", "name": "900022_2031-01-02_03-04-05"})
    assert found["name_without_session"] == "The name '900022_2031-01-02_03-04-05' holds no session id."
    assert found["subject_id_missing"].endswith("its name is not read: its year 2031 is past 2029.")


def test_what_a_name_of_a_year_to_come_names_is_said_to_wait() -> None:
    year = datetime.now(UTC).year + 1
    why = f"its name is not read: it is dated {year}-01-02, which is yet to come."
    assert _messages({"_id": "a", "name": f"ecephys_900022_{year}-01-02_03-04-05"}) == {
        "subject_id_missing": f"The record names no subject, and {why}",
        "platform_missing": f"The record names no platform, and {why}",
        "acquisition_time_missing": f"The record does not say when, and {why}",
    }


def test_a_name_that_names_nothing_is_said_to_name_nothing() -> None:
    assert _messages({"_id": "a", "name": "a model"}) == {
        "name_without_session": "The name 'a model' holds no session id.",
        "subject_id_missing": "Neither the record nor its name names a subject.",
        "platform_missing": "Neither the record nor its name names a platform.",
        "acquisition_time_missing": "Neither the record nor its name says when.",
    }


def _messages(record: dict[str, Any]) -> dict[str, str]:
    """By code, what is told of a record that holds nothing but its name."""
    untold = {"location_missing", "data_description_missing", "created_missing", "modified_missing"}
    return {found.code: found.message for found in normalise(record).findings if found.code not in untold}


def test_the_processes_of_every_schema_version_are_read_into_one_shape() -> None:
    sorting, other = "https://github.com/example/sorting", "processing.data_processes"
    older, pipeline = "processing.processing_pipeline.data_processes", "https://github.com/example/pipeline"

    def at(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
        return datetime(2025, 4, day, hour, minute, second, tzinfo=UTC)

    copied = Process(
        f"{older}.0", "Compression", None, "Processing", None, None, None, None, None, pipeline, "7",
        at(13, 23), at(13, 23, 10),
    )  # fmt: skip
    sorted_ = Process(
        f"{older}.1", "Spike sorting", None, "Processing", None, "0.2.0", sorting, "1.0", None, pipeline, "7",
        at(14, 4), at(14, 4, 9, 6),
    )  # fmt: skip
    analysed = Process(
        "processing.analyses.0", "Analysis", None, "Analysis", None, None, "https://github.com/example/analysis", None,
        None, None, None, at(15, 17), at(15, 18),
    )  # fmt: skip
    assert normalise(SHAPES["v1 derived"]).processes == (copied, sorted_, analysed)
    kilosort = "https://github.com/example/kilosort"
    assert normalise(SHAPES["v0 with Python reprs"]).processes == (
        Process(
            f"{other}.0.0", "Ephys preprocessing", None, "Processing", None, "v1.5", kilosort, None, None, kilosort,
            "v1.5", datetime(2023, 5, 9, 14, 22, 40, 206258, UTC), datetime(2023, 5, 9, 15, 19, 38, 206258, UTC),
        ),
    )  # fmt: skip
    assert normalise(SHAPES["v2"]).processes == (
        Process(
            f"{other}.0", "Spike sorting", "Spike sorting - ProbeA", "Processing", "Sorting", "0.2.0", sorting, None,
            "Ephys pipeline", pipeline, "kilosort4_1.0.0", datetime(2023, 7, 25, 2, tzinfo=UTC),
            datetime(2023, 7, 25, 3, tzinfo=UTC),
        ),
    )  # fmt: skip


def test_a_list_within_itself_ends() -> None:
    steps: list[object] = []
    steps.append(steps)
    found = normalise(SHAPES["v2"] | {"processing": {"data_processes": steps}})
    assert found.processes == ()
    assert _codes(found) == {"processes_nested", "process_unreadable"}


def test_bson_types_are_read() -> None:
    record = SHAPES["v1 raw"] | {
        "_id": ObjectId("65f000000000000000000001"),
        "last_modified": datetime.fromisoformat("2026-01-02T03:04:05.006"),
    }
    found = normalise(record)
    assert found.id == "65f000000000000000000001"
    assert found.modified == datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
    assert found.findings == ()


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("2.0", "2.0"),
        (2, "2"),
        (2.0, "2.0"),
        (1.1, "1.1"),
        (-0.0, "0.0"),
        (1e16, "10000000000000000"),
        (Int64(2), "2"),
        (Decimal128("2.0"), "2.0"),
        (Decimal128("2.10"), "2.10"),
        (Decimal("2.0"), "2.0"),
    ],
)
def test_a_schema_version_is_kept_as_its_text_however_it_is_stated(stated: object, kept: str) -> None:
    record = SHAPES["v2"] | {"schema_version": stated}
    found, stored = normalise(record), normalise(json.loads(canonicalise(record).text))
    assert found.schema_version == stored.schema_version == kept
    assert found.record_version == stored.record_version
    assert _codes(found) == _codes(normalise(SHAPES["v2"] | {"schema_version": kept}))


@pytest.mark.parametrize(
    "stated",
    [
        True,
        float("nan"),
        float("inf"),
        float("-inf"),
        Decimal128("NaN"),
        Decimal128("-Infinity"),
        Decimal("NaN"),
        [2.0],
    ],
)
def test_a_schema_version_that_is_no_finite_number_is_unreadable(stated: object) -> None:
    found = normalise(SHAPES["v2"] | {"schema_version": stated})
    assert found.schema_version is None
    assert [finding.field for finding in found.findings if finding.code == "field_unreadable"] == ["schema_version"]


def test_of_two_spellings_the_earlier_creation_and_the_later_change_hold() -> None:
    record = SHAPES["v1 raw"] | {"_created": "2020-01-01T00:00:00Z", "_last_modified": "2030-01-01T00:00:00Z"}
    found = normalise(record)
    assert (found.created, found.modified) == (datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("record", "version"),
    [
        ({}, "v1"),
        ({"object_type": "Metadata"}, "v2"),
        ({"object_type": None}, "v2"),
        ({"schema_version": "1.9.9", "acquisition": {}}, "v1"),
        ({"schema_version": "2.0.0"}, "v2"),
        ({"schema_version": "10.0"}, "v2"),
        ({"schema_version": 2}, "v2"),
        ({"schema_version": "1.1.1", "data_description": {"schema_version": "2.1.0"}}, "v2"),
        ({"schema_version": "1.1.1", "subject": {"schema_version": "2.1.0"}}, "v1"),
        ({"schema_version": ["2.0"], "data_description": "2.0"}, "v1"),
        ({"schema_version": float("nan")}, "v1"),
        ({"schema_version": 2.0}, "v2"),
        ({"schema_version": 1.9}, "v1"),
        ({"schema_version": Int64(2)}, "v2"),
        ({"schema_version": Decimal128("2.0")}, "v2"),
        ({"schema_version": Decimal128("1.9")}, "v1"),
        ({"schema_version": Decimal128("NaN")}, "v1"),
        ({"data_description": {"schema_version": 2.1}}, "v2"),
        ({"data_description": {"schema_version": Decimal128("2.1")}}, "v2"),
        ([], "v1"),
    ],
)
def test_the_record_version_follows_from_the_content(record: object, version: str) -> None:
    assert record_version(record) == version


@settings(max_examples=examples(400))
@given(RECORDS)
def test_nothing_makes_it_raise_and_what_it_reads_can_be_stored(record: object) -> None:
    found = normalise(record)
    texts = [value for value in asdict(found).values() if isinstance(value, str)]
    texts += [*found.modalities, *found.code_ocean_ids, *found.source_names]
    texts += [value for step in found.processes for value in asdict(step).values() if isinstance(value, str)]
    texts += [text for finding in found.findings for text in (finding.key, finding.field, finding.message)]
    assert not any(UNSTORABLE_TEXT.search(text) for text in texts)
    assert found.id
    assert len(found.id) <= 600
    assert normalise(record) == found


def test_every_real_record_arrives() -> None:
    records = real_records()
    found = [normalise(record) for record in records]
    assert [record.id for record in found] == [record["_id"] for record in records]
    assert Counter(record.record_version for record in found) == {"v1": 43, "v2": 6}
    for record in found:
        assert None not in (record.name, record.location, record.subject_id, record.acquisition_time, record.modified)
        assert None not in (record.data_level, record.sex, record.date_of_birth, record.genotype, record.species)
        assert record.modalities
        assert record.institution in ("AIND", "AIBS")
    codes = Counter(finding.code for record in found for finding in record.findings)
    assert codes == {
        "name_disagrees": 7,
        "acquisition_time_without_zone": 6,
        "data_level_disagrees": 2,
        "platform_missing": 1,
        "modality_as_repr": 1,
        "modality_as_string": 2,
        "data_level_raw_data": 2,
        "hybrid_schema_versions": 4,
        "name_without_session": 1,
        "acquisition_time_disagrees": 1,
        "source_missing": 3,
        "process_time_without_zone": 3,
        "processes_nested": 1,
    }
    assert sum(len(record.processes) for record in found) == _all_processes(records)
    assert {record.investigator_count for record in found} == {None, 1, 2, 3, 4, 7}


def _all_processes(records: list[dict[str, Any]]) -> int:
    """Every object in the lists of processes of these records, however the lists are nested."""

    def count(value: Any) -> int:
        return sum(map(count, value)) if isinstance(value, list) else int(isinstance(value, dict))

    sections = [record.get("processing") or {} for record in records]
    older = [section.get("processing_pipeline") or {} for section in sections]
    lists = [section.get(key) for section in sections for key in ("data_processes", "analyses")]
    return sum(map(count, [*lists, *(section.get("data_processes") for section in older)]))


def test_real_records_of_different_shape_have_the_values_written_out_by_hand() -> None:
    found = {record.id: record for record in map(normalise, real_records())}
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert len(expected) >= 12
    for identity, fields in expected.items():
        actual = json.loads(json.dumps(asdict(found[identity]), default=lambda value: value.isoformat()))
        actual["findings"] = sorted({finding.code for finding in found[identity].findings})
        assert {name: actual[name] for name in fields} == fields, identity
