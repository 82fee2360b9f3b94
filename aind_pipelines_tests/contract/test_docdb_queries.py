"""The DocDB queries we rely on, put to the embedded server, to engines nobody here wrote, and to any server given.

``DOCDB_CONTRACT_URI`` names a server to test: the suite makes one database of its own there and drops it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from aind_pipelines_tests.contract import engines, known_gaps
from aind_pipelines_tests.contract.cases import CASES, READING, Case
from aind_pipelines_tests.contract.known_gaps import Gap

GIVEN = os.environ.get("DOCDB_CONTRACT_URI")
ENGINES = ("embedded", "ferretdb", *(("given",) if GIVEN else ()))

Collection = Any


def _check(case: Case, answered: Any, gap: Gap | None) -> None:
    """The answer is MongoDB's; or just the other one that this engine is known to give, which is then shown."""
    given, expected = engines.comparable(case, answered), engines.comparable(case, case.expected)
    if gap is None:
        assert given == expected
        return
    assert given != expected, f"this gap is closed, take it from the list: {gap.reason}"
    assert given == engines.comparable(case, gap.answer)
    pytest.xfail(gap.reason)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A database of its own on each server, by engine, started when first asked for."""
    started = _Databases(tmp_path_factory)
    yield started
    started.close()


class _Databases(dict[str, Any]):
    def __init__(self, folders: pytest.TempPathFactory) -> None:
        super().__init__()
        self._folders = folders
        self._open: list[Any] = []

    def __missing__(self, engine: str) -> Any:
        if engine == "given":
            assert GIVEN
            uri = GIVEN
        else:
            if engine == "ferretdb" and not engines.FERRETDB.exists():
                pytest.skip("FerretDB is not built; make .peers/ferretdb/bin/ferretdb builds it")
            start = engines.ferretdb if engine == "ferretdb" else engines.embedded
            running = start(self._folders.mktemp(engine))
            uri = running.__enter__()
            self._open.append(running)
        client: Any = pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000)
        self[engine] = client[f"contract_{secrets.token_hex(4)}"]
        return self[engine]

    def close(self) -> None:
        for database in self.values():
            database.client.drop_database(database.name)
            database.client.close()
        for running in self._open:
            running.__exit__(None, None, None)


@pytest.fixture
def collection(databases: dict[str, Any], engine: str) -> Iterator[Collection]:
    """An empty collection."""
    made = databases[engine][f"c{secrets.token_hex(4)}"]
    yield made
    made.drop()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_answers_as_mongodb_documents(collection: Collection, engine: str, case: Case) -> None:
    gap = known_gaps.FERRETDB.get(case.name) if engine == "ferretdb" else None
    try:
        answered = engines.answer(collection, case)
    except OperationFailure as refused:
        if gap is None:
            raise
        answered = {"error": refused.code}
    _check(case, answered, gap)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cursor_gives_every_document_over_many_batches(collection: Collection, engine: str) -> None:
    collection.insert_many([{"_id": f"{number:05d}", "text": "x" * 1000} for number in range(1500)])
    with collection.find({}, batch_size=100).sort("_id", 1) as cursor:
        assert [record["_id"] for record in cursor] == [f"{number:05d}" for number in range(1500)]


@pytest.mark.parametrize("engine", ENGINES)
def test_keyset_pages_give_every_document_once_while_others_come_and_go(collection: Collection, engine: str) -> None:
    collection.insert_many([{"_id": f"{number:04d}"} for number in range(100)])
    seen: list[str] = []
    last = ""
    while page := [record["_id"] for record in collection.find({"_id": {"$gt": last}}).sort("_id", 1).limit(7)]:
        seen += page
        last = page[-1]
        collection.delete_one({"_id": page[0]})
        collection.insert_one({"_id": f"{page[0]}-behind"})
    assert [name for name in seen if "behind" not in name] == [f"{number:04d}" for number in range(100)]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_document_of_fifteen_megabytes_comes_back_whole(collection: Collection, engine: str) -> None:
    record = {
        "_id": "big",
        "text": "é" * 3_750_000,
        "rows": [{"n": number, "text": str(number)} for number in range(100_000)],
    }
    collection.insert_one(record)
    assert collection.find_one({"_id": "big"}) == record


@pytest.fixture(scope="module")
def oracle() -> dict[str, dict[str, Any]]:
    if not (engines.MINGO / ".installed").exists():
        pytest.skip("mingo is not installed; make .peers/mingo/.installed installs it")
    return dict(zip((case.name for case in READING), engines.mingo_answers(READING), strict=True))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in READING])
def test_mingo_answers_the_same(oracle: dict[str, dict[str, Any]], case: Case) -> None:
    given = oracle[case.name]
    assert "refused" not in given, given["refused"]
    _check(case, given["answer"], known_gaps.MINGO.get(case.name))


def test_every_case_and_every_known_gap_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert set(known_gaps.FERRETDB) | set(known_gaps.MINGO) <= set(names)
    assert Path(__file__).with_name("mingo").joinpath("package-lock.json").read_text().count("http") == 0
