"""The process that keeps a lab's services up.

One supervisor per home, single-threaded, holding the home's lock for as long as it or any of its children lives. It
starts the services in parallel, restarts those that crash on the same port, answers the ``lab`` command on a loopback
port (token in ``supervisor.json``), and stops everything on SIGINT, SIGTERM or SIGHUP.

Run as ``python -m aind_pipelines.lab.supervisor --home DIR`` it becomes a daemon: options come as one JSON object on
stdin, and progress goes as JSON lines to stdout until the lab is ready or has failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from aind_pipelines.lab import environment
from aind_pipelines.lab.home import HOST, HomeError, HomeInUse, LabError, LabHome, port_is_free, write_private
from aind_pipelines.lab.postgres import Cluster
from aind_pipelines.lab.probes import NotReady
from aind_pipelines.lab.processes import Recorded, Watchdog, end, rotate, spawn, tail
from aind_pipelines.lab.services import ServiceSpec, table

Table = Callable[[LabHome], Sequence[ServiceSpec]]
Report = Callable[[dict[str, Any]], None]

CRASH_WINDOW = 60.0
CRASH_LIMIT = 5
"""A service that crashes more often than this within `CRASH_WINDOW` seconds is left down."""
EXTERNAL_PATIENCE = 5.0
"""Seconds in which a server that is somebody else's must take a connection."""
_STOP_GRACE = 3.0
_PROBE_EVERY = 0.05
_PORT_PATIENCE = 0.5
_TICK = 1.0
_LOCK_WAIT = 6.0
_log = logging.getLogger(__name__)


class Health(StrEnum):
    """What a service is doing."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    UNRESPONSIVE = "unresponsive"
    HELD = "held"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"


class StepFailed(Exception):
    """A service did not start, or a step of its start failed; the message gives the reason and the log's end."""


