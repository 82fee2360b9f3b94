"""Locks between depositors: of each key by itself, across processes and threads, gone with their holder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aind_pipelines.archive.locks import ArchiveLocks

_HOLD = """
import sys
from pathlib import Path
from aind_pipelines.archive.locks import ArchiveLocks
print(ArchiveLocks(Path(sys.argv[1])).try_acquire_each(sys.argv[2:]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(path):
    """Start a process that takes the locks of the keys given, says which it got, and lives until it is ended."""
    running: list[subprocess.Popen[str]] = []

    def start(*keys: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", _HOLD, str(path), *keys]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return running[-1], running[-1].stdout.readline().strip()

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_each_key_is_a_lock_of_its_own(path):
    locks = ArchiveLocks(path)
    assert locks.try_acquire_each(["a", "b", "a"]) == [True, True, False]
    assert locks.try_acquire_each(["c", "b"]) == [True, False]
    assert not locks.try_acquire("a")
    locks.release_each(["a", "c"])
    assert locks.try_acquire_each(["a", "b", "c"]) == [True, False, True]
    locks.release_each(["a", "b", "c"])


def test_another_processes_locks_are_seen_and_end_with_it(path, holder):
    locks = ArchiveLocks(path)
    assert locks.try_acquire("mine")
    process, taken = holder("a", "mine", "b")
    assert taken == "[True, False, True]"
    assert locks.try_acquire_each(["a", "b", "c"]) == [False, False, True]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert locks.try_acquire_each(["a", "b"]) == [True, True]
    locks.release_each(["a", "b", "c", "mine"])
    _, taken = holder("a", "mine")
    assert taken == "[True, True]"


def test_a_failure_half_way_leaves_no_lock(path, holder, monkeypatch):
    import fcntl

    locks, real, calls = ArchiveLocks(path), fcntl.lockf, []

    def third_fails(fd: int, command: int, *rest: int) -> None:
        calls.append(command)
        if len(calls) == 3:
            raise OSError(37, "No locks available")
        real(fd, command, *rest)

    monkeypatch.setattr(fcntl, "lockf", third_fails)
    with pytest.raises(OSError, match="No locks available"):
        locks.try_acquire_each(["a", "b", "c", "d"])
    monkeypatch.undo()
    _, taken = holder("a", "b", "c", "d")
    assert taken == "[True, True, True, True]"
    assert not locks.try_acquire("a")


def test_holding_waits_as_long_as_it_is_told(path, holder):
    process, _ = holder("a")
    locks = ArchiveLocks(path)
    with locks.hold("a", wait=0.1) as held:
        assert not held
    process.kill()
    with locks.hold("a", wait=30) as held:
        assert held
    assert locks.try_acquire("a")
    locks.release("a")
