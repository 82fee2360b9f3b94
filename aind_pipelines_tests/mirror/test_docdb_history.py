"""History, tombstones and held deletions of the mirror, on a real Postgres."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.engine import URL

from aind_pipelines.mirror.docdb import DeletionGuard, PassRefused, ingest
from aind_pipelines.tables import migrate as migrations
from aind_pipelines.tables.schema import docdb_held_deletions, docdb_record_versions
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.records.shapes import SHAPES

V1, V2 = "metadata_index.data_assets", "metadata_index_v2.data_assets"


def record(number: int, **changes: Any) -> dict[str, Any]:
    shape = copy.deepcopy(SHAPES["v1 raw"])
    return shape | {"_id": f"id-{number:06d}", "location": f"s3://aind-open-data/asset-{number}"} | changes


def many(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [record(number, **changes) for number in range(count)]


def clock(engine: Engine) -> datetime:
    with engine.connect() as connection:
        return connection.execute(text("SELECT clock_timestamp()")).scalar_one()


def as_of(engine: Engine, time: datetime) -> dict[tuple[str, str], Any]:
    query = text("SELECT record_version, id, body FROM docdb.records_as_of(:at)")
    with engine.connect() as connection:
        return {(version, identity): body for version, identity, body in connection.execute(query, {"at": time})}


def held(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(select(docdb_held_deletions.c.id)))


def live(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(text("SELECT id FROM docdb.records")))


def check_history(engine: Engine) -> None:
    """What must hold of the history at any time."""
    differences = """
        SELECT count(*) FROM docdb.records FULL JOIN
        (SELECT * FROM docdb.record_versions WHERE valid_to IS NULL) AS open USING (record_version, id, content_hash)
        WHERE records.body IS DISTINCT FROM open.body
    """
    overlaps = """
        SELECT count(*) FROM docdb.record_versions AS a JOIN docdb.record_versions AS b USING (record_version, id)
        WHERE a.valid_from < b.valid_from AND (a.valid_to IS NULL OR a.valid_to > b.valid_from)
    """
    with engine.connect() as connection:
        assert connection.execute(text(differences)).scalar_one() == 0
        assert connection.execute(text(overlaps)).scalar_one() == 0


def test_every_content_is_kept_with_the_time_in_which_it_held(engine: Engine) -> None:
    contents = [record(1, note=note) for note in ("first", "second", "first")]
    times = []
    for content in contents:
        ingest(engine, V1, [content, record(2)], run_id=content["note"])
        times.append(clock(engine))
    ingest(engine, V1, [record(2)])
    times.append(clock(engine))
    assert [as_of(engine, time).get(("v1", "id-000001")) for time in times] == [*contents, None]
    assert as_of(engine, datetime(2000, 1, 1, tzinfo=UTC)) == {}
    with engine.connect() as connection:
        versions = connection.execute(select(docdb_record_versions).order_by("valid_from")).mappings().all()
    assert [row["run_id"] for row in versions if row["id"] == "id-000001"] == ["first", "second", "first"]
    assert sum(row["valid_to"] is None for row in versions) == 1
    check_history(engine)


def test_a_clock_that_was_set_back_makes_no_overlap(engine: Engine) -> None:
    ingest(engine, V1, [record(1)])
    with engine.begin() as connection:
        connection.execute(text("UPDATE docdb.record_versions SET valid_from = now() + interval '1 hour'"))
    ingest(engine, V1, [record(1, note="later")])
    check_history(engine)
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM docdb.record_versions WHERE valid_to <= valid_from")
        assert connection.execute(query).scalar_one() == 0


def test_versions_meet_without_a_moment_between_them(engine: Engine) -> None:
    for note in ("first", "second", "third"):
        ingest(engine, V1, [record(1, note=note)])
    with engine.connect() as connection:
        rows = connection.execute(select(docdb_record_versions).order_by("valid_from")).mappings().all()
    assert [row["valid_to"] for row in rows] == [*(row["valid_from"] for row in rows[1:]), None]
    for row in rows:
        assert as_of(engine, row["valid_from"]) == {("v1", "id-000001"): row["body"]}


_CONTENTS = st.dictionaries(
    st.integers(0, 5), st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from([V1, V2])), max_size=6
)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_CONTENTS, min_size=2, max_size=6))
def test_records_as_of_any_time_are_what_the_sources_held_then(
    engine: Engine, states: list[dict[int, tuple[int, bool, str]]]
) -> None:
    with engine.begin() as connection:
        for table in ("records", "record_versions", "findings"):
            connection.execute(text(f"TRUNCATE docdb.{table}"))
    snapshots = []
    for state in states:
        sources: dict[str, list[dict[str, Any]]] = {V1: [record(98)], V2: [record(99)]}
        for number, (note, upgraded, source) in state.items():
            changes = {"object_type": "Metadata"} if upgraded else {}
            sources[source].append(record(number, note=note, **changes))
        for _ in range(2):  # a record that moved between sources is taken out of one before the other brings it
            for source, records in sources.items():
                ingest(engine, source, records, batch=2)
        snapshots.append((clock(engine), sources))
        check_history(engine)
    for time, sources in snapshots:
        expected = {
            ("v2" if "object_type" in document else "v1", document["_id"]): document
            for records in sources.values()
            for document in records
        }
        assert as_of(engine, time) == expected


def test_a_mass_deletion_is_held_listed_and_done_once_a_person_confirms(engine: Engine) -> None:
    ingest(engine, V1, many(100))
    rest = many(100)[40:]
    for _ in range(2):
        with pytest.raises(PassRefused, match=r"no longer has 40 of the 100.*held_deletions.*confirm_deletions"):
            ingest(engine, V1, rest)
        assert len(live(engine)) == 100
        assert held(engine) == {document["_id"] for document in many(40)}
    assert ingest(engine, V1, [record(1000)], complete=False).inserted == 1, "ticks go on"
    returned = [record(0), *rest, record(1000)]
    result = ingest(engine, V1, returned, confirm_deletions=True)
    assert result.vanished == 39
    assert live(engine) == {document["_id"] for document in returned}
    assert held(engine) == set()
    check_history(engine)


def test_a_confirmation_is_only_for_what_was_held_before(engine: Engine) -> None:
    ingest(engine, V1, many(100))
    with pytest.raises(PassRefused):
        ingest(engine, V1, many(70), confirm_deletions=True)
    assert len(held(engine)) == 30
    with pytest.raises(PassRefused, match="no longer has 40 of the 100"):
        ingest(engine, V1, many(30), confirm_deletions=True)
    assert live(engine) == {document["_id"] for document in many(70)}
    assert held(engine) == {document["_id"] for document in many(70)[30:]}


def test_records_that_come_back_are_no_longer_held(engine: Engine) -> None:
    ingest(engine, V1, many(60))
    with pytest.raises(PassRefused):
        ingest(engine, V1, many(10))
    ingest(engine, V1, many(60))
    assert held(engine) == set()


def test_what_was_held_stays_held_even_when_little_of_it_is_left(engine: Engine) -> None:
    ingest(engine, V1, many(60))
    with pytest.raises(PassRefused):
        ingest(engine, V1, many(10))
    with pytest.raises(PassRefused, match="still lacks 5 records whose deletion an earlier pass held"):
        ingest(engine, V1, many(55))
    assert len(live(engine)) == 60
    assert len(held(engine)) == 5


def test_a_whole_bucket_that_vanishes_is_held_however_few_it_had(engine: Engine) -> None:
    small = [record(number, location=f"s3://small-bucket/{number}") for number in (900, 901)]
    ingest(engine, V1, [*many(50), *small])
    with pytest.raises(PassRefused, match=r"any record of the bucket small-bucket, 2"):
        ingest(engine, V1, many(50))
    assert held(engine) == {"id-000900", "id-000901"}
    assert ingest(engine, V1, many(50), confirm_deletions=True).vanished == 2


def test_an_empty_answer_holds_everything_even_when_little_is_confirmed(engine: Engine) -> None:
    ingest(engine, V1, many(3))
    with pytest.raises(PassRefused, match="without any record"):
        ingest(engine, V1, [], confirm_deletions=True)
    assert len(live(engine)) == len(held(engine)) == 3
    assert ingest(engine, V1, [], confirm_deletions=True).vanished == 3


def test_the_policy_says_how_much_may_vanish(engine: Engine) -> None:
    ingest(engine, V1, many(10))
    with pytest.raises(PassRefused, match="no longer has 2 of the 10 records in the mirror, more than the 1"):
        ingest(engine, V1, many(8), guard=DeletionGuard(share=0.1, floor=0))


def test_assets_current_has_one_row_per_location_v2_before_v1_then_the_latest(engine: Engine) -> None:
    same = {"location": "s3://b/same"}
    ingest(engine, V1, [record(1, **same, last_modified="2030-01-01T00:00:00Z")])
    ingest(
        engine,
        V2,
        [
            record(2, object_type="Metadata", _last_modified="2026-01-01T00:00:00Z", **same),
            record(3, object_type="Metadata", _last_modified="2026-01-02T00:00:00Z", **same),
            record(4, object_type="Metadata", location=None),
            record(5, object_type="Metadata"),
        ],
    )
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id FROM public.assets_current ORDER BY id")).scalars().all()
    assert rows == ["id-000003", "id-000005"]


def test_a_mirror_from_before_the_history_gets_open_versions(empty_database: URL) -> None:
    engine = create_engine(empty_database)
    config = migrations._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO docdb.records (record_version, id, source, content_hash, body, last_changed)"
                " VALUES ('v1', 'x', :source, 'hash', '{\"_id\": \"x\"}', '2026-01-01T00:00:00Z')"
            ),
            {"source": V1},
        )
    migrations.migrate(engine)
    check_history(engine)
    assert as_of(engine, datetime(2026, 1, 1, tzinfo=UTC)) == {("v1", "x"): {"_id": "x"}}
    assert as_of(engine, datetime(2025, 12, 31, tzinfo=UTC)) == {}
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    engine.dispose()