class StartFailed(LabError):
    """The lab did not come up; everything is stopped again.

    Attributes:
        culprit: The service at fault.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service} {reason}")
        self.culprit = service


@dataclass
class _Service:
    """One row of the table with what became of it."""

    spec: ServiceSpec
    health: Health = Health.WAITING
    reason: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    restarts: int = 0
    was_ready: bool = False
    crashes: deque[float] = field(default_factory=deque)
    child: _Child | None = None
    care: asyncio.Task[None] | None = None


class _Child:
    """A started process whose end can be awaited."""

    def __init__(self, process: subprocess.Popen[bytes], stop_signal: int) -> None:
        self.process = process
        self.stop_signal = stop_signal
        self.record = Recorded.of(process.pid, stop_signal)
        self.ended = asyncio.Event()

    def look(self) -> None:
        """Reap it if it has ended."""
        if self.process.poll() is not None:
            self.ended.set()

    @property
    def ending(self) -> str:
        """How it ended, for a person."""
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class Supervisor:
    """Keeps the services of one home up. Use it inside one event loop of the main thread, once.

    Args:
        home: An initialised home whose lock this process holds.
        services: The table.
        watchdog: Ends the children when this process is killed.
        report: Told what happens, one mapping per event.
        user: The process for which alone the lab is there: it ends with it, and with those that joined it. None
            keeps it up until told to stop.
    """

    def __init__(
        self,
        home: LabHome,
        services: Sequence[ServiceSpec],
        *,
        watchdog: Watchdog | None = None,
        report: Report = lambda _: None,
        user: Recorded | None = None,
    ) -> None:
        self.home = home
        self._services = {spec.name: _Service(spec) for spec in services}
        self._place = home.place
        self._watchdog = watchdog
        self._report = report
        self._users = None if user is None else [user]
        self._children: dict[str, _Child] = {}
        self._changed = asyncio.Event()
        self._stop_reason: str | None = None
        self._token = secrets.token_urlsafe(24)
        self._control_port = 0
        self._started = time.monotonic()
        self._ready = False

    # Life as a whole.

    async def run(self) -> str:
        """Start everything, keep it up until told to stop, and stop it.

        Returns:
            Why it stopped.

        Raises:
            StartFailed: A service did not become ready; the others are stopped again.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._look_at_children)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.stop, f"received {number.name}")
        control = await asyncio.start_server(self._answer, HOST, 0, limit=65536)
        self._control_port = control.sockets[0].getsockname()[1]
        housekeeping = asyncio.create_task(self._keep_house())
        try:
            self._write_state()
            for service in self._services.values():
                self._start(service)
            await self._until(lambda: self._stop_reason is not None or self._failed() or self._all_ready())
            if self._stop_reason is None and (failed := self._failed()):
                raise StartFailed(failed.spec.name, failed.reason)
            if self._stop_reason is None:
                self._ready = True
                self._tell({"event": "ready", "seconds": round(time.monotonic() - self._started, 2)})
            await self._until(lambda: self._stop_reason is not None)
            return self._stop_reason or ""
        finally:
            housekeeping.cancel()
            await self._stop_all()
            for key in list(self._children):
                self._bury(key)
            control.close()

    def stop(self, reason: str) -> None:
        """Make `run` stop everything and return."""
        if self._stop_reason is None:
            self._stop_reason = reason
            _log.info("stopping: %s", reason)
            self._notify()

    def _failed(self) -> _Service | None:
        return next((service for service in self._services.values() if service.health is Health.FAILED), None)

    def _all_ready(self) -> bool:
        return all(service.health is Health.READY for service in self._services.values())

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._changed.wait()

    def _tell(self, event: dict[str, Any]) -> None:
        try:
            self._report(event)
        except BrokenPipeError:
            self.stop("whoever started the lab has gone before it was ready")

    def _set(self, service: _Service, health: Health, reason: str = "") -> None:
        service.health, service.reason, service.since = health, reason, datetime.now(UTC)
        _log.info("%s is %s%s", service.spec.name, health, f": {reason}" if reason else "")
        self._tell(
            {
                "event": "service",
                "name": service.spec.name,
                "health": health,
                "reason": reason,
                "seconds": round(time.monotonic() - self._started, 2),
            }
        )
        self._notify()

    async def _stop_all(self) -> None:
        """Stop the services, each before those it depends on."""
        left = dict(self._services)
        while left:
            needed = {name for service in left.values() for name in service.spec.depends_on}
            layer = [service for name, service in left.items() if name not in needed] or list(left.values())
            await asyncio.gather(*(self._retire(service, Health.STOPPED) for service in layer))
            left = {name: service for name, service in left.items() if service not in layer}

    # One service.

    def _start(self, service: _Service) -> None:
        """Care for a service from now on."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s", service.spec.name, exc_info=error)
                self._set(service, Health.FAILED, f"cannot be supervised: {error!r}")

        service.care = asyncio.create_task(self._care(service))
        service.care.add_done_callback(ended)

    async def _care(self, service: _Service) -> None:
        """Start a service, and start it again whenever it crashes, until this task is cancelled or it fails."""
        spec = service.spec
        try:
            if not service.was_ready:
                await self._until(lambda: all(self._services[name].was_ready for name in spec.depends_on))
            crashed = False
            while True:
                try:
                    await self._launch(service, Health.RESTARTING if crashed else Health.STARTING)
                    await self._stays_up(service)
                except LabError as error:
                    reason = error.message
                except (StepFailed, OSError) as error:
                    reason = str(error)
                await self._end_child(spec.name)
                if service.health not in {Health.READY, Health.RESTARTING}:
                    self._set(service, Health.FAILED, reason)
                    return
                crashed = True
                pause = self._after_crash(service)
                if pause is None:
                    self._set(
                        service, Health.FAILED, f"crashed {len(service.crashes)} times within a minute; {reason}"
                    )
                    return
                service.restarts += 1
                self._set(service, Health.RESTARTING, reason)
                await asyncio.sleep(pause)
        finally:
            await self._end_child(spec.name)

    @staticmethod
    def _after_crash(service: _Service) -> float | None:
        """Seconds to wait before the next start, or None when there have been too many crashes."""
        now = time.monotonic()
        service.crashes.append(now)
        while service.crashes[0] < now - CRASH_WINDOW:
            service.crashes.popleft()
        count = len(service.crashes)
        return None if count > CRASH_LIMIT else 0.0 if count == 1 else 0.25 * 2.0 ** (count - 1)

    async def _launch(self, service: _Service, health: Health) -> None:
        """Start the program and return when it is ready.

        Raises:
            StepFailed: It ended, or was not ready in time.
        """
        spec = service.spec
        self._set(service, health)
        deadline = time.monotonic() + spec.deadline
        log = self.home.log(spec.name)
        rotate(log)
        log_start = log.stat().st_size if log.exists() else 0

        async def run_step(
            argv: list[str],
            *,
            extra: Mapping[str, str] | None = None,
            replaced: Mapping[str, str] | None = None,
            demote: Callable[[], None] | None = None,
        ) -> None:
            child = self._spawn(_step_of(spec.name), spec.name, argv, extra, replaced, signal.SIGTERM, demote)
            try:
                await asyncio.wait_for(child.ended.wait(), max(deadline - time.monotonic(), 1.0))
            except TimeoutError:
                raise StepFailed(f"{_short(argv)} took longer than {spec.deadline:g} s") from None
            finally:
                await self._end_child(_step_of(spec.name))
            if child.process.returncode != 0:
                raise StepFailed(f"{_short(argv)} {child.ending}{_quoted(tail(log, start=log_start))}")

        if spec.before is not None:
            await spec.before(run_step)
        if not spec.external:
            service.child = self._spawn(
                spec.name,
                spec.name,
                spec.argv,
                spec.environment,
                spec.whole_environment,
                spec.stop_signal,
                spec.demote,
            )
        if spec.external:
            await self._answers(spec)
        else:
            await self._becomes_ready(service, deadline, log_start)
        if spec.after is not None and not service.was_ready:
            await spec.after(run_step)
        service.was_ready = True
        self._set(service, Health.READY)

    @staticmethod
    async def _answers(spec: ServiceSpec) -> None:
        """Wait for a server that is somebody else's.

        Raises:
            StepFailed: Nobody answers there.
        """
        deadline = time.monotonic() + EXTERNAL_PATIENCE
        while True:
            try:
                await spec.probe()
            except NotReady as error:
                if time.monotonic() > deadline:
                    raise StepFailed(
                        f"at {spec.url}, which {spec.option} names, cannot be reached: {error}. "
                        f"Check {spec.option}, and that the server is up and can be reached from here."
                    ) from None
            else:
                return
            await asyncio.sleep(_PROBE_EVERY * 4)

    async def _becomes_ready(self, service: _Service, deadline: float, log_start: int) -> None:
        spec, child = service.spec, service.child
        assert child is not None
        log = self.home.log(spec.name)
        while True:
            if child.ended.is_set():
                raise StepFailed(await self._why_ended(service, child, " before it was ready", log_start))
            try:
                await spec.probe()
            except NotReady as error:
                if time.monotonic() > deadline:
                    raise StepFailed(
                        f"not ready within {spec.deadline:g} s ({error}){_quoted(tail(log, start=log_start))}"
                    ) from None
            else:
                if not child.ended.is_set():
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.ended.wait(), _PROBE_EVERY)

    async def _stays_up(self, service: _Service) -> None:
        """Wait for the end of the program, which is always a crash: a wanted end cancels this.

        Raises:
            StepFailed: It has ended.
        """
        if service.child is None:
            await asyncio.Event().wait()
        else:
            await service.child.ended.wait()
            raise StepFailed(await self._why_ended(service, service.child))

    async def _why_ended(self, service: _Service, child: _Child, when: str = "", log_start: int = 0) -> str:
        """What a program that has ended died of: the loss of its port, or what its log ends with.

        Its own advice, for those who run it alone, is to choose another port, which nobody can do in a lab that is up.
        """
        spec, root = service.spec, self.home.root
        await self._end_child(spec.name)
        if service.was_ready and spec.port is not None and await _stays_taken(spec.port):
            return (
                f"{child.ending}{when}; port {spec.port} is taken by another program. When that has ended: "
                f"aind-pipelines lab up {spec.name} --home {root}. "
                f"Or move {spec.name} to another port: aind-pipelines lab down --home {root}, "
                f"then aind-pipelines lab up --home {root}."
            )
        return f"{child.ending}{when}{_quoted(tail(self.home.log(spec.name), start=log_start))}"

    async def _retire(self, service: _Service, health: Health) -> None:
        """Stop a service and stop caring for it."""
        if service.care is not None:
            service.care.cancel()
            await asyncio.gather(service.care, return_exceptions=True)
            service.care = None
        for key in (_step_of(service.spec.name), service.spec.name):
            await self._end_child(key)
        self._set(service, health)

    # Processes.

    def _spawn(
        self,
        key: str,
        service: str,
        argv: Sequence[str],
        extra: Mapping[str, str] | None,
        replaced: Mapping[str, str] | None,
        stop_signal: int,
        demote: Callable[[], None] | None,
    ) -> _Child:
        process = spawn(
            argv,
            environment=replaced if replaced is not None else environment.isolated(self.home) | dict(extra or {}),
            folder=self.home.root,
            log=self.home.log(service),
            stop_signal=stop_signal,
            demote=demote,
        )
        child = _Child(process, stop_signal)
        self._children[key] = child
        self._write_state()
        return child

    def _look_at_children(self) -> None:
        for child in self._children.values():
            child.look()

    async def _end_child(self, key: str) -> None:
        """Make sure a child and its process group are gone: cleanly if it listens, by force after a few seconds."""
        child = self._children.get(key)
        if child is None:
            return
        if child.process.poll() is None:
            child.process.send_signal(child.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.ended.wait(), _STOP_GRACE)
        self._bury(key)

    def _bury(self, key: str) -> None:
        """End what is left of a child and its process group by force, and forget it."""
        child = self._children.pop(key)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.ended.set()
        service = self._services.get(key)
        if service is not None and service.spec.sweep is not None:
            service.spec.sweep()
        self._write_state()

    def _write_state(self) -> None:
        """Write down who lives, for the watchdog and for the next start."""
        children = {name: child.record for name, child in self._children.items() if child.record is not None}
        if self._watchdog is not None:
            self._watchdog.tell(children)
        if self.home.place == self._place:
            _write_state(self.home, {"port": self._control_port, "token": self._token}, children)

    def _look_at_home(self) -> None:
        """Stop when the home is no longer where it was; what has taken its place is another lab's."""
        if self.home.place != self._place or not self.home.exists:
            self.stop(f"{self.home.root} has been removed, or moved")

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._look_at_children()
            self._look_at_home()
            if self._users is not None and not any(user.alive for user in self._users):
                self.stop("nobody who used it lives any more")
            for log in self.home.logs_dir.glob("*.log"):
                try:
                    rotate(log)
                except OSError as error:
                    _log.warning("%s cannot be rotated: %s", log, error)

    # Talking to the lab command.

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                line = await reader.readline()
            try:
                request = json.loads(line)
                known = hmac.compare_digest(str(request["token"]).encode(), self._token.encode())
            except (ValueError, KeyError, TypeError):
                known = False
            answer = await self._obey(request) if known else {"error": "not allowed"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, OSError, ValueError) as error:
            _log.warning("a control connection broke: %r", error)
        finally:
            writer.close()

    async def _obey(self, request: Mapping[str, Any]) -> dict[str, Any]:
        command, name = request.get("command"), request.get("service")
        self._look_at_home()
        if command == "stop":
            self.stop("told to")
            return {}
        if command == "ping":
            return {}
        if command == "status":
            return await self._status()
        if command in {"keep", "join", "leave"}:
            return self._note_user(command, request.get("user"))
        service = self._services.get(str(name))
        if service is None or command not in {"hold", "release"}:
            return {"error": f"there is no service {name!r} and command {command!r}"}
        if service.spec.external:
            return {"error": f"{name} is not the lab's own; it is at {service.spec.url}"}
        if not self._ready:
            return {"error": "the lab is still starting; try again when it is up"}
        if command == "hold":
            await self._retire(service, Health.HELD)
            return {}
        if service.health in {Health.HELD, Health.FAILED}:
            if service.care is not None:
                await asyncio.gather(service.care, return_exceptions=True)
            service.crashes.clear()
            service.health = Health.WAITING
            self._start(service)
        settled = {Health.READY, Health.FAILED, Health.HELD, Health.STOPPED}
        await self._until(lambda: service.health in settled)
        if service.health is not Health.READY:
            return {"error": f"{name} is {service.health}: {service.reason}"}
        return {}

    def _note_user(self, command: str, user: Any) -> dict[str, Any]:
        """Stay up until told to stop, or for one process more or less; without effect on a lab that stays anyway."""
        stopping = self._stop_reason is not None
        if command == "leave":
            if self._users is not None and not stopping:
                self._users = [one for one in self._users if asdict(one) != user and one.alive]
                if not self._users:
                    self.stop("the last that used it has left")
            return {"stopping": self._stop_reason is not None}
        if stopping:
            return {"error": "the lab is just stopping; try again"}
        if command == "keep":
            self._users = None
        elif self._users is not None:
            self._users.append(Recorded(**user))
        return {}

    async def _status(self) -> dict[str, Any]:
        rows = await asyncio.gather(*(self._row(service) for service in self._services.values()))
        return {
            "pid": os.getpid(),
            "ready": self._ready,
            "stopping": self._stop_reason is not None,
            "services": rows,
        }

    async def _row(self, service: _Service) -> dict[str, Any]:
        health, reason = service.health, service.reason
        if health is Health.READY:
            try:
                await service.spec.probe()
            except NotReady as error:
                health, reason = Health.UNRESPONSIVE, str(error)
        child = self._children.get(service.spec.name)
        return {
            "name": service.spec.name,
            "url": service.spec.url,
            "external": service.spec.external,
            "health": health,
            "pid": child.process.pid if child is not None and child.process.returncode is None else None,
            "restarts": service.restarts,
            "since": service.since.isoformat(timespec="seconds"),
            "reason": reason,
        }


