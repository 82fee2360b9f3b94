"""A real registry in a child process on a free port, and what tests need around it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from aind_pipelines.clients.registry import RegistryClient

USER, PASSWORD = "depositor", "pass:word"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def registry_environment(database: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "DJANGO_"))}
    return {
        **kept,
        "REGISTRY_DATABASE_URL": f"sqlite:///{database}",
        "REGISTRY_FAST_PASSWORDS": "1",
        "REGISTRY_USER_PASSWORD": PASSWORD,
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aind_pipelines.services.registry", *arguments]


@dataclass
class RegistryProcess:
    url: str
    process: subprocess.Popen[bytes]
    database: Path

    def client(self, *, auth: bool = True) -> RegistryClient:
        return RegistryClient(self.url, (USER, PASSWORD) if auth else None, pause=0.01)


def start(database: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command("--port", str(port)), env=registry_environment(database))
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/neurobank/info/", timeout=5).raise_for_status()
            return process
        assert process.poll() is None, "the registry ended"
        assert time.monotonic() < deadline, "the registry did not become ready"
        time.sleep(0.05)


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[RegistryProcess]:
    database = folder / "registry.sqlite"
    subprocess.run(command("migrate"), env=registry_environment(database), check=True)
    subprocess.run(command("create-user", USER), env=registry_environment(database), check=True)
    port = free_port()
    process = start(database, port)
    try:
        running = RegistryProcess(f"http://127.0.0.1:{port}/neurobank/", process, database)
        with running.client() as client:
            client.add_dtype("session-raw", "application/x-session")
        yield running
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def registry_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry with a depositor and one data type."""
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - shown, then told by the exit code
            sys.stderr.write(f"child: {type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
