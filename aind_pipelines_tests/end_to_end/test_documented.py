"""What the documents show runs on the lab as it is written, addresses aside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aind_pipelines_tests.documents import ROOT, fenced, indented, statements
from aind_pipelines_tests.end_to_end.conftest import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_SQL = [*statements("docs/records.md"), *statements("docs/ingestion.md")]
_PYTHON = [
    pytest.param(block, id=f"{document} {number}")
    for document in ("docs/docdb_and_rds.md", "docs/seed.md", "docs/sessions.md")
    for number, block in enumerate(fenced(document, "python"))
]


@pytest.mark.parametrize("statement", _SQL)
def test_every_query_shown_runs(statement: str, lab: Lab) -> None:
    lab.sql(statement)


def test_the_queries_are_found() -> None:
    assert len(_SQL) >= 6
    assert len(_PYTHON) >= 6


@pytest.mark.parametrize("block", _PYTHON)
def test_every_python_block_shown_runs(block: str, lab: Lab, tmp_path: Path) -> None:
    block = block.replace("api.allenneuraldynamics.org", lab.environment["DOC_DB_API_HOST"])
    block = block.replace("~/.ssh/bastion", str(lab.home / "data" / "bastion" / "client_key"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", block],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **lab.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_the_tools_shown_reach_the_lab(lab: Lab, tmp_path: Path) -> None:
    lines = list(indented(ROOT / "docs" / "lab.md"))
    start = lines.index('eval "$(aind-pipelines lab env)"')
    shown = lines[start + 1 : start + 5]
    assert [line.split()[0] for line in shown] == ["psql", "aws", "dagster", "aind-pipelines"]
    there = [
        line for line in shown if line.split()[0] in {"dagster", "aind-pipelines"} or shutil.which(line.split()[0])
    ]
    (tmp_path / ".lab").symlink_to(lab.home)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([lines[start], *there])],
        env={"PATH": commands, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "deposited_resources" in done.stdout
    assert "nbank -r" in done.stdout
