"""The UI's way: one asset backfill over the whole flow, and the sensor, run by the real daemon with nobody's hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
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


@contextmanager
def _records(lab: Lab) -> Iterator[Any]:
    """The lab's collection of the second generation, as the people of the institute edit it."""
    import pymongo

    environment = lab.environment
    with pymongo.MongoClient(
        environment["DOC_DB_HOST"],
        int(environment["DOC_DB_PORT"]),
        username=environment["DOC_DB_USERNAME"],
        password=environment["DOC_DB_PASSWORD"],
        directConnection=True,
        retryWrites=False,
    ) as client:
        yield client.metadata_index_v2.data_assets


def test_an_edit_in_docdb_reaches_the_mirror_with_nobodys_hand(lab: Lab, ui: UI) -> None:
    with _records(lab) as records:
        identity = records.find_one({"_last_modified": {"$type": "string"}})["_id"]
        modified = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        records.update_one({"_id": identity}, {"$set": {"note": "edited", "_last_modified": modified}})
    query = "select body->>'note' from docdb.records where record_version = 'v2' and id = %s"
    _until(lambda: lab.sql(query, identity) == [("edited",)], 240)
    versions = (
        "select body->>'note' from docdb.record_versions where record_version = 'v2' and id = %s order by valid_from"
    )
    assert lab.sql(versions, identity) == [(None,), ("edited",)]
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "aind_pipelines",
        "name": "docdb_changes",
    }
    state = ui.ask(_TICKS, s=selector)["instigationStateOrError"]
    assert "FAILURE" not in {tick["status"] for tick in state["ticks"]}
    assert "SUCCESS" in {tick["status"] for tick in state["ticks"]}


def test_a_deletion_in_docdb_reaches_the_mirror_by_the_clock(lab: Lab, tmp_path: Path) -> None:
    from aind_pipelines.lab.environment import isolated
    from aind_pipelines.lab.home import LabHome

    location = tmp_path / "every_minute.py"
    location.write_text(
        "from aind_pipelines.definitions import build_defs\n\ndefs = build_defs(manifest_cron='* * * * *')\n"
    )
    with _records(lab) as records:
        records.insert_one(
            {"_id": "to-be-deleted", "object_type": "Metadata", "_last_modified": "2020-01-01T00:00:00Z"}
        )
        daemon = subprocess.Popen(
            [Path(sys.executable).with_name("dagster-daemon"), "run", "-f", location],
            env={**isolated(LabHome(lab.home)), "PYTHONPATH": str(ROOT)},
            cwd=lab.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            query = "select count(*) from docdb.records where id = 'to-be-deleted'"
            _until(lambda: lab.sql(query) == [(1,)], 240)
            records.delete_one({"_id": "to-be-deleted"})
            _until(lambda: lab.sql(query) == [(0,)], 240)
        finally:
            daemon.send_signal(signal.SIGINT)
            daemon.wait(60)
    ended = "select count(*) from docdb.record_versions where id = 'to-be-deleted' and valid_to is not null"
    assert lab.sql(ended) == [(1,)]
