"""The made-up records have the shapes of real ones."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from aind_pipelines.lab.seed.institute import generate
from aind_pipelines.lab.seed.model import V1_DATABASE, V2_DATABASE

CORE_V1 = (
    "subject",
    "data_description",
    "procedures",
    "session",
    "rig",
    "acquisition",
    "instrument",
    "processing",
    "quality_control",
)


def recorded() -> list[dict[str, Any]]:
    """Real v1 records; the test skips where they are not."""
    folder = Path(
        os.environ.get("AIND_PIPELINES_RECORDS") or Path(__file__).parents[4] / "shared" / "data" / "docdb_records"
    )
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        pytest.skip(f"no recorded DocDB records in {folder} (AIND_PIPELINES_RECORDS names another folder)")
    return [
        record
        for record in found
        if "object_type" not in record
        and str(record["schema_version"]) >= "1"
        and record["data_description"]["schema_version"].split(".")[0] == "1"
    ]


def kinds(documents: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Types met under each key."""
    met: dict[str, set[str]] = defaultdict(set)
    for document in documents:
        for key, value in document.items():
            met[key].add(type(value).__name__)
    return met


def parts(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record[name] for record in records if isinstance(record.get(name), dict)]


@pytest.fixture(scope="module")
def made() -> dict[str, list[dict[str, Any]]]:
    return generate(150, 3, troubles=False).records


def compare(real: list[dict[str, Any]], made: list[dict[str, Any]], where: str) -> list[str]:
    """Keys or types that real ones do not have, and keys of every real one that are missing."""
    known, ours = kinds(real), kinds(made)
    always = {key for key in known if all(key in document for document in real)}
    problems = [f"{where}.{key}: real ones have no such key" for key in sorted(set(ours) - set(known))]
    problems += [
        f"{where}.{key}: {sorted(ours[key])}, real ones {sorted(known[key])}"
        for key in sorted(set(ours) & set(known))
        if not ours[key] <= known[key]
    ]
    return problems + [
        f"{where}.{key}: missing, every real one has it"
        for key in sorted(always)
        if not all(key in document for document in made)
    ]


def test_v1_records_have_the_keys_and_types_of_recorded_ones(made: dict[str, list[dict[str, Any]]]) -> None:
    real, ours = recorded(), made[V1_DATABASE]
    problems = compare(real, ours, "record")
    for name in CORE_V1:
        assert parts(ours, name), name
        problems += compare(parts(real, name), parts(ours, name), name)
    assert problems == []


def test_v1_parts_that_readers_look_into_have_the_recorded_shapes(made: dict[str, list[dict[str, Any]]]) -> None:
    real, ours = recorded(), made[V1_DATABASE]

    def inner(records: list[dict[str, Any]], part: str, key: str) -> list[dict[str, Any]]:
        values = [document.get(key) for document in parts(records, part)]
        flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
        return [item for item in flat if isinstance(item, dict)]

    problems: list[str] = []
    for part, key in (
        ("subject", "species"),
        ("subject", "breeding_info"),
        ("data_description", "institution"),
        ("data_description", "investigators"),
        ("data_description", "modality"),
        ("data_description", "platform"),
        ("data_description", "funding_source"),
        ("processing", "processing_pipeline"),
        ("quality_control", "evaluations"),
        ("session", "data_streams"),
        ("session", "stimulus_epochs"),
        ("acquisition", "tiles"),
        ("procedures", "subject_procedures"),
        ("procedures", "specimen_procedures"),
    ):
        assert inner(ours, part, key), (part, key)
        problems += compare(inner(real, part, key), inner(ours, part, key), f"{part}.{key}")
    assert problems == []


@pytest.mark.slow
def test_v2_records_are_valid_by_aind_data_schema(made: dict[str, list[dict[str, Any]]]) -> None:
    python = os.environ.get("AIND_PIPELINES_SCHEMA_PYTHON")
    if not python:
        pytest.skip("AIND_PIPELINES_SCHEMA_PYTHON names no interpreter with aind-data-schema 2.9")
    records = made[V2_DATABASE]
    assert {record["data_description"]["group"] for record in records} == {"behavior", "ephys", "ophys", "MSMA"}
    done = subprocess.run(
        [python, str(Path(__file__).with_name("validate_v2.py"))],
        input=json.dumps(records),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []


@pytest.mark.slow
def test_the_validation_notices_a_record_that_is_not_valid(made: dict[str, list[dict[str, Any]]]) -> None:
    python = os.environ.get("AIND_PIPELINES_SCHEMA_PYTHON")
    if not python:
        pytest.skip("AIND_PIPELINES_SCHEMA_PYTHON names no interpreter with aind-data-schema 2.9")
    record = json.loads(json.dumps(made[V2_DATABASE][0]))
    record["subject"]["subject_details"]["sex"] = "unknown"
    done = subprocess.run(
        [python, str(Path(__file__).with_name("validate_v2.py"))],
        input=json.dumps([record]),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    ((name, part, reason),) = json.loads(done.stdout)
    assert (name, part) == (record["name"], "subject")
    assert "sex" in reason


def test_records_are_of_a_size_that_seeds_quickly(made: dict[str, list[dict[str, Any]]]) -> None:
    sizes = [len(json.dumps(record)) for records in made.values() for record in records]
    assert min(sizes) > 5_000
    assert sum(sizes) / len(sizes) < 20_000
    assert max(sizes) < 40_000
