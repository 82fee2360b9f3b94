"""Records of many megabytes: over the direct connection they arrive, over REST they stop nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from sqlalchemy import Engine, text

from aind_pipelines.clients.docdb import RecordTooLarge
from aind_pipelines.mirror.docdb import manifest, not_mirrored, tick, update
from aind_pipelines_tests.clients.misbehaving import Asked, Fault, MisbehavingGateway, capped
from aind_pipelines_tests.clients.servers import Bastion, DocDBServer, Gateway
from aind_pipelines_tests.mirror.comparison import differences, snapshot
from aind_pipelines_tests.mirror.sources import conninfo, direct, rest
from aind_pipelines_tests.mirror.test_docdb_history import live, record

NOW = datetime.now(UTC).replace(microsecond=0)
OVERLAP = timedelta(minutes=10)
NEVER = 1_000_000
LARGE = "x" * 15_000_000
CAP = 6_000_000


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def collection(mongo: MongoClient[dict[str, Any]]) -> Collection[dict[str, Any]]:
    """Thirty records, modified a day apart."""
    records = mongo.metadata_index.data_assets
    records.insert_many([record(n, last_modified=_iso(NOW - timedelta(days=n + 1))) for n in range(30)])
    return records


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[MisbehavingGateway]:
    """The gateway behind what refuses answers of over six megabytes."""
    proxy = MisbehavingGateway(gateway.url)
    proxy.rule = _cap
    with proxy.serving():
        yield proxy


def _cap(_: Asked) -> Fault:
    return capped(CAP)


def _noted(engine: Engine) -> dict[str, str]:
    query = text("SELECT key, message FROM public.findings WHERE code = 'record_too_large'")
    with engine.connect() as connection:
        return {row.key: row.message for row in connection.execute(query)}


def _mirrored(engine: Engine, identity: str) -> dict[str, Any]:
    with engine.connect() as connection:
        body: dict[str, Any] = connection.execute(
            text("SELECT body FROM docdb.records WHERE id = :id"), {"id": identity}
        ).scalar_one()
    return body


def _grow(collection: Collection[dict[str, Any]], number: int, time: datetime = NOW) -> str:
    identity = f"id-{number:06d}"
    collection.update_one({"_id": identity}, {"$set": {"note": LARGE, "last_modified": _iso(time)}})
    return identity


def test_a_record_of_fifteen_megabytes_arrives_directly_and_through_a_gateway_that_lets_it(
    engine: Engine, docdb: DocDBServer, bastion: Bastion, gateway: Gateway, collection: Collection[dict[str, Any]]
) -> None:
    identity = _grow(collection, 7)
    with direct(docdb, bastion) as source:
        ((_, result),) = update(engine, source)
    assert (result.inserted, result.findings_by_code["record_too_large"]) == (30, 0)
    collection.update_one({"_id": identity}, {"$set": {"last_modified": _iso(NOW - timedelta(days=20))}})
    with rest(gateway.url) as source:
        assert manifest(engine, source, reconcile_passes=NEVER).changed == 1
    assert differences(collection, conninfo(engine)) == []


@pytest.mark.parametrize("number", [0, 13, 29])
def test_over_rest_it_is_a_finding_while_all_others_arrive(
    engine: Engine, proxy: MisbehavingGateway, collection: Collection[dict[str, Any]], number: int
) -> None:
    identity = _grow(collection, number)
    with rest(proxy.url) as source:
        ((_, result),) = update(engine, source, "full")
        assert (result.read, result.inserted, result.findings_by_code["record_too_large"]) == (29, 29, 1)
        assert list(_noted(engine)) == [f"v1/{identity}"]
        assert _iso(NOW)[:19] in _noted(engine)[f"v1/{identity}"]
        assert differences(collection, conninfo(engine), unreadable=[identity]) == []
        with pytest.raises(RecordTooLarge, match=f"{identity}.*projection"):
            list(source._client.iter_records())
        assert len(list(source.listing())) == 30


def test_what_was_mirrored_before_stays_and_is_not_asked_for_again_and_again(
    engine: Engine, proxy: MisbehavingGateway, collection: Collection[dict[str, Any]]
) -> None:
    with rest(proxy.url) as source:
        update(engine, source)
        settled = [snapshot(collection, conninfo(engine))]
        before = _mirrored(engine, "id-000007")
        identity = _grow(collection, 7)
        collection.update_one({"_id": "id-000008"}, {"$set": {"note": "edited", "last_modified": _iso(NOW)}})
        assert not_mirrored(engine, source, overlap=OVERLAP) == {identity: NOW, "id-000008": NOW}
        result = tick(engine, source)
        assert (result.read, result.changed, result.findings_by_code["record_too_large"]) == (2, 1, 1)
        assert not_mirrored(engine, source, overlap=OVERLAP) == {}, "the sensor asks for no run that cannot help"

        for run in (manifest, lambda *_, **__: update(engine, source, "full")[0][1]):
            result = run(engine, source, reconcile_passes=NEVER)
            assert (result.written, result.findings_by_code["record_too_large"]) == (0, 1)
            assert _mirrored(engine, identity) == before
            assert list(_noted(engine)) == [f"v1/{identity}"]
        proxy.asked.clear()
        manifest(engine, source, reconcile_passes=NEVER)
        assert not [asked for asked in proxy.asked if identity.encode() in asked.body or identity in asked.target]

        _grow(collection, 7, NOW + timedelta(seconds=1))
        assert manifest(engine, source, reconcile_passes=NEVER).findings_by_code["record_too_large"] == 1
        assert _iso(NOW + timedelta(seconds=1))[:19] in _noted(engine)[f"v1/{identity}"], "what was modified is tried"
        collection.update_one({"_id": identity}, {"$set": {"note": "short again"}})
        assert manifest(engine, source, reconcile_passes=1).changed == 1, "and so is each in its turn"
        assert _noted(engine) == {}
    assert differences(collection, conninfo(engine), settled) == []


def test_one_that_was_never_mirrored_and_is_deleted_leaves_no_finding(
    engine: Engine, proxy: MisbehavingGateway, collection: Collection[dict[str, Any]]
) -> None:
    identity = _grow(collection, 7)
    with rest(proxy.url) as source:
        update(engine, source)
        assert identity not in live(engine)
        collection.delete_one({"_id": identity})
        assert manifest(engine, source, reconcile_passes=NEVER).written == 0
    assert _noted(engine) == {}
    assert differences(collection, conninfo(engine)) == []


def test_pages_that_are_refused_whole_are_asked_for_in_parts(
    engine: Engine, proxy: MisbehavingGateway, collection: Collection[dict[str, Any]]
) -> None:
    """Of a gateway that does not cut its pages."""
    proxy.rule = lambda asked: capped(3_000)
    with rest(proxy.url) as source:
        ((_, result),) = update(engine, source)
        assert (result.read, result.findings_by_code["record_too_large"]) == (30, 0)
        assert manifest(engine, source, reconcile_passes=1).unchanged == 30
    assert differences(collection, conninfo(engine)) == []
