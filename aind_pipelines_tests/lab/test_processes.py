from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aind_pipelines.lab import processes
from aind_pipelines.lab.processes import Recorded

SLEEP = [sys.executable, "-c", "import time; print('asleep', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('asleep', flush=True); time.sleep(600)",
]

SUPERVISOR = """
import os, signal, sys, time
from pathlib import Path
from aind_pipelines.lab import processes

folder, by_kernel, by_watchdog, deaf = Path(sys.argv[1]), *(value == "yes" for value in sys.argv[2:5])
if not by_kernel:
    processes._libc = None
watchdog = processes.Watchdog()
program = "import signal, time; signal.signal(15, signal.SIG_IGN if %r else signal.SIG_DFL); time.sleep(600)" % deaf
children = {}
for number in range(3):
    child = processes.spawn(
        [sys.executable, "-c", program], environment=dict(os.environ), folder=folder, log=folder / "log"
    )
    children[str(number)] = processes.Recorded.of(child.pid, signal.SIGTERM)
watchdog.tell(children)
time.sleep(0.5)
if not by_watchdog:
    os.kill(watchdog.pid, signal.SIGKILL)
print(*(f"{child.pid}|{child.identity}" for child in children.values()), flush=True)
time.sleep(600)
"""


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def sleeper(argv: list[str] = SLEEP) -> subprocess.Popen[str]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, process_group=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "asleep\n"
    return process


def test_a_living_process_has_an_identity_and_an_ended_or_unreaped_one_has_none() -> None:
    with sleeper() as process:
        first = processes.identity(process.pid)
        assert first is not None
        assert processes.identity(process.pid) == first
        process.kill()
        # Not reaped yet: a zombie.
        assert wait_until(lambda: processes.identity(process.pid) is None)
    assert processes.identity(process.pid) is None


def test_a_reused_id_is_not_mistaken_for_the_recorded_process() -> None:
    with sleeper() as process:
        stranger = Recorded(process.pid, "another start", signal.SIGTERM)
        assert processes.end([stranger]) == []
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("argv", [SLEEP, DEAF], ids=["listening", "deaf"])
def test_recorded_processes_are_ended_even_when_they_ignore_it(argv: list[str]) -> None:
    with sleeper(argv) as process:
        recorded = Recorded.of(process.pid, signal.SIGTERM)
        assert recorded is not None
        assert processes.end([recorded], grace=0.3) == []
        assert process.wait(5) == (-signal.SIGTERM if argv is SLEEP else -signal.SIGKILL)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel helps on Linux only")
def test_children_end_with_a_killed_supervisor_through_the_kernel_alone(tmp_path: Path) -> None:
    assert _survivors_of_a_killed_supervisor(tmp_path, by_kernel=True, by_watchdog=False, deaf=False) == []


def test_children_end_with_a_killed_supervisor_through_the_watchdog_alone(tmp_path: Path) -> None:
    assert _survivors_of_a_killed_supervisor(tmp_path, by_kernel=False, by_watchdog=True, deaf=False) == []


def test_deaf_children_end_with_a_killed_supervisor_too(tmp_path: Path) -> None:
    assert _survivors_of_a_killed_supervisor(tmp_path, by_kernel=True, by_watchdog=True, deaf=True) == []


