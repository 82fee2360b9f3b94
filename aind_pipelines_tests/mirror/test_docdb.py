"""The mirror of DocDB's records, on a real Postgres."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select, text

from aind_pipelines.clients.docdb.texts import RecordText, records_in
from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.mirror.docdb import MirrorBusy, PassRefused, ingest
from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.excerpt import read_whole
from aind_pipelines.records.normalise import normalise
from aind_pipelines.tables.schema import docdb_findings, docdb_records
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.records.shapes import SHAPES
from aind_pipelines_tests.records.strategies import JSON_VALUES, TEXTS, damaged_records

V1, V2 = "metadata_index.data_assets", "metadata_index_v2.data_assets"


def _record(number: int, **changes: Any) -> dict[str, Any]:
    record = copy.deepcopy(SHAPES["v1 raw"])
    return record | {"_id": f"id-{number:06d}", "location": f"s3://aind-open-data/asset-{number}"} | changes


def _many(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [_record(number, **changes) for number in range(count)]


def _mirrored(engine: Engine) -> dict[tuple[str, str], Any]:
    with engine.connect() as connection:
        rows = connection.execute(select(docdb_records)).mappings()
        return {(row["record_version"], row["id"]): row for row in rows}


def _hash(engine: Engine, record: object) -> str:
    """The content hash of what a record is stored as."""
    with engine.connect() as connection:
        return str(
            connection.scalar(
                text("SELECT docdb.content_hash(CAST(:body AS jsonb))"), {"body": canonicalise(record).text}
            )
        )


def _as_text(record: dict[str, Any]) -> RecordText | dict[str, Any]:
    """The record as a gateway would send it, where it can be sent as strict JSON."""
    try:
        page = json.dumps([record], ensure_ascii=False).encode()
    except (TypeError, ValueError, UnicodeEncodeError):
        return record
    texts = records_in(page)
    return texts[0] if texts else record


def _standing(engine: Engine) -> set[tuple[str, str, str]]:
    table = docdb_findings.c
    with engine.connect() as connection:
        found = connection.execute(select(table.code, table.key, table.field).where(table.resolved_at.is_(None)))
        return {(code, key, field) for code, key, field in found}


def test_records_of_every_shape_arrive_as_they_were_read(engine: Engine) -> None:
    records = [record | {"_id": f"id {number}"} for number, record in enumerate(SHAPES.values())]
    result = ingest(engine, V1, records, run_id="run-1")
    assert (result.read, result.inserted, result.changed, result.unchanged, result.vanished) == (7, 7, 0, 0, 0)
    expected = Counter(finding.code for record in records for finding in normalise(record).findings)
    assert sum(expected.values()) > 5
    assert result.findings_by_code == expected | {"duplicate_location": 1}
    rows = _mirrored(engine)
    assert {identity: row["body"] for (_, identity), row in rows.items()} == {
        record["_id"]: record for record in records
    }
    row = rows["v1", "id 0"]
    assert row["content_hash"] == _hash(engine, records[0])
    assert (row["source"], row["run_id"]) == (V1, "run-1")
    assert (row["name"], row["location"]) == (records[0]["name"], records[0]["location"])
    assert row["modified"] == datetime(2025, 4, 14, 4, 10, 39, 724000, tzinfo=UTC)
    assert {version for version, _ in rows} == {"v1", "v2"}


def test_the_same_records_again_write_nothing(engine: Engine) -> None:
    ingest(engine, V1, _many(30), run_id="run-1")
    before = _physical(engine)
    again = ingest(engine, V1, reversed(_many(30)), run_id="run-2", batch=7)
    assert (again.inserted, again.changed, again.unchanged, again.vanished) == (0, 0, 30, 0)
    assert _physical(engine) == before


def _physical(engine: Engine) -> list[Any]:
    """The row versions as Postgres has them: an update, even to the same values, would show."""
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT id, ctid::text, xmin::text FROM docdb.records ORDER BY id")))


def test_only_what_changed_is_written_and_what_vanished_goes(engine: Engine) -> None:
    ingest(engine, V1, _many(10), run_id="run-1")
    before = _mirrored(engine)
    records = _many(10)[:-2]
    records[3]["location"] = "s3://elsewhere/asset"
    result = ingest(engine, V1, [*records, _record(99)], run_id="run-2")
    assert (result.read, result.inserted, result.changed, result.unchanged, result.vanished) == (9, 1, 1, 7, 2)
    after = _mirrored(engine)
    assert {identity for _, identity in after} == {record["_id"] for record in [*records, _record(99)]}
    changed = after["v1", "id-000003"]
    assert (changed["location"], changed["run_id"]) == ("s3://elsewhere/asset", "run-2")
    assert changed["first_seen"] == before["v1", "id-000003"]["first_seen"]
    assert changed["last_changed"] > before["v1", "id-000003"]["last_changed"]
    assert after["v1", "id-000004"] == before["v1", "id-000004"]


def test_findings_stand_while_the_oddity_does_and_keep_their_first_date(engine: Engine) -> None:
    odd = _record(1, location=None)
    assert ingest(engine, V1, [odd, _record(2)]).findings_by_code == {"location_missing": 1}
    assert _standing(engine) == {("location_missing", "v1/id-000001", "location")}
    ingest(engine, V1, [_record(1), _record(2)])
    assert _standing(engine) == set()
    ingest(engine, V1, [odd, _record(2)])
    assert len(_standing(engine)) == 1
    ingest(engine, V1, [_record(2)])
    assert _standing(engine) == set()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM docdb.findings")).scalar_one() == 1


def test_a_pass_over_a_part_removes_nothing_and_resolves_only_what_it_read(engine: Engine) -> None:
    ingest(engine, V1, [_record(1, location=None), _record(2, location=None), *_many(40)[5:]])
    result = ingest(engine, V1, [_record(1)], complete=False)
    assert (result.read, result.changed, result.vanished) == (1, 1, 0)
    assert _standing(engine) == {("location_missing", "v1/id-000002", "location")}
    assert len(_mirrored(engine)) == 37
    assert ingest(engine, V1, [], complete=False).read == 0
    assert len(_mirrored(engine)) == 37


def test_an_empty_answer_is_never_taken_for_an_empty_database(engine: Engine) -> None:
    assert ingest(engine, V1, []).read == 0
    ingest(engine, V1, [_record(1, location=None)])
    with pytest.raises(PassRefused, match=r"without any record.*mirror holds 1") as caught:
        ingest(engine, V1, [])
    assert caught.value.retryable
    assert len(_mirrored(engine)) == 1
    assert len(_standing(engine)) == 1


@pytest.mark.parametrize(
    ("held", "vanishing", "refused"), [(30, 20, False), (30, 21, True), (600, 30, False), (600, 31, True)]
)
def test_a_large_loss_is_refused_and_a_small_one_is_not(
    engine: Engine, held: int, vanishing: int, refused: bool
) -> None:
    ingest(engine, V1, _many(held))
    fewer = [*_many(held)[vanishing:], _record(999_999)]
    if refused:
        with pytest.raises(PassRefused, match=f"no longer has {vanishing} of the {held + 1} records"):
            ingest(engine, V1, fewer)
        assert len(_mirrored(engine)) == held + 1, "what was read is kept"
    else:
        assert ingest(engine, V1, fewer).vanished == vanishing
        assert len(_mirrored(engine)) == held - vanishing + 1


def test_a_pass_that_breaks_off_keeps_what_it_read_and_removes_nothing(engine: Engine) -> None:
    ingest(engine, V1, _many(5))

    def breaking() -> Iterator[dict[str, Any]]:
        yield from _many(12)[3:]
        raise ServiceUnavailable("DocDB", "gone")

    with pytest.raises(ServiceUnavailable, match="DocDB: gone"):
        ingest(engine, V1, breaking(), batch=4)
    assert {identity for _, identity in _mirrored(engine)} == {record["_id"] for record in _many(11)}
    assert ingest(engine, V1, _many(12)).inserted == 1


def test_a_record_that_comes_twice_counts_once_and_its_last_content_holds(engine: Engine) -> None:
    records = [_record(1), _record(1, location="s3://b/2"), _record(2), _record(2), _record(1, location="s3://b/3")]
    result = ingest(engine, V1, records, batch=2)
    assert result.read == 2
    assert _mirrored(engine)["v1", "id-000001"]["location"] == "s3://b/3"
    assert ingest(engine, V1, records[-2:], batch=1).unchanged == 2


def test_a_record_upgraded_in_place_moves_to_its_new_version_however_many_do(engine: Engine) -> None:
    ingest(engine, V1, _many(50))
    result = ingest(engine, V1, _many(50, object_type="Metadata"))
    assert (result.inserted, result.vanished) == (50, 50)
    assert {version for version, _ in _mirrored(engine)} == {"v2"}


def test_a_location_that_two_records_of_a_generation_name_is_a_finding(engine: Engine) -> None:
    twins = [_record(number, location="s3://b/same") for number in (1, 2)]
    upgraded = _record(3, location="s3://b/same", object_type="Metadata")
    assert ingest(engine, V1, [*twins, upgraded]).findings_by_code == {"duplicate_location": 1}
    assert _standing(engine) == {("duplicate_location", "s3://b/same", "v1")}
    ingest(engine, V1, [twins[0], upgraded])
    assert _standing(engine) == set()


def test_sources_do_not_touch_each_others_records(engine: Engine) -> None:
    ingest(engine, V1, _many(3))
    ingest(engine, V2, [_record(7, object_type="Metadata", location=None)])
    assert ingest(engine, V1, _many(2)).vanished == 1
    assert sorted(row["source"] for row in _mirrored(engine).values()) == [V1, V1, V2]
    assert len(_standing(engine)) == 1


def test_of_a_record_held_twice_the_later_modified_is_mirrored_whatever_the_order(engine: Engine) -> None:
    older = _record(1, object_type="Metadata", location=None)
    newer = _record(1, object_type="Metadata", _last_modified="2030-01-01T00:00:00Z")
    ingest(engine, V1, [older])
    ingest(engine, V2, [newer])
    for _ in range(2):
        result = ingest(engine, V1, [older])
        assert (result.changed, result.unchanged, result.vanished) == (0, 1, 0)
        assert result.findings_by_code == {"held_twice": 1}
        assert ingest(engine, V2, [newer]).findings_by_code == {}
    (row,) = _mirrored(engine).values()
    assert (row["source"], row["body"]) == (V2, newer)
    assert _standing(engine) == {("held_twice", "v2/id-000001", V1)}


def test_what_jsonb_cannot_hold_is_replaced_told_and_stable(engine: Engine) -> None:
    records: list[dict[str, Any]] = [
        _record(1, note="a\x00b"),
        _record(2, note="\ud800"),
        _record(3, note=float("nan")),
        _record(4, note=10**5000),
        _record(5, **{"dots.and$": 1, "\x00": 2}),
        _record(6, name="behavior_700001_2025-04-13_15-30-30\x00"),
        _record(7, last_modified=datetime(2026, 1, 1, tzinfo=UTC)),
        _record(8) | {"_id": ObjectId("65f000000000000000000001")},
        _record(9) | {"_id": "x\x00y"},
    ]
    result = ingest(engine, V1, records)
    assert result.inserted == 9
    assert result.findings_by_code["nul_character"] == 4
    assert result.findings_by_code["number_not_finite"] == 1
    assert result.findings_by_code["number_too_large"] == 1
    assert result.findings_by_code["key_replaced"] == 1
    assert ingest(engine, V1, records).unchanged == 9
    rows = _mirrored(engine)
    assert rows["v1", "65f000000000000000000001"]["body"]["_id"] == "65f000000000000000000001"
    assert rows["v1", "id-000001"]["body"]["note"] == "a\ufffdb"


def test_a_second_run_is_refused_while_one_is_writing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aind_pipelines.mirror.docdb.session._PATIENCE_SECONDS", 1)

    def reading() -> Iterator[dict[str, Any]]:
        yield _record(1)
        with pytest.raises(MirrorBusy, match="Another run"):
            ingest(engine, V1, _many(3))
        yield _record(2)

    assert ingest(engine, V1, reading(), batch=1).inserted == 2
    assert ingest(engine, V1, _many(3)).read == 3


def _ingest_slowly(url: str) -> None:
    def slow() -> Iterator[dict[str, Any]]:
        for record in _many(1000):
            time.sleep(0.002)
            yield record

    ingest(create_engine(url), V1, slow(), batch=10)


def test_a_run_that_is_killed_between_batches_is_simply_run_again(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    process = multiprocessing.get_context("spawn").Process(target=_ingest_slowly, args=(url,))
    process.start()
    deadline = time.monotonic() + 30
    while len(_mirrored(engine)) < 50:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = len(_mirrored(engine))
    assert 50 <= kept < 1000
    result = ingest(engine, V1, _many(1000))
    assert (result.inserted, result.unchanged) == (1000 - kept, kept)


def test_a_lost_connection_is_an_outage_and_the_next_run_completes(engine: Engine) -> None:
    def reading() -> Iterator[dict[str, Any]]:
        yield from _many(20)
        with engine.begin() as connection:
            others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
        yield _record(20)

    with pytest.raises(ServiceUnavailable, match="mirroring metadata_index"):
        ingest(engine, V1, reading(), batch=5)
    result = ingest(engine, V1, _many(21))
    assert (result.inserted, result.unchanged) == (1, 20)


def test_memory_does_not_grow_with_the_number_of_records(engine: Engine) -> None:
    def heavy(count: int) -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield _record(number, note=[f"{number} {position}" for position in range(1_000)])

    peaks = []
    for count in (60, 240):
        tracemalloc.start()
        ingest(engine, V1, heavy(count), batch=20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(damaged_records(), min_size=1, max_size=4)
    | st.lists(st.dictionaries(TEXTS, JSON_VALUES, max_size=4), min_size=1, max_size=4)
)
def test_any_record_arrives_and_its_stored_body_has_its_hash(engine: Engine, records: list[Any]) -> None:
    records = [record if isinstance(record, dict) else {"value": record} for record in records]
    ingest(engine, V1, records, complete=False)
    stored = {row["content_hash"]: row["body"] for row in _mirrored(engine).values()}
    last = {json.dumps(record.get("_id"), default=str): record for record in records}
    for record in last.values():
        assert _hash(engine, stored[_hash(engine, record)]) == _hash(engine, record)
    assert ingest(engine, V1, last.values(), complete=False).changed == 0


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(damaged_records(), min_size=1, max_size=4))
def test_a_record_is_mirrored_alike_whether_it_comes_read_or_as_text(engine: Engine, records: list[Any]) -> None:
    records = [record | {"_id": f"id {number}"} for number, record in enumerate(records) if isinstance(record, dict)]
    texts = [_as_text(record) for record in records]
    read = [read_whole(item.text) if isinstance(item, RecordText) else item for item in texts]
    ingest(engine, V1, texts, complete=False)
    found, rows = _standing(engine), _mirrored(engine)
    again = ingest(engine, V1, read, complete=False)
    assert (again.changed, again.unchanged) == (0, len(records))
    assert (_standing(engine), _mirrored(engine)) == (found, rows)


def test_what_postgres_or_python_could_not_take_is_replaced_in_a_text_too(engine: Engine) -> None:
    numbers = {"digits": b"9" * 5_000, "exponent": b"1e500", "signed": b"-1E+70000 ", "plain": b"1e22"}
    odd = {name: b'{"_id":"%b","x":%b}' % (name.encode(), number) for name, number in numbers.items()}
    odd |= {"nul": b'{"_id":"nul","x":"a\\u0000b"}', "pair": b'{"_id":"pair",\n"x":\t"\\ud83d\\ude00\\\\"}'}
    page = b"[" + b",".join(odd.values()) + b"]"
    texts = records_in(page)
    assert texts is not None
    assert [item.text for item in texts] == list(odd.values())
    ingest(engine, V1, texts, complete=False)
    assert {identity: row["body"]["x"] for (_, identity), row in _mirrored(engine).items()} == {
        "digits": hex(int("9" * 4_000) * 10**1_000 + int("9" * 1_000)),
        "exponent": "Infinity",
        "signed": "-Infinity",
        "plain": 10**22,
        "nul": "a\ufffdb",
        "pair": "\U0001f600\\",
    }
    codes = {(code, key) for code, key, field in _standing(engine) if field == "x"}
    assert codes == {
        ("number_too_large", "v1/digits"),
        ("number_not_finite", "v1/exponent"),
        ("number_not_finite", "v1/signed"),
        ("nul_character", "v1/nul"),
    }
