"""The lab: cold and warm start, a second demo, memory with 100 sessions, and the cost of loading the code location."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.rows import Row, at_most

STARTS = 5
_CLI = (sys.executable, "-m", "aind_pipelines.cli")


def measure() -> list[Row]:
    """Every figure, on homes of its own below a temporary folder."""
    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-"))
    try:
        cold, warm = _starts(scratch)
        demo, memory = _demo(scratch / "demo")
        return [
            at_most("lab: cold start to ready", "s", cold, 25),
            at_most("lab: warm start to ready", "s", warm, 10),
            at_most("lab: second demo, 100 sessions", "s", demo, 90),
            at_most("lab: memory, sum of USS, 100 sessions", "MB", memory, 600),
            _load_ratio(),
        ]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(*arguments: str) -> float:
    started = time.monotonic()
    subprocess.run([*_CLI, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def _starts(scratch: Path) -> tuple[list[float], list[float]]:
    cold, warm = [], []
    for number in range(STARTS):
        home = str(scratch / f"start-{number}")
        cold.append(_run("lab", "up", "--home", home))
        _run("lab", "down", "--home", home)
        warm.append(_run("lab", "up", "--home", home))
        _run("lab", "down", "--home", home)
        shutil.rmtree(home)
    return cold, warm


def _demo(home: Path) -> tuple[list[float], list[float]]:
    """A first demo, then five more on the same home, timed; memory with the seeded lab up."""
    _run("demo", "--home", str(home))
    seconds = [_run("demo", "--home", str(home)) for _ in range(STARTS)]
    _run("lab", "up", "--home", str(home))
    try:
        status = json.loads(
            subprocess.run(
                [*_CLI, "lab", "status", "--json", "--home", str(home)], check=True, capture_output=True, text=True
            ).stdout
        )
        memory = [_uss(status) for _ in range(STARTS)]
    finally:
        _run("lab", "down", "--home", str(home))
    return seconds, memory


def _uss(status: dict[str, object]) -> float:
    """Sum of the unique set sizes of the supervisor and everything below it, in MB (10^6 bytes)."""
    supervisor = psutil.Process(int(str(status["pid"])))
    processes = [supervisor, *supervisor.children(recursive=True)]
    return sum(process.memory_full_info().uss for process in processes) / 1e6


def _cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def _load_ratio() -> Row:
    """CPU of importing the code location over CPU of ``import dagster``, alternating."""
    pairs = []
    for code in ("import dagster", "import aind_pipelines.definitions"):  # compiled files and page cache first
        _cpu_seconds(code)
    for _ in range(2 * STARTS):
        bare = _cpu_seconds("import dagster")
        pairs.append(_cpu_seconds("import aind_pipelines.definitions") / bare)
    return at_most("code location: CPU over import dagster", "x", pairs, 1.5)
