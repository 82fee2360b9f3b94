"""Starting, asking and stopping a lab from another process: what the commands use.

A lab is its home; nothing here needs to be told more. Every function may be called at any time, also while another
process does the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aind_pipelines.lab import environment
from aind_pipelines.lab.home import HOST, OPTIONS, DocDB, HomeInUse, LabError, LabHome, Postgres
from aind_pipelines.lab.postgres import Cluster
from aind_pipelines.lab.processes import Recorded, tail
from aind_pipelines.lab.supervisor import Health, read_state, recorded_children, take_over

Progress = Callable[[str], None]
_START_LIMIT = 300.0
_STOP_LIMIT = 20.0
_ANSWER_LIMIT = 5.0
"""Seconds within which a supervisor answers what it need not wait for; a probe of its takes two."""
_SILENCE_LIMIT = 30.0
"""Seconds for which a supervisor that starts a lab may be silent: everything starts at once then, on few cores."""
_PROGRAM = (sys.executable, "-m", "aind_pipelines.lab.supervisor")


class NotUp(LabError):
    """No supervisor answers for this home."""


class Unresponsive(NotUp):
    """The supervisor lives, and does not answer.

    Attributes:
        pid: Its process.
    """

    def __init__(self, home: LabHome, pid: int) -> None:
        super().__init__(
            f"The supervisor of the lab in {home.root}, process {pid}, lives and does not answer: it hangs, is "
            f"suspended (kill -CONT {pid} resumes it), or the machine is overloaded. End the lab, the data stay: "
            f"aind-pipelines lab down --home {home.root}"
        )
        self.pid = pid


@dataclass(frozen=True)
class ServiceStatus:
    """One service, as it answered just now.

    Attributes:
        name: As people type it.
        url: Where it is reached, without credentials.
        external: Whether it is somebody else's.
        health: See `aind_pipelines.lab.supervisor.Health`.
        pid: Its process, None when it has none here.
        restarts: How often it was started again after a crash.
        since: When its health became what it is, ISO 8601 with zone; None when the lab is not up.
        reason: Why it is not ready; may have several lines.
    """

    name: str
    url: str
    external: bool
    health: str
    pid: int | None
    restarts: int
    since: str | None
    reason: str

    @property
    def healthy(self) -> bool:
        """Whether it is ready and answers."""
        return self.health == Health.READY


@dataclass(frozen=True)
class LabStatus:
    """A lab, as it answered just now.

    Attributes:
        home: Its folder.
        up: Whether its supervisor answers.
        ready: Whether every service has been ready once.
        pid: The supervisor's process.
        services: In the order of the table; of a lab that is not up, all stopped; of one whose supervisor does not
            answer, all unknown.
        reason: Why the supervisor does not answer although it lives; empty otherwise.
    """

    home: str
    up: bool
    ready: bool
    pid: int | None
    services: tuple[ServiceStatus, ...]
    reason: str = ""

    @property
    def healthy(self) -> bool:
        """Whether the lab is up and every service is ready and answers."""
        return self.up and self.ready and all(service.healthy for service in self.services)

    def as_json(self) -> dict[str, Any]:
        """For ``lab status --json``."""
        return asdict(self) | {"healthy": self.healthy}


def _ask(
    home: LabHome, command: str, service: str | None = None, limit: float = _ANSWER_LIMIT, **more: Any
) -> dict[str, Any]:
    """Send one command to the supervisor and return its answer.

    Raises:
        Unresponsive: The supervisor lives, and does not answer in time.
        NotUp: Nobody answers.
        LabError: The supervisor says no, or the home may not be looked into.
    """
    try:
        control = read_state(home)["control"]
        request = {"token": control["token"], "command": command, "service": service, **more}
        with socket.create_connection((HOST, control["port"]), timeout=limit) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("r", encoding="utf-8") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
    except PermissionError as error:
        raise home.explanation(error) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        owner, _ = recorded_children(home)
        if isinstance(error, TimeoutError) and owner is not None and owner.alive:
            raise Unresponsive(home, owner.pid) from None
        raise NotUp(
            f"The lab in {home.root} is not up ({error.__class__.__name__}). "
            f"Start it: aind-pipelines lab up --home {home.root}"
        ) from None
    if "error" in answer:
        raise LabError(answer["error"])
    return answer


_STAYS_DOWN = {"held": "is held down", "failed": "has failed"}
"""Health of a service that is not started again by itself, in words."""


def kept_down(home: LabHome, *names: str) -> str:
    """The first of these services that stays down until somebody starts it, with the command for that.

    Empty where none does, or nobody knows.
    """
    health = {one.name: one.health for one in status(home).services}
    for name in names:
        if (words := _STAYS_DOWN.get(health.get(name, ""))) is not None:
            return f"{name} {words}. Start it: aind-pipelines lab up {name} --home {shlex.quote(str(home.root))}"
    return ""


def status(home: LabHome) -> LabStatus:
    """How the lab is. Every service is asked; a home without a lab has none.

    Raises:
        LabError: The home is there and cannot be read.
    """
    try:
        answer = _ask(home, "status")
    except Unresponsive as error:
        return LabStatus(str(home.root), False, False, error.pid, _not_told(home, Health.UNKNOWN), error.message)
    except NotUp:
        return LabStatus(str(home.root), False, False, None, _not_told(home, Health.STOPPED))
    services = tuple(ServiceStatus(**row) for row in answer["services"])
    return LabStatus(str(home.root), True, answer["ready"] and not answer["stopping"], answer["pid"], services)


def _not_told(home: LabHome, health: Health) -> tuple[ServiceStatus, ...]:
    """The services of a lab whose supervisor says nothing about them."""
    if not home.exists:
        return ()
    home.reload()
    return tuple(
        ServiceStatus(name, home.url(name), name in home.external, health, None, 0, None, "") for name in home.ports
    )


def is_up(home: LabHome) -> bool:
    """Whether the lab's supervisor answers; its services may still be starting."""
    try:
        _ask(home, "ping")
    except NotUp:
        return False
    return True


