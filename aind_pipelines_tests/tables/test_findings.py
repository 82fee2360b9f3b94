"""Findings and their history, on a real Postgres."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.findings import FindingsPass, record_findings
from aind_pipelines.tables.schema import archive_findings as table


def _rows(engine: Engine) -> dict[tuple[str, str], Any]:
    with engine.connect() as connection:
        return {(row["code"], row["key"]): row for row in connection.execute(select(table)).mappings()}


def _standing(engine: Engine) -> set[tuple[str, str]]:
    return {key for key, row in _rows(engine).items() if row["resolved_at"] is None}


def _record(engine: Engine, *findings: Finding, scope: str = "archive live") -> dict[str, int]:
    with engine.begin() as connection:
        return dict(record_findings(connection, table, findings, scope=scope, run_id="run"))


def test_what_is_not_found_again_is_resolved_and_returns_under_its_first_date(engine: Engine) -> None:
    a, b = Finding("bad", "a", message="first"), Finding("bad", "b")
    assert _record(engine, a, b, a) == {"bad": 2}
    first = _rows(engine)["bad", "a"]["first_seen"]
    _record(engine, b)
    assert _standing(engine) == {("bad", "b")}
    assert _rows(engine)["bad", "a"]["resolved_at"] is not None
    _record(engine, Finding("bad", "a", message="again"), b)
    row = _rows(engine)["bad", "a"]
    assert (row["resolved_at"], row["first_seen"], row["message"]) == (None, first, "again")


def test_a_pass_resolves_nothing_outside_of_its_scope(engine: Engine) -> None:
    _record(engine, Finding("bad", "a"), scope="archive live")
    _record(engine, scope="archive other")
    assert _standing(engine) == {("bad", "a")}


def test_more_findings_than_one_statement_takes_are_all_stored(engine: Engine) -> None:
    assert _record(engine, *(Finding("bad", str(number)) for number in range(2_500))) == {"bad": 2_500}
    assert len(_standing(engine)) == 2_500


def test_a_pass_in_parts_resolves_at_once_what_it_looked_at_and_the_rest_at_its_end(engine: Engine) -> None:
    _record(engine, *(Finding("bad", key) for key in "abc"))
    with engine.begin() as connection:
        parts = FindingsPass(connection, table, scope="archive live")
        parts.add(connection, [Finding("worse", "a")], keys=["a", "b"])
    assert _standing(engine) == {("worse", "a"), ("bad", "c")}
    with engine.begin() as connection:
        assert parts.counts(connection) == {"worse": 1}
        parts.finish(connection)
    assert _standing(engine) == {("worse", "a")}
