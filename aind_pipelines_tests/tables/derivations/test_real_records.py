"""Rows of real records, as written out by hand, and that no record or process is lost."""

from __future__ import annotations

import json
from pathlib import Path

from aind_pipelines_tests.records.real import real_records
from aind_pipelines_tests.tables.deriving import BY_NAME, derived, derived_with_findings

EXPECTED = Path(__file__).with_name("expected_rows.json")


def test_real_records_of_different_shape_have_the_rows_written_out_by_hand() -> None:
    records = {record["_id"]: record for record in real_records()}
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert len(expected) >= 10
    wrong = []
    for identity, tables in expected.items():
        for name, rows in tables.items():
            found = json.loads(json.dumps(derived(records[identity], name), default=lambda value: value.isoformat()))
            if len(found) != rows.pop("count", len(found)):
                wrong.append((identity, name, len(found)))
                continue
            for position, values in rows.items():
                actual = {column: found[int(position)][column] for column in values}
                if actual != values:
                    wrong.append((identity, name, position, actual, values))
    assert wrong == []


def test_every_table_but_those_of_parts_has_rows_of_nearly_every_real_record() -> None:
    records = real_records()
    with_rows = {name: sum(bool(derived(record, name)) for record in records) for name in BY_NAME}
    assert {name: count for name, count in with_rows.items() if count > 40} == {
        "data_assets": 49,
        "subjects": 49,
        "modalities": 49,
        "funding": 47,
        "acquisitions": 49,
        "instruments": 48,
        "procedures": 47,
    }


def test_what_is_odd_about_the_values_of_real_records_is_told() -> None:
    codes: dict[str, set[str]] = {}
    for record in real_records():
        for name in BY_NAME:
            for finding in derived_with_findings(record, name)[1]:
                codes.setdefault(name, set()).add(finding.code)
    assert codes == {
        "acquisitions": {"modality_as_repr", "time_without_zone"},
        "data_streams": {"modality_as_repr"},
        "stimulus_epochs": {"time_unreadable", "time_without_zone"},
        "procedures": {"procedure_without_type", "specimen_of_another_subject", "unit_unknown"},
        "quality_control": {"metric_value_left_out"},
    }
