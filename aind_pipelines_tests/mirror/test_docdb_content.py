"""Content that is hard to carry, from the embedded DocDB through both transports into JSONB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection
from sqlalchemy import Engine, text

from aind_pipelines.mirror.docdb import CollectionSource, manifest, tick, update
from aind_pipelines_tests.clients.misbehaving import Answer, Fault, MisbehavingGateway, altering
from aind_pipelines_tests.clients.servers import Bastion, DocDBServer, Gateway
from aind_pipelines_tests.mirror.comparison import differences, snapshot
from aind_pipelines_tests.mirror.sources import conninfo, direct, iso, rest
from aind_pipelines_tests.mirror.test_docdb_history import record

NOW = datetime.now(UTC).replace(microsecond=0)
NEVER = 1_000_000
Records = Collection[dict[str, Any]]
Open = Callable[[], AbstractContextManager[CollectionSource]]

_MOMENT = datetime(2026, 3, 9, 16, 35, 42, tzinfo=UTC)
TEN_NOTATIONS: list[Any] = [
    "2026-03-09T16:35:42.000Z",
    "2026-03-09T16:35:42",
    "2026-03-09 16:35:42.000000",
    "2026-03-09T16:35:42+00:00",
    "2026-03-09T09:35:42-07:00",
    "20260309T163542Z",
    "Mon, 09 Mar 2026 16:35:42 GMT",
    int(_MOMENT.timestamp()),
    int(_MOMENT.timestamp() * 1000),
    {"$date": int(_MOMENT.timestamp() * 1000)},
    _MOMENT,
]

ODD: dict[str, Any] = {
    "not a number": float("nan"),
    "infinite": [float("inf"), {"and below": float("-inf")}],
    "negative zero": -0.0,
    "large": [1e300, 1e22, -1e16, 5e-324, 0.1],
    "huge integers": [Int64(2**63 - 1), Int64(-(2**63)), 2**53 + 1],
    "decimal": [Decimal128("1E+400"), Decimal128("0.10")],
    "dates": [_MOMENT, datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)],
    "keys": {"a.b": 1, "a..b": 2, "$set": 3, "$": {"$oid": "x"}, "": 4, "ä.ö": 5},
    "nul": ["a\x00b", {"deep": "\x00"}],
    "binary": Binary(b"\x00\xff"),
    "object id": ObjectId("65f000000000000000000001"),
    "deep": {"n": [[[[[[[[[[{"n": None}]]]]]]]]]]},
    "text": "\ufeff\u2028\U0001f9ed\ufffd",
}


@pytest.fixture
def collection(mongo: MongoClient[dict[str, Any]]) -> Records:
    return mongo.metadata_index.data_assets


@pytest.fixture(params=["rest", "direct"])
def opened(request: pytest.FixtureRequest, docdb: DocDBServer, bastion: Bastion, gateway: Gateway) -> Open:
    return (lambda: rest(gateway.url)) if request.param == "rest" else (lambda: direct(docdb, bastion))


def _codes(engine: Engine, identity: str) -> set[str]:
    query = text("SELECT code FROM public.findings WHERE key = :key")
    with engine.connect() as connection:
        return set(connection.scalars(query, {"key": f"v1/{identity}"}))


def _body(engine: Engine, identity: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT body FROM docdb.records WHERE id = :id"), {"id": identity}).scalar_one()


def test_odd_values_arrive_are_told_and_stay_as_they_are(engine: Engine, collection: Records, opened: Open) -> None:
    time = iso(NOW - timedelta(days=1))
    collection.insert_many([record(n, last_modified=time, odd=odd) for n, odd in enumerate(ODD.values())])
    collection.insert_many(
        [record(0, last_modified=time) | {"_id": identity} for identity in ("a\x00b", "ä/ö", 7, ObjectId())]
    )
    with opened() as source:
        update(engine, source)
        assert differences(collection, conninfo(engine)) == []
        settled = [snapshot(collection, conninfo(engine))]
        told = {name: _codes(engine, f"id-{number:06d}") for number, name in enumerate(ODD)}
        plain = told["text"]
        assert {name: codes - plain for name, codes in told.items() if codes - plain} == {
            "not a number": {"number_not_finite"},
            "infinite": {"number_not_finite"},
            "nul": {"nul_character"},
        }
        collection.update_many({"_id": {"$regex": "^id-"}}, {"$set": {"note": "edited", "last_modified": iso(NOW)}})
        assert tick(engine, source).changed == len(ODD)
        results = [manifest(engine, source, reconcile_passes=1) for _ in range(2)]
        assert [(result.written, result.read) for result in results] == [(0, len(ODD) + 4)] * 2
    assert differences(collection, conninfo(engine), settled) == []


def test_dates_in_every_notation_are_followed(engine: Engine, collection: Records, opened: Open) -> None:
    collection.insert_many([record(n, last_modified=time, created=time) for n, time in enumerate(TEN_NOTATIONS)])
    with opened() as source:
        update(engine, source)
        assert differences(collection, conninfo(engine)) == []
        with engine.connect() as connection:
            modified = connection.execute(text("SELECT modified FROM docdb.records ORDER BY id")).scalars().all()
        assert modified == [_MOMENT] * len(TEN_NOTATIONS)
        settled = [snapshot(collection, conninfo(engine))]
        for number, time in enumerate(TEN_NOTATIONS):
            later = time + timedelta(hours=1) if isinstance(time, datetime) else "2026-03-09T17:35:42Z"
            collection.update_one({"_id": f"id-{number:06d}"}, {"$set": {"note": 1, "last_modified": later}})
        tick(engine, source)
        manifest(engine, source, reconcile_passes=NEVER)
    assert differences(collection, conninfo(engine), settled) == []


def test_a_date_that_python_has_not_hides_nothing(engine: Engine, collection: Records, opened: Open) -> None:
    collection.insert_many([record(1), record(2, odd=DatetimeMS(10**15), last_modified=DatetimeMS(10**15)), record(3)])
    with opened() as source:
        assert update(engine, source)[0][1].inserted == 3
        assert manifest(engine, source, reconcile_passes=1).written == 0
    assert differences(collection, conninfo(engine)) == []
    assert _codes(engine, "id-000002") & {"type_unknown", "modified_unreadable"}


_MARK, _NO_UTF_8 = b"INVALID-HERE", b"caf\xe9 \xff\xfe\xc0\x80 ok"


def _altered(real: Callable[[], Answer]) -> Answer:
    answer = real()
    return Answer(answer.status, answer.body.replace(_MARK, _NO_UTF_8))


@pytest.fixture(params=["rest", "direct"])
def altered(request: pytest.FixtureRequest, docdb: DocDBServer, gateway: Gateway, tmp_path: Path) -> Iterator[Open]:
    """A way to DocDB on which the mark becomes bytes that are no UTF-8."""
    if request.param == "rest":
        proxy = MisbehavingGateway(gateway.url)
        fault: Fault = _altered
        proxy.rule = lambda asked: fault
        with proxy.serving():
            yield lambda: rest(proxy.url)
        return
    with altering(docdb.port, _MARK, _NO_UTF_8) as port:
        running = Bastion(tmp_path, allow=[port])
        running.start()
        yield lambda: direct(docdb, running, port=port)
        running.stop()


def test_bytes_that_are_no_utf_8_are_replaced_and_told(engine: Engine, collection: Records, altered: Open) -> None:
    collection.insert_many([record(1), record(2, note=_MARK.decode()), record(3)])
    with altered() as source:
        assert update(engine, source)[0][1].inserted == 3
        assert manifest(engine, source, reconcile_passes=1).written == 0
    assert _body(engine, "id-000002")["note"] == "caf\ufffd \ufffd\ufffd\ufffd\ufffd ok"
    assert "nul_character" in _codes(engine, "id-000002")
    assert differences(collection, conninfo(engine), unreadable=["id-000002"]) == []
