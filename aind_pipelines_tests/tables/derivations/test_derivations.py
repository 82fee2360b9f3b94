"""Derivations on records of every shape, whole and damaged."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_pipelines.clients.rds.encode import cell_for
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.records.strategies import RECORDS, VALUES, places
from aind_pipelines_tests.tables.deriving import BY_NAME, derived, derived_with_findings
from aind_pipelines_tests.tables.sections import SECTIONS

V1, V2 = SECTIONS["v1"], SECTIONS["v2"]
_FILLED_IN = {"source_record_version", "source_record_id", "source_records"}
_CELLS = {
    name: {column.name: (cell_for(column.type), column.nullable) for column in derivation.table.columns}
    for name, derivation in BY_NAME.items()
}


def _changed(record: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """The record with the value at a dotted place replaced."""
    changed = copy.deepcopy(record)
    *path, last = place.split(".")
    holder: Any = changed
    for part in path:
        holder = holder[int(part) if isinstance(holder, list) else part]
    holder[int(last) if isinstance(holder, list) else last] = value
    return changed


@st.composite
def _damaged(draw: st.DrawFn) -> Any:
    record = copy.deepcopy(SECTIONS[draw(st.sampled_from(sorted(SECTIONS)))])
    for _ in range(draw(st.integers(0, 3))):
        holder, key = draw(st.sampled_from(list(places(record))))
        if isinstance(holder, dict) and draw(st.booleans()):
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = draw(VALUES)
    return record


@settings(max_examples=examples(150))
@given(RECORDS | _damaged())
def test_nothing_makes_a_derivation_raise_and_its_rows_can_be_stored(record: Any) -> None:
    for name in BY_NAME:
        rows, findings = derived_with_findings(record, name)
        for row in rows:
            assert set(row) | _FILLED_IN >= set(_CELLS[name]) >= set(row)
            for column, value in row.items():
                cell, nullable = _CELLS[name][column]
                assert nullable or value is not None, column
                cell(value)
        assert [row["position"] for row in rows if "position" in row] == [
            place for place, row in enumerate(rows) if "position" in row
        ]
        assert all(finding.message for finding in findings)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_both_generations_say_the_same_in_the_same_columns(name: str) -> None:
    first, second = ([_comparable(row) for row in derived(record, name)] for record in (V1, V2))
    assert first
    assert first == second


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """What both generations can say; words for kinds, and what one of them lacks, are their own."""
    own = {
        "record_version", "schema_version", "path", "section", "procedure_type", "material_type", "metric_type",
        "evaluation_name", "evaluation_status", "tags", "name", "software_name", "code_version", "pipeline_name",
        "platform_active", "coordinates", "coordinate_system", "instrument_type", "manufacturer", "location",
        "protocol_ids", "devices",
    }  # fmt: skip
    return {column: value for column, value in row.items() if column not in own}


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("data_streams", ["Harp", "IR LED", "Assembly A", "Probe A", "Patch Cord A", "Patch Cord B", "Fiber 0"]),
        ("instruments", ["Face assembly", "Face camera", "Lens", "Harp", "Box", "Spout", "Sensor"]),
    ],
)
def test_both_generations_list_the_same_devices_each_once(name: str, devices: list[str]) -> None:
    assert derived(V1, name)[0]["devices"] == devices
    second = derived(V2, name)[0]["devices"]
    assert (len(second), set(second)) == (len(devices), set(devices))


def test_specimens_that_a_procedure_made_stand_in_order_each_once() -> None:
    for record in (V1, V2):
        assert derived(record, "procedures")[-1]["output_specimen_ids"] == ["700001_001", "700001_002", "700001_003"]


def test_devices_are_sought_to_a_bounded_depth() -> None:
    device: dict[str, Any] = {"name": "innermost"}
    for depth in range(50):
        device = {"name": f"around {depth}", "part": device}
    (row,) = derived({**V1, "rig": {"daqs": [device]}}, "instruments")
    assert row["devices"][0] == "around 49"
    assert "innermost" not in row["devices"]


@pytest.mark.parametrize(
    ("stimulus", "software"),
    [
        (
            {
                "stimulus_software": "Bonsai", "stimulus_software_version": "2.7",
                "stimulus_script": "Gratings", "stimulus_script_version": "3",
            },
            [{"name": "Bonsai", "version": "2.7", "url": None}, {"name": "Gratings", "version": "3", "url": None}],
        ),
        (
            {"behavior_software": "Bonsai", "behavior_script": "https://github.com/example/task"},
            [
                {"name": "Bonsai", "version": None, "url": None},
                {"name": None, "version": None, "url": "https://github.com/example/task"},
            ],
        ),
        ({"stimulus_script": None}, []),
    ],
)  # fmt: skip
def test_software_and_scripts_of_former_stimuli_are_told(
    stimulus: dict[str, Any], software: list[dict[str, Any]]
) -> None:
    epoch = {"stimulus": stimulus, "stimulus_start_time": "2025-04-13T15:30:30-07:00"}
    assert derived({"session": {"stimulus_epochs": [epoch]}}, "stimulus_epochs")[0]["software"] == software


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("subject_id", "700002", True),
        ("subject_id", "700001", False),
        ("specimen_id", "700002", True),
        ("specimen_id", ["700001_001", "700002_001"], True),
        ("specimen_id", "700002-left", True),
        ("specimen_id", "700001_700002", False),
        ("specimen_id", "700002b", False),
        ("specimen_id", "7000021", False),
        ("specimen_id", "12_map", False),
        ("specimen_id", "nan", False),
    ],
)
def test_a_specimen_of_another_subject_is_told(place: str, value: object, told: bool) -> None:
    for record in (V1, V2):
        changed = _changed(record, f"procedures.specimen_procedures.0.{place}", value)
        rows, findings = derived_with_findings(changed, "procedures")
        assert [row["subject_id"] for row in rows] == ["700001"] * 3
        assert [finding.code for finding in findings] == ["specimen_of_another_subject"] * told
        assert all("700001" in finding.message and "700002" in finding.message for finding in findings)


@pytest.mark.parametrize(("section", "name"), [("acquisition", "acquisitions"), ("instrument", "instruments")])
def test_a_sections_version_that_is_a_number_is_its_text(section: str, name: str) -> None:
    rows, findings = derived_with_findings({section: {"schema_version": 2.0}}, name)
    assert [row["schema_version"] for row in rows] == ["2.0"]
    assert not findings


_LOCAL, _UTC = "2025-04-13T15:30:30-07:00", "2025-04-13T22:30:30Z"


@pytest.mark.parametrize(
    ("start", "zone", "expected", "codes"),
    [
        (_LOCAL, None, None, {"time_without_zone"}),
        (_UTC, None, "2025-04-13T15:40:00+00:00", {"time_without_zone"}),
        ("2025-04-13T15:30:30", None, "2025-04-13T15:40:00+00:00", {"time_without_zone"}),
        (None, None, "2025-04-13T15:40:00+00:00", {"time_without_zone"}),
        (_LOCAL, "America/Los_Angeles", "2025-04-13T22:40:00+00:00", set()),
    ],
)
def test_a_time_without_zone_is_not_taken_for_utc_where_the_start_says_otherwise(
    start: str | None, zone: str | None, expected: str | None, codes: set[str]
) -> None:
    times = {"stimulus_start_time": "2025-04-13T15:40:00", "stream_start_time": "2025-04-13T15:40:00"}
    acquisition = {
        "acquisition_start_time": start,
        "acquisition_start_tz": zone,
        "acquisition_end_time": "2025-04-13T15:40:00",
        "stimulus_epochs": [times],
        "data_streams": [times],
    }
    for name, column in (
        ("stimulus_epochs", "start_time"),
        ("data_streams", "start_time"),
        ("acquisitions", "end_time"),
    ):
        rows, findings = derived_with_findings({"acquisition": acquisition}, name)
        assert rows[0][column] == (None if expected is None else datetime.fromisoformat(expected))
        assert {finding.code for finding in findings} == codes
        assert all(("is left out" in finding.message) == (expected is None) for finding in findings)


@pytest.mark.parametrize(
    ("place", "value", "name", "column", "expected", "code"),
    [
        ("data_description.funding_source", {"funder": "NIMH"}, "funding", "funder", "NIMH", None),
        ("data_description.funding_source", [7], "funding", None, None, "funding_unreadable"),
        ("session.reward_consumed_unit", "hogshead", "acquisitions", "reward_consumed", None, "unit_unknown"),
        ("session.reward_consumed_total", "much", "acquisitions", "reward_consumed", None, "number_unreadable"),
        ("session.reward_consumed_total", float("inf"), "acquisitions", "reward_consumed", None, "number_unreadable"),
        ("session.session_end_time", "noon", "acquisitions", "end_time", None, "time_unreadable"),
        ("session.experimenter_full_name", {"a": 1}, "acquisitions", "experimenter_count", None, "people_unreadable"),
        ("session.active_mouse_platform", "yes", "acquisitions", "platform_active", None, "field_unreadable"),
        ("session.data_streams", "none", "data_streams", None, None, "data_stream_unreadable"),
        ("session.stimulus_epochs.0.trials_total", 1.5, "stimulus_epochs", "trials_total", None, "number_unreadable"),
        ("session.stimulus_epochs.0.trials_total", 2**40, "stimulus_epochs", "trials_total", None,
         "number_unreadable"),
        ("session.data_streams.0.fiber_connections", ["x"], "data_streams", None, None, "device_unreadable"),
        ("rig.modification_date", "spring", "instruments", "modification_date", None, "date_unreadable"),
        ("procedures.subject_procedures.0", "cut", "procedures", None, None, "procedure_unreadable"),
        ("procedures.subject_procedures.0.procedures.0.procedure_type", None, "procedures", None, None,
         "procedure_without_type"),
        ("procedures.subject_procedures.0.procedures.0.injection_materials", ["x"], "procedure_materials", None, None,
         "material_unreadable"),
        ("procedures.specimen_procedures.0.sectioning", ["x"], "procedures", None, None, "section_unreadable"),
        ("quality_control.evaluations.0.metrics.0.value", "x" * 10_001, "quality_control", "value", None,
         "metric_value_left_out"),
        ("quality_control.evaluations.0.metrics", [], "quality_control", "evaluation_name", "Completeness", None),
        ("quality_control.evaluations.0.metrics.0.status_history", [], "quality_control", "status", None, None),
        ("quality_control.evaluations.0.metrics.0.status_history.1.evaluator", "A Person", "quality_control",
         "automated", False, None),
    ],
)  # fmt: skip
def test_each_oddity_is_told_and_the_rest_still_arrives(
    place: str, value: object, name: str, column: str | None, expected: object, code: str | None
) -> None:
    rows, findings = derived_with_findings(_changed(V1, place, value), name)
    if column is not None:
        assert rows[0][column] == expected
    assert {finding.code for finding in findings} == ({code} if code else set())


def test_no_table_names_a_person() -> None:
    for record in (V1, V2):
        rows = [derived(record, name) for name in BY_NAME]
        assert "Person" not in str(rows)
        assert "Person" in str(record)
