"""The lab: cold and warm start, a second demo, memory with 100 sessions, and the cost of loading the code location."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks.rows import Row, at_most, not_measured

STARTS = 5
_CLI = (sys.executable, "-m", "aind_pipelines.cli")
_FAILURES = (RuntimeError, OSError, psutil.Error)
_LAST = 2000
"""Characters of a failed command's words."""

_Figure = tuple[str, str, float]
"""A row's name, its unit, and the number to reach at most."""


def measure() -> list[Row]:
    """Every figure, on homes of its own below a temporary folder; one that a failure kept from being taken says so."""
    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-"))
    try:
        return [
            *_rows(
                [("lab: cold start to ready", "s", 25), ("lab: warm start to ready", "s", 10)],
                lambda cold, warm: _starts(scratch, cold, warm),
            ),
            *_rows(
                [("lab: second demo, 100 sessions", "s", 90), ("lab: memory, sum of USS, 100 sessions", "MB", 600)],
                lambda seconds, memory: _demo(scratch / "demo", seconds, memory),
            ),
            *_rows([("code location: CPU over import dagster", "x", 1.5)], _load_ratio),
        ]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _rows(figures: Sequence[_Figure], take: Callable[..., None]) -> list[Row]:
    """The rows of the figures whose samples `take` adds to one list for each.

    Where it fails, those with all samples stand, except the last: something of it went wrong in any case.
    """
    taken: list[list[float]] = [[] for _ in figures]
    try:
        take(*taken)
    except _FAILURES as error:
        reason = str(error) or type(error).__name__
        print(reason, file=sys.stderr, flush=True)  # the other figures take minutes yet
        whole = [len(samples) >= STARTS for samples in taken[:-1]] + [False]
        return [
            at_most(name, unit, samples, reach) if all_there else not_measured(name, unit, reach, reason, samples)
            for (name, unit, reach), samples, all_there in zip(figures, taken, whole, strict=True)
        ]
    return [at_most(name, unit, samples, reach) for (name, unit, reach), samples in zip(figures, taken, strict=True)]


def _said(command: Sequence[str], what: str) -> str:
    """What a command printed to its end.

    Raises:
        RuntimeError: It failed; the message has its last words.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-_LAST:]
        raise RuntimeError(f"{what} ended with {done.returncode}: {words}")
    return done.stdout


def _asked(*arguments: str) -> str:
    return _said([*_CLI, *arguments], f"aind-pipelines {' '.join(arguments)}")


def _run(*arguments: str) -> float:
    started = time.monotonic()
    _asked(*arguments)
    return time.monotonic() - started


@contextlib.contextmanager
def _stopped_after(home: Path) -> Iterator[str]:
    """A home whose lab is stopped and which is removed, whatever happens on it."""
    try:
        yield str(home)
    except BaseException as error:
        try:
            _run("lab", "down", "--home", str(home))
        except RuntimeError as second:  # what went wrong first says more
            error.add_note(str(second))
        raise
    else:
        _run("lab", "down", "--home", str(home))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _starts(scratch: Path, cold: list[float], warm: list[float]) -> None:
    for number in range(STARTS):
        with _stopped_after(scratch / f"start-{number}") as home:
            cold.append(_run("lab", "up", "--home", home))
            _run("lab", "down", "--home", home)
            warm.append(_run("lab", "up", "--home", home))


def _demo(folder: Path, seconds: list[float], memory: list[float]) -> None:
    """A first demo, then five more on the same home, timed; memory with the seeded lab up."""
    with _stopped_after(folder) as home:
        _run("demo", "--home", home)
        seconds.extend(_run("demo", "--home", home) for _ in range(STARTS))
        _run("lab", "up", "--home", home)
        status = json.loads(_asked("lab", "status", "--json", "--home", home))
        memory.extend(_uss(status) for _ in range(STARTS))


def _uss(status: dict[str, object]) -> float:
    """Sum of the unique set sizes of the supervisor and everything below it, in MB (10^6 bytes)."""
    supervisor = psutil.Process(int(str(status["pid"])))
    processes = [supervisor, *supervisor.children(recursive=True)]
    return sum(process.memory_full_info().uss for process in processes) / 1e6


def _cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _said([sys.executable, "-W", "ignore", "-c", code], f"python -c {code!r}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def _load_ratio(pairs: list[float]) -> None:
    """CPU of importing the code location over CPU of ``import dagster``, alternating."""
    for code in ("import dagster", "import aind_pipelines.definitions"):  # compiled files and page cache first
        _cpu_seconds(code)
    for _ in range(2 * STARTS):
        bare = _cpu_seconds("import dagster")
        pairs.append(_cpu_seconds("import aind_pipelines.definitions") / bare)
