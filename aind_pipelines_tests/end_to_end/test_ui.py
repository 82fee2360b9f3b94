"""The UI's way: one asset backfill over the whole flow."""

from __future__ import annotations

from typing import Any

import pytest

from aind_pipelines_tests.end_to_end.conftest import STAGES, Lab
from aind_pipelines_tests.end_to_end.served import UI, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_LAUNCH = """mutation($b: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $b) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL = """query($b: String!) { partitionBackfillOrError(backfillId: $b) { ... on PartitionBackfill {
  status error { message } runs(limit: 50) { status assetSelection { path } } } } }"""


def test_the_daemon_finds_archives_and_a_backfill_over_all_assets_runs_the_flow(lab: Lab, ui: UI) -> None:
    sensor = "archives_named_by_the_policy"
    until(lambda: ui.ticks(sensor), 120)
    assert "FAILURE" not in ui.ticks(sensor)
    before = lab.sql("select count(*) from archive.checks")[0][0]
    launched = ui.ask(_LAUNCH, b={"assetSelection": [{"path": [name]} for name in STAGES], "allPartitions": True})
    backfill = launched["launchPartitionBackfill"]["backfillId"]

    def ended() -> dict[str, Any] | None:
        state: dict[str, Any] = ui.ask(_BACKFILL, b=backfill)["partitionBackfillOrError"]
        return state if state["status"].startswith(("COMPLETED", "FAILED")) else None

    state = until(ended, 420)
    assert state["status"] == "COMPLETED_SUCCESS", state
    assert {path["path"][0] for run in state["runs"] for path in run["assetSelection"]} == set(STAGES)
    assert lab.sql("select count(*) from archive.checks")[0][0] == before + 1
