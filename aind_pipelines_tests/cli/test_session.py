"""``aind-pipelines session`` as a command, on a real Postgres."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime

from sqlalchemy import Engine, insert
from sqlalchemy.engine import URL

from aind_pipelines.tables.schema import session_assets, session_findings

SESSION = "ecephys_676909_2023-12-13_13-43-40"
SORTED = f"{SESSION}_sorted_2024-03-01_16-02-45"


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
    command = [sys.executable, "-m", "aind_pipelines.cli", "session", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def _know(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(session_assets).values(
                session_id=SESSION,
                month=date(2023, 12, 1),
                platform="ecephys",
                subject_id="676909",
                session_time=datetime(2023, 12, 13, 13, 43, 40),
                raw_asset_name=SESSION,
                raw_data_dir=f"s3://ephys/{SESSION}",
                modalities=["behavior", "ecephys"],
                derived=[
                    {"name": SORTED, "process": "sorted", "code_ocean_id": "id-1", "location": None, "created": None}
                ],
                resolved_at=datetime(2024, 1, 1, tzinfo=UTC),
            )
        )
        connection.execute(
            insert(session_findings),
            [
                {"code": code, "key": key, "field": "", "message": "why", "scope": "month 2023-12", "resolved_at": at}
                for code, key, at in [
                    ("record_missing", SESSION, None),
                    ("dead_code_ocean_link", SORTED, None),
                    ("raw_data_missing", SESSION, datetime(2024, 1, 1, tzinfo=UTC)),
                    ("raw_data_missing", "another", None),
                ]
            ],
        )


def test_a_known_session_is_described_by_any_name_that_holds_its_id(engine: Engine) -> None:
    _know(engine)
    done = _run(engine.url, f"s3://somewhere/{SORTED}/x", SESSION)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == SESSION
    assert lines.count(SESSION) == 1
    assert f"  raw data    s3://ephys/{SESSION}" in lines
    assert "  modalities  behavior, ecephys" in lines
    assert "  Code Ocean  -" in lines
    assert f"  derived     {SORTED}" in lines
    assert [line.split()[1] for line in lines if "finding" in line] == ["dead_code_ocean_link:", "record_missing:"]


def test_json_is_one_list_and_an_unknown_session_exits_1(engine: Engine) -> None:
    _know(engine)
    done = _run(engine.url, SESSION, "behavior_717121_2024-06-16_11-39-34", "--json")
    assert done.returncode == 1
    (found,) = json.loads(done.stdout)
    assert (found["session_id"], found["month"]) == (SESSION, "2023-12-01")
    assert found["session_time"] == "2023-12-13T13:43:40"
    assert found["derived"][0]["code_ocean_id"] == "id-1"
    assert {item["code"] for item in found["findings"]} == {"record_missing", "dead_code_ocean_link"}
    assert "unknown: behavior_717121_2024-06-16_11-39-34" in done.stderr


def test_what_is_no_session_id_is_a_usage_error() -> None:
    done = _run(None, "676909_2023-12-13")
    assert done.returncode == 2
    assert "holds no session id" in done.stderr
    assert done.stdout == ""


def test_without_a_database_the_missing_settings_are_named() -> None:
    done = _run(None, SESSION)
    assert done.returncode == 1
    assert "RDS_HOST" in done.stderr