async def _stays_taken(port: int) -> bool:
    """Whether another program has a port; what is left of a service that was ended by force gives it free at once."""
    deadline = time.monotonic() + _PORT_PATIENCE
    while not port_is_free(port):
        if time.monotonic() > deadline:
            return True
        await asyncio.sleep(_PROBE_EVERY)
    return False


def _step_of(service: str) -> str:
    """The name under which a service's helper program is recorded."""
    return f"{service} step"


def _short(argv: Sequence[str]) -> str:
    """The part of a command that a person recognises."""
    if argv[1:2] != ["-m"]:
        return Path(argv[0]).name
    return " ".join(word for word in argv[2:4] if not word.startswith("-"))


def _quoted(lines: str) -> str:
    return f"; the end of its log:\n{lines}" if lines else ""


def read_state(home: LabHome) -> dict[str, Any]:
    """What `_write_state` has written down.

    Raises:
        FileNotFoundError: Nothing, or the file came with a copy of another home and is about that one's processes.
        OSError: It cannot be read.
        ValueError: It is damaged; so too `KeyError` and `TypeError`.
    """
    state: dict[str, Any] = json.loads(home.state_file.read_text(encoding="utf-8"))
    if state["home"] != home.place:
        raise FileNotFoundError(f"{home.state_file} is that of another folder")
    return state


