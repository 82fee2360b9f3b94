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
ADMIN, READER = "admin", "reader"
"""A superuser, and a user without any right, with the same password."""
_ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def registry_environment(database: Path | str) -> dict[str, str]:
    """What a registry's process is given; `database` is SQLite's file or a URL."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "DJANGO_"))}
    return {
        **kept,
        "REGISTRY_DATABASE_URL": f"sqlite:///{database}" if isinstance(database, Path) else database,
        "REGISTRY_FAST_PASSWORDS": "1",
        "REGISTRY_USER_PASSWORD": PASSWORD,
    }


_PREPARE = f"""
from aind_pipelines.services.registry import server
server.SETTINGS_MODULE = "{{settings}}"
server.migrate()
server.create_user("{USER}", "{PASSWORD}")
server.create_user("{ADMIN}", "{PASSWORD}", superuser=True)
from django.contrib.auth.models import User
User.objects.create_user("{READER}", password="{PASSWORD}")
"""
OURS = "aind_pipelines.services.registry"
PLAIN = "aind_pipelines_tests.plain_registry"
"""django-neurobank without anything of ours beside it."""


def command(*arguments: str, program: str = OURS) -> list[str]:
    return [sys.executable, "-m", program, *arguments]


@dataclass
class RegistryProcess:
    url: str
    process: subprocess.Popen[bytes]
    database: Path | str

    def client(self, *, auth: bool = True) -> RegistryClient:
        return RegistryClient(self.url, (USER, PASSWORD) if auth else None, pause=0.01)


def start(database: Path | str, port: int, program: str = OURS) -> subprocess.Popen[bytes]:
    arguments = command("--port", str(port), program=program)
    process = subprocess.Popen(arguments, env=registry_environment(database), cwd=_ROOT)
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/neurobank/info/", timeout=5).raise_for_status()
            return process
        assert process.poll() is None, "the registry ended"
        assert time.monotonic() < deadline, "the registry did not become ready"
        time.sleep(0.05)


@contextlib.contextmanager
def running_registry(
    folder: Path, database: Path | str | None = None, program: str = OURS, *, empty: bool = False
) -> Iterator[RegistryProcess]:
    """A registry on `database` (default: an SQLite file in `folder`) with users and, unless `empty`, a data type."""
    database = database or folder / "registry.sqlite"
    settings = f"{program}.site" if program == OURS else program
    prepare = [sys.executable, "-c", _PREPARE.format(settings=settings)]
    subprocess.run(prepare, env=registry_environment(database), cwd=_ROOT, check=True)
    port = free_port()
    running = RegistryProcess(f"http://127.0.0.1:{port}/neurobank/", start(database, port, program), database)
    try:
        if not empty:
            with running.client() as client:
                client.add_dtype("session-raw", "application/x-session")
        yield running
    finally:  # a test may have put another process in the place of the first
        running.process.terminate()
        running.process.wait(10)


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
