"""Publishing from the mirror, on a real Postgres, synthetic and real records."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, select, text, update

from aind_pipelines.clients.rds import PublishRefused
from aind_pipelines.clients.rds.encode import cell_for
from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.hashing import hash_text
from aind_pipelines.records.normalise import normalise
from aind_pipelines.tables import publishing, schema
from aind_pipelines.tables.analysts import RECORD_TABLES
from aind_pipelines.tables.derivations.subjects import subject_rows
from aind_pipelines.tables.publishing import publish_tables
from aind_pipelines.tables.schema import data_assets, docdb_records, subjects
from aind_pipelines_tests.records.real import real_records
from aind_pipelines_tests.records.shapes import SHAPES
from aind_pipelines_tests.tables.deriving import BY_NAME, derived

RECORDS = [record | {"_id": f"id {number}"} for number, record in enumerate(SHAPES.values())]


def _mirror(engine: Engine, records: Iterable[Any]) -> None:
    with engine.begin() as connection:
        connection.execute(docdb_records.delete())
        for record in records:
            found = normalise(record)
            connection.execute(
                insert(docdb_records).values(
                    record_version=found.record_version,
                    id=found.id,
                    source="metadata_index.data_assets",
                    content_hash=hash_text(canonicalise(record).text),
                    body=canonicalise(record).body,
                )
            )


def _rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]


def _content(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    return {table.name: _rows(engine, table) for table in schema.ANALYSTS_TABLES}


def _expected(records: list[Any], name: str) -> list[dict[str, Any]]:
    table = BY_NAME[name].table
    rows = [row for record in records for row in derived(record, name)]
    return sorted(rows, key=lambda row: [row[column.name] for column in table.primary_key])


def test_every_table_has_the_rows_of_every_record_of_both_generations(engine: Engine) -> None:
    twin = SHAPES["v2"] | {"_id": "id 0"}
    _mirror(engine, [*RECORDS, twin])
    results = publish_tables(engine, run_id="run-1")
    assert (results["data_assets"].rows, results["data_assets"].inserted) == (8, 8)
    found = _content(engine)
    assert found["subjects"] == list(subject_rows(_expected([*RECORDS, twin], "subjects")))
    for name, result in results.items():
        assert result.rows == len(found[name]), name
        if name not in ("subjects", "asset_lineage"):
            assert found[name] == _expected([*RECORDS, twin], name), name


def test_publishing_again_changes_nothing_and_follows_the_mirror(engine: Engine) -> None:
    records = [SHAPES["v1 derived"] | {"_id": f"id {number}"} for number in range(40)]
    _mirror(engine, records)
    publish_tables(engine)
    before = _content(engine)
    again = publish_tables(engine)
    assert {name: (result.changed, result.records) for name, result in again.items()} == dict.fromkeys(again, (0, 0))
    assert _content(engine) == before
    records[0] = records[0] | {"location": "s3://elsewhere/asset", "processing": None}
    _mirror(engine, records[:10])
    results = publish_tables(engine, confirm_deletions=True)
    assert {result.records for result in results.values()} == {1}
    assets, processes = results["data_assets"], results["processing"]
    assert (assets.updated, assets.inserted, assets.deleted, assets.rows) == (1, 0, 30, 10)
    assert (processes.updated, processes.inserted, processes.deleted, processes.rows) == (0, 0, 93, 27)
    assert results["modalities"].deleted == 60
    assert _rows(engine, BY_NAME["processing"].table) == _expected(records[:10], "processing")


def test_rows_that_a_record_no_longer_has_go_and_the_others_are_not_rewritten(engine: Engine) -> None:
    record = SHAPES["v1 derived"]
    _mirror(engine, [record])
    publish_tables(engine)
    shorter = json.loads(json.dumps(record))
    shorter["processing"]["analyses"] = []
    _mirror(engine, [shorter])
    assert publish_tables(engine)["processing"] == publishing.TableResult(2, 0, 0, 1, 1, {})


def test_tables_can_be_published_one_by_one(engine: Engine) -> None:
    _mirror(engine, RECORDS)
    publish_tables(engine)
    whole = _content(engine)
    with engine.begin() as connection:
        connection.execute(update(docdb_records).values(content_hash="other"))
        connection.execute(text("TRUNCATE public.processing, public.funding"))
    assert set(publish_tables(engine, ["processing"])) == {"processing"}
    assert _rows(engine, BY_NAME["funding"].table) == []
    # What was derived for one table is not derived again for it, and still is for the others.
    assert publish_tables(engine, ["processing"])["processing"].records == 0
    assert publish_tables(engine)["funding"].records == len(whole["data_assets"])
    assert _content(engine) == whole
    with pytest.raises(ValueError, match="proccessing"):
        publish_tables(engine, ["proccessing"])


def test_a_record_that_is_gone_leaves_every_table_whichever_was_published(engine: Engine) -> None:
    _mirror(engine, RECORDS)
    publish_tables(engine)
    _mirror(engine, RECORDS[1:])
    publish_tables(engine, ["modalities"])
    partly = _content(engine)
    publish_tables(engine)
    assert _content(engine) == partly
    assert partly["subjects"] == list(subject_rows(_expected(RECORDS[1:], "subjects")))
    assert partly["data_assets"] == _expected(RECORDS[1:], "data_assets")


def _status(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.table_name: row for row in connection.execute(text("SELECT * FROM public.table_status"))}


@pytest.mark.parametrize("full", [False, True])
def test_the_status_of_every_table_that_changed_is_told_whichever_was_published(engine: Engine, full: bool) -> None:
    raw = "ecephys_700001_2025-01-01_10-00-00"
    sorted_ = _named("s", f"{raw}_sorted_2025-01-02_10-00-00", data_level="derived", input_data_name=raw)
    records = [SHAPES["v1 derived"] | {"_id": f"id {number}"} for number in range(10)]
    _mirror(engine, [sorted_, _named("r", raw), *records])
    publish_tables(engine, run_id="all")
    first = _status(engine)
    _mirror(engine, [sorted_, *records[3:]])
    results = publish_tables(engine, ["funding"], full=full, run_id="some")
    now, content = _status(engine), _content(engine)
    assert set(results) == {"funding"}
    assert {name: row.rows for name, row in now.items()} == {name: len(rows) for name, rows in content.items()}
    for name, row in now.items():
        changed = content[name] != [] and name != "quality_control"
        assert (row.run_id == "some") == (changed or name == "funding"), name
        assert (row.changed_at != first[name].changed_at) == changed, name
        # Records that changed too may still wait to be derived for the tables that were not asked for.
        assert (row.published_at != first[name].published_at) == (name == "funding"), name
    assert len(content["data_assets"]) == 8


def test_the_lineage_of_a_source_that_is_gone_is_a_change_of_that_table(engine: Engine) -> None:
    raw = "ecephys_700001_2025-01-01_10-00-00"
    sorted_ = _named("s", f"{raw}_sorted_2025-01-02_10-00-00", data_level="derived", input_data_name=raw)
    _mirror(engine, [sorted_, _named("r", raw)])
    publish_tables(engine, run_id="all")
    _mirror(engine, [sorted_])
    publish_tables(engine, ["funding"], run_id="some")
    assert _status(engine)["asset_lineage"].run_id == "some"
    assert _status(engine)["processing"].run_id == "all"


def test_the_rows_are_counted_whatever_was_noted_before(engine: Engine) -> None:
    _mirror(engine, RECORDS)
    publish_tables(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tables.publications SET rows = 944"))
        connection.execute(text("DELETE FROM public.processing"))
    results = publish_tables(engine)
    expected = {name: len(rows) for name, rows in _content(engine).items()}
    assert {name: result.rows for name, result in results.items()} == expected
    assert {name: row.rows for name, row in _status(engine).items()} == expected


def test_new_code_derives_everything_again_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    _mirror(engine, RECORDS)
    publish_tables(engine)
    monkeypatch.setattr(publishing, "code_digest", lambda: "other")
    assert publish_tables(engine)["modalities"].records == len(_rows(engine, docdb_records))
    assert publish_tables(engine)["modalities"].records == 0


def test_a_full_pass_heals_tables_that_were_edited_by_hand(engine: Engine) -> None:
    _mirror(engine, RECORDS)
    publish_tables(engine)
    whole = _content(engine)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM public.processing"))
        connection.execute(text("UPDATE public.data_assets SET name = 'mine'"))
        connection.execute(text("DELETE FROM public.subjects"))
        connection.execute(insert(data_assets).values(record_version="v1", id="mine"))
    publish_tables(engine, full=True)
    assert _content(engine) == whole


def test_an_empty_mirror_empties_no_table(engine: Engine) -> None:
    _mirror(engine, [SHAPES["v1 raw"]])
    publish_tables(engine)
    _mirror(engine, [])
    with pytest.raises(PublishRefused, match=r"docdb\.records is empty, public\.data_assets has 1 rows"):
        publish_tables(engine)
    assert len(_rows(engine, data_assets)) == len(_rows(engine, subjects)) == 1


@pytest.mark.parametrize("full", [False, True])
def test_a_mirror_without_most_of_its_records_empties_no_table(engine: Engine, full: bool) -> None:
    records = [SHAPES["v1 raw"] | {"_id": f"id {number}"} for number in range(60)]
    _mirror(engine, records)
    publish_tables(engine)
    before, status = _content(engine), _status(engine)
    _mirror(engine, [records[0] | {"name": "other"}, *records[1:29]])
    said = (
        r"docdb\.records no longer has 31 of the 60 records .* more than half .* docdb_records.* "
        r"run analysts_tables with confirm_deletions: true"
    )
    for names in (None, ["funding"]):
        with pytest.raises(PublishRefused, match=said):
            publish_tables(engine, names, full=full)
    assert (_content(engine), _status(engine)) == (before, status)
    assert publish_tables(engine, ["funding"], full=full, confirm_deletions=True)["funding"].deleted == 0
    assert len(_rows(engine, data_assets)) == 29
    _mirror(engine, [])
    assert publish_tables(engine, full=full, confirm_deletions=True)["data_assets"].rows == 0


def test_half_of_the_records_may_go_and_so_may_most_of_a_few(engine: Engine) -> None:
    records = [SHAPES["v1 raw"] | {"_id": f"id {number}"} for number in range(42)]
    for left in (42, 21, 1):
        _mirror(engine, records[:left])
        assert publish_tables(engine)["data_assets"].rows == left


def test_a_full_pass_counts_rows_that_it_does_not_know_the_origin_of(engine: Engine) -> None:
    records = [SHAPES["v1 raw"] | {"_id": f"id {number}"} for number in range(30)]
    _mirror(engine, records)
    publish_tables(engine)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE tables.derived_records"))
    _mirror(engine, records[:3])
    with pytest.raises(PublishRefused, match="27 of the 30"):
        publish_tables(engine, full=True)


def test_an_empty_mirror_and_empty_tables_agree(engine: Engine) -> None:
    assert publish_tables(engine)["data_assets"].rows == 0


def test_views_on_the_tables_survive(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW public.mine AS SELECT count(*) AS n FROM public.data_assets"))
    _mirror(engine, [SHAPES["v1 raw"]])
    publish_tables(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT n FROM public.mine")).scalar_one() == 1


def test_the_mirrors_identity_holds_for_a_record_without_one(engine: Engine) -> None:
    record = {key: value for key, value in SHAPES["v1 raw"].items() if key != "_id"} | {"weight": 1e20}
    _mirror(engine, [record])
    publish_tables(engine)
    (row,) = _rows(engine, data_assets)
    assert row["id"] == normalise(record).id


def _standing(engine: Engine) -> dict[tuple[str, str], str]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT scope, code, key FROM public.findings WHERE stage = 'tables'"))
        return {(row.scope, row.code): row.key for row in rows}


def test_what_is_odd_stands_as_a_finding_until_it_is_mended_or_gone(engine: Engine) -> None:
    odd = SHAPES["v1 raw"] | {"rig": {"rig_id": "r", "modification_date": "spring"}, "_id": "odd"}
    gone = odd | {"_id": "gone"}
    _mirror(engine, [odd, gone])
    assert publish_tables(engine)["instruments"].findings == {"date_unreadable": 2}
    _mirror(engine, [odd])
    publish_tables(engine)
    assert _standing(engine) == {("instruments", "date_unreadable"): "v1/odd"}
    assert publish_tables(engine)["instruments"].findings == {"date_unreadable": 1}
    _mirror(engine, [odd | {"rig": {"rig_id": "r", "modification_date": "2024-01-01"}}])
    assert publish_tables(engine)["instruments"].findings == {}
    assert _standing(engine) == {}


def _named(identity: str, name: str, version: str = "1.1.1", **description: Any) -> dict[str, Any]:
    return {
        "_id": identity,
        "schema_version": version,
        "name": name,
        "last_modified": f"2025-01-0{len(identity)}T00:00:00Z",
        "data_description": {"schema_version": version, "name": name, **description},
    }


def test_sources_are_resolved_to_records_as_they_come_and_go(engine: Engine) -> None:
    raw = "ecephys_700001_2025-01-01_10-00-00"
    sorted_ = _named("s", f"{raw}_sorted_2025-01-02_10-00-00", data_level="derived", input_data_name=raw)
    two = _named("t", "made", "2.0.0", data_level="derived", source_data=[raw, "nowhere"])

    def lineage() -> dict[tuple[str, str], tuple[Any, ...]]:
        return {
            (row["record_id"], row["source_name"]): (
                row["stated_by"],
                row["source_record_version"],
                row["source_record_id"],
                row["source_records"],
            )
            for row in _rows(engine, BY_NAME["asset_lineage"].table)
        }

    _mirror(engine, [sorted_, two])
    publish_tables(engine)
    assert lineage() == {
        ("s", raw): ("record", None, None, 0),
        ("t", raw): ("record", None, None, 0),
        ("t", "nowhere"): ("record", None, None, 0),
    }
    # Of several records of the name the same version counts, then the one modified last.
    _mirror(engine, [sorted_, two, _named("o", raw), _named("old", raw), _named("new", raw, "2.0.0")])
    assert publish_tables(engine)["asset_lineage"].changed == 2
    assert lineage()["s", raw] == ("record", "v1", "old", 3)
    assert lineage()["t", raw] == ("record", "v2", "new", 3)
    _mirror(engine, [sorted_, two, _named("new", raw, "2.0.0")])
    publish_tables(engine)
    assert lineage()["s", raw] == ("record", "v2", "new", 1)


def test_a_source_that_only_the_name_tells_is_said_to_be_so(engine: Engine) -> None:
    name = "ecephys_700001_2025-01-01_10-00-00"
    _mirror(engine, [_named("s", f"{name}_sorted_2025-01-02_10-00-00", data_level="derived"), _named("raw", name)])
    publish_tables(engine)
    (row,) = _rows(engine, BY_NAME["asset_lineage"].table)
    assert (row["stated_by"], row["source_name"], row["source_record_id"]) == ("name", name, "raw")


class _Broken(Exception):
    """Stands for whatever ends a pass."""


@pytest.mark.parametrize("last", [1, 4, 8, 12, 20, 30, 40, None])
def test_a_pass_that_ends_at_any_statement_leaves_every_table_as_it_was(engine: Engine, last: int | None) -> None:
    _mirror(engine, RECORDS[1:])
    publish_tables(engine)
    before = _content(engine)
    _mirror(engine, [record | {"name": "other", "processing": None} for record in RECORDS[:4]])
    count = 0

    def end(*_: Any) -> None:
        nonlocal count
        count += 1
        if last is None or count == last:
            raise _Broken

    occasion = "commit" if last is None else "before_cursor_execute"
    event.listen(engine, occasion, end)
    try:
        with pytest.raises(_Broken):
            publish_tables(engine)
    finally:
        event.remove(engine, occasion, end)
    assert _content(engine) == before
    publish_tables(engine)
    assert {row["name"] for row in _rows(engine, data_assets)} == {"other"}
    assert _rows(engine, BY_NAME["processing"].table) == []


def test_a_server_that_is_gone_after_the_commit_takes_nothing_back(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the vacuum nor the end of the passes' lock can be had; what was committed is what is told."""
    name = engine.url.database
    _mirror(engine, [RECORDS[0] | {"_id": f"id {number}"} for number in range(80)])
    publish_tables(engine)
    _mirror(engine, [RECORDS[0] | {"_id": f"id {number}", "name": "other"} for number in range(80)])
    server = create_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    passed: set[str] = set()

    def close(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "tables.publications" in statement:
            passed.add("merged")
        elif statement.startswith("SET LOCAL statement_timeout") and "merged" in passed and "closed" not in passed:
            passed.add("closed")
            with server.connect() as connection:
                connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
                ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name"
                connection.execute(text(ended), {"name": name})

    event.listen(engine, "before_cursor_execute", close)
    try:
        result = publish_tables(engine)["data_assets"]
    finally:
        event.remove(engine, "before_cursor_execute", close)
        with server.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
        server.dispose()
    assert "closed" in passed
    assert (result.updated, result.rows) == (80, 80)
    assert {row["name"] for row in _rows(engine, data_assets)} == {"other"}
    assert sum("is published and stays so" in message for message in caplog.messages) == 2


def test_two_passes_at_once_take_turns(engine: Engine) -> None:
    _mirror(engine, RECORDS)
    done: list[dict[str, publishing.TableResult]] = []
    passes = [threading.Thread(target=lambda: done.append(publish_tables(engine))) for _ in range(3)]
    for each in passes:
        each.start()
    for each in passes:
        each.join(60)
    assert sorted(result["data_assets"].inserted for result in done) == [0, 0, len(_rows(engine, docdb_records))]


def test_the_time_of_a_publication_is_told(engine: Engine) -> None:
    _mirror(engine, [SHAPES["v1 raw"]])
    publish_tables(engine, run_id="one")
    publish_tables(engine, run_id="two")
    with engine.connect() as connection:
        rows = {row["table_name"]: row for row in connection.execute(text("SELECT * FROM table_status")).mappings()}
    assert set(rows) == {table.name for table in schema.ANALYSTS_TABLES}
    assert {row["run_id"] for row in rows.values()} == {"two"}
    assert rows["modalities"]["rows"] == 2
    assert rows["modalities"]["changed_at"] < rows["modalities"]["published_at"]
    assert rows["quality_control"]["changed_at"] is None


def test_every_real_record_has_its_rows(engine: Engine) -> None:
    records = real_records()
    _mirror(engine, records)
    results = publish_tables(engine)
    found = _content(engine)
    assert {row["id"] for row in found["data_assets"]} == {record["_id"] for record in records}
    for table in RECORD_TABLES:
        expected = _expected(records, table.name)
        assert results[table.name].rows == len(expected) > 0, table.name
        if table.name != "asset_lineage":
            assert found[table.name] == expected, table.name
    assert publish_tables(engine)["quality_control"].records == 0


def test_what_shapes_say_can_be_stored() -> None:
    for name, derivation in BY_NAME.items():
        cells = {column.name: cell_for(column.type) for column in derivation.table.columns}
        for record in SHAPES.values():
            for row in derived(record, name):
                for column, value in row.items():
                    cells[column](value)


@pytest.mark.slow
def test_publishing_again_and_again_takes_no_more_room(engine: Engine) -> None:
    records = [SHAPES["v1 derived"] | {"_id": f"id {number}"} for number in range(80)]
    odd = {"rig": {"rig_id": "r", "modification_date": "spring"}}
    room = text("SELECT pg_table_size(CAST(:name AS regclass))")
    names = [derivation.table.fullname for derivation in BY_NAME.values()]
    names += ["public.subjects", "tables.derived_records", "tables.findings"]
    sizes: list[dict[str, int]] = []
    for number in range(26):
        changed = json.loads(json.dumps([record | odd | {"name": f"name {number}"} for record in records]))
        for record in changed:
            record["subject"]["genotype"] = f"genotype {number}"
            for process in record["processing"]["processing_pipeline"]["data_processes"]:
                process["software_version"] = f"version {number}"
        _mirror(engine, changed)
        publish_tables(engine)
        with engine.connect() as connection:
            sizes.append({name: connection.scalar(room, {"name": name}) or 0 for name in names})
    assert {name: (early, sizes[-1][name]) for name, early in sizes[5].items() if sizes[-1][name] > early * 1.5} == {}


def test_who_does_not_own_the_tables_publishes_all_the_same(engine: Engine) -> None:
    records = [SHAPES["v1 raw"] | {"_id": f"id {number}"} for number in range(80)]
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE publisher LOGIN PASSWORD 'publisher' IN ROLE pg_read_all_data"))
        connection.execute(text("GRANT pg_write_all_data TO publisher"))
    publisher = create_engine(engine.url.set(username="publisher", password="publisher"))
    try:
        for number in range(2):
            _mirror(engine, [record | {"name": f"name {number}"} for record in records])
            result = publish_tables(publisher)["data_assets"]
        assert (result.updated, result.rows) == (80, 80)
    finally:
        publisher.dispose()
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY publisher; DROP ROLE publisher"))
