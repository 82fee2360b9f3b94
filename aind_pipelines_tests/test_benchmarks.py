"""The benchmark command: what it starts lives in an environment of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aind_pipelines_tests.hostile import plant, started_by_the_callers_python

ROOT = Path(__file__).parents[1]

# The command itself with measurements in place of the long ones: they start processes as the real ones do. `doctor`
# ends with 1 when it meets a setting of the caller's, since nobody answers there.
_MEASURED = """
import sys
sys.path.insert(0, {root!r})
sys.argv = ["benchmarks", "lab"]
import benchmarks.__main__ as command, benchmarks.lab as lab
SEEN = "import json, os, pathlib, sys; pathlib.Path({seen!r}).write_text(json.dumps([dict(os.environ), sys.path]))"
lab.measure = lambda: [
    lab.at_most("a fresh Python", "s", [lab._cpu_seconds(SEEN)], 60),
    lab.at_most("a command", "s", [lab._run("doctor")], 60),
]
raise SystemExit(command.main())
"""


def test_nothing_of_the_callers_reaches_what_a_benchmark_starts(tmp_path: Path) -> None:
    hostile = plant(tmp_path)
    seen = tmp_path / "seen.json"
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED.format(root=str(ROOT), seen=str(seen))],
        env=hostile,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(started_by_the_callers_python(tmp_path)) == 1  # the benchmark command itself
    environment, path = json.loads(seen.read_text())
    assert [name for name, value in hostile.items() if name != "PATH" and environment.get(name) == value] == []
    assert hostile["PYTHONPATH"] not in path


_LONG = """
import sys, time
sys.path.insert(0, {root!r})
sys.argv = ["benchmarks", "lab"]
import benchmarks.__main__ as command, benchmarks.lab as lab

def measure():
    try:
        print("under way", flush=True)
        time.sleep(60)
    finally:
        print("stopped what was started", flush=True)

lab.measure = measure
raise SystemExit(command.main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_benchmark_that_is_told_to_end_stops_what_it_started(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _LONG.format(root=str(ROOT))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "under way\n"
        process.send_signal(number)
        assert process.stdout.read() == "stopped what was started\n"
    assert process.returncode == code
