"""One lab for all end-to-end tests: started, seeded and driven by the command, as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest

from aind_pipelines_tests.end_to_end.served import UI, served

ROOT = Path(__file__).parents[2]
SESSIONS = 12
STAGES = (
    "docdb_records",
    "data_assets",
    "subjects",
    "modalities",
    "asset_lineage",
    "processing",
    "funding",
    "acquisitions",
    "data_streams",
    "stimulus_epochs",
    "instruments",
    "procedures",
    "procedure_materials",
    "quality_control",
    "subject_answers",
    "code_ocean_index",
    "s3_index",
    "session_assets",
    "deposited_resources",
    "inbox_deposits",
    "archive_fixity",
    "flow_report",
)
"""The assets of the flow, in its order."""


@dataclass(frozen=True)
class Lab:
    """A lab's home and how to talk to it."""

    home: Path

    def command(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``aind-pipelines``; its output is text, its exit code is not looked at."""
        return subprocess.run(
            [sys.executable, "-m", "aind_pipelines.cli", *arguments],
            env={"PYTHONPATH": str(ROOT), **(os.environ if environment is None else environment)},
            cwd=cwd or ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def demo(self, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """Run the demo on this lab."""
        return self.command("demo", "--home", str(self.home), "--sessions", str(SESSIONS), *arguments, **keywords)

    @property
    def environment(self) -> dict[str, str]:
        """The names under which the lab's services are reached."""
        from aind_pipelines.lab.home import LabHome

        return LabHome(self.home).environment()

    def status(self) -> dict[str, Any]:
        """What ``lab status --json`` says."""
        document: dict[str, Any] = json.loads(self.command("lab", "status", "--json", "--home", str(self.home)).stdout)
        return document

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on RDS; its rows, if it gives any."""
        names = {
            "host": "PGHOST",
            "port": "PGPORT",
            "user": "PGUSER",
            "password": "PGPASSWORD",
            "dbname": "PGDATABASE",
        }
        login = {key: self.environment[name] for key, name in names.items()}
        with psycopg.connect(**login, autocommit=True) as connection:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def docdb(self) -> pymongo.MongoClient[dict[str, Any]]:
        """The lab's DocDB, as the people of the institute edit it; a context manager."""
        environment = self.environment
        return pymongo.MongoClient(
            environment["DOC_DB_HOST"],
            int(environment["DOC_DB_PORT"]),
            username=environment["DOC_DB_USERNAME"],
            password=environment["DOC_DB_PASSWORD"],
            directConnection=True,
            retryWrites=False,
        )

    def troubles(self) -> dict[str, list[str]]:
        """What the seed planted, by code."""
        planted: dict[str, list[str]] = json.loads((self.home / "seed" / "troubles.json").read_text())
        return planted


@dataclass(frozen=True)
class FirstDemo:
    """The lab after its first demo, and how that demo ended."""

    lab: Lab
    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def first_demo() -> Iterator[FirstDemo]:
    """A lab that is up, with one demo run on it; in a folder with a space."""
    with tempfile.TemporaryDirectory(prefix="aind lab ", ignore_cleanup_errors=True) as folder:
        lab = Lab(Path(folder) / "home")
        up = lab.command("lab", "up", "--home", str(lab.home))
        assert up.returncode == 0, up.stderr
        try:
            yield FirstDemo(lab, lab.demo())
        finally:
            down = lab.command("lab", "down", "--home", str(lab.home))
            assert down.returncode == 0, down.stderr


@pytest.fixture
def lab(first_demo: FirstDemo) -> Lab:
    """The lab of `first_demo`."""
    assert first_demo.result.returncode == 0, first_demo.result.stderr + first_demo.result.stdout
    return first_demo.lab


@pytest.fixture
def ui(lab: Lab) -> Iterator[UI]:
    """The UI and the daemon on that lab."""
    with served(lab.home, ROOT) as running:
        yield running
