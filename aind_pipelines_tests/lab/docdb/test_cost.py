"""What a question costs, counted in documents read, and that a slow one does not hold others up."""

from __future__ import annotations

import datetime as dt
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from aind_pipelines.clients.docdb.pages import NOT_TEXT
from aind_pipelines.mirror.docdb.source import modified_filter

SMALL, LARGE = 1_000, 20_000
WATERMARK = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
CHANGED = range(100, 110)
TICK = modified_filter(WATERMARK, bson_dates=True)
"""What a tick asks by; in either collection it finds the few that were `CHANGED`."""


def record(n: int) -> dict[str, Any]:
    """About 2 KB in the shape of a metadata record; even ones carry the older generation's modified time."""
    modified = f"2024-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"
    return {
        "_id": f"id-{n:06}",
        "_last_modified" if n % 2 else "last_modified": modified,
        "name": f"ecephys_{n}",
        "location": f"s3://bucket-{n % 7}/ecephys_{n}",
        "subject": {"subject_id": str(n % (10**9)), "notes": ["word " * 10] * 20},
        "text": "x" * 900,
    }


@pytest.fixture(scope="module")
def sized(server: Any) -> dict[int, Any]:
    """The same kind of collection with few and with many documents."""
    database = server.client().metadata_index
    collections = {}
    for size in (SMALL, LARGE):
        collections[size] = database[f"assets_{size}"]
        for path in ("name", "location", "subject.subject_id"):
            collections[size].create_index(path)
        for start in range(0, size, 2000):
            collections[size].insert_many([record(n) for n in range(start, min(start + 2000, size))])
        for n in CHANGED:
            field = "_last_modified" if n % 2 else "last_modified"
            collections[size].update_one({"_id": f"id-{n:06}"}, {"$set": {field: f"2024-02-01T00:00:00.{n}Z"}})
    return collections


QUESTIONS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "_id equality": (lambda c: c.find_one({"_id": "id-000500"}), 1),
    "_id in a list": (lambda c: list(c.find({"_id": {"$in": ["id-000001", "id-000700", "nowhere"]}})), 2),
    "a keyset page": (lambda c: list(c.find({"_id": {"$gt": "id-000400"}}).sort("_id").limit(50)), 50),
    "a keyset page backwards": (lambda c: list(c.find({"_id": {"$lt": "id-000400"}}).sort("_id", -1).limit(50)), 50),
    "an _id range without sort": (lambda c: list(c.find({"_id": {"$gte": "id-000100", "$lt": "id-000120"}})), 20),
    "skip and limit": (lambda c: list(c.find().skip(700).limit(20)), 20),
    "skip and limit by _id": (lambda c: list(c.find().sort("_id", 1).skip(700).limit(20)), 20),
    "the newest": (lambda c: list(c.find().sort("_last_modified", -1).limit(10)), 10),
    "past a watermark": (
        lambda c: list(c.find({"last_modified": {"$gte": "2024-01-01T00:10", "$lt": "2024-01-01T00:11"}})),
        30,
    ),
    "a page past a watermark": (
        lambda c: list(
            c.find({"_last_modified": {"$gt": "2024-01-01T00:05"}}).sort([("_last_modified", 1), ("_id", 1)]).limit(25)
        ),
        25,
    ),
    "a keyset page on the modified time": (
        lambda c: list(
            c.find(
                {
                    "$or": [
                        {"_last_modified": {"$gt": "2024-01-01T00:05:01Z"}},
                        {"_last_modified": "2024-01-01T00:05:01Z", "_id": {"$gt": "id-000000"}},
                    ]
                }
            )
            .sort([("_last_modified", 1), ("_id", 1)])
            .limit(25)
        ),
        25,
    ),
    "either generation's modified time": (
        lambda c: list(
            c.find(
                {
                    "$or": [
                        {field: {"$gte": "2024-01-01T00:10", "$lt": "2024-01-01T00:11"}}
                        for field in ("_last_modified", "last_modified")
                    ]
                }
            )
        ),
        60,
    ),
    "a tick": (lambda c: list(c.find(TICK).sort("_id").limit(500)), 10),
    "the next page of a tick": (lambda c: list(c.find({**TICK, "_id": {"$gt": "id-000104"}}).sort("_id").limit(9)), 5),
    "the last page of a tick": (lambda c: list(c.find({**TICK, "_id": {"$gt": "id-000109"}}).sort("_id").limit(9)), 0),
    "the lowest of a tick": (lambda c: list(c.find(TICK, {"_id": 1}).sort("_id", 1).limit(1)), 1),
    "the highest of a tick": (lambda c: list(c.find(TICK, {"_id": 1}).sort("_id", -1).limit(1)), 1),
    "what a tick finds without text for its _id": (
        lambda c: list(c.aggregate([{"$match": {"$and": [TICK, NOT_TEXT]}}])),
        10,
    ),
    "a tick of nothing": (
        lambda c: list(
            c.find(modified_filter(WATERMARK + dt.timedelta(days=1), bson_dates=True)).sort("_id").limit(9)
        ),
        0,
    ),
    "a count of a tick": (lambda c: c.count_documents(TICK), 10),
    "by name": (lambda c: c.find_one({"name": "ecephys_77"}), 1),
    "by subject": (lambda c: list(c.find({"subject.subject_id": "77"})), 1),
    "by the beginning of a location": (
        lambda c: list(c.find({"location": {"$regex": "^s3://bucket-3/ecephys_73"}})),
        1,
    ),
    "an aggregation by name": (
        lambda c: list(c.aggregate([{"$match": {"name": {"$in": ["ecephys_7"]}}}, {"$project": {"name": 1}}])),
        1,
    ),
    "a count by name": (lambda c: c.count_documents({"name": "ecephys_77"}), 0),
    "a count of everything": (lambda c: (c.count_documents({}), c.estimated_document_count()), 0),
    "an update by _id": (lambda c: c.update_one({"_id": "id-000500"}, {"$set": {"seen": 1}}), 3),
}