def ensure_up(
    home: LabHome,
    *,
    docdb_uri: str | None = None,
    postgres_url: str | None = None,
    on_progress: Progress | None = None,
    program: Sequence[str] = _PROGRAM,
    while_used: bool = False,
) -> bool:
    """Return when the lab is up, having started it if need be. What the lab prints does not reach the caller.

    A service that is held down stays so; one that has failed is tried again.

    A process that has entered the lab's environment has the present one afterwards.

    Args:
        home: Its home; made when it is not there.
        docdb_uri: MongoDB URI of a DocDB to use instead of the lab's own.
        postgres_url: URL of a Postgres to use instead of the lab's own.
        on_progress: Told what happens, in lines for a person.
        program: What to start; tests have their own.
        while_used: The lab is there for this process: one that is started here, or that others have started so, ends
            when all of them have ended, however they do, or called `leave`. Otherwise it stays until `stop`.

    Returns:
        Whether it was started here.

    Raises:
        Unresponsive: Its supervisor lives, and does not answer.
        LabError: It did not come up, and is stopped again; it is up with other external services; or a connection
            string is malformed.
    """
    if docdb_uri:
        DocDB.from_uri(docdb_uri)
    if postgres_url:
        Postgres.from_url(postgres_url)
    tell = on_progress or (lambda _: None)
    deadline = time.monotonic() + _START_LIMIT
    options = {"docdb_uri": docdb_uri, "postgres_url": postgres_url, "user": _this_process() if while_used else None}
    while True:
        if _use(home, while_used):
            _wait_until_ready(home, deadline)
            _require_same_externals(home, docdb_uri, postgres_url)
            _try_failed_again(home, tell)
            _refresh(home)
            return False
        try:
            _start(home, options, tell, program)
        except _InUse as error:
            # Another process starts or ends the same lab just now.
            if time.monotonic() > deadline or not _owner_settles(home):
                raise LabError(str(error)) from None
        else:
            _refresh(home)
            return True


def _this_process() -> dict[str, Any]:
    own = Recorded.of(os.getpid(), signal.SIGTERM)
    assert own is not None
    return asdict(own)


def _use(home: LabHome, while_used: bool) -> bool:
    """Tell a lab that is up how long it is needed; False when none is, or it has just ended."""
    owner, _ = recorded_children(home)
    try:
        _ask(home, "join" if while_used else "keep", user=_this_process())
    except Unresponsive:
        raise
    except NotUp:
        return False
    except LabError:  # it is stopping
        return not _ends(owner)
    return True


def _ends(supervisor: Recorded | None) -> bool:
    """Wait for the end of a supervisor that was told to stop, when its children end before it, or was killed."""
    deadline = time.monotonic() + _STOP_LIMIT
    while supervisor is not None and supervisor.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def leave(home: LabHome) -> bool:
    """Stop the lab if it was up only for this process, and return when no process of it lives.

    Returns:
        Whether it has stopped; it stays up for others that use it, and when it was started to stay.

    Raises:
        LabError: Something lives on.
    """
    owner, _ = recorded_children(home)
    try:
        if not _ask(home, "leave", user=_this_process())["stopping"]:
            return False
    except NotUp:
        return False
    return _ends(owner) or stop(home)


def _refresh(home: LabHome) -> None:
    """Take over what a start has changed: ports may have moved, services become external."""
    home.reload()
    if environment.entered(home):
        environment.enter(home)


class _InUse(Exception):
    """Another supervisor has the home."""