def recorded_children(home: LabHome) -> tuple[Recorded | None, list[Recorded]]:
    """The supervisor and the children that the state file names; they may have ended long ago."""
    try:
        state = read_state(home)
        return Recorded(**state["supervisor"]), [Recorded(**child) for child in state["children"].values()]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None, []
    except (ValueError, KeyError, TypeError, AttributeError):
        _log.warning("%s is not readable and is ignored", home.state_file)
        return None, []


def take_over(home: LabHome) -> int:
    """Take the home's lock and end what an earlier supervisor left behind.

    Returns:
        The lock's descriptor.

    Raises:
        HomeInUse: A supervisor lives.
        HomeError: The home cannot be used, or a left-over process cannot be ended.
    """
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            lock = home.lock()
            break
        except HomeInUse:
            owner, _ = recorded_children(home)
            # With the supervisor gone, only its watchdog can hold the lock, and not for long.
            if (owner is not None and owner.alive) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    try:
        _end_left_over(home)
        _write_state(home, {}, {})
    except BaseException:
        os.close(lock)
        raise
    return lock


def _write_state(home: LabHome, control: Mapping[str, Any], children: Mapping[str, Recorded]) -> None:
    """Write down this process as the home's supervisor, how it is spoken to, and its children."""
    own = Recorded.of(os.getpid(), signal.SIGTERM)
    assert own is not None
    state = {
        "home": home.place,
        "supervisor": asdict(own),
        "control": control,
        "children": {name: asdict(record) for name, record in children.items()},
    }
    try:
        write_private(home.state_file, json.dumps(state) + "\n")
    except OSError as error:
        # The services can go on, and the watchdog knows; only the next start would have to do without.
        _log.warning("%s cannot be written: %s", home.state_file, error)


