"""A DocDB server as a child process, for tests that talk to it over TCP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

USERNAME = "doc_db_username"
PASSWORD = "a password, with = and ,"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DocDB:
    """One server process on its own port and data directory."""

    username = USERNAME

    def __init__(self, data: Path, port: int | None = None, password: str = PASSWORD) -> None:
        self.data = data
        self.port = port or free_port()
        self.password = password
        self.clients: list[pymongo.MongoClient[dict[str, Any]]] = []
        self.start()

    def start(self) -> None:
        self.process = launch(self.data, self.port, self.password)
        wait_for_port(self.port, self.process)

    def client(self, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        arguments: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "username": USERNAME,
            "password": self.password,
            "authSource": "admin",
            "directConnection": True,
            "retryWrites": False,
            "serverSelectionTimeoutMS": 5000,
            **options,
        }
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(**arguments)
        self.clients.append(client)
        return client

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def second(self, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Start another process that is expected to end at once; `changes` replace its port or data."""
        process = launch(
            changes.get("data", self.data),
            changes.get("port", free_port()),
            stderr=subprocess.PIPE,
        )
        _, stderr = process.communicate(timeout=15)
        return subprocess.CompletedProcess(process.args, process.returncode, stderr=stderr.decode())

    def stop(self) -> int:
        for client in self.clients:
            client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def launch(data: Path, port: int, password: str = PASSWORD, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DOC_DB_USERNAME": USERNAME, "DOC_DB_PASSWORD": password}
    command = [sys.executable, "-m", "aind_pipelines.lab.docdb", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen([*command, "--data", str(data)], env=environment, **options)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the server did not open its port")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocDB]:
    """One server for a module's tests, each of which uses a collection of its own."""
    running = DocDB(tmp_path_factory.mktemp("docdb"))
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[DocDB]:
    """A server that a test may kill."""
    running = DocDB(tmp_path / "data")
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def collection(server: DocDB, request: pytest.FixtureRequest) -> Any:
    """An empty collection of the test's own."""
    name = f"c{abs(hash(request.node.nodeid))}"
    return server.client().tests[name]
