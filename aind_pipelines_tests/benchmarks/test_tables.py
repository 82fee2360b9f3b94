"""The tables benchmark: what it writes is what it says, and a peer that did not run is no success."""

from __future__ import annotations

import pandas as pd

from benchmarks.tables import Run, _ratio
from benchmarks.tables_frame import COLUMNS, frame


def test_a_peer_that_did_not_run_makes_it_fail() -> None:
    run = Run(1.0, 1.0, 1.0)
    missing = _ratio("name", "cpu", [], [run], 50)
    assert not missing.ok
    assert "make .peers/aind-data-access-api-rds/.installed" in missing.reason
    assert _ratio("name", "cpu", [Run(50.0, 1.0, 1.0)], [run], 50).ok
    assert not _ratio("name", "wall", [run], [run], 20).ok


def test_the_frame_has_every_kind_of_value_and_is_the_same_again() -> None:
    made = frame(500, 3)
    pd.testing.assert_frame_equal(made, frame(500, 3))
    assert list(made.columns) == list(COLUMNS)
    assert made["id"].is_unique
    assert made.isna().any().sum() == 4
    assert {'"', "\t", "\\", "\n"} <= set("".join(made["notes"].dropna()))
    other = frame(500, 4)
    assert (made["id"] == other["id"]).all()
    assert not (made["name"] == other["name"]).any()
    assert list(frame(100, 3, 50)["id"]) == list(made["id"][50:150])
