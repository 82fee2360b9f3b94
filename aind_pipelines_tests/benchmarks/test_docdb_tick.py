"""The measurement of ticks, in small: what it counts, what it reports, and that it notices a wrong mirror."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from pymongo import MongoClient
from sqlalchemy import Engine

from aind_pipelines_tests.clients.servers import Bastion, DocDBServer, Gateway
from benchmarks.docdb_tick import CHANGES, Bench, compare, over_rest, through_ssh
from benchmarks.front import Traffic, front


@pytest.fixture
def collection(mongo: MongoClient[dict[str, Any]]) -> Iterator[Any]:
    """An empty collection with indexes on the modified times."""
    records = mongo.metadata_index.data_assets
    records.drop()
    for name in ("last_modified", "_last_modified"):
        records.create_index(name)
    yield records
    records.drop()


@pytest.fixture
def environment(docdb: DocDBServer, gateway: Gateway, bastion: Bastion) -> dict[str, str]:
    return {
        "DOC_DB_API_HOST": gateway.url,
        "DOC_DB_HOST": "127.0.0.1",
        "DOC_DB_PORT": str(docdb.port),
        "DOC_DB_USERNAME": docdb.username,
        "DOC_DB_PASSWORD": docdb.password,
        "DOC_DB_SSH_HOST": "127.0.0.1",
        "DOC_DB_SSH_PORT": str(bastion.port),
        "DOC_DB_SSH_USERNAME": bastion.username,
        "DOC_DB_SSH_PASSWORD": bastion.password,
    }


@pytest.mark.slow
def test_ticks_are_measured_beside_full_passes_over_both_transports(
    collection: Any, engine: Engine, environment: dict[str, str]
) -> None:
    with over_rest(environment) as rest, through_ssh(environment) as ssh:
        rows = compare(collection, engine, [rest, ssh], 200, rounds=1)
    values = {row.name: row.value for row in rows}
    assert len(values) == len(rows)
    assert json.loads(json.dumps([asdict(row) for row in rows], allow_nan=False))
    for way in ("REST", "SSH"):
        assert values[f"docdb tick, {way}: full pass, bytes"] > 200
        share = values[f"docdb tick, {way}: {CHANGES} changes in 200, bytes of a full pass"]
        assert share == pytest.approx(
            100 * values[f"docdb tick, {way}: tick, bytes"] / values[f"docdb tick, {way}: full pass, bytes"], rel=0.01
        )
        assert share < 50
    # The gateway of these tests gives some ten records a page.
    assert values["docdb tick, REST: full pass, requests"] > 15 > values["docdb tick, REST: tick, requests"] >= 4


def test_a_mirror_that_differs_ends_the_measurement(
    collection: Any, engine: Engine, environment: dict[str, str]
) -> None:
    collection.insert_many([{"_id": f"{number:08d}", "name": "x"} for number in range(30)])
    with over_rest(environment) as way:
        bench = Bench(collection, engine, 30)
        bench.run(way, "full")
        collection.update_one({"_id": "00000007"}, {"$set": {"name": "edited, and the modified time left as it was"}})
        with pytest.raises(RuntimeError, match=r"after a tick pass.*00000007"):
            bench.run(way, "tick")


def test_a_front_counts_bytes_and_requests_however_they_are_cut(gateway: Gateway) -> None:
    traffic = Traffic()
    request = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n"
    twice = request + request.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with front(gateway.url, traffic) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for letter in twice:
            client.sendall(bytes([letter]))
        answered = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answered.count(b"HTTP/1.1 200") == 2
    assert traffic == Traffic(sent=len(answered), received=len(twice), requests=2)
