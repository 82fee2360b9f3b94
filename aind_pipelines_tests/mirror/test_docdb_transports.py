"""The passes through both transports, from the embedded DocDB into a real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from sqlalchemy import Engine

from aind_pipelines.mirror.docdb import manifest, not_mirrored, tick, update
from aind_pipelines_tests.clients.servers import Bastion, DocDBServer, Gateway
from aind_pipelines_tests.mirror.sources import direct, rest
from aind_pipelines_tests.mirror.test_docdb_history import as_of, check_history, clock, live, record

NOW = datetime.now(UTC).replace(microsecond=0)
OVERLAP = timedelta(minutes=10)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("transport", ["rest", "direct"])
def test_ticks_and_manifest_passes_follow_a_real_collection(
    engine: Engine,
    docdb: DocDBServer,
    gateway: Gateway,
    bastion: Bastion,
    mongo: MongoClient[dict[str, Any]],
    transport: str,
) -> None:
    collection = mongo.metadata_index.data_assets
    collection.insert_many(
        [record(number, last_modified=_iso(NOW - timedelta(days=number + 1))) for number in range(60)]
    )
    with rest(gateway.url) if transport == "rest" else direct(docdb, bastion) as source:
        assert not_mirrored(engine, source, overlap=OVERLAP) is None
        assert [name for name, _ in update(engine, source)] == ["full"]
        assert not_mirrored(engine, source, overlap=OVERLAP) == {}

        collection.update_one({"_id": "id-000030"}, {"$set": {"note": "edited", "last_modified": _iso(NOW)}})
        collection.insert_one(record(70, last_modified=f"{NOW:%Y-%m-%d %H:%M:%S}"))
        assert not_mirrored(engine, source, overlap=OVERLAP) == {"id-000030": NOW, "id-000070": NOW}
        result = tick(engine, source)
        assert (result.inserted, result.changed) == (1, 1)
        assert not_mirrored(engine, source, overlap=OVERLAP) == {}

        collection.insert_one(record(71, last_modified=NOW.replace(tzinfo=None)))
        assert tick(engine, source).inserted == (1 if transport == "direct" else 0), "JSON queries compare no dates"
        collection.delete_one({"_id": "id-000002"})
        collection.insert_one(record(72, last_modified=_iso(NOW - timedelta(days=9))))
        result = manifest(engine, source, reconcile_passes=1_000_000)
        assert (result.inserted, result.vanished) == ((1, 1) if transport == "direct" else (2, 1))
        assert live(engine) == {document["_id"] for document in collection.find({}, {"_id": 1})}
        expected = {document["_id"]: document for document in collection.find({"_id": {"$ne": "id-000071"}})}
        found = {identity: body for (_, identity), body in as_of(engine, clock(engine)).items()}
        assert {identity: found[identity] for identity in expected} == expected
        assert [result.written for _, result in update(engine, source, reconcile_passes=1)] == [0, 0]
    check_history(engine)
