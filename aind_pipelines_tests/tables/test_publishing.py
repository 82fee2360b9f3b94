"""Publishing from the mirror, on a real Postgres, synthetic and real records."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text

from aind_pipelines.clients.rds import PublishRefused
from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.normalise import normalise
from aind_pipelines.tables.derive import data_asset_row, subject_rows
from aind_pipelines.tables.publishing import mirrored_records, publish_data_assets, publish_subjects
from aind_pipelines.tables.schema import data_assets, docdb_records, subjects
from aind_pipelines_tests.records.real import real_records
from aind_pipelines_tests.records.shapes import SHAPES


def _mirror(engine: Engine, records: list[Any]) -> None:
    with engine.begin() as connection:
        connection.execute(docdb_records.delete())
        for record in records:
            found = normalise(record)
            connection.execute(
                insert(docdb_records).values(
                    record_version=found.record_version,
                    id=found.id,
                    source="metadata_index.data_assets",
                    content_hash="-",
                    body=canonicalise(record).body,
                )
            )


def _rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def _by_key(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["record_version"], row["id"]))


def test_there_is_one_row_per_record_of_both_generations(engine: Engine) -> None:
    records = [record | {"_id": f"id {number}"} for number, record in enumerate(SHAPES.values())]
    twin = SHAPES["v2"] | {"_id": "id 0"}
    _mirror(engine, [*records, twin])
    result = publish_data_assets(engine, "run-1")
    assert (result.rows, result.inserted) == (8, 8)
    expected = [data_asset_row(normalise(record)) for record in [*records, twin]]
    assert _by_key(_rows(engine, data_assets)) == _by_key(expected)
    assert publish_subjects(engine, "run-1").rows == 2
    assert _rows(engine, subjects) == subject_rows(normalise(record) for record in [*records, twin])


def test_publishing_again_changes_nothing_and_follows_the_mirror(engine: Engine) -> None:
    records = [SHAPES["v1 raw"] | {"_id": f"id {number}"} for number in range(40)]
    _mirror(engine, records)
    publish_data_assets(engine)
    again = publish_data_assets(engine)
    assert (again.unchanged, again.changed) == (40, False)
    records[0] = records[0] | {"location": "s3://elsewhere/asset"}
    _mirror(engine, records[:10])
    result = publish_data_assets(engine)
    assert (result.updated, result.deleted, result.unchanged) == (1, 30, 9)


def test_an_empty_mirror_empties_no_table(engine: Engine) -> None:
    _mirror(engine, [SHAPES["v1 raw"]])
    publish_data_assets(engine)
    publish_subjects(engine)
    _mirror(engine, [])
    for publish in (publish_data_assets, publish_subjects):
        with pytest.raises(PublishRefused):
            publish(engine)
    assert len(_rows(engine, data_assets)) == len(_rows(engine, subjects)) == 1


def test_views_on_the_tables_survive(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW public.mine AS SELECT count(*) AS n FROM public.data_assets"))
    _mirror(engine, [SHAPES["v1 raw"]])
    publish_data_assets(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT n FROM public.mine")).scalar_one() == 1


def test_the_mirrors_identity_holds_for_a_record_without_one(engine: Engine) -> None:
    record = {key: value for key, value in SHAPES["v1 raw"].items() if key != "_id"} | {"weight": 1e20}
    _mirror(engine, [record])
    (found,) = mirrored_records(engine)
    assert found.id == normalise(record).id


def test_every_real_record_has_its_row(engine: Engine) -> None:
    records = real_records()
    _mirror(engine, records)
    assert publish_data_assets(engine).rows == len(records)
    rows = {row["id"]: row for row in _rows(engine, data_assets)}
    assert set(rows) == {record["_id"] for record in records}
    assert rows == {record["_id"]: data_asset_row(normalise(record)) for record in records}
    named = {row["subject_id"] for row in rows.values()}
    publish_subjects(engine)
    assert {row["subject_id"] for row in _rows(engine, subjects)} == named
