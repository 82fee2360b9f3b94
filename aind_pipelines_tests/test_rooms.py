"""The rules about who may import whom find what breaks them, wherever it stands."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aind_pipelines

ROOT = Path(__file__).parents[1]
BROKEN = {
    "a room above": ("records/added.py", "import aind_pipelines.tables", "The rooms, top to bottom"),
    "late, in a function": ("clients/added.py", "def _f():\n    import aind_pipelines.lab.home", "The rooms"),
    "a room beside": ("sensors/added.py", "import aind_pipelines.jobs", "The rooms, top to bottom"),
    "a room that is none": ("attic/__init__.py", "", "The rooms, top to bottom"),
    "Dagster below": ("archive/added.py", "import dagster", "knows Dagster"),
    "a part of Dagster in a service": ("services/added.py", "import dagster_shared", "knows Dagster"),
    "a heavy library": ("assets/added.py", "import dagster_aws", "dagster_aws"),
    "the tests": ("records/added.py", "import aind_pipelines_tests.counts", "What is installed"),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("aind_pipelines", "aind_pipelines_tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("rule", BROKEN)
def test_what_breaks_a_rule_is_found(rule: str, checkout: Path) -> None:
    path, text, contract = BROKEN[rule]
    added = checkout / "aind_pipelines" / path
    added.parent.mkdir(exist_ok=True)
    added.write_text(text + "\n")
    done = _run(checkout, "lint-imports", "--no-cache")
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert len(broken) == 1
    assert contract in broken[0]


def test_a_folder_that_the_rules_would_not_see_is_found(checkout: Path) -> None:
    """Without an ``__init__.py`` a folder's modules can be imported, and belong to no room."""
    added = checkout / "aind_pipelines" / "tape" / "deep" / "added.py"
    added.parent.mkdir()
    added.write_text('"""Added."""\n')
    done = _run(checkout, "ruff", "check", "--no-cache", "aind_pipelines/tape")
    assert done.returncode == 1
    assert "INP001" in done.stdout


def test_the_package_itself_imports_nothing() -> None:
    """The rules are about its rooms; what it imported, each of them would."""
    assert aind_pipelines.__file__
    tree = ast.parse(Path(aind_pipelines.__file__).read_text())
    assert [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)] == []
