"""``aind-pipelines db`` as a command, on a real Postgres."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL


def _run(url: URL | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"AIND_PIPELINES_NO_DOTENV": "1", "PYTHONPATH": ":".join(sys.path)}
    if url is not None:
        environment |= {
            "RDS_HOST": str(url.host),
            "RDS_PORT": str(url.port),
            "RDS_USER": str(url.username),
            "RDS_PASSWORD": str(url.password),
            "RDS_DATABASE": str(url.database),
        }
    command = [sys.executable, "-m", "aind_pipelines.cli", "db", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_migrate_then_status_agree(empty_database: URL) -> None:
    behind = _run(empty_database, "status", "--json")
    assert behind.returncode == 1
    assert json.loads(behind.stdout)["current"] is None
    assert "aind-pipelines db migrate" in behind.stderr
    done = _run(empty_database, "migrate", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["before"] is None
    assert answer["current"] == answer["head"]
    assert answer["reader"] == {"exists": True, "withheld": []}
    again = _run(empty_database, "migrate").stdout
    assert "already" in again
    assert "The role aind_pipelines_reader may read the tables and views." in again
    now = _run(empty_database, "status", "--json")
    assert now.returncode == 0, now.stderr
    assert json.loads(now.stdout) == {
        "current": answer["head"],
        "head": answer["head"],
        "drift": [],
        "reader": answer["reader"],
    }


def test_status_fails_on_drift_and_names_it(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX docdb.ix_records_name"))
    found = _run(engine.url, "status")
    assert found.returncode == 1
    assert "drift: index ix_records_name on docdb.records is missing" in found.stdout


@pytest.mark.parametrize("command", ["status", "migrate"])
def test_without_settings_the_missing_ones_are_named(command: str) -> None:
    done = _run(None, command)
    assert done.returncode == 1
    assert "RDS_HOST" in done.stderr


def test_an_unreachable_server_is_one_line_without_the_password(postgres_url: URL) -> None:
    done = _run(postgres_url.set(port=1, password="canary-9920"), "status")
    assert done.returncode == 1
    assert done.stderr.startswith("error: RDS: ")
    assert "Traceback" not in done.stderr
    assert "canary-9920" not in done.stderr + done.stdout
