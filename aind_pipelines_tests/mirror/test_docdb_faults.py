"""The passes under faults, from the embedded DocDB into a real Postgres.

After each fault the next pass makes the mirror equal to the source, as code of its own compares them, and the history
keeps every state that the mirror had caught up with.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from sqlalchemy import Engine

from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable
from aind_pipelines.mirror.docdb import DeletionGuard, update
from aind_pipelines.mirror.docdb.passes import Mode
from aind_pipelines_tests.clients.misbehaving import (
    Answer,
    Asked,
    Fault,
    MisbehavingGateway,
    Repeating,
    cut_off,
    doubled,
    html,
    short,
    status,
    truncated,
)
from aind_pipelines_tests.clients.servers import Bastion, DocDBServer, Gateway
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.mirror.comparison import Snapshot, differences, snapshot
from aind_pipelines_tests.mirror.sources import Interrupted, conninfo, direct, iso, pass_that_dies, rest
from aind_pipelines_tests.mirror.test_docdb_history import record

NOW = datetime.now(UTC).replace(microsecond=0)
MODES: tuple[Mode, ...] = ("full", "tick", "manifest")
Records = Collection[dict[str, Any]]


@pytest.fixture
def collection(mongo: MongoClient[dict[str, Any]]) -> Records:
    """Forty records, modified a day apart."""
    records = mongo.metadata_index.data_assets
    records.insert_many([record(n, last_modified=iso(NOW - timedelta(days=n + 1))) for n in range(40)])
    return records


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[MisbehavingGateway]:
    proxy = MisbehavingGateway(gateway.url)
    with proxy.serving():
        yield proxy


@pytest.fixture
def rng() -> random.Random:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return random.Random(seed)


class Editor:
    """Edits a collection as people and programs do, at a time that goes on."""

    def __init__(self, collection: Records, rng: random.Random) -> None:
        self._collection = collection
        self._rng = rng
        self._edits = 0

    def edit(self, *, seen_by_ticks: bool = False) -> None:
        """One edit; `seen_by_ticks`: no deletion, nothing silent and no clock that is wrong by more than minutes."""
        self._edits += 1
        number = self._rng.randrange(60)
        identity = f"id-{number:06d}"
        kinds = ["put"] * 3 + ([] if seen_by_ticks else ["delete", "silent", "timeless", "behind", "ahead"])
        kind = self._rng.choice(kinds)
        moment = NOW - timedelta(hours=1) + timedelta(seconds=self._edits // 3)  # some at one and the same time
        moment += timedelta(minutes=self._rng.choice([0, -4, 4]))
        if kind == "delete":
            self._collection.delete_one({"_id": identity})
            return
        if kind == "silent":
            self._collection.update_one({"_id": identity}, {"$set": {"note": self._rng.random()}})
            return
        written = {
            "timeless": None,
            "behind": iso(moment - timedelta(days=self._rng.randrange(1, 90))),
            "ahead": iso(moment + timedelta(days=self._rng.randrange(1, 900))),
        }.get(kind, iso(moment))
        changes = record(number, note=self._rng.random(), last_modified=written)
        self._collection.replace_one({"_id": identity}, changes, upsert=True)


def _pass(engine: Engine, source: Any, mode: Mode) -> None:
    update(engine, source, mode, batch=5, reconcile_passes=1, guard=DeletionGuard(1.0, 1000))


def _history(collection: Records, engine: Engine, settled: list[Snapshot]) -> list[str]:
    """What is wrong with the past, whatever the present is."""
    lines = differences(collection, conninfo(engine), settled)
    return [line for line in lines if not line.startswith("mirror:")]


def _null(real: Callable[[], Answer]) -> Answer:
    return Answer(200, b"null")


_FAULTS: dict[str, Fault] = {
    "500": status(500),
    "429": status(429),
    "no JSON": html,
    "truncated": truncated,
    "cut off": cut_off,
    "none of a page": short(0),
    "one of a page": short(1),
    "each record twice": doubled,
    "null": _null,
}


def _once(at: int, fault: Fault) -> Callable[[Asked], Fault | None]:
    return lambda asked: fault if asked.number == at else None


def _from(at: int, fault: Fault) -> Callable[[Asked], Fault | None]:
    return lambda asked: fault if asked.number >= at else None


def _pages_again(at: int) -> Callable[[Asked], Fault | None]:
    repeating = Repeating()

    def rule(asked: Asked) -> Fault | None:
        if asked.operation != "find":
            return None
        return repeating.repeat if asked.number > at else repeating.remember

    return rule


@pytest.mark.parametrize("name", [*_FAULTS, "a page again"])
def test_a_gateway_that_misbehaves_loses_and_invents_nothing(
    engine: Engine, proxy: MisbehavingGateway, collection: Records, rng: random.Random, name: str
) -> None:
    editor = Editor(collection, rng)
    settled: list[Snapshot] = []
    with rest(proxy.url) as source:
        for _ in range(examples(1)):
            for mode in MODES:
                for _ in range(4):
                    editor.edit(seen_by_ticks=mode == "tick")
                at, lasting, failed = rng.randrange(1, 6), rng.random() < 0.5, False
                print(f"{mode}, {'from' if lasting else 'at'} request {at}")
                proxy.asked.clear()
                if name == "a page again":
                    proxy.rule = _pages_again(at)
                else:
                    proxy.rule = (_from if lasting else _once)(at, _FAULTS[name])
                try:
                    _pass(engine, source, mode)
                except ServiceError as error:
                    assert "DocDB" in str(error)  # noqa: PT017
                    failed = True
                    assert _history(collection, engine, settled) == []
                else:
                    proxy.behave()
                    assert differences(collection, conninfo(engine), settled) == [], "success is the truth"
                proxy.behave()
                _pass(engine, source, mode)
                assert differences(collection, conninfo(engine), settled) == []
                settled.append(snapshot(collection, conninfo(engine)))
                if not lasting and name in ("500", "429", "cut off"):
                    assert not failed, "what is worth repeating is repeated"
                if lasting and mode == "full":
                    assert failed == (name != "one of a page")


@pytest.mark.parametrize("returns", [True, False], ids=["returns", "stays away"])
def test_a_bastion_that_is_killed_in_the_middle_of_a_pass(
    engine: Engine, docdb: DocDBServer, bastion: Bastion, collection: Records, rng: random.Random, returns: bool
) -> None:
    settled: list[Snapshot] = []
    editor = Editor(collection, rng)
    for mode in MODES if returns else ("full",):
        for _ in range(6):
            editor.edit(seen_by_ticks=mode == "tick")
        at = rng.randrange(1, 4)
        print(f"{mode}, item {at}")

        def happening(number: int, at: int = at) -> None:
            if number == at:
                bastion.kill()
                if returns:
                    threading.Timer(0.5, bastion.start).start()

        options = {"server_selection_timeout": 1, "heal_seconds": 30 if returns else 1}
        with direct(docdb, bastion, page_size=5, **options) as source:
            if returns:
                _pass(engine, Interrupted(source, happening), mode)
            else:
                with pytest.raises(ServiceUnavailable, match="bastion"):
                    _pass(engine, Interrupted(source, happening), mode)
                assert _history(collection, engine, settled) == []
                bastion.start()
        if not returns:
            with direct(docdb, bastion) as source:
                _pass(engine, source, mode)
        assert differences(collection, conninfo(engine), settled) == []
        settled.append(snapshot(collection, conninfo(engine)))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(examples(2)))
@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_is_killed_is_simply_run_again(
    engine: Engine, gateway: Gateway, collection: Records, rng: random.Random, mode: Mode, attempt: int
) -> None:
    """By itself between two records, so at every edge of the batches; or from outside, at any moment."""
    settled: list[Snapshot] = []
    with rest(gateway.url) as source:
        if mode != "full":
            _pass(engine, source, "full")
            settled.append(snapshot(collection, conninfo(engine)))
            editor = Editor(collection, rng)
            for _ in range(25):
                editor.edit(seen_by_ticks=mode == "tick")
        dies_at = rng.randrange({"full": 40, "tick": 8, "manifest": 60}[mode]) if attempt % 2 == 0 else None
        pause = 0.0 if dies_at is not None else 0.01
        print(f"dies before item {dies_at}")
        url = engine.url.render_as_string(hide_password=False)
        spawning = multiprocessing.get_context("spawn")
        child = spawning.Process(target=pass_that_dies, args=(url, gateway.url, mode, dies_at, pause))
        child.start()
        if dies_at is None:
            _wait_for_a_writer(engine)
            time.sleep(rng.uniform(0, 0.5))
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        assert _history(collection, engine, settled) == []
        _pass(engine, source, mode)
    assert differences(collection, conninfo(engine), settled) == []


def _wait_for_a_writer(engine: Engine) -> None:
    deadline = time.monotonic() + 60
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("transport", ["rest", "direct"])
@pytest.mark.parametrize("attempt", range(examples(1)))
def test_records_inserted_edited_and_deleted_during_the_passes_by_writers_with_wrong_clocks(
    engine: Engine,
    docdb: DocDBServer,
    bastion: Bastion,
    gateway: Gateway,
    collection: Records,
    rng: random.Random,
    transport: str,
    attempt: int,
) -> None:
    editor = Editor(collection, rng)
    settled: list[Snapshot] = []

    def happening(number: int) -> None:
        if rng.random() < 0.2:
            editor.edit()

    with rest(gateway.url) if transport == "rest" else direct(docdb, bastion) as source:
        _pass(engine, Interrupted(source, happening), "full")
        for _ in range(3):
            for mode in ("tick", "manifest", "tick"):
                _pass_borne(engine, Interrupted(source, happening), mode)  # type: ignore[arg-type]
                assert _history(collection, engine, settled) == []
            _pass(engine, source, "manifest")
            assert differences(collection, conninfo(engine), settled) == []
            settled.append(snapshot(collection, conninfo(engine)))


def _pass_borne(engine: Engine, source: Any, mode: Mode) -> None:
    """A pass that may find that a record came back between its list and its end, and then removes nothing."""
    try:
        _pass(engine, source, mode)
    except ServiceError as error:
        assert "did not hand over" in str(error)  # noqa: PT017


@pytest.mark.parametrize("mode", MODES)
def test_a_pass_that_waits_for_another_fails_and_says_so(
    engine: Engine, gateway: Gateway, collection: Records, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    monkeypatch.setattr("aind_pipelines.mirror.docdb.session._PATIENCE_SECONDS", 1)
    with rest(gateway.url) as source, rest(gateway.url) as other:
        _pass(engine, source, "full")
        collection.delete_one({"_id": "id-000003"})
        collection.update_one({"_id": "id-000004"}, {"$set": {"note": "edited", "last_modified": iso(NOW)}})
        said: list[str] = []

        def happening(number: int) -> None:
            if not said:
                with pytest.raises(ServiceError, match="Another run is writing the mirror") as raised:
                    _pass(engine, other, mode)
                said.append(str(raised.value))

        _pass(engine, Interrupted(source, happening), "manifest")
        assert said
        _pass(engine, other, mode)
    assert differences(collection, conninfo(engine)) == []


def test_the_comparison_tells_what_is_wrong(engine: Engine, gateway: Gateway, collection: Records) -> None:
    with rest(gateway.url) as source:
        _pass(engine, source, "full")
    settled = [snapshot(collection, conninfo(engine))]
    assert differences(collection, conninfo(engine), settled) == []
    collection.delete_one({"_id": "id-000001"})
    collection.update_one({"_id": "id-000002"}, {"$set": {"note": 1}})
    collection.insert_one(record(50))
    lines = differences(collection, conninfo(engine), settled)
    assert [line.split(":")[1].split()[0] for line in lines] == ["id-000001", "id-000002", "id-000050"]
    with engine.begin() as connection:
        for damage in (
            "DELETE FROM docdb.record_versions WHERE id = 'id-000005'",
            "UPDATE docdb.record_versions SET valid_to = valid_from WHERE id = 'id-000006'",
            (
                "INSERT INTO docdb.record_versions SELECT record_version, id, valid_from - interval '1 hour', now(), "
                "source, content_hash, body, run_id FROM docdb.record_versions WHERE id = 'id-000007'"
            ),
        ):
            connection.exec_driver_sql(damage)
    lines = differences(collection, conninfo(engine), settled)
    for told in (
        "history: the open version is not the record: id-000005",
        "history: a version without time: id-000006",
        "history: versions overlap: id-000007",
        "settled state 0: id-000005 is missing",
    ):
        assert told in lines
