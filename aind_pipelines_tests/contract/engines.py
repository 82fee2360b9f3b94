"""Putting a case to a server, and starting the servers."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import BulkWriteError, OperationFailure

from aind_pipelines_tests.contract.cases import Case

ROOT = Path(__file__).parents[2]
FERRETDB = ROOT / ".peers" / "ferretdb" / "bin" / "ferretdb"
MINGO = ROOT / ".peers" / "mingo"

Collection = Any


def answer(collection: Collection, case: Case) -> Any:
    """What a server answers to a case, in an empty collection."""
    for index in case.indexes:
        collection.create_index(**index)
    if case.documents:
        collection.insert_many(case.documents)
    operation = case.operation
    if "count" in operation:
        return collection.count_documents(operation["count"])
    if "distinct" in operation:
        return collection.distinct(operation["distinct"], operation.get("filter"))
    if "aggregate" in operation:
        return list(collection.aggregate(operation["aggregate"]))
    if "find" in operation:
        cursor = collection.find(operation["find"], operation.get("projection"))
        if "sort" in operation:
            cursor = cursor.sort([(name, direction) for name, direction in operation["sort"]])
        return list(cursor.skip(operation.get("skip", 0)).limit(operation.get("limit", 0)))
    try:
        for method, *arguments in operation["write"]:
            if method == "bulk_write":
                arguments = [[getattr(pymongo, kind)(*rest) for kind, *rest in arguments[0]]]
            getattr(collection, method)(*arguments)
    except (OperationFailure, BulkWriteError) as error:
        return {"error": error.code}
    return list(collection.find().sort("_id", 1))


def comparable(case: Case, answered: Any) -> str:
    """An answer as text: field order aside (projections differ in it), 1 and 1.0 and True told apart as JSON does."""
    if isinstance(answered, list) and not case.ordered:
        answered = sorted(answered, key=_text)
    return _text(answered)


def to_json(value: Any) -> str:
    return json.dumps(value, default=_date)


def _text(value: Any) -> str:
    return json.dumps(value, default=_date, sort_keys=True)


def _date(value: Any) -> dict[str, str]:
    assert isinstance(value, dt.datetime), repr(value)
    return {"$date": f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z"}


def mingo_answers(cases: list[Case]) -> list[dict[str, Any]]:
    """What mingo answers: ``{"answer": ...}`` or ``{"refused": message}`` for each case."""
    script = Path(__file__).with_name("mingo") / "answer.cjs"
    asked = [{"documents": case.documents, "operation": case.operation} for case in cases]
    result = subprocess.run(
        ["node", str(script), str(MINGO)], input=to_json(asked), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    answers: list[dict[str, Any]] = json.loads(result.stdout)
    return answers


@contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """The lab's DocDB; gives its URI."""
    port = _free_port()
    command = [sys.executable, "-m", "aind_pipelines.lab.docdb", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "DOC_DB_USERNAME": "contract", "DOC_DB_PASSWORD": "contract"}
    with _running([*command, "--data", str(folder)], port, folder / "log", environment):
        yield f"mongodb://contract:contract@127.0.0.1:{port}/?authSource=admin&directConnection=true&retryWrites=false"


@contextmanager
def ferretdb(folder: Path) -> Iterator[str]:
    """FerretDB with its SQLite backend, on loopback only, without telemetry; gives its URI."""
    port = _free_port()
    data = folder / "data"
    data.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DO_NOT_TRACK": "1"}
    with _running([str(FERRETDB), f"127.0.0.1:{port}", str(data)], port, folder / "log", environment):
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true&retryWrites=false"


@contextmanager
def _running(command: list[str], port: int, log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, cwd=log.parent, stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()[-2000:]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(15)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
