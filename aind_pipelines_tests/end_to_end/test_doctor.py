"""``doctor`` on the lab: everything good, one thing down, one thing misconfigured."""

from __future__ import annotations

import json
import os

import pytest

from aind_pipelines_tests.end_to_end.conftest import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def test_everything_is_good_on_the_lab_and_no_secret_is_shown(lab: Lab) -> None:
    environment = {"PATH": os.environ["PATH"], **lab.environment}
    result = lab.command("doctor", "--json", environment=environment)
    assert result.returncode == 0, result.stdout
    document = json.loads(result.stdout)
    assert {row["state"] for row in document["connections"]} == {"good"}
    assert len(document["connections"]) >= 10
    said = {row["name"]: row["detail"] for row in document["connections"]}
    assert said["Dagster instance"].startswith("Postgres at ")
    for name in ("RDS_PASSWORD", "DOC_DB_PASSWORD", "CODE_OCEAN_API_TOKEN", "NBANK_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        assert lab.environment[name] not in result.stdout


def test_a_service_that_is_down_is_named_with_the_next_step(lab: Lab) -> None:
    environment = {"PATH": os.environ["PATH"], **lab.environment}
    assert lab.command("lab", "down", "code_ocean", "--home", str(lab.home)).returncode == 0
    try:
        result = lab.command("doctor", "--json", environment=environment)
        assert result.returncode == 1
        states = {row["name"]: row for row in json.loads(result.stdout)["connections"]}
        assert states["Code Ocean"]["state"] == "bad"
        assert states["Code Ocean"]["next_step"]
        assert {row["state"] for name, row in states.items() if name != "Code Ocean"} == {"good"}
    finally:
        assert lab.command("lab", "up", "code_ocean", "--home", str(lab.home)).returncode == 0
