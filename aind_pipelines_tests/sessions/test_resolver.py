"""Months of sessions, resolved in a real Postgres."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select

from aind_pipelines.mirror.indexes import refresh_code_ocean, with_archived
from aind_pipelines.records.names import parse_session_id
from aind_pipelines.sessions.resolver import (
    IndexNotReady,
    MonthResult,
    ResolveResult,
    _names_of_no_month,
    resolve_month,
    resolve_months,
)
from aind_pipelines.tables.schema import data_assets, index_refreshes, s3_prefixes, session_assets, session_findings

DECEMBER = date(2023, 12, 1)
JUNE = date(2024, 6, 1)
SESSION = "ecephys_676909_2023-12-13_13-43-40"
OTHER = "behavior_717121_2024-06-16_11-39-34"
SORTED = f"{SESSION}_sorted_2024-03-01_16-02-45"
START = datetime(2024, 1, 1, tzinfo=UTC)


def add_record(engine: Engine, name: str | None, **values: Any) -> None:
    row = {
        "id": f"record of {name}",
        "record_version": "v1",
        "name": name,
        "location": f"s3://ephys/{name}",
        "data_level": "raw" if name in (SESSION, OTHER) else "derived",
        "code_ocean_ids": [f"id of {name}"],
        "created": START,
        "modified": START,
    }
    with engine.begin() as connection:
        connection.execute(insert(data_assets).values(row | values))


def add_folder(
    engine: Engine, prefix: str, *children: str, session_id: str | None = None, bucket: str = "ephys"
) -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(s3_prefixes).values(bucket=bucket, prefix=prefix, children=list(children), session_id=session_id)
        )


def describe(name: str, **values: Any) -> dict[str, Any]:
    return {"id": f"id of {name}", "name": name, "created": 1_704_100_000, "state": "ready"} | values


def index(engine: Engine, *names: str) -> None:
    """The Code Ocean index holds assets of these names, and the bucket ``ephys`` was indexed."""
    refresh_code_ocean(engine, [describe(name) for name in names], accept_loss=True)
    with engine.begin() as connection:
        if not connection.scalar(select(index_refreshes.c.source).where(index_refreshes.c.source == "s3://ephys")):
            connection.execute(insert(index_refreshes).values(source="s3://ephys", rows=0, requests=1))


def rows(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.session_id: row for row in connection.execute(select(session_assets))}


def standing(engine: Engine) -> set[tuple[str, str, str]]:
    table = session_findings.c
    with engine.connect() as connection:
        found = connection.execute(select(table.code, table.key, table.scope).where(table.resolved_at.is_(None)))
        return {(row.code, row.key, row.scope) for row in found}


def run(engine: Engine, months: Iterable[date], run_id: str | None = None) -> ResolveResult:
    return resolve_months(engine, months, run_id=run_id, buckets=["ephys", "never-indexed"])


def two_sessions(engine: Engine) -> None:
    index(engine, SESSION, SORTED, OTHER)
    for name in (SESSION, SORTED, OTHER):
        add_record(engine, name)
    add_folder(engine, SESSION, "behavior", "ecephys_compressed", session_id=SESSION)
    add_folder(engine, SORTED, session_id=SESSION)
    add_folder(engine, OTHER, "behavior", session_id=OTHER)


def test_a_month_has_a_row_per_session(engine: Engine) -> None:
    two_sessions(engine)
    result = run(engine, [DECEMBER], "run-1")
    assert (result.sessions, result.changed, result.findings_by_code) == (1, 1, {})
    assert result.by_month == {DECEMBER: MonthResult(1, 1, Counter())}
    row = rows(engine)[SESSION]
    assert (row.month, row.platform, row.subject_id) == (DECEMBER, "ecephys", "676909")
    assert row.session_time == datetime(2023, 12, 13, 13, 43, 40)
    assert (row.raw_asset_name, row.raw_record_version, row.raw_record_id) == (SESSION, "v1", f"record of {SESSION}")
    assert (row.raw_code_ocean_id, row.raw_data_dir) == (f"id of {SESSION}", f"s3://ephys/{SESSION}")
    assert row.modalities == ["behavior", "ecephys"]
    assert row.derived == [
        {
            "name": SORTED,
            "process": "sorted",
            "code_ocean_id": f"id of {SORTED}",
            "location": f"s3://ephys/{SORTED}",
            "created": "2024-01-01T09:06:40+00:00",
        }
    ]
    assert row.run_id == "run-1"


def test_the_same_again_writes_nothing(engine: Engine) -> None:
    two_sessions(engine)
    assert run(engine, [DECEMBER, JUNE], "run-1").changed == 2
    before = rows(engine)
    result = run(engine, [JUNE, DECEMBER, date(2024, 6, 30)], "run-2")
    assert (result.sessions, result.changed) == (2, 0)
    assert rows(engine) == before


def test_one_month_at_a_time_gives_what_many_at_once_give(engine: Engine) -> None:
    two_sessions(engine)
    add_record(engine, "FIP_1234567_2023_12_31_00_00_00", location=None)
    year = [date(2023 + number // 12, number % 12 + 1, 1) for number in range(24)]
    together = run(engine, year)

    def content() -> dict[str, Any]:
        return {key: row[:-2] for key, row in rows(engine).items()}

    at_once = content()
    assert len(at_once) == 3
    with engine.begin() as connection:
        connection.execute(session_assets.delete())
    assert sum(run(engine, [month]).sessions for month in year) == together.sessions == 3
    assert content() == at_once


def test_sessions_known_from_one_source_only_are_found(engine: Engine) -> None:
    in_record, in_code_ocean, in_s3 = (
        f"FIP_{number}_2023-12-0{number % 9}_00-00-00" for number in (100001, 100002, 100003)
    )
    index(engine, in_code_ocean)
    add_record(engine, in_record, data_level="raw")
    add_folder(engine, in_s3, session_id=in_s3)
    run(engine, [DECEMBER])
    assert set(rows(engine)) == {in_record, in_code_ocean, in_s3}
    month = "month 2023-12"
    assert standing(engine) == {
        ("dead_code_ocean_link", in_record, month),
        ("raw_data_missing", in_record, month),
        ("raw_data_missing", in_code_ocean, month),
        ("record_missing", in_code_ocean, month),
        ("record_missing", in_s3, month),
    }


def test_a_session_that_vanished_loses_its_row_and_other_months_keep_theirs(engine: Engine) -> None:
    two_sessions(engine)
    run(engine, [DECEMBER, JUNE])
    with engine.begin() as connection:
        connection.execute(data_assets.delete())
        connection.execute(s3_prefixes.delete())
    index(engine)
    assert run(engine, [DECEMBER]).changed == 1
    assert set(rows(engine)) == {OTHER}
    assert run(engine, [DECEMBER]).changed == 0


def test_a_finding_is_resolved_when_its_cause_is_gone_and_other_months_stay(engine: Engine) -> None:
    two_sessions(engine)
    index(engine, SORTED)
    result = run(engine, [DECEMBER, JUNE])
    assert result.findings_by_code == {"dead_code_ocean_link": 2}
    index(engine, SESSION, SORTED, OTHER)
    assert run(engine, [DECEMBER]).findings_by_code == {}
    assert standing(engine) == {("dead_code_ocean_link", OTHER, "month 2024-06")}


def test_links_and_places_under_other_names_are_followed(engine: Engine) -> None:
    index(engine, "my own name")
    add_record(engine, SESSION, code_ocean_ids=["id of my own name"], location="s3://ephys/uuid/")
    add_folder(engine, "uuid", "ecephys")
    run(engine, [DECEMBER])
    row = rows(engine)[SESSION]
    assert (row.raw_code_ocean_id, row.raw_data_dir) == ("id of my own name", "s3://ephys/uuid")


def test_the_newer_generation_of_a_record_is_taken(engine: Engine) -> None:
    two_sessions(engine)
    add_record(engine, SESSION, id="newer", record_version="v2", code_ocean_ids=[f"id of {SESSION}"])
    run(engine, [DECEMBER])
    assert (rows(engine)[SESSION].raw_record_version, rows(engine)[SESSION].raw_record_id) == ("v2", "newer")


def test_names_without_a_session_are_findings_wherever_they_are_used(engine: Engine) -> None:
    bare = "676909_2023-12-13_13-43-40_sorted"
    index(engine, bare, "a model")
    add_record(engine, bare)
    add_record(engine, None)
    add_folder(engine, bare)
    add_folder(engine, "16d46411-540a-4122-b47f-8cb2a15d593a")
    add_folder(engine, "elsewhere", bucket="not-ours")
    result = run(engine, [DECEMBER])
    assert result.sessions == 0
    assert result.findings_by_code == {"name_without_session": 2}
    assert standing(engine) == {("name_without_session", name, "names") for name in (bare, "a model")}
    with engine.connect() as connection:
        message = connection.scalar(select(session_findings.c.message).where(session_findings.c.key == bare))
    assert message is not None
    assert message.endswith("used in Code Ocean, DocDB records, s3://ephys.")


def test_nothing_is_called_missing_before_code_ocean_was_indexed(engine: Engine) -> None:
    add_record(engine, SESSION)
    with pytest.raises(IndexNotReady, match="code_ocean_index"):
        run(engine, [DECEMBER])
    assert rows(engine) == {}
    assert standing(engine) == set()


def test_the_number_of_statements_does_not_grow_with_the_sessions(engine: Engine) -> None:
    names = [f"FIP_{number}_2023-12-01_00-00-00" for number in range(100000, 100300)]
    index(engine, *names)
    for name in names[:3]:
        add_record(engine, name, data_level="raw")

    def statements() -> int:
        count = 0

        def counted(*_: Any) -> None:
            nonlocal count
            count += 1

        event.listen(engine, "before_cursor_execute", counted)
        try:
            run(engine, [DECEMBER])
        finally:
            event.remove(engine, "before_cursor_execute", counted)
        return count

    many = statements()
    assert len(rows(engine)) == 300
    assert many < 30


def test_two_at_once_agree(engine: Engine) -> None:
    two_sessions(engine)
    index(engine, SORTED, "a model", "another model")
    errors: list[BaseException] = []

    def work(months: list[date]) -> None:
        try:
            for _ in range(3):
                run(engine, months)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=([month],)) for month in (DECEMBER, JUNE, DECEMBER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(rows(engine)) == {SESSION, OTHER}
    assert len(standing(engine)) == 4


def test_one_month_by_its_own_name(engine: Engine) -> None:
    two_sessions(engine)
    assert resolve_month(engine, date(2023, 12, 24), buckets=["ephys"]).by_month.keys() == {DECEMBER}
    assert rows(engine).keys() == {SESSION}


def test_an_archived_asset_serves_the_record_that_links_to_it_and_makes_no_session_of_its_own(engine: Engine) -> None:
    two_sessions(engine)
    archived = [describe(SESSION), describe("ecephys_676909_2023-12-20_10-00-00"), describe("put away")]
    refresh_code_ocean(engine, with_archived([describe(SORTED), describe(OTHER)], archived), accept_loss=True)
    run(engine, [DECEMBER, JUNE])
    assert standing(engine) == set()
    assert rows(engine).keys() == {SESSION, OTHER}
    assert rows(engine)[SESSION].raw_code_ocean_id == f"id of {SESSION}"


TO_COME = ["ecephys_676909_2026-12-05_13-43-40", "ecephys_676909_2027-01-05_13-43-40_sorted"]


@pytest.mark.parametrize(("month", "to_come"), [(11, TO_COME), (12, TO_COME[1:])])
def test_a_name_dated_after_this_month_is_yet_to_come_in_whatever_year(
    engine: Engine, month: int, to_come: list[str]
) -> None:
    for name in (*TO_COME, "676909_2027-01-05_13-43-40"):
        add_record(engine, name)
        parsed = parse_session_id(name, latest_year=2026)
        add_folder(engine, name, session_id=None if parsed is None else parsed.id)
    index(engine, *TO_COME)
    with engine.connect() as connection:
        found = list(_names_of_no_month(connection, ["ephys"], date(2026, month, 1)))
    assert [(finding.code, finding.key) for finding in found] == [
        ("name_without_session", "676909_2027-01-05_13-43-40"),
        *(("session_yet_to_come", name) for name in to_come),
    ]
    assert found[-1].message.endswith("is not resolved; used in Code Ocean, DocDB records, s3://ephys.")


def test_a_name_of_a_year_that_is_not_read_is_told_with_its_year(engine: Engine) -> None:
    for year in (2015, 2031):
        add_record(engine, f"ecephys_676909_{year}-01-05_13-43-40")
    with engine.connect() as connection:
        found = list(_names_of_no_month(connection, ["ephys"], DECEMBER))
    assert {finding.code for finding in found} == {"name_without_session"}
    assert [finding.message.partition("_13-43-40' ")[2] for finding in found] == [
        f"holds no session id that is read: its year {why}, so that it belongs to none; used in DocDB records."
        for why in ("2015 is before 2016", "2031 is past 2029")
    ]


def test_a_session_that_is_yet_to_come_is_a_finding_since_no_month_holds_it(engine: Engine) -> None:
    to_come = f"ecephys_676909_{datetime.now(UTC).year + 1}-01-05_13-43-40"
    two_sessions(engine)
    add_record(engine, to_come, code_ocean_ids=[])
    add_folder(engine, to_come)
    result = run(engine, [DECEMBER])
    assert standing(engine) == {("session_yet_to_come", to_come, "names")}
    assert result.findings_about_names == {"session_yet_to_come": 1}
    assert to_come not in rows(engine)


def test_each_month_has_the_numbers_of_its_own(engine: Engine) -> None:
    two_sessions(engine)
    index(engine, SESSION, SORTED, "a model")
    quiet = date(2024, 7, 1)
    first = run(engine, [DECEMBER, JUNE, quiet])
    assert first.by_month == {
        DECEMBER: MonthResult(1, 1, Counter()),
        JUNE: MonthResult(1, 1, Counter(dead_code_ocean_link=1)),
        quiet: MonthResult(0, 0, Counter()),
    }
    assert first.findings_by_code == {"dead_code_ocean_link": 1, "name_without_session": 1}
    with engine.begin() as connection:
        connection.execute(data_assets.delete().where(data_assets.c.name == OTHER))
        connection.execute(s3_prefixes.delete().where(s3_prefixes.c.prefix == OTHER))
        connection.execute(s3_prefixes.update().where(s3_prefixes.c.prefix == SESSION).values(children=["ecephys"]))
    again = run(engine, [DECEMBER, JUNE, quiet])
    assert [month.changed for month in again.by_month.values()] == [1, 1, 0]
    assert [month.sessions for month in again.by_month.values()] == [1, 0, 0]
    assert [month.changed for month in run(engine, [DECEMBER, JUNE, quiet]).by_month.values()] == [0, 0, 0]
