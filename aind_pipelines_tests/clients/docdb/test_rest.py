"""The REST client in front of a real gateway and a real DocDB."""

import json
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from pymongo import MongoClient

from aind_pipelines.clients.docdb import AnalysisDbClient, BulkWriteFailed, MetadataDbClient, SchemaDbClient
from aind_pipelines.clients.docdb.rest import base_address
from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines_tests.clients.servers import Gateway, free_port

Mongo = MongoClient[dict[str, Any]]


@pytest.fixture
def client(gateway: Gateway, mongo: Mongo) -> Iterator[MetadataDbClient]:
    with MetadataDbClient(host=gateway.url, boto=gateway.boto()) as client:
        yield client


class Recording(requests.Session):
    """Keeps what was asked, as (method, path with query)."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[str] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self.asked.append((request.method or "", requests.utils.unquote(request.path_url)))
        body = request.body or b""
        self.bodies.append(body.decode() if isinstance(body, bytes) else body)
        return super().send(request, **options)


def _fill(mongo: Mongo, number: int, size: int = 100, database: str = "metadata_index") -> list[str]:
    ids = [f"id-{place:04d}" for place in range(number)]
    mongo[database].data_assets.insert_many(
        {"_id": name, "n": place, "odd": place % 2, "filler": "x" * size} for place, name in enumerate(ids)
    )
    return ids


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("api.example.org", "https://api.example.org"),
        ("/api.example.org/", "https://api.example.org"),
        ("api.example.org:8443", "https://api.example.org:8443"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://api.example.org/stage", "https://api.example.org/stage"),
    ],
)
def test_a_host_without_scheme_means_https(host: str, address: str) -> None:
    assert base_address(host) == address
    assert MetadataDbClient(host=host).host == address


@pytest.mark.parametrize("host", ["", "ftp://h", "https://"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="DocDB gateway"):
        MetadataDbClient(host=host)


def test_records_come_once_and_whole_through_pages_that_are_cut_short(client: MetadataDbClient, mongo: Mongo) -> None:
    ids = _fill(mongo, 60, size=900)  # ten of them fill a page
    assert [record["_id"] for record in client.iter_records(page_size=25)] == ids
    assert len(client.retrieve_docdb_records()) == 60
    first = client.retrieve_docdb_records(limit=30)
    assert [record["_id"] for record in first] == ids[:30]
    assert first[0]["filler"] == "x" * 900
    assert [record["_id"] for record in client.iter_records(after_id="id-0055")] == ids[56:]


def test_filters_projections_and_limits_are_honoured(client: MetadataDbClient, mongo: Mongo) -> None:
    _fill(mongo, 9)
    assert client.retrieve_docdb_records({"odd": 1}, {"n": 1, "_id": 0}, limit=3) == [{"n": 1}, {"n": 3}, {"n": 5}]
    assert client.retrieve_docdb_records({"_id": {"$gte": "id-0007"}}, {"n": 1}) == [
        {"_id": "id-0007", "n": 7},
        {"_id": "id-0008", "n": 8},
    ]
    assert client.retrieve_docdb_records({"n": 99}) == []
    assert client.count() == 9
    assert client.count({"odd": 1}) == 4


@pytest.mark.parametrize("limit", [0, 5, 40, 100])
def test_another_order_is_honoured_through_pages_that_are_cut_short(
    client: MetadataDbClient, mongo: Mongo, limit: int
) -> None:
    _fill(mongo, 40, size=900)
    records = client.retrieve_docdb_records(
        {}, {"n": 1, "filler": 1, "_id": 0}, sort={"odd": -1, "n": -1}, limit=limit
    )
    expected = sorted(range(40), key=lambda n: (n % 2, n), reverse=True)
    assert [record["n"] for record in records] == expected[: limit or 40]
    assert all("_id" not in record for record in records)


def test_a_read_costs_a_page_and_the_look_at_both_ends(gateway: Gateway, mongo: Mongo) -> None:
    _fill(mongo, 3, size=1)
    session = Recording()
    client = MetadataDbClient(host=gateway.url, session=session)
    assert len(client.retrieve_docdb_records({"odd": 0}, {"n": 1})) == 2
    base = "/v1/metadata_index/data_assets/find?limit={}&skip=0&filter="
    asked = [path.replace("+", " ") for _, path in session.asked]
    assert asked == [
        base.format(500) + '{"odd": 0, "_id": {"$gte": ""}}&projection={"n": 1}&sort={"_id": 1}',
        base.format(500) + '{"odd": 0, "_id": {"$gt": "id-0002"}}&projection={"n": 1}&sort={"_id": 1}',
        base.format(1) + '{"odd": 0}&projection={"_id": 1}&sort={"_id": -1}',
        base.format(1) + '{"odd": 0}&projection={"_id": 1}&sort={"_id": 1}',
    ]


def test_ids_that_are_no_text_are_read_too(client: MetadataDbClient, mongo: Mongo) -> None:
    ids = _fill(mongo, 12, size=900)
    mongo.metadata_index.data_assets.insert_many([{"_id": 7, "n": -1}, {"n": -2}])
    read = [record["n"] for record in client.iter_records()]
    assert sorted(read) == [-2, -1, *range(len(ids))]


def test_both_conventions_reach_the_second_generation(gateway: Gateway, mongo: Mongo) -> None:
    mongo.metadata_index.data_assets.insert_one({"_id": "one"})
    mongo.metadata_index_v2.data_assets.insert_one({"_id": "two"})
    by_version = MetadataDbClient(host=gateway.url, version="v2")
    by_database = MetadataDbClient(host=gateway.url, database="metadata_index_v2")
    assert by_version.retrieve_docdb_records() == by_database.retrieve_docdb_records() == [{"_id": "two"}]


def test_a_list_of_values_is_fetched_in_answers_that_fit(client: MetadataDbClient, mongo: Mongo) -> None:
    ids = _fill(mongo, 40, size=900)
    found = client.fetch_records_by_filter_list("_id", [*ids, "absent"], {"n": 1, "filler": 1})
    assert sorted(record["_id"] for record in found) == ids
    assert client.fetch_records_by_filter_list("_id", []) == []
    assert client.fetch_records_by_filter_list("n", [3], {"_id": 1}) == [{"_id": "id-0003"}]


def test_records_that_stay_are_read_once_while_others_are_written(client: MetadataDbClient, mongo: Mongo) -> None:
    ids = _fill(mongo, 200, size=200)
    stop = threading.Event()

    def edit() -> None:
        place = 0
        while not stop.is_set():
            mongo.metadata_index.data_assets.insert_one({"_id": f"id-{place:04d}-new"})
            mongo.metadata_index.data_assets.delete_one({"_id": ids[(place * 7) % 100]})
            place = (place + 1) % 10_000

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        read = [record["_id"] for record in client.iter_records(page_size=20)]
    finally:
        stop.set()
        editor.join()
    assert len(read) == len(set(read))
    assert set(ids[100:]) <= set(read)


def test_writes_arrive_as_written(client: MetadataDbClient, mongo: Mongo) -> None:
    assets = mongo.metadata_index.data_assets
    client.insert_one_docdb_record({"_id": "a", "name": "ü", "kept": 1})
    client.upsert_one_docdb_record({"_id": "a", "name": "new", "at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert assets.find_one({"_id": "a"}) == {"_id": "a", "name": "new", "kept": 1, "at": "2026-01-02 00:00:00+00:00"}
    with pytest.raises(ServiceError, match="409"):
        client.insert_one_docdb_record({"_id": "a"})
    client.upsert_list_of_docdb_records([{"_id": "b", "n": 1}, {"_id": "c", "n": 2}])
    assert assets.count_documents({}) == 3
    client.delete_one_record("a")
    client.delete_many_records(["b", "c", "absent"])
    assert assets.count_documents({}) == 0


def test_assets_are_registered_summarised_evaluated_and_deregistered(client: MetadataDbClient, mongo: Mongo) -> None:
    client.register_asset("s3://bucket/asset")
    identity = client.register_co_result("s3://bucket/result", "named", "co-1", "comp-1")["_id"]
    client.add_qc_evaluation(identity, {"qc_evaluation": [{"name": "drift"}]})
    record = mongo.metadata_index.data_assets.find_one({"_id": identity})
    assert record is not None
    assert record["quality_control"] == {"evaluations": [{"name": "drift"}]}
    assert record["external_links"] == {"Code Ocean": ["co-1"]}
    assert "named" in client.generate_data_summary(identity)["summary"]
    client.deregister_asset("s3://bucket/asset")
    client.deregister_asset("s3://bucket/result")
    assert client.count() == 0
    with pytest.raises(ServiceError, match="404"):
        client.generate_data_summary("a/b?c")


def test_requests_stay_under_the_limit_with_their_envelope(gateway: Gateway, mongo: Mongo) -> None:
    session = Recording()
    client = MetadataDbClient(host=gateway.url, boto=gateway.boto(), session=session)
    records = [{"_id": f"{place}", "p": "ü" * (100 + 37 * (place % 5))} for place in range(40)]
    answers = client.upsert_list_of_docdb_records(records, max_payload_size=3000)
    assert len(answers) == len(session.bodies)
    assert max(len(body.encode()) for body in session.bodies) <= 3000
    assert min(len(body.encode()) for body in session.bodies[:-1]) > 1500
    assert mongo.metadata_index.data_assets.count_documents({}) == 40
    assert [len(json.loads(body)) for body in session.bodies] == [
        answer["n_matched"] + answer["n_upserted"] for answer in answers
    ]


def test_a_partial_bulk_failure_names_the_records_and_writes_the_others(
    client: MetadataDbClient, mongo: Mongo
) -> None:
    mongo.metadata_index.data_assets.create_index("location", unique=True, sparse=True)
    try:
        mongo.metadata_index.data_assets.insert_one({"_id": "taken", "location": "s3://b/taken"})
        records = [{"_id": f"r{place}", "location": f"s3://b/{place}"} for place in range(10)]
        records[3]["location"] = records[8]["location"] = "s3://b/taken"
        with pytest.raises(BulkWriteFailed, match=r"2 record\(s\) were not written.*r3") as raised:
            client.upsert_list_of_docdb_records(records)
        assert list(raised.value.failed) == ["r3", "r8"]
        assert raised.value.unsent == []
        assert not raised.value.retryable
        assert mongo.metadata_index.data_assets.count_documents({}) == 9
    finally:
        mongo.metadata_index.data_assets.drop_index("location_1")


@pytest.mark.parametrize(
    "record", [{"name": "no id"}, {"_id": None}, {"_id": "a", "v": float("nan")}, {"_id": "a", "v": object()}]
)
def test_a_record_that_cannot_be_sent_is_refused_before_any_request(record: dict[str, Any]) -> None:
    client = MetadataDbClient(host=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ValueError, match=r"_id|JSON"):
        client.upsert_one_docdb_record(record)
    with pytest.raises(ValueError, match=r"_id|JSON"):
        client.upsert_list_of_docdb_records([{"_id": "fine"}, record])


def test_a_wrong_key_is_refused_without_showing_it(gateway: Gateway, mongo: Mongo) -> None:
    client = MetadataDbClient(host=gateway.url, boto=gateway.boto(secret_key="canary-wrong"))
    with pytest.raises(AccessRefused, match="403") as raised:
        client.delete_one_record("a")
    with pytest.raises(BulkWriteFailed) as bulk:
        client.upsert_list_of_docdb_records([{"_id": "a"}, {"_id": "b"}])
    shown = "".join(traceback.format_exception(raised.value) + traceback.format_exception(bulk.value))
    assert "canary" not in shown + repr(client)
    assert "Signature=" not in shown
    assert client.count() == 0


def test_a_missing_region_or_login_says_which_variable_to_set(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServiceError, match="AWS_REGION"):
        MetadataDbClient(host=gateway.url, boto=gateway.boto(region=None)).delete_one_record("a")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessRefused, match="AWS_ACCESS_KEY_ID"):
        MetadataDbClient(host=gateway.url).delete_one_record("a")


def test_boto3s_own_chain_signs_when_no_session_is_given(
    gateway: Gateway, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", gateway.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", gateway.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with MetadataDbClient(host=gateway.url) as client:
        client.insert_one_docdb_record({"_id": "a/b c?d=ü"})
        assert client.count({"_id": "a/b c?d=ü"}) == 1


def test_schemas_and_analyses_have_their_own_databases(gateway: Gateway, mongo: Mongo) -> None:
    mongo.schemas.subject.delete_many({})
    mongo.schemas.subject.insert_many([{"_id": "1.0.0"}, {"_id": "2.0.0"}])
    schemas = SchemaDbClient(host=gateway.url, collection="subject")
    assert schemas.retrieve_schema_records("1.0.0") == [{"_id": "1.0.0"}]
    assert len(schemas.retrieve_schema_records(sort={"_id": -1})) == 2
    mongo.analysis.x.delete_many({})
    AnalysisDbClient(host=gateway.url, collection="x", boto=gateway.boto()).insert_one_docdb_record({"_id": "a"})
    assert mongo.analysis.x.count_documents({}) == 1


def test_a_gateway_that_is_down_is_an_outage_and_never_an_empty_answer() -> None:
    from aind_pipelines.clients.http import build_session

    client = MetadataDbClient(host=f"http://127.0.0.1:{free_port()}", session=build_session(retries=0))
    with pytest.raises(ServiceUnavailable, match="DocDB"):
        client.retrieve_docdb_records()
    with pytest.raises(ServiceUnavailable):
        client.count()


def test_a_bad_query_is_refused_in_the_gateways_words(client: MetadataDbClient) -> None:
    with pytest.raises(ServiceError, match="400"):
        client.retrieve_docdb_records({"$nonsense": 1})