def _end_left_over(home: LabHome) -> None:
    _, children = recorded_children(home)
    if survivors := end(children) + Cluster(home).end_orphans():
        raise HomeError(
            f"Process {survivors[0].pid} of an earlier lab in {home.root} cannot be ended. End it yourself."
        )
    home.state_file.unlink(missing_ok=True)


def supervise(
    home: LabHome,
    *,
    docdb_uri: str | None = None,
    postgres_url: str | None = None,
    user: Mapping[str, Any] | None = None,
    services: Table = table,
    report: Report = lambda _: None,
) -> str:
    """Run a lab in this process until it is told to stop. The process must have no other threads.

    Args:
        home: Its home; made when it is not there.
        docdb_uri: MongoDB URI of a DocDB to use instead of the lab's own.
        postgres_url: URL of a Postgres to use instead of the lab's own.
        user: `Recorded` as a mapping: the process with which the lab is to end; None keeps it up until told to stop.
        services: Gives the table of services for an initialised home.
        report: Told what happens: mappings with ``event`` = ``note``, ``service`` or ``ready``.

    Returns:
        Why it stopped.

    Raises:
        HomeInUse: Another supervisor has this home.
        HomeError: The home cannot be used.
        StartFailed: A service did not become ready; everything is stopped again.
    """
    home.check()
    lock, place = take_over(home), home.place
    try:
        attempts = 3
        while True:
            attempts -= 1
            for note in home.initialise(docdb_uri=docdb_uri, postgres_url=postgres_url):
                report({"event": "note", "message": note})
            specs = services(home)
            watchdog = Watchdog(lock, Cluster(home).end_orphans)
            try:
                return asyncio.run(_run(home, specs, watchdog, report, Recorded(**user) if user else None))
            except StartFailed as error:
                port = next((spec.port for spec in specs if spec.name == error.culprit), None)
                if attempts == 0 or port is None or port_is_free(port):
                    raise
                # Somebody took the port between the choice and the start.
                report({"event": "note", "message": f"{error.culprit} lost its port {port} to another program"})
            finally:
                watchdog.dismiss()
    finally:
        if home.place == place:
            home.state_file.unlink(missing_ok=True)
        os.close(lock)


