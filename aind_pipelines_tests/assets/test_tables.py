"""The analysts' tables as Dagster assets, on a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from sqlalchemy import insert, select, text

from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.hashing import hash_text
from aind_pipelines.records.normalise import normalise
from aind_pipelines.tables import schema
from aind_pipelines.tables.migrate import VERSION_TABLE
from aind_pipelines_tests.records.shapes import SHAPES

if TYPE_CHECKING:
    from aind_pipelines_tests.house import House

ALL = [table.name for table in schema.ANALYSTS_TABLES]


@pytest.fixture
def mirror(house: House) -> House:
    """A record of each shape."""
    records = [record | {"_id": f"id {number}"} for number, record in enumerate(SHAPES.values())]
    rows = [
        {
            "record_version": normalise(record).record_version,
            "id": record["_id"],
            "source": "a.b",
            "content_hash": hash_text(canonicalise(record).text),
            "body": canonicalise(record).body,
        }
        for record in records
    ]
    with house.engine.begin() as connection:
        connection.execute(insert(schema.docdb_records), rows)
    return house


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.materialization.asset_key.to_user_string(): {
            key: value.value for key, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def test_each_table_tells_its_columns_their_sources_its_key_and_its_rows(mirror: House) -> None:
    made = _metadata(mirror.run(ALL))
    assert sorted(made) == sorted(ALL)
    with mirror.engine.connect() as connection:
        for table in schema.ANALYSTS_TABLES:
            told = made[table.name]
            assert told["dagster/row_count"] == len(connection.execute(select(table)).all())
            assert told["primary key"] == ", ".join(column.name for column in table.primary_key)
            columns = told["dagster/column_schema"].columns
            assert [(column.name, column.description) for column in columns] == [
                (column.name, column.comment) for column in table.columns
            ]
            assert set(told["dagster/column_lineage"].deps_by_column) == set(table.columns.keys())
    sources = made["asset_lineage"]["dagster/column_lineage"].deps_by_column["source_record_id"]
    assert {(dep.asset_key.to_user_string(), dep.column_name) for dep in sources} == {
        ("docdb_records", "body"),
        ("data_assets", "id"),
        ("data_assets", "name"),
    }


def test_every_source_of_a_column_is_a_column(mirror: House) -> None:
    tables = {table.name: table for table in schema.ANALYSTS_TABLES} | {"docdb_records": schema.docdb_records}
    for told in _metadata(mirror.run(ALL, checks=False)).values():
        for sources in told["dagster/column_lineage"].deps_by_column.values():
            assert all(dep.column_name in tables[dep.asset_key.to_user_string()].c for dep in sources)


def test_a_run_of_some_tables_makes_those_alone_and_a_full_one_derives_all_again(mirror: House) -> None:
    made = _metadata(mirror.run(["funding", "processing"], checks=False))
    assert set(made) == {"funding", "processing"}
    assert made["funding"]["records derived"] == len(SHAPES)
    assert _metadata(mirror.run(["funding"], checks=False))["funding"]["records derived"] == 0
    full = {"ops": {"analysts_tables": {"config": {"full": True}}}}
    assert _metadata(mirror.run(["funding"], checks=False, run_config=full))["funding"]["records derived"] == len(
        SHAPES
    )


def test_a_run_without_most_of_the_records_fails_until_a_person_confirms(mirror: House) -> None:
    mirror.run(["data_assets"], checks=False)
    with mirror.engine.begin() as connection:
        connection.execute(schema.docdb_records.delete())
    result = mirror.run(["data_assets"], checks=False, raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "run analysts_tables with confirm_deletions: true" in str(failure.step_failure_data.error)
    confirmed = {"ops": {"analysts_tables": {"config": {"confirm_deletions": True}}}}
    made = _metadata(mirror.run(["data_assets"], checks=False, run_config=confirmed))
    assert made["data_assets"]["dagster/row_count"] == 0


def test_a_run_on_an_old_schema_fails_and_names_the_command(mirror: House) -> None:
    with mirror.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0003'"))
    result = mirror.run(["data_assets"], raise_on_error=False)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "Run: aind-pipelines db migrate" in str(failure.step_failure_data.error)
