"""Rows of the analysts' tables from records."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.records.normalise import NormalisedRecord, normalise
from aind_pipelines.tables.derive import data_asset_row, subject_rows
from aind_pipelines.tables.schema import data_assets, subjects
from aind_pipelines_tests.records.shapes import SHAPES
from aind_pipelines_tests.records.strategies import RECORDS


def _record(identity: str, **changes: Any) -> NormalisedRecord:
    return replace(normalise(copy.deepcopy(SHAPES["v1 raw"])), id=identity, **changes)


def _when(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


def test_a_row_has_exactly_the_columns_of_its_table() -> None:
    row = data_asset_row(normalise(SHAPES["v2"]))
    assert set(row) == set(data_assets.c.keys())
    assert row["modalities"] == ["ecephys"]
    assert row["code_ocean_ids"] == ["aaaaaaaa-0000-4000-8000-000000000003"]
    (subject,) = subject_rows([normalise(SHAPES["v2"])])
    assert set(subject) == set(subjects.c.keys())


def test_a_subjects_row_counts_all_its_records_and_takes_its_fields_from_the_latest() -> None:
    records = [
        _record("a", modified=_when(2024), acquisition_time=_when(2023), genotype="old"),
        _record("b", modified=_when(2026), acquisition_time=_when(2021), genotype="new", sex="Male"),
        _record("c", modified=_when(2025), acquisition_time=None, genotype="middle"),
        _record("d", subject_id=None),
        _record("e", subject_id="700009", modified=None, acquisition_time=None),
    ]
    first, second = subject_rows(records)
    assert first == {
        "subject_id": "700001",
        "sex": "Male",
        "date_of_birth": date(2024, 11, 2),
        "genotype": "new",
        "species": "Mus musculus",
        "asset_count": 3,
        "first_acquisition": _when(2021),
        "last_acquisition": _when(2023),
        "record_id": "b",
        "record_version": "v1",
    }
    assert (second["subject_id"], second["asset_count"], second["first_acquisition"]) == ("700009", 1, None)


def test_a_later_record_that_says_nothing_of_the_subject_does_not_blank_its_fields() -> None:
    silent = _record("z", modified=_when(2030), sex=None, date_of_birth=None, genotype=None, species=None)
    (row,) = subject_rows([_record("a", modified=_when(2020)), silent])
    assert (row["record_id"], row["genotype"], row["asset_count"]) == ("a", "wt/wt", 2)
    (row,) = subject_rows([silent])
    assert (row["record_id"], row["genotype"]) == ("z", None)


@given(st.lists(RECORDS, max_size=8), st.randoms())
def test_the_order_of_the_records_does_not_matter(raw: list[Any], chance: random.Random) -> None:
    records = [replace(normalise(record), id=str(number)) for number, record in enumerate(raw)]
    shuffled = records.copy()
    chance.shuffle(shuffled)
    assert subject_rows(records) == subject_rows(shuffled)
    assert sum(row["asset_count"] for row in subject_rows(records)) == sum(
        record.subject_id is not None for record in records
    )