async def _run(
    home: LabHome, specs: Sequence[ServiceSpec], watchdog: Watchdog, report: Report, user: Recorded | None
) -> str:
    return await Supervisor(home, specs, watchdog=watchdog, report=report, user=user).run()


def log_to(stream: Any) -> None:
    """Write this process's log lines to a text stream."""
    logging.basicConfig(stream=stream, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def become_daemon(home: LabHome) -> int:
    """Leave the caller's session and standard streams; the caller's process ends at once with code 0.

    Returns:
        Descriptor of what was stdout: a pipe that children do not inherit.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what is in the background with SIGINT ignored
    report = os.dup(1)
    home.logs_dir.mkdir(parents=True, exist_ok=True)
    rotate(home.log("supervisor"))
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(home.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(target, standard)
    os.chdir(home.root)
    os.umask(0o077)
    return report


def main(arguments: list[str] | None = None, services: Table = table) -> int:
    """Entry point of ``python -m aind_pipelines.lab.supervisor``.

    The last line on stdout is the event ``ready`` or ``failed`` (with ``reason``, and ``in_use`` when another
    supervisor has the home). A caller that closes its end earlier abandons the start.
    """
    parser = argparse.ArgumentParser(prog="supervisor", description="keep the services of a lab up, as a daemon")
    parser.add_argument("--home", required=True, help="the lab's home")
    home = LabHome(parser.parse_args(arguments).home)
    options = json.loads(sys.stdin.read() or "{}")

    def write(descriptor: int, event: Mapping[str, Any]) -> None:
        os.write(descriptor, json.dumps(event).encode() + b"\n")

    try:
        home.check()
        descriptor = become_daemon(home)
    except LabError as error:
        write(1, {"event": "failed", "reason": error.message})
        return 1
    log_to(sys.stderr)
    open_report: list[int] = [descriptor]

    def report(event: dict[str, Any]) -> None:
        if open_report:
            write(open_report[0], event)
            if event["event"] in {"ready", "failed"}:
                os.close(open_report.pop())

    report({"event": "started", "pid": os.getpid()})
    try:
        supervise(home, **options, services=services, report=report)
    except LabError as error:
        _log.error("%s", error)
        with contextlib.suppress(BrokenPipeError):
            report({"event": "failed", "reason": error.message, "in_use": isinstance(error, HomeInUse)})
        return 1
    except BrokenPipeError:
        _log.info("whoever started the lab has gone")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
