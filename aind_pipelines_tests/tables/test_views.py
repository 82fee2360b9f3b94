"""The analysts' views, and the words about tables and views."""

from __future__ import annotations

import runpy
from datetime import UTC, date, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, text

from aind_pipelines.tables import schema
from aind_pipelines.tables.migrate import _config, drift, migrate
from aind_pipelines.tables.schema import ANALYSTS_TABLES
from aind_pipelines_tests.documents import ROOT, statements

RAW = "ecephys_700001_2025-01-01_10-00-00"


def _insert(engine: Engine, table: Any, *rows: dict[str, Any]) -> None:
    with engine.begin() as connection:
        connection.execute(table.insert(), list(rows))


def _select(engine: Engine, query: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def _session(session_id: str, month: date, *derived: tuple[str, str, str | None]) -> dict[str, Any]:
    platform, subject, *_ = session_id.split("_")
    return {
        "session_id": session_id,
        "month": month,
        "platform": platform,
        "subject_id": subject,
        "session_time": datetime(2025, 1, 1),
        "raw_asset_name": session_id if derived else None,
        "derived": [
            {"name": name, "process": process, "code_ocean_id": None, "location": None, "created": created}
            for process, name, created in derived
        ],
    }


@pytest.fixture
def sessions(engine: Engine) -> Engine:
    """Three sessions of a subject in two months; one of them sorted twice."""
    _insert(
        engine,
        schema.session_assets,
        _session(
            RAW,
            date(2025, 1, 1),
            ("sorted", "first", "2025-01-02T00:00:00+00:00"),
            ("sorted", "second", "2025-01-03T00:00:00+00:00"),
            ("sorted", "undated", None),
            ("nwb", "packaged", "2024-01-01T00:00:00+00:00"),
        ),
        _session("behavior_700001_2025-01-05_10-00-00", date(2025, 1, 1)),
        _session("behavior_700001_2025-02-05_10-00-00", date(2025, 2, 1)),
    )
    return engine


def test_the_latest_derived_asset_of_each_session_and_process(sessions: Engine) -> None:
    rows = _select(sessions, "SELECT session_id, process, name, created FROM latest_processed_assets ORDER BY process")
    assert rows == [
        {"session_id": RAW, "process": "nwb", "name": "packaged", "created": datetime(2024, 1, 1, tzinfo=UTC)},
        {"session_id": RAW, "process": "sorted", "name": "second", "created": datetime(2025, 1, 3, tzinfo=UTC)},
    ]


def test_sessions_by_subject_and_month(sessions: Engine) -> None:
    rows = _select(sessions, "SELECT * FROM sessions_by_subject_and_month ORDER BY month")
    assert [tuple(row.values()) for row in rows] == [
        ("700001", date(2025, 1, 1), 2, 1, 1, ["behavior", "ecephys"]),
        ("700001", date(2025, 2, 1), 1, 0, 0, ["behavior"]),
    ]


def _folder(prefix: str, session_id: str | None = RAW) -> dict[str, Any]:
    return {"bucket": "b", "prefix": prefix, "session_id": session_id, "children": []}


def _asset(id_: str, name: str) -> dict[str, Any]:
    created = datetime(2025, 1, 1, tzinfo=UTC)
    return {"id": id_, "name": name, "created": created, "session_id": RAW, "location": None, "body": {}}


def test_assets_without_metadata_are_those_that_no_record_names_in_any_way(engine: Engine) -> None:
    _insert(
        engine,
        schema.data_assets,
        {"record_version": "v1", "id": "1", "name": "by name", "location": "s3://b/x", "code_ocean_ids": ["by id"]},
        {"record_version": "v1", "id": "2", "name": "other", "location": "s3://b/by location", "code_ocean_ids": None},
    )
    _insert(
        engine,
        schema.s3_prefixes,
        *map(_folder, ("by name", "by location", "nobody's")),
        _folder("no session", session_id=None),
    )
    _insert(engine, schema.code_ocean_assets, _asset("by id", "y"), _asset("c", "by name"), _asset("d", "lost"))
    assert _select(engine, "SELECT * FROM assets_without_metadata ORDER BY name") == [
        {"found_in": "code_ocean", "name": "lost", "location": None, "code_ocean_id": "d", "session_id": RAW},
        {
            "found_in": "s3",
            "name": "nobody's",
            "location": "s3://b/nobody's",
            "code_ocean_id": None,
            "session_id": RAW,
        },
    ]


def test_assets_with_missing_source_say_where_the_source_is(engine: Engine) -> None:
    lineage = next(table for table in ANALYSTS_TABLES if table.name == "asset_lineage")
    row = {"record_version": "v1", "record_id": "1", "derived_name": "made", "stated_by": "record"}
    _insert(
        engine,
        lineage,
        {**row, "position": 0, "source_name": "known", "source_record_version": "v1", "source_record_id": "9"},
        {**row, "position": 1, "source_name": "in s3", "source_record_version": None, "source_record_id": None},
        {**row, "position": 2, "source_name": "nowhere", "source_record_version": None, "source_record_id": None},
    )
    _insert(engine, schema.s3_prefixes, _folder("in s3"))
    query = (
        "SELECT source_name, source_in_s3, source_in_code_ocean FROM assets_with_missing_source ORDER BY source_name"
    )
    assert [tuple(row.values()) for row in _select(engine, query)] == [
        ("in s3", True, False),
        ("nowhere", False, False),
    ]


def test_going_back_a_version_and_forward_again_leaves_the_same_schema(engine: Engine) -> None:
    configuration = _config()
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0003")
    names = set(inspect(engine).get_table_names(schema="public"))
    assert "data_assets" in names
    assert "processing" not in names
    assert "tables" not in inspect(engine).get_schema_names()
    migrate(engine)
    assert drift(engine) == []


def test_every_column_of_an_analysts_table_has_a_comment() -> None:
    for table in (*ANALYSTS_TABLES, schema.session_assets):
        assert table.comment, table.name
        assert [column.name for column in table.columns if not column.comment] == [], table.name


def test_the_data_dictionary_is_that_of_the_models() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "write_data_dictionary.py"))["dictionary"]()
    assert (ROOT / "docs" / "data_dictionary.md").read_text(encoding="utf-8") == written


def test_every_query_of_the_guide_runs(engine: Engine) -> None:
    queries = statements("docs/tables.md")
    assert len(queries) > 8
    with engine.connect() as connection:
        for query in queries:
            connection.exec_driver_sql(query.replace("%", "%%"))
