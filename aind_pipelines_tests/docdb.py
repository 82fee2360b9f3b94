"""DocDB for tests, both ways in: the embedded server, the SSH bastion and the REST gateway, as child processes."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from aind_pipelines_tests.clients.servers import (
    DEAD_PORT,
    Bastion,
    DocDBServer,
    Gateway,
    child,
    free_port,
    wait_for_port,
)


@pytest.fixture(scope="session")
def docdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocDBServer]:
    """The embedded DocDB, with one user."""
    if importlib.util.find_spec("aind_pipelines.lab.docdb") is None:
        pytest.skip("the embedded DocDB is not part of this installation")
    home = tmp_path_factory.mktemp("docdb")
    server, log = DocDBServer(free_port()), home / "log"
    arguments = ("--host", "127.0.0.1", "--port", str(server.port), "--data", str(home))
    environment = {"DOC_DB_USERNAME": server.username, "DOC_DB_PASSWORD": server.password}
    with child("aind_pipelines.lab.docdb", *arguments, environment=environment, log=log) as process:
        wait_for_port(server.port, process, log)
        yield server


@pytest.fixture
def mongo(docdb: DocDBServer) -> Iterator[MongoClient[dict[str, Any]]]:
    """DocDB itself, its two generations of records empty."""
    with MongoClient(docdb.uri) as client:
        for database in ("metadata_index", "metadata_index_v2"):
            client[database].data_assets.delete_many({})
        yield client


@pytest.fixture
def bastion(docdb: DocDBServer, tmp_path: Path) -> Iterator[Bastion]:
    """The SSH bastion, which forwards to DocDB and to one port where nothing listens."""
    running = Bastion(tmp_path, allow=[docdb.port, DEAD_PORT])
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gateway(docdb: DocDBServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The REST gateway in front of it, which answers with pages of at most 10,000 bytes."""
    running, log = Gateway(free_port()), tmp_path_factory.mktemp("gateway") / "log"
    arguments = ("--host", "127.0.0.1", "--port", str(running.port), "--max-page-bytes", "10000")
    environment = {
        "DOCDB_GATEWAY_MONGO_URI": docdb.uri,
        "DOCDB_GATEWAY_KEYS": json.dumps({running.access_key: running.secret_key}),
    }
    with child("aind_pipelines.services.docdb_gateway", *arguments, environment=environment, log=log) as process:
        wait_for_port(running.port, process, log)
        yield running