def _survivors_of_a_killed_supervisor(folder: Path, *, by_kernel: bool, by_watchdog: bool, deaf: bool) -> list[int]:
    arguments = ["yes" if value else "no" for value in (by_kernel, by_watchdog, deaf)]
    environment = os.environ | {"PYTHONPATH": str(Path(processes.__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, folder, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as supervisor:
        assert supervisor.stdout is not None
        words = [word.split("|") for word in supervisor.stdout.readline().split()]
        children = [Recorded(int(pid), identity, signal.SIGTERM) for pid, identity in words]
        assert len(children) == 3
        assert all(child.alive for child in children)
        supervisor.kill()
    wait_until(lambda: not any(child.alive for child in children), 3.0)
    survivors = [child.pid for child in children if child.alive]
    processes.end(children, grace=0)
    return survivors


def test_a_child_inherits_neither_the_callers_standard_streams_nor_its_files(tmp_path: Path) -> None:
    held = os.open(tmp_path / "held", os.O_CREAT | os.O_RDWR)
    program = (
        "import os; print(sorted(os.readlink(f'/dev/fd/{n}') for n in (0, 1, 2)), flush=True);"
        "print([n for n in range(3, 64) if os.path.exists(f'/dev/fd/{n}')])"
    )
    child = processes.spawn(
        [sys.executable, "-c", program],
        environment={},
        folder=tmp_path,
        log=tmp_path / "log",
    )
    assert child.wait(10) == 0
    os.close(held)
    streams, others = (tmp_path / "log").read_text().splitlines()
    assert streams == str([os.devnull, str(tmp_path / "log"), str(tmp_path / "log")])
    assert others == "[]"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_is_rotated_under_a_writer_that_keeps_it_open(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 100)
        processes.rotate(log, limit=1000)
        assert log.stat().st_size == 400
        writer.write(b"old\n" * 200)
        processes.rotate(log, limit=1000)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == b"old\n" * 300
    processes.rotate(tmp_path / "missing")


def test_the_tail_of_a_log_is_its_last_lines_after_the_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n" + "".join(f"line {number}\n\n" for number in range(100)))
    assert processes.tail(log, 2) == "line 98\nline 99"
    assert processes.tail(log, 500, start=7).splitlines()[0] == "line 0"
    assert processes.tail(log, 5, start=10**6).splitlines()[-1] == "line 99"
    assert processes.tail(tmp_path / "missing") == ""


def test_a_dismissed_watchdog_ends_what_it_knows_and_itself() -> None:
    with sleeper() as process:
        watchdog = processes.Watchdog()
        recorded = Recorded.of(process.pid, signal.SIGTERM)
        assert recorded is not None
        watchdog.tell({"one": recorded})
        watchdog.dismiss()
        assert process.wait(5) == -signal.SIGTERM
    assert processes.identity(watchdog.pid) is None


def test_a_watchdog_keeps_only_what_it_was_given(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    watchdog = processes.Watchdog(lock)
    try:
        folder = Path(f"/proc/{watchdog.pid}/fd")
        if not folder.exists():
            pytest.skip("this system does not show open files")

        # The watchdog shares this process's image until it has closed them: they vanish while we look.
        def kept() -> set[str]:
            names = set()
            for entry in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    names.add(str(entry.readlink()))
            return {name for name in names if not name.startswith("pipe:")}

        assert wait_until(lambda: kept() == {os.devnull, str(tmp_path / "lock")})
    finally:
        watchdog.dismiss()
        os.close(lock)
        os.close(other)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel does this on Linux only")
def test_a_bound_program_ends_with_the_process_that_started_it() -> None:
    program = (
        "import signal, subprocess, sys; from aind_pipelines.lab.processes import bound;"
        "child = subprocess.Popen(bound(['/bin/sleep', '60'], signal.SIGINT)); print(child.pid, flush=True);"
        "child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(processes.__file__).parents[2])},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/comm").read_text().strip() != "sleep":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        parent.kill()
    while processes.identity(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("ended", [False, True])
def test_the_end_of_a_group_leaves_nothing_of_it_behind(ended: bool) -> None:
    leader = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
    )
    waiting = "" if ended else "time.sleep(600)\n"
    argv = [sys.executable, "-c", leader + waiting, *DEAF[1:]]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        child = Recorded.of(int(process.stdout.readline()), signal.SIGTERM)
        assert child is not None
        if ended:
            process.wait(10)
        processes.end_group(process, signal.SIGTERM, 5)
    assert process.returncode == (0 if ended else -signal.SIGTERM)
    assert wait_until(lambda: not child.alive)


def test_a_group_whose_number_another_process_has_is_not_signalled() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], process_group=0)
    ended.wait(10)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
    try:
        ended.pid = stranger.pid  # as if the number had been given again
        processes.end_group(ended, signal.SIGKILL, 1)
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.5)
    finally:
        stranger.kill()
        stranger.wait()
