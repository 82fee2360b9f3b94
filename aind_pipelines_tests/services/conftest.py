"""Services that several tests stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aind_pipelines_tests.services.processes import DOCDB_PASSWORD, DOCDB_USER, accepts, free_port, module, wait_for


@pytest.fixture(scope="module")
def docdb_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The embedded DocDB, with one user."""
    port = free_port()
    data: Path = tmp_path_factory.mktemp("docdb")
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--data", str(data)]
    env = {"DOC_DB_USERNAME": DOCDB_USER, "DOC_DB_PASSWORD": DOCDB_PASSWORD}
    with module("aind_pipelines.lab.docdb", *arguments, env=env) as child:
        wait_for(lambda: accepts(port), "the start of DocDB", child)
        yield port
