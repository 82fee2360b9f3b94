"""Subjects, made of what records state of them."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.tables.derivations.subjects import subject_rows
from aind_pipelines.tables.schema import subjects
from aind_pipelines_tests.records.shapes import SHAPES
from aind_pipelines_tests.records.strategies import RECORDS
from aind_pipelines_tests.tables.deriving import derived


def _statement(identity: str, **changes: Any) -> dict[str, Any]:
    (row,) = derived(SHAPES["v1 raw"], "subjects")
    return {**row, "record_id": identity, **changes}


def _when(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


def test_a_row_has_exactly_the_columns_of_its_table() -> None:
    (subject,) = subject_rows([_statement("a")])
    assert set(subject) == set(subjects.c.keys())


def test_a_subjects_row_counts_all_its_records_and_takes_its_fields_from_the_latest() -> None:
    statements = [
        _statement("a", modified=_when(2024), acquisition_time=_when(2023), genotype="old"),
        _statement("b", modified=_when(2026), acquisition_time=_when(2021), genotype="new", sex="Male"),
        _statement("c", modified=_when(2025), acquisition_time=None, genotype="middle"),
        _statement("e", subject_id="700009", modified=None, acquisition_time=None),
    ]
    first, second = subject_rows(statements)
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


def test_a_record_that_names_no_subject_states_nothing() -> None:
    assert derived({"_id": "d"}, "subjects") == []


def test_a_later_record_that_says_nothing_of_the_subject_does_not_blank_its_fields() -> None:
    silent = _statement("z", modified=_when(2030), sex=None, date_of_birth=None, genotype=None, species=None)
    (row,) = subject_rows([_statement("a", modified=_when(2020)), silent])
    assert (row["record_id"], row["genotype"], row["asset_count"]) == ("a", "wt/wt", 2)
    (row,) = subject_rows([silent])
    assert (row["record_id"], row["genotype"]) == ("z", None)


@given(st.lists(RECORDS, max_size=8), st.randoms())
def test_the_order_of_the_records_does_not_matter(raw: list[Any], chance: random.Random) -> None:
    statements = [
        {**row, "record_id": str(number)} for number, record in enumerate(raw) for row in derived(record, "subjects")
    ]
    shuffled = statements.copy()
    chance.shuffle(shuffled)
    rows = list(subject_rows(statements))
    assert rows == list(subject_rows(shuffled))
    assert sum(row["asset_count"] for row in rows) == len(statements)
