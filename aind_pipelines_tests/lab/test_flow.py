"""What a run that lost its Postgres still tells, and how often it says that it waits for it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psycopg2
import pytest
from dagster import DagsterEventType
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import OperationalError

from aind_pipelines.archive.intake import S3Prefix
from aind_pipelines.clients import s3
from aind_pipelines.lab import control, flow
from aind_pipelines.lab.control import LabStatus, ServiceStatus
from aind_pipelines.lab.home import LabError, LabHome, Postgres
from aind_pipelines.settings import Settings

LOST = OperationalError("SELECT 1", {}, psycopg2.OperationalError("server closed the connection\n\tThis probably"))
JOB: Any = SimpleNamespace(name="sessions")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabHome:
    server = Postgres("127.0.0.1", 4321, "dagster", "hunter2pw", "dagster")
    monkeypatch.setattr(LabHome, "dagster_postgres", lambda _: server)
    monkeypatch.setattr(LabHome, "postgres", lambda _: server)
    monkeypatch.setattr(LabHome, "external", {})
    return LabHome(tmp_path)


def after(*events: tuple[DagsterEventType, str]) -> flow._Watch:
    watch = flow._Watch(lambda _event, _step: None)
    for at, (kind, step) in enumerate(events):
        watch(SimpleNamespace(dagster_event=SimpleNamespace(step_key=step, event_type=kind), timestamp=float(at)))
    return watch


def caused(error: Exception, cause: Exception, *, explicit: bool) -> Exception:
    if explicit:
        error.__cause__ = cause
    else:
        error.__context__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        LOST,
        caused(DagsterPostgresException("too many retries for DB connection"), LOST, explicit=True),
        caused(RuntimeError("an event could not be stored"), LOST, explicit=False),
    ],
)
def test_a_lost_postgres_is_named_with_its_address_and_where_to_look(home: LabHome, error: Exception) -> None:
    (stage,) = flow._broken_off(home, JOB, after((DagsterEventType.STEP_START, "session_assets")), error)
    assert stage.name == "session_assets"
    assert "storage in Postgres at 127.0.0.1:4321 cannot be used" in stage.error
    assert "server closed the connection. See" in stage.error
    assert str(home.log("postgres")) in stage.error
    assert "sqlalche" not in stage.error


@pytest.fixture
def job() -> dg.JobDefinition:
    """Two tables of one step, of which one is checked; an index; and a report of them all."""

    @dg.multi_asset(specs=[dg.AssetSpec("subjects"), dg.AssetSpec("funding")], name="tables")
    def tables() -> Iterator[dg.MaterializeResult[Any]]:
        yield dg.MaterializeResult(asset_key="subjects", metadata={"dagster/row_count": 7, "changed": 3})
        yield dg.MaterializeResult(asset_key="funding", metadata={"dagster/row_count": 5, "findings": 1})

    @dg.asset_check(asset="subjects", blocking=True)
    def whole() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset(deps=["subjects", "funding"])
    def index() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(metadata={"bytes": 9})

    @dg.asset(deps=["index"])
    def report() -> None:
        pass

    defs = dg.Definitions(
        assets=[tables, index, report], asset_checks=[whole], jobs=[dg.define_asset_job("everything")]
    )
    return defs.resolve_job_def("everything")


def run_losing(
    home: LabHome, job: dg.JobDefinition, lost_at: tuple[DagsterEventType, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[flow.Stage], list[str]]:
    """Run a job whose storage takes no event any more from one on: the stages, and what was told meanwhile."""
    told: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance, flow._lost_events_told("an event was lost", told.append):
        store, lost = instance.event_log_storage.store_event, False

        def takes(entry: dg.EventLogEntry) -> None:
            nonlocal lost
            event = entry.dagster_event
            lost = lost or (event is not None and (event.event_type, event.step_key) == lost_at)
            if lost:
                raise LOST
            store(entry)

        monkeypatch.setattr(instance.event_log_storage, "store_event", takes)
        return list(flow._run_job(home, job, instance, {}, lambda _event, _step: None)), told


def test_a_run_that_is_broken_off_shows_what_had_ended_as_a_whole_run_does(
    home: LabHome, job: dg.JobDefinition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        whole = list(flow._run_job(home, job, instance, {}, lambda _event, _step: None))
    assert [(stage.name, stage.rows, stage.changed, stage.findings, stage.bytes) for stage in whole] == [
        ("subjects", 7, 3, 0, None),
        ("funding", 5, 0, 1, None),
        ("index", None, 0, 0, 9),
        ("report", None, 0, 0, None),
    ]
    capsys.readouterr()
    stages, told = run_losing(home, job, (DagsterEventType.STEP_SUCCESS, "report"), monkeypatch)
    *ended, broken = stages
    assert [dataclasses.replace(stage, seconds=0) for stage in ended] == [
        dataclasses.replace(stage, seconds=0) for stage in whole[:-1]
    ]
    assert [check.name for check in ended[0].checks] == ["whole"]
    assert broken.name == "report"
    assert "cannot be used" in broken.error
    assert told == ["an event was lost"]
    assert "SELECT" not in capsys.readouterr().err


def test_a_step_that_broke_off_is_one_stage_though_some_of_what_it_makes_was_made(
    home: LabHome, job: dg.JobDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, _ = run_losing(home, job, (DagsterEventType.STEP_SUCCESS, "tables"), monkeypatch)
    assert [(stage.name, stage.ok) for stage in stages] == [("tables", False)]


def test_a_step_whose_start_could_not_be_stored_is_told_by_those_that_had_started(
    home: LabHome, job: dg.JobDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, _ = run_losing(home, job, (DagsterEventType.STEP_START, "report"), monkeypatch)
    assert [stage.name for stage in stages] == ["subjects", "funding", "index", "everything"]
    assert [stage.ok for stage in stages] == [True, True, True, False]
    assert re.search(r"Stages that had started: tables, [a-z_]+, index\.$", stages[-1].error)


def test_a_stage_that_had_failed_before_its_run_was_broken_off_is_what_broke(home: LabHome) -> None:
    events = ((DagsterEventType.STEP_START, "b"), (DagsterEventType.STEP_FAILURE, "b"))
    assert [stage.name for stage in flow._broken_off(home, JOB, after(*events), LOST)] == ["b"]
    (nothing,) = flow._broken_off(home, JOB, after(), LOST)
    assert nothing.name == "sessions"
    assert nothing.error.endswith("No stage had started.")


def test_an_error_of_something_else_is_told_as_it_is(home: LabHome) -> None:
    (stage,) = flow._broken_off(home, JOB, after(), RuntimeError("no room"))
    assert stage.error == "the run could not go on: RuntimeError: no room. No stage had started."


@pytest.mark.parametrize(
    ("name", "message", "told"),
    [
        ("OperationalError", "psycopg.OperationalError: the connection is lost", True),
        ("ServiceUnavailable", "aind_pipelines.clients.errors.ServiceUnavailable: RDS: reading: it ended", True),
        ("ServiceUnavailable", "aind_pipelines.clients.errors.ServiceUnavailable: S3: it is down", False),
    ],
)
def test_a_stage_that_lost_rds_says_where_postgres_is(home: LabHome, name: str, message: str, *, told: bool) -> None:
    cause = SimpleNamespace(cause=None, cls_name=name, message=message)
    error = SimpleNamespace(
        cause=cause, cls_name="DagsterExecutionStepExecutionError", message="dagster._core: failed"
    )
    said = flow._failure(home, SimpleNamespace(step_failure_data=SimpleNamespace(error=error)))
    assert said.startswith(message)
    assert ("Postgres is at 127.0.0.1:4321" in said) == told


def test_retries_are_told_once_and_other_warnings_pass(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    with flow._retries_told("waiting", told.append):
        for _ in range(5):
            logging.warning("Retrying failed database connection: %s", LOST)
        logging.warning("something else")
    assert told == ["waiting"]
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    logging.warning("Retrying failed database connection: %s", LOST)
    assert len(caplog.records) == 2


def test_of_what_is_written_to_stderr_only_an_event_that_a_database_did_not_take_is_kept_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[str] = []
    dump = f"Exception while writing logger call to event log: {LOST}\n"
    with flow._lost_events_told("lost", told.append):
        for error in (LOST, DagsterPostgresException("too many retries"), ValueError("not a database's")):
            with contextlib.suppress(Exception):
                try:
                    raise error
                finally:
                    sys.stderr.write(f"{type(error).__name__} elsewhere\n")
                    sys.stderr.write(dump)
        sys.stderr.write("after it\n")
    sys.stderr.write(dump)
    assert told == ["lost"]
    kinds = ("OperationalError elsewhere\n", "DagsterPostgresException elsewhere\n", "ValueError elsewhere\n")
    assert capsys.readouterr().err == "".join((*kinds, dump, "after it\n", dump))


def up_with_postgres(health: str) -> LabStatus:
    return LabStatus("", True, True, 1, (ServiceStatus("postgres", "", False, health, None, 0, None, ""),))


@pytest.mark.parametrize(("health", "words"), [("held", "postgres is held down"), ("failed", "postgres has failed")])
def test_a_postgres_that_stays_down_is_named_at_once_with_the_command_that_starts_it(
    tmp_path: Path, home: LabHome, health: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = LabHome(tmp_path / "a lab")
    monkeypatch.setattr(control, "status", lambda _home: up_with_postgres(health))
    monkeypatch.setattr(dg.DagsterInstance, "from_config", lambda _folder: pytest.fail("opened"))
    with pytest.raises(LabError) as refused, flow.open_instance(home):
        pytest.fail("opened")
    (broken,) = flow._broken_off(home, JOB, after((DagsterEventType.STEP_START, "a")), LOST)
    for said in (refused.value.message, broken.error):
        assert f": {words}. " in said or f". {words}. " in said
        command = said.partition("Start it: ")[2]
        assert shlex.split(command) == ["aind-pipelines", "lab", "up", "postgres", "--home", str(home.root)]
        assert "disk" not in said
    assert str(home.log("postgres")) in broken.error


def test_of_a_postgres_that_comes_back_no_command_is_named(home: LabHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "status", lambda _home: up_with_postgres("restarting"))
    (broken,) = flow._broken_off(home, JOB, after((DagsterEventType.STEP_START, "a")), LOST)
    assert "Start it" not in broken.error
    assert "is the disk full, or was Postgres stopped?" in broken.error


def test_what_a_stage_says_of_an_outage_is_not_lost_behind_its_cause(home: LabHome) -> None:
    with socket.socket() as nowhere:
        nowhere.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nowhere.getsockname()[1]}"
        settings = Settings(
            aws_endpoint_url=url, aws_region="us-west-2", aws_access_key_id="a", aws_secret_access_key="b"
        )

        @dg.asset
        def reads_s3() -> None:
            S3Prefix("bucket", "session", s3.client(settings, attempts=1)).scan()

        result = dg.materialize([reads_s3], raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    said = flow._failure(home, failed)
    assert said.startswith("aind_pipelines.clients.errors.ServiceUnavailable: S3: reading s3://bucket/session")
    assert "Check that S3 can be reached" in said
