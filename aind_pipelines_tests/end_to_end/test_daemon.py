"""The sensors and schedules, run by the real daemon with nobody's hand."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from aind_pipelines_tests.end_to_end.conftest import ROOT, Lab
from aind_pipelines_tests.end_to_end.served import UI, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_an_edit_in_docdb_and_a_file_in_an_inbox_arrive_with_nobodys_hand(lab: Lab, ui: UI) -> None:
    inbox = lab.home / "inbox"
    (inbox / "notes-of-the-day.txt").write_text("the bird sang")
    (inbox / "no name for a resource.txt").write_text("the bird sang again")
    with lab.docdb() as client:
        records = client.metadata_index_v2.data_assets
        identity = records.find_one({"_last_modified": {"$type": "string"}})["_id"]
        modified = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        records.update_one({"_id": identity}, {"$set": {"note": "edited", "_last_modified": modified}})
    query = "select body->>'note' from docdb.records where record_version = 'v2' and id = %s"
    until(lambda: lab.sql(query, identity) == [("edited",)], 240)
    versions = (
        "select body->>'note' from docdb.record_versions where record_version = 'v2' and id = %s order by valid_from"
    )
    assert lab.sql(versions, identity) == [(None,), ("edited",)]
    assert "SUCCESS" in ui.ticks("docdb_changes")
    assert "FAILURE" not in ui.ticks("docdb_changes") + ui.ticks("inbox_files")
    copies = "select kind, size from archive.copies where archive = 'live' and id = 'notes-of-the-day'"
    until(lambda: lab.sql(copies) == [("file", len("the bird sang"))], 240)
    until(lambda: [path.name for path in inbox.iterdir()] == ["rejected"], 60)
    assert (inbox / "rejected" / "no name for a resource.txt").read_text() == "the bird sang again"
    assert (inbox / "rejected" / "no name for a resource.txt.reason.txt").exists()


@contextmanager
def _daemon(lab: Lab, location: Path) -> Iterator[None]:
    """The daemon alone, on a code location of its own."""
    from aind_pipelines.lab.environment import isolated
    from aind_pipelines.lab.home import LabHome
    from aind_pipelines.lab.processes import end_group

    daemon = subprocess.Popen(
        [Path(sys.executable).with_name("dagster-daemon"), "run", "-f", location],
        env={**isolated(LabHome(lab.home)), "PYTHONPATH": str(ROOT)},
        cwd=lab.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        yield
    finally:
        end_group(daemon, signal.SIGINT, 60)


def test_a_deletion_in_docdb_reaches_the_mirror_by_the_clock(lab: Lab, tmp_path: Path) -> None:
    location = tmp_path / "every_minute.py"
    location.write_text(
        "from aind_pipelines.definitions import build_defs\n\ndefs = build_defs(manifest_cron='* * * * *')\n"
    )
    with lab.docdb() as client:
        records = client.metadata_index_v2.data_assets
        records.insert_one(
            {"_id": "to-be-deleted", "object_type": "Metadata", "_last_modified": "2020-01-01T00:00:00Z"}
        )
        with _daemon(lab, location):
            query = "select count(*) from docdb.records where id = 'to-be-deleted'"
            until(lambda: lab.sql(query) == [(1,)], 240)
            records.delete_one({"_id": "to-be-deleted"})
            until(lambda: lab.sql(query) == [(0,)], 240)
    ended = "select count(*) from docdb.record_versions where id = 'to-be-deleted' and valid_to is not null"
    assert lab.sql(ended) == [(1,)]


def _dagster(lab: Lab, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Serialised values of Dagster's own storage, which knows ticks and cursors while no daemon runs."""
    import dagster._core.scheduler.instigation  # noqa: F401 - makes them known to `deserialize_value`

    from aind_pipelines.lab.home import LabHome

    password = LabHome(lab.home).secrets["dagster_password"]
    host, port = lab.environment["PGHOST"], lab.environment["PGPORT"]
    with psycopg.connect(
        host=host, port=port, user="dagster", password=password, dbname="dagster", autocommit=True
    ) as connection:
        return connection.execute(query, parameters).fetchall()


def _sensor_ticks(lab: Lab, location: Path, since: datetime) -> list[Any]:
    """The ended ticks of the sensor on this code location, oldest first."""
    bodies = _dagster(
        lab,
        "select tick_body from job_ticks join instigators using (selector_id) where timestamp >= %s "
        "and instigator_body like '%%docdb_changes%%' and strpos(instigator_body, %s) > 0 order by job_ticks.id",
        since.replace(tzinfo=None),
        location.name,
    )
    ticks: list[Any] = [dg.deserialize_value(body) for (body,) in bodies]
    return [tick for tick in ticks if tick.status.value != "STARTED"]


def _sensor_cursor(lab: Lab, location: Path) -> str | None:
    """What the sensor on this code location remembers."""
    query = "select instigator_body from instigators where strpos(instigator_body, %s) > 0"
    states: list[Any] = [dg.deserialize_value(body) for (body,) in _dagster(lab, query, location.name)]
    (cursor,) = [state.instigator_data.cursor for state in states if state.instigator_name == "docdb_changes"]
    assert cursor is None or isinstance(cursor, str)
    return cursor


def test_an_outage_of_docdb_fails_the_ticks_and_they_go_on_where_they_were_after_it(lab: Lab, tmp_path: Path) -> None:
    location = tmp_path / "every_few_seconds.py"
    location.write_text(
        "from aind_pipelines.definitions import build_defs\n"
        "from aind_pipelines.sensors.metadata import docdb_changes\n\n"
        "docdb_changes._min_interval = 5\n"
        "defs = build_defs()\n"
    )
    mirrored = "select body->>'note' from docdb.records where record_version = 'v2' and id = %s"

    def _ticks(since: datetime) -> list[Any]:
        return _sensor_ticks(lab, location, since)

    def edit(note: str) -> None:
        modified = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        records.update_one({"_id": identity}, {"$set": {"note": note, "_last_modified": modified}})

    with lab.docdb() as client:
        records = client.metadata_index_v2.data_assets
        identity = records.find_one({"_last_modified": {"$type": "string"}})["_id"]
        try:
            with _daemon(lab, location):
                edit("before the outage")
                until(lambda: lab.sql(mirrored, identity) == [("before the outage",)], 240)
                assert lab.command("lab", "down", "docdb_gateway", "--home", str(lab.home)).returncode == 0
                cursor, began = _sensor_cursor(lab, location), datetime.now(UTC)
                edit("during the outage")
                failed = until(lambda: [tick for tick in _ticks(began) if tick.status.value == "FAILURE"], 240)
        finally:
            assert lab.command("lab", "up", "docdb_gateway", "--home", str(lab.home)).returncode == 0
        assert "DocDB" in str(failed[0].error)
        assert cursor is not None
        assert _sensor_cursor(lab, location) == cursor
        assert lab.sql(mirrored, identity) == [("before the outage",)]
        with _daemon(lab, location):
            until(lambda: lab.sql(mirrored, identity) == [("during the outage",)], 240)
    requested = [tick.run_ids for tick in _ticks(began) if tick.run_ids]
    assert [len(run_ids) for run_ids in requested] == [1], "one run was asked for, once"
    assert _sensor_cursor(lab, location) != cursor