def _owner_settles(home: LabHome, seconds: float = 15.0) -> bool:
    """Wait until the supervisor that has the home answers or is gone; False when it does neither."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_up(home):
            return True
        owner, _ = recorded_children(home)
        if owner is None or not owner.alive:
            return True
        time.sleep(0.1)
    return False


def _start(home: LabHome, options: dict[str, Any], tell: Progress, program: Sequence[str]) -> None:
    """Start a supervisor and follow its report until the lab is ready."""
    home.check()
    log_size = home.log("supervisor").stat().st_size if home.log("supervisor").exists() else 0
    starter = subprocess.Popen(
        [*program, "--home", str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment.inherited(),
        cwd=home.root,
        start_new_session=True,
        text=True,
    )
    with starter:  # it only forks the supervisor, which keeps the pipe
        assert starter.stdin is not None
        assert starter.stdout is not None
        pid: int | None = None
        try:
            with contextlib.suppress(BrokenPipeError):
                starter.stdin.write(json.dumps(options))
                starter.stdin.close()
            for line in _lines(starter.stdout.fileno(), _START_LIMIT):
                event = json.loads(line)
                pid = event.get("pid", pid)
                if _followed(event, tell):
                    return
        except BaseException:
            # Interrupted: closing the pipe makes the supervisor give up too, the signal makes it do so now.
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            raise
    end = tail(home.log("supervisor"), start=log_size)
    raise LabError(
        "The lab's supervisor ended before the lab was ready" + (f"; the end of its log:\n{end}" if end else ".")
    )


def _lines(descriptor: int, seconds: float) -> Iterator[str]:
    """Lines of a pipe as they come.

    Raises:
        LabError: None came for `seconds`.
    """
    rest = b""
    while True:
        if not select.select([descriptor], [], [], seconds)[0]:
            raise LabError(f"The lab's supervisor has said nothing for {seconds:g} s; it is told to stop.")
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines)


def _followed(event: dict[str, Any], tell: Progress) -> bool:
    """Pass an event on; True when it is the last."""
    match event:
        case {"event": "ready"}:
            return True
        case {"event": "failed", "reason": reason}:
            raise _InUse(reason) if event.get("in_use") else LabError(reason)
        case {"event": "note", "message": message}:
            tell(message)
        case {"event": "service", "name": name, "health": Health.READY, "seconds": seconds}:
            tell(f"{name} is ready ({seconds:.1f} s)")
    return False


def _wait_until_ready(home: LabHome, deadline: float) -> None:
    silent_until = time.monotonic() + _SILENCE_LIMIT
    while not (seen := status(home)).ready:
        if not seen.reason:
            silent_until = time.monotonic() + _SILENCE_LIMIT
        elif time.monotonic() > silent_until:
            raise LabError(seen.reason)
        if not seen.up and not seen.reason:
            raise LabError(f"The lab in {home.root} stopped while it was starting; see {home.log('supervisor')}.")
        if time.monotonic() > deadline:
            raise LabError(f"The lab in {home.root} does not become ready; see aind-pipelines lab status.")
        time.sleep(0.2)


def _require_same_externals(home: LabHome, docdb_uri: str | None, postgres_url: str | None) -> None:
    home.reload()
    for service, wanted in (("docdb", docdb_uri), ("postgres", postgres_url)):
        if wanted is not None and home.external.get(service) != wanted:
            raise LabError(
                f"The lab in {home.root} is up with another {service} than {OPTIONS[service]} names. "
                f"Stop it first: aind-pipelines lab down --home {home.root}"
            )


def _try_failed_again(home: LabHome, tell: Progress) -> None:
    for service in status(home).services:
        if service.health == Health.FAILED:
            tell(f"{service.name} had failed; it is started again")
            release(home, service.name)


def hold(home: LabHome, service: str) -> None:
    """Stop one service and keep it down until `release`.

    Raises:
        NotUp: The lab is not up.
        LabError: There is no such service of the lab's own.
    """
    _ask(home, "ping")  # a supervisor that hangs is found out at once; what follows takes its time
    _ask(home, "hold", service, limit=30.0)


def release(home: LabHome, service: str) -> None:
    """Start a service that is held down or has failed, and return when it is ready.

    Raises:
        NotUp: The lab is not up.
        LabError: It does not become ready, or is not the lab's own.
    """
    _ask(home, "ping")
    _ask(home, "release", service, limit=180.0)


def restart(home: LabHome, service: str) -> None:
    """Stop one service and start it again, e.g. because it reads its seed at start.

    Raises:
        NotUp: The lab is not up.
        LabError: It does not become ready, or is not the lab's own.
    """
    hold(home, service)
    release(home, service)


def stop(home: LabHome) -> bool:
    """Stop the lab, and return when no process of it lives. Does nothing when it is not up.

    Returns:
        Whether there was a lab to stop.

    Raises:
        LabError: Something lives on.
    """
    with home.explained():
        if not home.lock_file.exists():
            return False
    owner, children = recorded_children(home)
    living = [process for process in (owner, *children) if process is not None and process.alive]
    living += Cluster(home).processes()
    patience = _STOP_LIMIT
    try:
        _ask(home, "stop")
    except NotUp as error:
        if owner is not None:
            owner.signal(signal.SIGTERM)
        if isinstance(error, Unresponsive):
            patience = 2 * _ANSWER_LIMIT
    try:
        os.close(home.lock(patience))
    except HomeInUse:
        if owner is not None:
            owner.signal(signal.SIGKILL)
            _ends(owner)  # one that was suspended takes a moment to go
    lock = take_over(home)
    home.state_file.unlink(missing_ok=True)
    os.close(lock)
    return bool(living)
