"""What a run says of the Postgres that it lost, and how often it says that it waits for it."""

from __future__ import annotations

import logging
import socket
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
from aind_pipelines.lab import flow
from aind_pipelines.lab.home import LabHome, Postgres
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
    stage = flow._broken_off(home, JOB, after((DagsterEventType.STEP_START, "session_assets")), error)
    assert stage.name == "session_assets"
    assert "storage in Postgres at 127.0.0.1:4321 cannot be used" in stage.error
    assert "server closed the connection. See" in stage.error
    assert str(home.log("postgres")) in stage.error
    assert "sqlalche" not in stage.error


def test_what_broke_is_the_stage_that_ran_or_failed_and_else_those_are_named_that_had_started(home: LabHome) -> None:
    start, success, failure = (
        DagsterEventType.STEP_START,
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.STEP_FAILURE,
    )
    failed = flow._broken_off(home, JOB, after((start, "a"), (success, "a"), (start, "b"), (failure, "b")), LOST)
    assert failed.name == "b"
    unknown = flow._broken_off(home, JOB, after((start, "a"), (success, "a"), (start, "b"), (success, "b")), LOST)
    assert unknown.name == "sessions"
    assert unknown.error.endswith("Stages that had started: a, b.")
    assert flow._broken_off(home, JOB, after(), LOST).error.endswith("No stage had started.")


def test_an_error_of_something_else_is_told_as_it_is(home: LabHome) -> None:
    stage = flow._broken_off(home, JOB, after(), RuntimeError("no room"))
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
