"""Child processes that cannot outlive the process that started them.

Three things end a child whose supervisor was killed with no chance to clean up:

1. on Linux the kernel sends the child its stop signal (``PR_SET_PDEATHSIG``);
2. everywhere, a small watchdog process notices that the supervisor's end of a pipe has closed, asks each child to
   stop and kills the process groups of those that do not;
3. if the watchdog was killed too, the next start ends what the state file records.

What a child has put into a session of its own, as Postgres does with its backends, only the service itself can
recognise: it says how, and each of the above that runs Python has it swept.

A process is recognised by its id together with its start time, so that a reused id is never mistaken for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Self

LOG_LIMIT = 5 * 2**20
_PR_SET_PDEATHSIG = 1
_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True) if _LINUX else None


def identity(pid: int) -> str | None:
    """What tells this process from every other that had or will have its id; None when it does not live.

    A zombie does not live: it holds neither ports nor files.
    """
    if _LINUX:
        try:
            # The second field is the command in parentheses and may itself contain spaces and parentheses.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in {"Z", "X"} else f"{boot}:{fields[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


@dataclass(frozen=True)
class Recorded:
    """A process as it is written down for whoever has to end it later.

    Attributes:
        pid: Its id, which is also its process group's.
        identity: See `identity`.
        stop_signal: What ends it cleanly.
    """

    pid: int
    identity: str
    stop_signal: int

    @classmethod
    def of(cls, pid: int, stop_signal: int) -> Self | None:
        """Write down a living process; None when it has ended already."""
        seen = identity(pid)
        return None if seen is None else cls(pid, seen, int(stop_signal))

    @property
    def alive(self) -> bool:
        """Whether this very process still lives."""
        return identity(self.pid) == self.identity

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send it a signal, unless it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)


def end(processes: Iterable[Recorded], grace: float = 1.5) -> list[Recorded]:
    """End processes that are no children of the caller: cleanly, and after `grace` seconds with their whole group.

    Returns:
        Those that live on nevertheless.
    """
    living = [process for process in processes if process.alive]
    for process in living:
        process.signal(process.stop_signal)
    if _wait_for(living, grace):
        for process in living:
            process.signal(signal.SIGKILL, group=True)
    return _wait_for(living, 2.0)


def kill_all(find: Callable[[], Sequence[Recorded]], seconds: float = 2.0) -> list[Recorded]:
    """Kill processes that are no children of the caller until no more are found.

    Args:
        find: Looks for them; one that lives may bring forth another until it is killed.
        seconds: How long to try.

    Returns:
        Those that live on nevertheless.
    """
    deadline = time.monotonic() + seconds
    while (found := list(find())) and time.monotonic() < deadline:
        for process in found:
            process.signal(signal.SIGKILL)
        _wait_for(found, deadline - time.monotonic())
    return found


def end_group(process: subprocess.Popen[bytes], stop_signal: int, grace: float) -> None:
    """End a child that leads a process group, and what it leaves behind there.

    Args:
        process: Started with ``process_group=0``; it may have ended already.
        stop_signal: What ends the group cleanly.
        grace: Seconds that the child gets for that; the others have two more.
    """
    if process.poll() is not None and identity(process.pid) is not None:
        return  # no number is given again while one of its group lives, so another process shows that none does
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses where only zombies are left
        os.killpg(process.pid, stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for(processes: Sequence[Recorded], seconds: float) -> list[Recorded]:
    deadline = time.monotonic() + seconds
    while (living := [process for process in processes if process.alive]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return living


def _die_with(parent: int, stop_signal: int) -> None:
    """In a new child: have the kernel send `stop_signal` when `parent` ends (Linux; elsewhere the watchdog does)."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def bound(argv: Sequence[str], stop_signal: int) -> list[str]:
    """The command that runs `argv` so that the kernel ends it with the calling process (Linux).

    For processes that may have threads, from which `spawn` must not be called. The program listens to SIGINT even
    where a shell started the caller in the background, with SIGINT ignored.

    Args:
        argv: Program, by its path, and arguments.
        stop_signal: What ends it cleanly.
    """
    return [sys.executable, "-m", __name__, str(os.getpid()), str(int(stop_signal)), *argv]


def _become(parent: str, stop_signal: str, *argv: str) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _die_with(int(parent), int(stop_signal))
    os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    stop_signal: int = signal.SIGTERM,
    demote: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own, its output in `log`, bound to this process's life.

    Call it only from a process without other threads.

    Args:
        argv: Program and arguments.
        environment: Its whole environment.
        folder: Its working directory.
        log: File to which its output is appended.
        stop_signal: What ends it cleanly.
        demote: Run in the child to give up rights before the program starts.

    Raises:
        OSError: The program cannot be started.
    """
    parent = os.getpid()

    def in_child() -> None:
        os.umask(0o077)
        if demote is not None:
            demote()
        # Last, because a change of credentials clears it.
        _die_with(parent, stop_signal)

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            process_group=0,
            preexec_fn=in_child,
        )
    finally:
        os.close(output)


def rotate(log: Path, limit: int = LOG_LIMIT) -> None:
    """Keep a log that a living process appends to below `limit` bytes, and its predecessor as ``NAME.log.1``.

    The content is copied and the file emptied, because the writer keeps the file open; lines written in between are
    lost.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def tail(log: Path, lines: int = 8, *, start: int = 0) -> str:
    """The last lines of a log, for a message to a person.

    Args:
        log: The file; a missing one is empty.
        lines: How many.
        start: Byte position before which nothing is of interest.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 8192))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


class Watchdog:
    """A process that ends the children it was told of when the process that made it has gone.

    Make it before any thread or event loop exists: it is a fork.

    Args:
        lock: Descriptor of the home's lock. The watchdog keeps it open, so that the home is free again only when no
            child lives.
        sweep: Ends what the children have left outside their process groups; called when they have ended.
    """

    def __init__(self, lock: int | None = None, sweep: Callable[[], object] = lambda: None) -> None:
        reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._watch(reader, {reader} | ({lock} if lock is not None else set()), sweep)
            finally:
                os._exit(0)
        os.close(reader)

    def tell(self, children: Mapping[str, Recorded]) -> None:
        """Replace what the watchdog knows. Without effect when somebody killed it."""
        line = json.dumps([asdict(child) for child in children.values()]) + "\n"
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, line.encode("ascii"))

    def dismiss(self) -> None:
        """End it; it ends what still lives of the children it knows."""
        os.close(self._writer)
        os.waitpid(self.pid, 0)

    @staticmethod
    def _watch(reader: int, keep: set[int], sweep: Callable[[], object]) -> None:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for descriptor in {int(entry.name) for entry in Path("/dev/fd").iterdir()} - keep - {0, 1, 2}:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is gone
                os.close(descriptor)
        children: list[Recorded] = []
        with os.fdopen(reader, "r", encoding="ascii") as lines:
            for line in lines:
                if line.endswith("\n"):
                    children = [Recorded(**child) for child in json.loads(line)]
        end(children)
        sweep()


if __name__ == "__main__":
    _become(*sys.argv[1:])
