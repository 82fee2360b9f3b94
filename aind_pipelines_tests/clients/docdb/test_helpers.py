"""The helpers that users of the published client know, over both transports, with generated and with real records."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from pymongo import MongoClient

from aind_pipelines.clients import docdb as helpers
from aind_pipelines.clients.docdb import (
    DocumentDbSSHClient,
    DocumentDbSSHCredentials,
    MetadataDbClient,
    RecordNotFound,
)
from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.lab.seed.institute import generate
from aind_pipelines_tests.clients.servers import Bastion, DocDBServer, Gateway, free_port

Mongo = MongoClient[dict[str, Any]]
Record = dict[str, Any]


@pytest.fixture(scope="module")
def generations() -> dict[str, list[Record]]:
    """The records of a made-up institute, by database."""
    return {name: list(records) for name, records in generate(20, 4, troubles=False).records.items()}


@pytest.fixture(scope="module")
def v1(generations: dict[str, list[Record]]) -> list[Record]:
    return generations["metadata_index"]


@pytest.fixture
def filled(mongo: Mongo, generations: dict[str, list[Record]]) -> Mongo:
    for name, records in generations.items():
        mongo[name].data_assets.insert_many(records)
    return mongo


@pytest.fixture(params=["rest", "direct"])
def client(
    request: pytest.FixtureRequest, filled: Mongo, gateway: Gateway, bastion: Bastion, docdb: DocDBServer
) -> Iterator[Any]:
    if request.param == "rest":
        with MetadataDbClient(host=gateway.url) as rest:
            yield rest
        return
    credentials = DocumentDbSSHCredentials(
        host="127.0.0.1", port=docdb.port, username=docdb.username, password=docdb.password,
        ssh_host="127.0.0.1", ssh_port=bastion.port, ssh_username=bastion.username, ssh_password=bastion.password,
    )  # fmt: skip
    with DocumentDbSSHClient(credentials=credentials) as direct:
        yield direct


def test_a_record_is_found_by_id_and_by_name(client: Any, v1: list[Record]) -> None:
    record = v1[3]
    assert helpers.get_record_by_id(client, _id=record["_id"]) == record
    assert helpers.get_record_from_docdb(client, record_id=record["_id"]) == record
    assert helpers.get_record_by_name(client, name=record["name"]) == record
    wanted = {"_id": record["_id"], "subject": {"subject_id": record["subject"]["subject_id"]}}
    projection = {"subject.subject_id": 1}
    assert helpers.get_projection_by_id(client, record["_id"], projection) == wanted
    assert helpers.get_projection_by_name(client, record["name"], projection) == wanted
    field = {"_id": record["_id"], "location": record["location"]}
    assert helpers.get_field_by_id(client, record["_id"], field="location") == field
    assert helpers.get_field_by_name(client, record["name"], field="location") == field
    assert helpers.get_id_from_name(client, name=record["name"]) == record["_id"]
    assert helpers.get_name_from_id(client, _id=record["_id"]) == record["name"]


def test_what_is_not_there_is_none_or_an_error_that_names_it(client: Any) -> None:
    assert helpers.get_record_by_id(client, "nowhere") is None
    assert helpers.get_record_by_name(client, "nowhere") is None
    assert helpers.get_projection_by_name(client, "nowhere", {"name": 1}) is None
    assert helpers.get_field_by_id(client, "nowhere", "name") is None
    for ask in (
        helpers.get_id_from_name, helpers.get_name_from_id,
        helpers.get_quality_control_by_id, helpers.get_quality_control_by_name,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="nowhere"):
            ask(client, "nowhere")


def test_a_field_that_a_record_does_not_have_is_left_out(client: Any, filled: Mongo) -> None:
    filled.metadata_index.data_assets.insert_one({"_id": "bare"})
    assert helpers.get_field_by_id(client, "bare", "name") == {"_id": "bare"}
    with pytest.raises(RecordNotFound, match="bare has no name"):
        helpers.get_name_from_id(client, "bare")
    with pytest.raises(RecordNotFound, match="No quality_control field found in record with _id bare"):
        helpers.get_quality_control_by_id(client, "bare")


def test_a_name_that_two_records_share_gives_the_lowest_id_with_a_warning(
    client: Any, filled: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    filled.metadata_index.data_assets.insert_many([{"_id": "twin-b", "name": "n0"}, {"_id": "twin-a", "name": "n0"}])
    with caplog.at_level(logging.WARNING):
        assert helpers.get_id_from_name(client, "n0") == "twin-a"
    assert "Multiple records share the name n0" in caplog.text
    assert helpers.get_record_by_name(client, "n0") == {"_id": "twin-a", "name": "n0"}


def test_records_are_fetched_by_a_list_of_values(client: Any, v1: list[Record]) -> None:
    names = [record["name"] for record in v1[::2]]
    many = [*names, *(f"no-such-{number}" for number in range(2500)), names[0]]
    found = helpers.fetch_records_by_filter_list(client, filter_key="name", filter_values=many, projection={"name": 1})
    assert sorted(record["name"] for record in found) == sorted(names)
    assert helpers.fetch_records_by_filter_list(client, "name", []) == []


def test_pages_hold_every_record_once(client: Any, v1: list[Record]) -> None:
    pages = list(helpers.paginate_docdb(client, page_size=7, projection={"name": 1}))
    assert [len(page) for page in pages[:-1]] == [7] * (len(v1) // 7 if len(v1) % 7 else len(v1) // 7 - 1)
    assert [record["_id"] for page in pages for record in page] == sorted(record["_id"] for record in v1)
    assert list(helpers.paginate_docdb(client, filter_query={"name": "nowhere"})) == []


def test_pages_neither_repeat_nor_lose_a_record_while_others_go(client: Any, filled: Mongo, v1: list[Record]) -> None:
    ids = sorted(record["_id"] for record in v1)
    seen: list[Any] = []
    for page in helpers.paginate_docdb(client, page_size=5, projection={"_id": 1}):
        seen += [record["_id"] for record in page]
        if len(seen) == 10:  # with skip and limit, as many records would now be stepped over
            filled.metadata_index.data_assets.delete_many({"_id": {"$in": ids[:10]}})
    assert seen == ids


def test_records_are_found_by_their_place_in_s3(
    client: Any, filled: Mongo, v1: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    record = v1[0]
    place = helpers.get_s3_bucket_and_prefix(record["location"])
    assert helpers.get_s3_location(**place) == record["location"]
    assert helpers.does_metadata_record_exist_in_docdb(client, **place)
    assert not helpers.does_metadata_record_exist_in_docdb(client, bucket=place["bucket"], prefix="nowhere")
    filled.metadata_index.data_assets.insert_one({"_id": "~later", "location": record["location"]})
    with caplog.at_level(logging.WARNING):
        ids = helpers.build_docdb_location_to_id_map(
            client, bucket=place["bucket"], prefixes=[f"/{place['prefix']}/", "nowhere"]
        )
    assert ids == {record["location"]: record["_id"]}
    assert "~later is not" in caplog.text


def test_an_outage_is_never_an_empty_answer() -> None:
    nobody = MetadataDbClient(host=f"http://127.0.0.1:{free_port()}", session=requests.Session())  # asks once
    for ask in (
        lambda: helpers.get_record_by_id(nobody, "x"),
        lambda: helpers.get_record_by_name(nobody, "x"),
        lambda: helpers.does_metadata_record_exist_in_docdb(nobody, "b", "p"),
        lambda: helpers.get_quality_control_status_df(nobody, ["x"]),
        lambda: next(helpers.paginate_docdb(nobody)),
    ):
        with pytest.raises(ServiceError):
            ask()


# --- quality control ------------------------------------------------------------------------------------------


def _v1_quality(status: str, value: Any) -> Record:
    history = [
        {"status": "Pending", "timestamp": "2025-01-01 00:00:00-08:00"},
        {"status": status, "timestamp": "2025-06-01T00:00:00Z"},
    ]
    metric = {"name": "drift", "value": value, "status_history": history}
    return {"schema_version": "1.2.2", "evaluations": [{"name": "probe", "metrics": [metric]}]}


def _v2_quality(*metrics: tuple[str, Any, str]) -> Record:
    return {
        "object_type": "Quality control",
        "metrics": [
            {"name": name, "value": value, "status_history": [{"status": status, "timestamp": "2025-06-01T00:00:00Z"}]}
            for name, value, status in metrics
        ],
    }


@pytest.fixture
def judged(filled: Mongo) -> Mongo:
    filled.metadata_index.data_assets.insert_many(
        [
            {"_id": "9", "name": "a", "quality_control": _v1_quality("Pass", 7)},
            {"_id": "8", "name": "b", "quality_control": None},
            {"_id": "7", "name": "c", "quality_control": _v2_quality(("drift", [1, 2], "Fail"), ("drift", 3, "Pass"))},
            {"_id": "6", "name": "d", "quality_control": _v1_quality("Fail", None)},
            {"_id": "5", "name": "d", "quality_control": _v1_quality("Pass", {"x": 1})},
            {"_id": "4", "name": "e", "quality_control": _v2_quality(("name", 1, "Pass"))},
            {"_id": "3", "name": "f", "quality_control": {"evaluations": [None, {"metrics": "none"}], "metrics": 5}},
        ]
    )
    return filled


def _cells(frame: pd.DataFrame, column: str) -> list[Any]:
    return [None if value is pd.NA else value for value in frame[column]]


def test_statuses_stand_beside_their_own_record_whatever_the_answers_order(client: Any, judged: Mongo) -> None:
    frame = helpers.get_quality_control_status_df(client, names=["d", "gone", "c", "b", "a", "e", "f"])
    assert _cells(frame, "name") == ["d", "d", "gone", "c", "b", "a", "e", "f"]
    assert _cells(frame, "_id") == ["5", "6", None, "7", "8", "9", "4", "3"]
    assert _cells(frame, "probe_drift") == ["Pass", "Fail", None, None, None, "Pass", None, None]
    assert _cells(frame, "drift") == [None, None, None, "Fail", None, None, None, None]
    assert _cells(frame, "drift (2)") == [None, None, None, "Pass", None, None, None, None]
    assert _cells(frame, "name (2)") == [None, None, None, None, None, None, "Pass", None]
    assert len(frame.columns) == 6


def test_values_are_kept_as_they_are(client: Any, judged: Mongo) -> None:
    frame = helpers.get_quality_control_value_df(client, ids=["9", "5", "7", "nothing"])
    assert _cells(frame, "name") == ["a", "d", "c", None]
    assert _cells(frame, "_id") == ["9", "5", "7", "nothing"]
    assert _cells(frame, "probe_drift") == [7, {"x": 1}, None, None]
    assert _cells(frame, "drift") == [None, None, [1, 2], None]


@pytest.mark.parametrize(
    ("date", "status"),
    [
        (datetime(2025, 1, 1, 7, 59, tzinfo=UTC), None),
        (datetime(2025, 1, 1, 8, 0, tzinfo=UTC), "Pending"),
        (datetime(2025, 5, 31), "Pending"),  # without zone it is UTC
        (datetime(2025, 6, 1, tzinfo=UTC), "Pass"),
        (None, "Pass"),
    ],
)
def test_the_status_is_that_of_the_date_asked_for(
    client: Any, judged: Mongo, date: datetime | None, status: str | None
) -> None:
    frame = helpers.get_quality_control_status_df(client, ["a"], date=date)
    assert _cells(frame, "probe_drift") == [status]


def test_quality_control_comes_by_name_in_the_order_asked(client: Any, judged: Mongo) -> None:
    found = helpers.get_quality_control_by_names(client, ["c", "gone", "b", "a", "c"])
    drift = _v2_quality(("drift", [1, 2], "Fail"), ("drift", 3, "Pass"))
    assert found == [drift, None, None, _v1_quality("Pass", 7), drift]
    assert helpers.get_quality_control_by_name(client, "a") == _v1_quality("Pass", 7)
    assert helpers.get_quality_control_by_id(client, "7") == drift


def test_names_or_ids_must_be_given_and_may_be_none_at_all(client: Any) -> None:
    with pytest.raises(ValueError, match="either names or ids"):
        helpers.get_quality_control_status_df(client)
    with pytest.raises(ValueError, match="either names or ids"):
        helpers.get_quality_control_value_df(client, ["a"], ids=["9"])
    assert list(helpers.get_quality_control_status_df(client, []).columns) == ["name", "_id"]


def test_generated_records_of_both_generations_have_their_status(
    filled: Mongo, gateway: Gateway, generations: dict[str, list[Record]]
) -> None:
    for version, database, column in (
        ("v1", "metadata_index", "Completeness_Outputs present"),
        ("v2", "metadata_index_v2", "Outputs present"),
    ):
        records = [record for record in generations[database] if record.get("quality_control")]
        assert records
        with MetadataDbClient(host=gateway.url, version=version) as client:
            ids = [record["_id"] for record in reversed(records)]
            frame = helpers.get_quality_control_value_df(client, ids=ids)
            statuses = helpers.get_quality_control_status_df(client, ids=ids)
        assert _cells(frame, "_id") == ids
        assert _cells(frame, column) == [_expected(record)[0] for record in reversed(records)]
        assert _cells(statuses, column) == [_expected(record)[1] for record in reversed(records)]


def _expected(record: Record) -> tuple[Any, str]:
    quality = record["quality_control"]
    metric = quality["metrics"][0] if "metrics" in quality else quality["evaluations"][0]["metrics"][0]
    return metric["value"], metric["status_history"][-1]["status"]


def test_real_records_have_every_metric_in_the_frame(
    real_records: Path, mongo: Mongo, docdb: DocDBServer, bastion: Bastion
) -> None:
    records = [json.loads(file.read_text()) for file in sorted(real_records.glob("*.json"))]
    mongo.metadata_index.data_assets.insert_many(records)
    judged = [record for record in records if record.get("quality_control")]
    assert {"metrics" in record["quality_control"] for record in judged} == {True, False}
    credentials = DocumentDbSSHCredentials(
        host="127.0.0.1", port=docdb.port, username=docdb.username, password=docdb.password,
        ssh_host="127.0.0.1", ssh_port=bastion.port, ssh_username=bastion.username, ssh_password=bastion.password,
    )  # fmt: skip
    with DocumentDbSSHClient(credentials=credentials) as client:
        frame = helpers.get_quality_control_status_df(client, ids=[record["_id"] for record in judged])
    assert _cells(frame, "_id") == [record["_id"] for record in judged]
    for place, record in enumerate(judged):
        quality = record["quality_control"]
        among = [quality, *quality.get("evaluations", [])]
        wanted = [metric["status_history"][-1]["status"] for part in among for metric in part.get("metrics", [])]
        assert sorted(frame.iloc[place].drop(["name", "_id"]).dropna()) == sorted(wanted)
