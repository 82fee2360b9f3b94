"""Ticks and manifest passes against a source that is edited meanwhile, compared with snapshots of the source."""

from __future__ import annotations

import copy
import multiprocessing
import os
import random
import signal
import time as clocks
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable
from aind_pipelines.lab.docdb.matching import compile_filter
from aind_pipelines.mirror.docdb import DeletionGuard, MirrorBusy, PassRefused, manifest, tick, update
from aind_pipelines.mirror.docdb.source import LISTED, modified_filter, modified_time
from aind_pipelines.mirror.docdb.watermark import read_watermark
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.mirror.test_docdb_history import as_of, check_history, clock, held, live, record

NOW = datetime.now(UTC).replace(microsecond=0)
NAME = "metadata_index.data_assets"


def iso(time: datetime) -> str:
    """As most records write their modified time."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class MemorySource:
    """A collection in memory, whose filters are those of the embedded DocDB; it counts what it gives away."""

    def __init__(self, bson_dates: bool = False, name: str = NAME) -> None:
        self.name = name
        self.records: dict[Any, dict[str, Any]] = {}
        self.given = 0
        self.broken_after: int | None = None
        self._bson_dates = bson_dates

    def put(self, *records: dict[str, Any]) -> None:
        for item in records:
            self.records[item["_id"]] = item

    def _give(self, records: Sequence[dict[str, Any]], light: bool = False) -> Iterator[dict[str, Any]]:
        for number, item in enumerate(records):
            if self.broken_after is not None and number >= self.broken_after:
                raise ServiceUnavailable("DocDB", "gone")
            self.given += not light
            yield copy.deepcopy({name: item[name] for name in item if not light or name in LISTED})

    def everything(self) -> Iterator[dict[str, Any]]:
        return self._give(list(self.records.values()))

    def _since(self, since: datetime) -> list[dict[str, Any]]:
        matches = compile_filter(modified_filter(since, bson_dates=self._bson_dates))
        return [item for item in self.records.values() if matches(item)]

    def modified_since(self, since: datetime) -> Iterator[dict[str, Any]]:
        return self._give(self._since(since))

    def listing(self, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        return self._give(list(self.records.values()) if since is None else self._since(since), light=True)

    def by_ids(self, ids: Sequence[Any]) -> Iterator[dict[str, Any]]:
        return self._give([self.records[identity] for identity in ids if identity in self.records])

    def confirm_gone(self, ids: Sequence[str]) -> None:
        assert not self.records.keys() & set(ids)

    def snapshot(self) -> dict[tuple[str, str], Any]:
        return {
            ("v2" if "object_type" in item else "v1", item["_id"]): copy.deepcopy(item)
            for item in self.records.values()
        }


@pytest.fixture
def source() -> MemorySource:
    """Fifty records, modified a day apart."""
    source = MemorySource()
    source.put(*(record(number, last_modified=iso(NOW - timedelta(days=number + 1))) for number in range(50)))
    return source


def test_a_tick_reads_only_what_was_modified_since_and_writes_only_what_changed(
    engine: Engine, source: MemorySource
) -> None:
    update(engine, source)
    source.put(record(3, note="edited", last_modified=iso(NOW)), record(60, last_modified=iso(NOW)))
    source.given = 0
    result = tick(engine, source)
    assert (result.read, result.inserted, result.changed) == (3, 1, 1), "the highest of before lies in the overlap"
    assert source.given == 3
    assert tick(engine, source).written == 0
    assert as_of(engine, clock(engine)) == source.snapshot()
    check_history(engine)


def test_a_tick_without_a_full_pass_before_is_refused(engine: Engine, source: MemorySource) -> None:
    with pytest.raises(ServiceError, match=r"never read to its end.*mode auto"):
        tick(engine, source)
    assert [name for name, _ in update(engine, source)] == ["full"]
    assert [name for name, _ in update(engine, source)] == ["tick", "manifest"]


def test_records_of_the_very_time_of_the_watermark_are_read(engine: Engine, source: MemorySource) -> None:
    same = iso(NOW - timedelta(hours=1))
    source.put(record(70, last_modified=same))
    update(engine, source)
    source.put(record(71, last_modified=same), record(70, last_modified=same, note="the same millisecond"))
    result = tick(engine, source, overlap=timedelta(0))
    assert (result.inserted, result.changed) == (1, 1)


def test_a_writer_whose_clock_is_behind_is_borne_within_the_overlap(engine: Engine, source: MemorySource) -> None:
    source.put(record(70, last_modified=iso(NOW)))
    update(engine, source)
    source.put(record(71, last_modified=iso(NOW - timedelta(minutes=9))))
    source.put(record(72, last_modified=iso(NOW - timedelta(minutes=30))))
    assert tick(engine, source).inserted == 1
    assert manifest(engine, source).inserted == 1, "what is further behind is found by the manifest pass"


def test_a_record_from_the_future_does_not_blind_the_ticks(engine: Engine, source: MemorySource) -> None:
    source.put(record(70, last_modified="2999-01-01T00:00:00Z"))
    update(engine, source)
    with engine.connect() as connection:
        known = read_watermark(connection, NAME)
    assert known is not None
    assert known.modified == NOW - timedelta(days=1)
    source.put(record(71, last_modified=iso(datetime.now(UTC))))
    assert tick(engine, source).inserted == 1


def test_ticks_keep_the_findings_about_shared_locations_true(engine: Engine, source: MemorySource) -> None:
    def shared() -> list[tuple[str, str]]:
        query = text(
            "SELECT key, message FROM docdb.findings WHERE code = 'duplicate_location' AND resolved_at IS NULL"
        )
        with engine.connect() as connection:
            return [(key, message) for key, message in connection.execute(query)]

    update(engine, source)
    there = source.records["id-000002"]["location"]
    source.put(record(1, location=there, last_modified=iso(NOW)))
    tick(engine, source)
    assert shared() == [(there, "2 records name it: id-000001, id-000002")]
    with engine.begin() as connection:  # as if the tick had been killed before its end
        connection.execute(text("DELETE FROM docdb.findings WHERE code = 'duplicate_location'"))
    tick(engine, source)
    assert [key for key, _ in shared()] == [there]
    source.put(record(3, last_modified=iso(NOW)))
    tick(engine, source)
    assert [key for key, _ in shared()] == [there]
    source.put(record(1, last_modified=iso(NOW)))
    tick(engine, source)
    assert shared() == []


@pytest.mark.parametrize("form", ["{:%Y-%m-%dT%H:%M:%S.%f}", "{:%Y-%m-%d %H:%M:%S}", "{:%Y-%m-%dT%H:%M:%S}+00:00"])
@pytest.mark.parametrize("field", ["last_modified", "_last_modified"])
def test_usual_notations_in_both_spellings_are_found_by_a_tick(
    engine: Engine, source: MemorySource, form: str, field: str
) -> None:
    update(engine, source)
    new = record(70)
    del new["last_modified"]
    source.put(new | {field: form.format(NOW)})
    assert tick(engine, source).inserted == 1


def test_bson_dates_are_found_by_a_tick_where_the_transport_can_compare_them(engine: Engine) -> None:
    source = MemorySource(bson_dates=True)
    source.put(record(1, last_modified=NOW - timedelta(days=2)))
    update(engine, source)
    source.put(record(2, last_modified=NOW), record(3, last_modified=NOW - timedelta(days=3)))
    assert tick(engine, source).inserted == 1
    assert manifest(engine, source).inserted == 1


def test_a_manifest_pass_finds_what_a_tick_cannot_and_counts_what_has_no_time(
    engine: Engine, source: MemorySource
) -> None:
    update(engine, source)
    del source.records["id-000007"]
    source.put(
        record(70, last_modified="Mon, 03 Jan 2022 04:05:06 GMT"),
        record(71, last_modified="soon"),
        record(8, last_modified=iso(NOW - timedelta(days=400)), note="restored"),
    )
    assert tick(engine, source).written == 0
    source.given = 0
    result = manifest(engine, source, reconcile_passes=1_000_000)
    assert (result.inserted, result.changed, result.vanished, result.without_modified) == (2, 1, 1, 1)
    assert source.given == 3
    assert as_of(engine, clock(engine)) == source.snapshot()
    again = manifest(engine, source, reconcile_passes=1_000_000)
    assert (again.read, again.written) == (1, 0), "one without a time is read every time"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT without_modified FROM docdb.watermarks")).scalar_one() == 1


def test_a_silent_edit_is_found_within_the_passes_that_the_policy_says(engine: Engine, source: MemorySource) -> None:
    update(engine, source)
    for number in (4, 5):
        identity = f"id-{number:06d}"
        source.put(source.records[identity] | {"note": "edited, and the time left as it was"})
    source.given = 0
    results = [manifest(engine, source, reconcile_passes=5) for _ in range(5)]
    assert sum(result.changed for result in results) == 2
    assert source.given == 50, "each record was read whole once"
    assert as_of(engine, clock(engine)) == source.snapshot()
    source.put(source.records["id-000006"] | {"note": "again"})
    ((_, full),) = update(engine, source, "full")
    assert full.changed == 1


def test_a_mass_deletion_is_held_by_the_manifest_while_ticks_go_on_then_confirmed(
    engine: Engine, source: MemorySource
) -> None:
    update(engine, source)
    for number in range(30):
        del source.records[f"id-{number:06d}"]
    source.put(record(80, last_modified=iso(NOW)))
    with pytest.raises(PassRefused, match="no longer has 30 of the 51"):
        manifest(engine, source)
    assert len(held(engine)) == 30
    source.put(record(81, last_modified=iso(NOW)))
    assert tick(engine, source).inserted == 1
    assert len(live(engine)) == 52
    assert manifest(engine, source, confirm_deletions=True).vanished == 30
    assert as_of(engine, clock(engine)) == source.snapshot()
    assert held(engine) == set()


def test_an_outage_and_an_empty_answer_remove_nothing_and_leave_the_watermark(
    engine: Engine, source: MemorySource
) -> None:
    update(engine, source)
    with engine.connect() as connection:
        before = read_watermark(connection, NAME)
    source.put(*(record(number, last_modified=iso(NOW)) for number in range(80, 84)))
    source.broken_after = 2
    for run in (tick, manifest):
        with pytest.raises(ServiceUnavailable, match="gone"):
            run(engine, source, batch=1)
    with engine.connect() as connection:
        after = read_watermark(connection, NAME)
    assert before == after
    source.broken_after = 0
    assert len(live(engine)) >= 50
    source.broken_after, source.records = None, {}
    with pytest.raises(PassRefused, match="without any record"):
        manifest(engine, source)
    assert len(live(engine)) >= 50


def test_a_second_pass_is_refused_while_one_is_writing(
    engine: Engine, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aind_pipelines.mirror.docdb.session._PATIENCE_SECONDS", 1)
    update(engine, source)

    class Nested(MemorySource):
        def listing(self, since: datetime | None = None) -> Iterator[dict[str, Any]]:
            with pytest.raises(MirrorBusy, match="Another run"):
                tick(engine, source)
            return source.listing()

    nested = Nested()
    nested.records = source.records
    assert manifest(engine, nested).written == 0
    assert tick(engine, source).written == 0


class _Slow(MemorySource):
    def _give(self, records: Sequence[dict[str, Any]], light: bool = False) -> Iterator[dict[str, Any]]:
        for item in super()._give(records, light):
            clocks.sleep(0 if light else 0.005)
            yield item


def _slow_source(edited: bool) -> _Slow:
    source = _Slow()
    begin = datetime(2026, 6, 1, tzinfo=UTC)  # the same in the process that is killed
    for number in range(300):
        source.put(record(number, last_modified=iso(begin + timedelta(seconds=number))))
        if edited:
            source.put(record(number, note="edited", last_modified=iso(begin + timedelta(days=1))))
    return source


def _pass_slowly(url: str, mode: Any, edited: bool) -> None:
    update(create_engine(url), _slow_source(edited), mode, batch=5)


@pytest.mark.parametrize("mode", ["full", "tick", "manifest"])
def test_a_pass_that_is_killed_between_batches_leaves_history_whole_and_the_next_completes(
    engine: Engine, mode: str
) -> None:
    if mode != "full":
        quick = MemorySource()
        quick.records = _slow_source(False).records
        update(engine, quick)
    url = engine.url.render_as_string(hide_password=False)
    process = multiprocessing.get_context("spawn").Process(target=_pass_slowly, args=(url, mode, mode != "full"))
    process.start()
    query = text("SELECT count(*) FROM docdb.record_versions WHERE valid_to IS NOT NULL OR :all")
    deadline = clocks.monotonic() + 30
    while True:
        with engine.connect() as connection:
            if connection.execute(query, {"all": mode == "full"}).scalar_one() >= 20:
                break
        assert clocks.monotonic() < deadline
        clocks.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    check_history(engine)
    final = MemorySource()
    final.records = _slow_source(mode != "full").records
    ((_, result),) = update(engine, final, mode)  # type: ignore[arg-type]
    assert 0 < result.written < 300
    assert as_of(engine, clock(engine)) == final.snapshot()
    check_history(engine)


def _edit(rng: random.Random, source: MemorySource, now: datetime) -> None:
    """One edit of the kinds that happen."""
    number = rng.randrange(60)
    identity = f"id-{number:06d}"
    kind = rng.choice(["put", "put", "put", "delete", "silent", "skewed", "upgrade", "timeless", "oddly"])
    note = rng.random()
    if kind == "delete":
        source.records.pop(identity, None)
    elif kind == "silent" and identity in source.records:
        source.put(source.records[identity] | {"note": note})
    elif kind == "timeless":
        source.put(record(number, note=note, last_modified=None))
    else:
        time = now - timedelta(hours=rng.randrange(100)) if kind == "skewed" else now
        changes = {"object_type": "Metadata"} if kind == "upgrade" else {}
        written: Any = iso(time) if kind != "oddly" else f"{time:%a, %d %b %Y %H:%M:%S} GMT"
        source.put(record(number, note=note, last_modified=written, **changes))


@pytest.mark.parametrize("attempt", range(examples(4)))
def test_while_the_source_is_edited_the_mirror_follows_and_every_past_can_be_told(
    engine: Engine, source: MemorySource, attempt: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, attempt {attempt}")
    rng = random.Random(seed)
    update(engine, source)
    snapshots = [(clock(engine), source.snapshot())]
    for step in range(12):
        for _ in range(rng.randrange(6)):
            _edit(rng, source, NOW + timedelta(seconds=step) - timedelta(minutes=1))
        tick(engine, source)
        check_history(engine)
        if rng.random() < 0.5:
            manifest(engine, source, reconcile_passes=1, guard=DeletionGuard(1.0, 1000))
            snapshots.append((clock(engine), source.snapshot()))
    for time, snapshot in snapshots:
        assert as_of(engine, time) == snapshot


@pytest.mark.parametrize(
    "written", ["2026-03-09T16:35:42.382Z", "2026-03-09 16:35:42.123456", 1741538142, NOW, {"$date": 1741538142123}]
)
def test_the_list_reads_times_as_the_mirror_does(engine: Engine, written: Any) -> None:
    source = MemorySource()
    source.put(record(1, last_modified=written))
    update(engine, source)
    with engine.connect() as connection:
        mirrored = connection.execute(text("SELECT modified FROM docdb.records")).scalar_one()
    assert mirrored == modified_time(source.records["id-000001"])
