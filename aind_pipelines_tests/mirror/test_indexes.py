"""Indexes of Code Ocean and S3, against a real Postgres and a real moto server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, select

from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.clients.s3 import client
from aind_pipelines.mirror.indexes import RefreshRefused, is_raw, refresh_code_ocean, refresh_s3, with_archived
from aind_pipelines.records.reading import shown
from aind_pipelines.settings import Settings
from aind_pipelines.tables.schema import code_ocean_assets, index_refreshes, s3_prefixes, session_findings
from aind_pipelines_tests.moto import fill, free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SESSION = "ecephys_676909_2023-12-13_13-43-40"
LONG_AFTER = date(2026, 1, 1)


def asset(number: int, **values: Any) -> dict[str, Any]:
    return {"id": f"id-{number}", "name": f"asset {number}", "created": 1_700_000_000 + number} | values


def code_ocean(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.id: row for row in connection.execute(select(code_ocean_assets))}


def prefixes(engine: Engine) -> dict[tuple[str, str], list[str]]:
    table = s3_prefixes.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.bucket, table.prefix, table.children))
        return {(row.bucket, row.prefix): row.children for row in rows}


def standing(engine: Engine) -> set[tuple[str, str]]:
    table = session_findings.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.code, table.key).where(table.resolved_at.is_(None)))
        return {(row.code, row.key) for row in rows}


# --- Code Ocean ----------------------------------------------------------------------------------------------------


def test_an_asset_is_indexed_with_its_session_location_and_level(engine: Engine) -> None:
    described = asset(
        1,
        name=f"{SESSION}_sorted_2024-03-01_16-02-45",
        created=1_709_308_965,
        state="ready",
        type="result",
        size=12,
        tags=["derived", "ecephys"],
        custom_metadata={"data level": "derived data"},
        source_bucket={"origin": "aws", "bucket": "b", "prefix": "/a/", "external": True},
    )
    result = refresh_code_ocean(engine, [described], requests=3)
    assert (result.rows, result.inserted, result.changed, result.requests) == (1, 1, 1, 3)
    row = code_ocean(engine)["id-1"]
    assert row.session_id == SESSION
    assert row.created == datetime(2024, 3, 1, 16, 2, 45, tzinfo=UTC)
    assert (row.location, row.data_level, row.tags) == ("s3://b/a", "derived data", ["derived", "ecephys"])
    assert row.body == described


@pytest.mark.parametrize(
    ("source", "location"),
    [
        (None, None),
        ({}, None),
        ({"origin": "gcp", "bucket": "b", "prefix": "p/q"}, "gs://b/p/q"),
        ({"origin": "local", "bucket": "b"}, "file://b"),
        ({"bucket": "b", "prefix": None}, "s3://b"),
    ],
)
def test_a_source_bucket_becomes_a_uri(engine: Engine, source: Any, location: str | None) -> None:
    refresh_code_ocean(engine, [asset(1, source_bucket=source)])
    assert code_ocean(engine)["id-1"].location == location


def test_the_same_answer_twice_writes_nothing(engine: Engine) -> None:
    def scan() -> Iterator[dict[str, Any]]:
        yield from (asset(number) for number in range(30))

    refresh_code_ocean(engine, scan())
    before = code_ocean(engine)
    result = refresh_code_ocean(engine, scan())
    assert (result.rows, result.changed) == (30, 0)
    assert code_ocean(engine) == before


def test_archived_assets_are_marked_and_one_listed_on_both_sides_is_not(engine: Engine) -> None:
    result = refresh_code_ocean(engine, with_archived([asset(1), asset(2)], [asset(2), asset(3)]))
    assert result.rows == 3
    assert {id_: row.body.get("archived") for id_, row in code_ocean(engine).items()} == {
        "id-1": None,
        "id-2": None,
        "id-3": True,
    }
    moved = refresh_code_ocean(engine, with_archived([asset(1)], [asset(2), asset(3)]))
    assert (moved.updated, moved.deleted) == (1, 0)


def test_changes_and_losses_follow_and_other_rows_stay_unwritten(engine: Engine) -> None:
    refresh_code_ocean(engine, [asset(1), asset(2), asset(3)])
    before = code_ocean(engine)
    result = refresh_code_ocean(engine, [asset(1), asset(2, state="failed"), asset(4)])
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    after = code_ocean(engine)
    assert set(after) == {"id-1", "id-2", "id-4"}
    assert after["id-1"] == before["id-1"]
    assert after["id-2"].state == "failed"


def test_an_asset_that_comes_twice_in_one_scan_is_one_row(engine: Engine) -> None:
    assert refresh_code_ocean(engine, [asset(1), asset(2), asset(1)]).rows == 2


def test_a_scan_that_breaks_off_changes_nothing(engine: Engine) -> None:
    refresh_code_ocean(engine, [asset(1), asset(2)])

    def broken() -> Iterator[dict[str, Any]]:
        yield asset(3)
        raise ServiceUnavailable("Code Ocean", "gone")

    with pytest.raises(ServiceUnavailable):
        refresh_code_ocean(engine, broken())
    assert set(code_ocean(engine)) == {"id-1", "id-2"}
    with engine.connect() as connection:
        assert connection.scalar(select(index_refreshes.c.rows)) == 2


def test_an_empty_answer_is_refused_once_something_is_known(engine: Engine) -> None:
    assert refresh_code_ocean(engine, []).rows == 0
    refresh_code_ocean(engine, [asset(1)])
    with pytest.raises(RefreshRefused, match="1 of the 1 things"):
        refresh_code_ocean(engine, [])
    assert set(code_ocean(engine)) == {"id-1"}
    assert refresh_code_ocean(engine, [], accept_loss=True).deleted == 1


@pytest.mark.parametrize(
    ("known", "kept", "refused"), [(30, 10, False), (30, 9, True), (60, 30, False), (60, 29, True)]
)
def test_more_than_half_and_more_than_twenty_gone_is_refused(
    engine: Engine, known: int, kept: int, refused: bool
) -> None:
    refresh_code_ocean(engine, (asset(number) for number in range(known)))
    # As many new ones hide the loss from a mere count.
    answer = [asset(number) for number in range(kept)] + [asset(1000 + number) for number in range(known - kept)]
    if refused:
        with pytest.raises(RefreshRefused, match="accept_loss"):
            refresh_code_ocean(engine, answer)
        assert set(code_ocean(engine)) == {f"id-{number}" for number in range(known)}
    else:
        assert refresh_code_ocean(engine, answer).deleted == known - kept


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "odd", "created": 1},
        {"id": "odd", "name": "x"},
        {"id": "odd", "name": "x", "created": "yesterday"},
        {"id": "odd", "name": "x", "created": 10**18},
        {"id": "odd", "name": "x", "created": True},
        {"name": "x", "created": 1},
        {"id": "odd", "name": "nul\0", "created": 1},
        {"id": "odd", "name": "half \ud800", "created": 1},
        {"id": "odd", "name": "long" * 1000, "created": 1},
        {"id": "long" * 1000, "name": "x", "created": 1},
    ],
)
def test_an_asset_outside_the_contract_is_a_finding_and_the_others_arrive(engine: Engine, odd: dict[str, Any]) -> None:
    result = refresh_code_ocean(engine, [odd, asset(1)], run_id="run")
    assert result.findings_by_code == {"code_ocean_asset_unreadable": 1}
    assert standing(engine) == {("code_ocean_asset_unreadable", shown(odd.get("id")))}
    assert set(code_ocean(engine)) == {"id-1"}
    refresh_code_ocean(engine, [asset(1)])
    assert standing(engine) == set()


def test_odd_fields_do_not_stop_an_asset(engine: Engine) -> None:
    refresh_code_ocean(
        engine,
        [
            asset(1, tags=None, size="12", custom_metadata=[], description="a\0b", created=1.5, state=["?"]),
            asset(2, tags=["\ud800", None, "raw"], size=2**70, app_parameters=[float("nan")], source_bucket="b"),
        ],
    )
    one, two = code_ocean(engine)["id-1"], code_ocean(engine)["id-2"]
    assert (one.tags, one.size, one.state) == ([], None, None)
    assert one.body["description"] == "a\N{REPLACEMENT CHARACTER}b"
    assert (two.tags, two.size, two.location) == (["\N{REPLACEMENT CHARACTER}", "raw"], None, None)


@pytest.mark.parametrize(
    ("name", "level", "tags", "raw"),
    [
        (SESSION, None, [], True),
        (SESSION, "raw data", [], True),
        (SESSION, "derived data", ["raw"], False),
        (SESSION, None, ["ecephys"], True),
        ("ecephys_676909_2023_12_13_13_43_40", None, [], True),
        (f"{SESSION}_copy", None, ["Raw-data"], True),
        (f"{SESSION}_sorted_2024-03-01_16-02-45", None, ["Raw-data"], False),
        (f"{SESSION}_sorted_2024-03-01_16-02-45", None, [], False),
        (f"{SESSION}_sorted_2024-03-01_16-02-45", " ", [], False),
        (f"sorted_2023-12-16_06-52-11_{SESSION}", None, [], False),
        (f"{SESSION}_stitched_2024-03-01_16-02-45", "raw data", ["raw"], False),
        (f"{SESSION}_copy", "raw data", [], True),
    ],
)
def test_what_makes_a_code_ocean_asset_raw(name: str, level: str | None, tags: list[str], raw: bool) -> None:
    assert is_raw(name, level, tags, SESSION) is raw


# --- S3 ------------------------------------------------------------------------------------------------------------


def test_top_level_folders_are_indexed_and_children_of_raw_sessions(engine: Engine, s3: S3Client) -> None:
    derived = f"{SESSION}_sorted_2024-03-01_16-02-45"
    fill(
        s3,
        "one",
        f"{SESSION}/ecephys/x",
        f"{SESSION}/behavior/y",
        f"{SESSION}/metadata.nd.json",
        f"{derived}/curated/z",
    )
    fill(s3, "two", "models/m/1")
    result = refresh_s3(engine, s3, ["one", "two", "one"], today=LONG_AFTER)
    assert prefixes(engine) == {
        ("one", SESSION): ["behavior", "ecephys"],
        ("one", derived): [],
        ("two", "models"): [],
    }
    assert (result.rows, result.inserted, result.requests) == (3, 3, 3)
    with engine.connect() as connection:
        sources = {row.source: (row.rows, row.requests) for row in connection.execute(select(index_refreshes))}
        sessions = set(connection.scalars(select(s3_prefixes.c.session_id)))
    assert sources == {"s3://one": (2, 2), "s3://two": (1, 1)}
    assert sessions == {SESSION, None}


def test_a_second_refresh_asks_only_for_what_is_new(engine: Engine, s3: S3Client) -> None:
    fill(s3, "bucket", f"{SESSION}/ecephys/x")
    refresh_s3(engine, s3, ["bucket"], today=LONG_AFTER)
    other = "behavior_717121_2024-06-16_11-39-34"
    s3.put_object(Bucket="bucket", Key=f"{SESSION}/late/y", Body=b"")
    s3.put_object(Bucket="bucket", Key=f"{other}/behavior/y", Body=b"")
    result = refresh_s3(engine, s3, ["bucket"], today=LONG_AFTER)
    assert (result.requests, result.inserted, result.changed) == (2, 1, 1)
    assert prefixes(engine) == {("bucket", SESSION): ["ecephys"], ("bucket", other): ["behavior"]}
    assert refresh_s3(engine, s3, ["bucket"], today=LONG_AFTER, everything=True).updated == 1
    assert prefixes(engine)["bucket", SESSION] == ["ecephys", "late"]


def test_a_young_session_is_listed_anew(engine: Engine, s3: S3Client) -> None:
    fill(s3, "bucket", f"{SESSION}/ecephys/x")
    soon_after = date(2023, 12, 20)
    refresh_s3(engine, s3, ["bucket"], today=soon_after)
    s3.put_object(Bucket="bucket", Key=f"{SESSION}/behavior-videos/y", Body=b"")
    assert refresh_s3(engine, s3, ["bucket"], today=soon_after).updated == 1
    assert prefixes(engine)["bucket", SESSION] == ["behavior-videos", "ecephys"]


def test_children_of_raw_assets_that_code_ocean_holds_are_listed(engine: Engine, s3: S3Client) -> None:
    refresh_code_ocean(engine, [asset(1, name=SESSION), asset(2, name=f"{SESSION}_sorted_2024-03-01_16-02-45")])
    fill(s3, "bucket", "id-1/ecephys/x", "id-2/curated/y", "id-3/z/y")
    refresh_s3(engine, s3, ["bucket"], today=LONG_AFTER)
    assert prefixes(engine) == {("bucket", "id-1"): ["ecephys"], ("bucket", "id-2"): [], ("bucket", "id-3"): []}


def test_a_missing_bucket_is_a_finding_until_it_is_there(engine: Engine, s3: S3Client) -> None:
    fill(s3, "bucket", "a/x")
    result = refresh_s3(engine, s3, ["no-such-bucket", "bucket"], run_id="run")
    assert result.findings_by_code == {"bucket_missing": 1}
    assert standing(engine) == {("bucket_missing", "no-such-bucket")}
    assert set(prefixes(engine)) == {("bucket", "a")}
    fill(s3, "no-such-bucket")
    assert refresh_s3(engine, s3, ["no-such-bucket", "bucket"]).findings_by_code == {}
    assert standing(engine) == set()


def test_an_outage_leaves_the_index_as_it_was(engine: Engine, s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aind_pipelines.clients.s3._ATTEMPTS", 1)
    fill(s3, "bucket", "a/x")
    refresh_s3(engine, s3, ["bucket"])
    url = f"http://127.0.0.1:{free_port()}"
    nowhere = client(
        Settings(aws_endpoint_url=url, aws_region="us-west-2", aws_access_key_id="a", aws_secret_access_key="b")
    )
    with pytest.raises(ServiceUnavailable):
        refresh_s3(engine, nowhere, ["bucket"])
    assert set(prefixes(engine)) == {("bucket", "a")}


def test_a_bucket_that_lost_most_of_its_folders_is_refused(engine: Engine, s3: S3Client) -> None:
    keys = [f"folder-{number}/x" for number in range(25)]
    fill(s3, "bucket", *keys)
    refresh_s3(engine, s3, ["bucket"])
    for key in keys[:22]:
        s3.delete_object(Bucket="bucket", Key=key)
    with pytest.raises(RefreshRefused, match="22 of the 25"):
        refresh_s3(engine, s3, ["bucket"])
    assert len(prefixes(engine)) == 25
    assert refresh_s3(engine, s3, ["bucket"], accept_loss=True).deleted == 22


def test_other_buckets_stay_when_one_is_refreshed(engine: Engine, s3: S3Client) -> None:
    fill(s3, "one", "a/x")
    fill(s3, "two", "b/x")
    refresh_s3(engine, s3, ["one", "two"])
    s3.delete_object(Bucket="one", Key="a/x")
    assert refresh_s3(engine, s3, ["one"]).deleted == 1
    assert set(prefixes(engine)) == {("two", "b")}
