"""The lab benchmark: a step that fails is a row with what it said, and nothing that was started is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import lab

ROOT = Path(__file__).parents[2]

# The command with a CLI in place of the real one, which says what it was asked, and fails where it is told to.
_CLI = """
import json, os, pathlib, sys
said = " ".join(sys.argv[1:-2])
home = pathlib.Path(sys.argv[-1])
with open({notes!r}, "a") as notes:
    print(said, home, file=notes)
count = pathlib.Path({notes!r}).read_text().count(said + " ")
if [said, count] == {fails!r}:
    sys.exit("error: The disk of here is full. Make room.")
home.mkdir(exist_ok=True)
if said.endswith("--json"):
    print(json.dumps({{"pid": os.getppid()}}))
"""
_MEASURED = """
import sys
sys.path.insert(0, {root!r})
sys.argv = ["benchmarks", "lab", *{options!r}]
import benchmarks.__main__ as command, benchmarks.lab as lab
lab.STARTS = 2
lab._CLI = (sys.executable, {cli!r})
lab._cpu_seconds = lambda code: 1.0
raise SystemExit(command.main())
"""
_COLD, _WARM, _DEMO = "lab: cold start to ready", "lab: warm start to ready", "lab: second demo, 100 sessions"
_MEMORY, _LOADING = "lab: memory, sum of USS, 100 sessions", "code location: CPU over import dagster"


def measured(folder: Path, fails: list[object], *options: str) -> subprocess.CompletedProcess[str]:
    """The benchmark, of whose calls of the CLI one fails: what it asks (without ``--home``), the how many-th."""
    (folder / "cli.py").write_text(_CLI.format(notes=str(folder / "notes"), fails=fails))
    script = _MEASURED.format(root=str(ROOT), options=options, cli=str(folder / "cli.py"))
    (folder / "tmp").mkdir()
    return subprocess.run(
        [sys.executable, "-c", script],
        env=dict(os.environ) | {"TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("fails", "not_reached"),
    [
        (["nothing", 1], []),
        (["lab up", 1], [_COLD, _WARM]),
        (["lab up", 4], [_WARM]),
        (["lab down", 4], [_WARM]),
        (["demo", 1], [_DEMO, _MEMORY]),
        (["lab status --json", 1], [_MEMORY]),
        (["lab down", 5], [_MEMORY]),
    ],
    ids=str,
)
def test_a_step_that_fails_is_a_row_with_its_message_and_the_other_rows_stand(
    fails: list[object], not_reached: list[str], tmp_path: Path
) -> None:
    done = measured(tmp_path, fails, "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [row["name"] for row in rows] == [_COLD, _WARM, _DEMO, _MEMORY, _LOADING]
    assert [row["name"] for row in rows if not row["ok"]] == not_reached, done.stderr
    for row in rows:
        assert bool(row["reason"]) is not row["ok"]
        assert row["ok"] or row["reason"].endswith("error: The disk of here is full. Make room.")
        assert row["ok"] or str(fails[0]) in row["reason"]
    assert done.returncode == bool(not_reached)
    assert "Traceback" not in done.stderr
    assert ("The disk of here is full" in done.stderr) is bool(not_reached)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_reason_is_shown_to_people_too(tmp_path: Path) -> None:
    done = measured(tmp_path, ["demo", 2])
    assert done.returncode == 1
    assert "NOT REACHED (aind-pipelines demo --home" in done.stdout
    assert "Make room.)" in done.stdout
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes[-1].startswith("lab down ")  # also after what failed


def test_python_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 1: no module of this name"):
        lab._cpu_seconds("raise SystemExit('no module of this name')")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["supervisor.json", "lab.json"])
def test_a_lab_that_was_being_measured_is_stopped_and_removed_when_the_benchmark_is_told_to_end(
    when: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "lab"],
        env=dict(os.environ) | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        deadline = time.monotonic() + 120
        while not (homes := list(tmp_path.glob(f"aind-bench-*/start-0/{when}"))):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        supervisor = psutil.Process(json.loads(homes[0].with_name("supervisor.json").read_text())["supervisor"]["pid"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
    # One that has ended stays a zombie where nobody collects it.
    assert not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE
    assert list(tmp_path.glob("aind-bench-*")) == []