def examined(server: Any) -> tuple[int, int]:
    metrics = server.client().admin.command("serverStatus")["metrics"]["queryExecutor"]
    return int(metrics["scannedObjects"]), int(metrics["scanned"])


@pytest.mark.slow
@pytest.mark.parametrize(("question", "documents"), QUESTIONS.values(), ids=QUESTIONS.keys())
def test_the_documents_read_for_an_answer_do_not_grow_with_the_collection(
    server: Any, sized: dict[int, Any], question: Callable[[Any], Any], documents: int
) -> None:
    read = {}
    for size, collection in sized.items():
        before = examined(server)
        question(collection)
        after = examined(server)
        read[size] = (after[0] - before[0], after[1] - before[1])
    # An index chunk may hold a few entries more than are needed, each of which is one document.
    assert read[LARGE][0] <= 2 * documents + 16 or read[LARGE][0] <= read[SMALL][0]
    assert read[LARGE][0] <= read[SMALL][0] + 16
    assert read[LARGE][1] <= read[SMALL][1] + 16


@pytest.mark.slow
def test_a_slow_scan_does_not_hold_up_another_client(server: Any, sized: dict[int, Any]) -> None:
    slow = server.client()
    running = threading.Event()
    stop = threading.Event()
    scans = []

    def scan() -> None:
        collection = slow[sized[LARGE].database.name][sized[LARGE].name]
        while not stop.is_set():
            running.set()
            begin = time.monotonic()
            assert collection.count_documents({"subject.notes": {"$regex": "(w|o|r|d)+ x$"}}) == 0
            scans.append(time.monotonic() - begin)

    scanner = threading.Thread(target=scan)
    scanner.start()
    assert running.wait(5)
    quick = server.client()[sized[LARGE].database.name][sized[LARGE].name]
    quick.find_one({"_id": "id-000000"})
    reads, writes = [], []
    try:
        for n in range(60):
            begin = time.monotonic()
            assert quick.find_one({"_id": f"id-{n * 300:06}"}) is not None
            reads.append(time.monotonic() - begin)
            begin = time.monotonic()
            quick.update_one({"_id": f"id-{n * 300:06}"}, {"$set": {"seen": n}})
            writes.append(time.monotonic() - begin)
    finally:
        stop.set()
        scanner.join(60)
    assert max(scans) > 0.1, "the scan was too short to be in anybody's way"
    for took in (reads, writes):
        assert statistics.quantiles(took, n=20)[-1] < 0.25


@pytest.mark.slow
def test_memory_stays_small_with_twenty_thousand_documents(server: Any, sized: dict[int, Any]) -> None:
    assert sum(1 for _ in sized[LARGE].find()) == LARGE
    list(sized[LARGE].find().sort("text", 1).limit(5))
    process = psutil.Process(server.process.pid)
    assert process.memory_full_info().uss < 150 * 1024 * 1024
