"""The UI's way: one asset backfill over the whole flow, and the sensor, run by the real daemon with nobody's hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from aind_pipelines_tests.end_to_end.conftest import ROOT, STAGES, Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_LAUNCH = """mutation($b: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $b) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL = """query($b: String!) { partitionBackfillOrError(backfillId: $b) { ... on PartitionBackfill {
  status error { message } runs(limit: 50) { status assetSelection { path } } } } }"""
_TICKS = """query($s: InstigationSelector!) { instigationStateOrError(instigationSelector: $s) {
  __typename ... on InstigationState { status ticks(limit: 20) { status dynamicPartitionsRequestResults {
    partitionKeys type } } } } }"""


@dataclass(frozen=True)
class UI:
    """A running UI with its daemon."""

    url: str

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """One GraphQL request; its data."""
        answer = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data


def _until(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(1)
    return value


@pytest.fixture
def ui(lab: Lab) -> Iterator[UI]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "aind_pipelines.cli", "dev", "--home", str(lab.home), "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert f"http://127.0.0.1:{port}" in line, line
    yield UI(f"http://127.0.0.1:{port}")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}", timeout=5)


def test_the_daemon_finds_archives_and_a_backfill_over_all_assets_runs_the_flow(lab: Lab, ui: UI) -> None:
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "aind_pipelines",
        "name": "archives_named_by_the_policy",
    }

    def ticks() -> list[str]:
        state = ui.ask(_TICKS, s=selector)["instigationStateOrError"]
        return [tick["status"] for tick in state.get("ticks", [])]

    _until(ticks, 120)
    assert "FAILURE" not in ticks()
    before = lab.sql("select count(*) from archive.checks")[0][0]
    launched = ui.ask(_LAUNCH, b={"assetSelection": [{"path": [name]} for name in STAGES], "allPartitions": True})
    backfill = launched["launchPartitionBackfill"]["backfillId"]

    def ended() -> dict[str, Any] | None:
        state: dict[str, Any] = ui.ask(_BACKFILL, b=backfill)["partitionBackfillOrError"]
        return state if state["status"].startswith(("COMPLETED", "FAILED")) else None

    state = _until(ended, 420)
    assert state["status"] == "COMPLETED_SUCCESS", state
    assert {path["path"][0] for run in state["runs"] for path in run["assetSelection"]} == set(STAGES)
    assert lab.sql("select count(*) from archive.checks")[0][0] == before + 1
