"""The gateway as a process in front of the embedded DocDB, asked as the published client asks."""

from __future__ import annotations

import datetime as dt
import json
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from aind_pipelines_tests.services.processes import answers, free_port, module, mongo_uri, wait_for

GATEWAY = "aind_pipelines.services.docdb_gateway"
KEYS = {"AKIDLAB": "lab/secret+key"}
ASSETS = "/v1/metadata_index/data_assets"


class Caller:
    """Sends requests as aind-data-access-api does: JSON text, signed with botocore, through requests."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **parameters: Any) -> requests.Response:
        sent = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
        return self.session.get(self.url + path, params=sent, timeout=20)

    def post(self, path: str, body: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=20)

    def signed(
        self, method: str, path: str, body: Any = None, secret: str = KEYS["AKIDLAB"], key: str = "AKIDLAB"
    ) -> requests.Response:
        data = None if body is None else json.dumps(body, default=str)
        headers = {"Content-Type": "application/json"}
        request = AWSRequest(method=method, url=self.url + path, data=data, headers=headers)
        SigV4Auth(Credentials(key, secret), "execute-api", "us-west-2").add_auth(request)
        return self.session.request(
            method, self.url + path, data=data, headers=dict(request.headers.items()), timeout=20
        )


def gateway_environment(docdb_port: int) -> dict[str, str]:
    return {"DOCDB_GATEWAY_MONGO_URI": mongo_uri(docdb_port), "DOCDB_GATEWAY_KEYS": json.dumps(KEYS)}


@pytest.fixture(scope="module")
def caller(docdb_port: int) -> Iterator[Caller]:
    port = free_port()
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--max-page-bytes", "10000"]
    with module(GATEWAY, *arguments, env=gateway_environment(docdb_port)) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/healthcheck"), "the start of the gateway", child)
        client = Caller(port)
        yield client
        client.session.close()


@pytest.fixture
def mongo(docdb_port: int) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """DocDB itself, its two generations of records empty."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo_uri(docdb_port), retryWrites=False)
    for database in ("metadata_index", "metadata_index_v2"):
        client[database].data_assets.delete_many({})
    yield client
    client.close()


@pytest.fixture
def assets(mongo: pymongo.MongoClient[dict[str, Any]]) -> pymongo.collection.Collection[dict[str, Any]]:
    return mongo.metadata_index.data_assets


def record(number: int, size: int = 10) -> dict[str, Any]:
    return {"_id": f"id-{number:04}", "name": f"n{number}", "filler": "x" * size, "subject": {"subject_id": "731015"}}


def test_the_health_of_the_gateway_is_that_of_docdb(caller: Caller) -> None:
    response = caller.get("/healthcheck")
    assert (response.status_code, response.json()) == (200, {"status": "OK"})


def test_find_filters_projects_sorts_and_limits(caller: Caller, assets: Any) -> None:
    assets.insert_many([record(number) for number in range(12)] + [{"_id": "other", "name": "a"}])
    query = {"filter": {"subject.subject_id": "731015"}, "projection": {"name": 1}, "sort": {"_id": -1}}
    found = caller.get(f"{ASSETS}/find", limit="7", skip="2", **query).json()
    assert found == [{"_id": f"id-{number:04}", "name": f"n{number}"} for number in range(9, 2, -1)]


def test_paging_until_an_empty_page_collects_every_record_despite_the_payload_cap(caller: Caller, assets: Any) -> None:
    assets.insert_many([record(number, size=3000) for number in range(11)] + [record(99, size=30_000)])
    collected: list[str] = []
    pages = 0
    while batch := caller.get(f"{ASSETS}/find", limit="0", skip=str(len(collected))).json():
        assert len(batch) < 12
        collected += [each["_id"] for each in batch]
        pages += 1
    assert sorted(collected) == sorted([*(f"id-{number:04}" for number in range(11)), "id-0099"])
    assert pages >= 4


def test_the_collection_itself_answers_whole_or_413(caller: Caller, assets: Any) -> None:
    assets.insert_many([record(number, size=3000) for number in range(3)])
    assert len(caller.get(ASSETS, limit="0", skip="0").json()) == 3
    assets.insert_one(record(3, size=3000))
    response = caller.get(ASSETS, limit="0", skip="0")
    assert response.status_code == 413
    assert "message" in response.json()
    assert len(caller.get(ASSETS, limit="2").json()) == 2


def test_counts_are_of_all_and_of_the_matching(caller: Caller, assets: Any) -> None:
    assets.insert_many([record(number) for number in range(5)])
    assert caller.get(f"{ASSETS}/count_documents").json() == {"total_record_count": 5, "filtered_record_count": 5}
    counted = caller.get(f"{ASSETS}/count_documents", filter={"name": {"$in": ["n1", "n2", "zz"]}})
    assert counted.json() == {"total_record_count": 5, "filtered_record_count": 2}


def test_aggregates_answer_and_cannot_write(caller: Caller, assets: Any) -> None:
    assets.insert_many([record(number) for number in range(3)])
    pipeline = [{"$match": {"name": {"$in": ["n0", "n2"]}}}, {"$project": {"name": 1}}]
    found = caller.post(f"{ASSETS}/aggregate", pipeline).json()
    assert {each["name"] for each in found} == {"n0", "n2"}
    for stage in ({"$out": "stolen"}, {"$merge": {"into": "stolen"}}):
        assert caller.post(f"{ASSETS}/aggregate", [stage]).status_code == 403
    assert caller.post(f"{ASSETS}/aggregate", {"$match": {}}).status_code == 400


def test_dates_are_written_with_a_space_as_python_writes_them(caller: Caller, assets: Any) -> None:
    assets.insert_one({"_id": "d", "at": dt.datetime(2026, 1, 2, 3, 4, 5)})
    assert caller.get(f"{ASSETS}/find").json() == [{"_id": "d", "at": "2026-01-02 03:04:05"}]


def test_both_conventions_name_the_second_generation(
    caller: Caller, mongo: pymongo.MongoClient[dict[str, Any]]
) -> None:
    mongo.metadata_index.data_assets.insert_one({"_id": "one"})
    mongo.metadata_index_v2.data_assets.insert_one({"_id": "two"})
    assert caller.get(f"{ASSETS}/find").json() == [{"_id": "one"}]
    for path in (
        "/v2/metadata_index/data_assets",
        "/v1/metadata_index_v2/data_assets",
        "/v2/metadata_index_v2/data_assets",
    ):
        assert caller.get(f"{path}/find").json() == [{"_id": "two"}]


def test_other_databases_answer_under_their_own_names(caller: Caller) -> None:
    assert caller.signed("POST", "/v1/analysis/x/insert_one", {"_id": "a", "a": 1}).status_code == 200
    assert caller.get("/v1/analysis/x", filter={"a": 1}).json() == [{"_id": "a", "a": 1}]


@pytest.mark.parametrize("path", ["/v1/admin/system.users/find", "/v1/local/x", "/v1/a/system.x/find", "/v3/a/b/find"])
def test_system_collections_and_unknown_versions_are_not_there(caller: Caller, path: str) -> None:
    response = caller.get(path)
    assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


@pytest.mark.parametrize(
    "parameters",
    [
        {"filter": "{not json"},
        {"filter": "[1]"},
        {"filter": {"a": {"$nonsense": 1}}},
        {"projection": '"name"'},
        {"sort": {"_id": 2}},
        {"sort": '"_id"'},
        {"limit": "-1"},
        {"limit": "many"},
        {"skip": "1e3"},
        {"filter": "[" * 20_000},
    ],
)
def test_a_request_that_cannot_be_carried_out_is_a_400_in_words(
    caller: Caller, assets: Any, parameters: dict[str, Any]
) -> None:
    assets.insert_one(record(1))
    response = caller.get(f"{ASSETS}/find", **parameters)
    assert response.status_code == 400
    assert response.json()["message"]


def test_a_search_that_does_not_end_is_a_400_that_names_the_limit(caller: Caller, assets: Any) -> None:
    assets.insert_one({"_id": "rx", "name": "a" * 40 + "!"})
    endless = {"_id": "rx", "name": {"$regex": "(a|aa)+$"}}
    stages = [{"$match": endless}]
    removed = {"filter": endless}
    for response in (
        caller.get(f"{ASSETS}/find", filter=endless),
        caller.get(f"{ASSETS}/count_documents", filter=endless),
        caller.post(f"{ASSETS}/aggregate", stages),
        caller.signed("DELETE", f"{ASSETS}/delete_many", removed),
    ):
        assert response.status_code == 400
        assert "match limit exceeded" in response.json()["message"]
    assert assets.count_documents({}) == 1


def test_upserts_insert_then_update_with_the_string_true(caller: Caller, assets: Any) -> None:
    body = {"filter": {"_id": "id-1"}, "update": {"$set": {"_id": "id-1", "name": "n1"}}, "upsert": "True"}
    first = caller.signed("POST", f"{ASSETS}/update_one", body)
    assert (first.status_code, first.json()["n"], first.json()["upserted"]) == (200, 1, "id-1")
    body["update"] = {"$set": {"_id": "id-1", "a.b": 2}}
    second = caller.signed("POST", f"{ASSETS}/update_one", body).json()
    assert second == {"n": 1, "nModified": 1, "ok": 1.0, "updatedExisting": True}
    assert assets.find_one() == {"_id": "id-1", "name": "n1", "a": {"b": 2}}


@pytest.mark.parametrize("upsert", ["False", False, None])
def test_without_upsert_nothing_is_inserted(caller: Caller, assets: Any, upsert: Any) -> None:
    body = {"filter": {"_id": "id-1"}, "update": {"$set": {"a": 1}}, "upsert": upsert}
    assert caller.signed("POST", f"{ASSETS}/update_one", body).json()["n"] == 0
    assert assets.count_documents({}) == 0


def test_bulk_writes_count_what_they_did(caller: Caller, assets: Any) -> None:
    def step(number: int) -> dict[str, Any]:
        key = f"id-{number}"
        return {"UpdateOne": {"filter": {"_id": key}, "update": {"$set": {"_id": key, "n": number}}, "upsert": "True"}}

    first = caller.signed("POST", f"{ASSETS}/bulk_write", [step(1), step(2)]).json()
    assert (first["n_upserted"], first["n_matched"]) == (2, 0)
    second = caller.signed("POST", f"{ASSETS}/bulk_write", [step(1), step(3)]).json()
    assert (second["n_upserted"], second["n_matched"]) == (1, 1)
    assert assets.count_documents({}) == 3
    for bad in ([], {}, [{"DropDatabase": {}}], [{"UpdateOne": {"filter": {}}}], [1]):
        assert caller.signed("POST", f"{ASSETS}/bulk_write", bad).status_code == 400


def test_inserts_name_their_record_and_refuse_a_duplicate(caller: Caller, assets: Any) -> None:
    inserted = caller.signed("POST", f"{ASSETS}/insert_one", {"name": "new"}).json()["inserted_id"]
    assert assets.find_one({"_id": inserted})["name"] == "new"
    again = caller.signed("POST", f"{ASSETS}/insert_one", {"_id": inserted})
    assert again.status_code == 409
    assert "exists" in again.json()["message"]


def test_deletes_take_one_or_many_and_never_everything(caller: Caller, assets: Any) -> None:
    assets.insert_many([record(number) for number in range(5)])
    one = caller.signed("DELETE", f"{ASSETS}/delete_one", {"filter": {"_id": "id-0000"}})
    assert one.json()["deleted_count"] == 1
    ids = {"filter": {"_id": {"$in": ["id-0001", "id-0002", "none"]}}}
    assert caller.signed("DELETE", f"{ASSETS}/delete_many", ids).json()["deleted_count"] == 2
    for empty in ({"filter": {}}, {}, {"filter": None}):
        assert caller.signed("DELETE", f"{ASSETS}/delete_many", empty).status_code == 400
    assert assets.count_documents({}) == 2


def test_assets_register_once_in_the_shape_of_their_generation_and_deregister(
    caller: Caller, mongo: pymongo.MongoClient[dict[str, Any]]
) -> None:
    body = {"s3_location": "s3://bucket/prefix", "name": "nm", "co_asset_id": "co-1", "co_computation_id": "c"}
    first = caller.signed("POST", "/v1/assets/register", body).json()
    assert caller.signed("POST", "/v1/assets/register", body).json()["_id"] == first["_id"]
    caller.signed("POST", "/v2/assets/register", {"s3_location": "s3://bucket/prefix"}).raise_for_status()
    one = mongo.metadata_index.data_assets.find_one({"_id": first["_id"]})
    two = mongo.metadata_index_v2.data_assets.find_one({})
    assert one is not None
    assert two is not None
    assert (one["name"], one["external_links"]) == ("nm", {"Code Ocean": ["co-1"]})
    assert (two["name"], two["object_type"]) == ("prefix", "Metadata")
    gone = caller.signed("DELETE", "/v1/assets/deregister", {"s3_location": "s3://bucket/prefix"})
    assert gone.json()["deleted_count"] == 2
    for bad in ("bucket/prefix", "s3://bucket", "s3://bucket/", 7, None):
        assert caller.signed("POST", "/v1/assets/register", {"s3_location": bad}).status_code == 400


def test_quality_control_is_appended_to_the_record(caller: Caller, mongo: pymongo.MongoClient[dict[str, Any]]) -> None:
    mongo.metadata_index.data_assets.insert_one({"_id": "id-1", "quality_control": None})
    mongo.metadata_index_v2.data_assets.insert_one({"_id": "id-1"})
    body: dict[str, Any] = {"qc_evaluation": [{"name": "e"}], "data_asset_id": "id-1"}
    for version in ("v1", "v1", "v2"):
        assert caller.signed("POST", f"/{version}/add_qc_evaluation", body).json()["n"] == 1
    one = mongo.metadata_index.data_assets.find_one({})
    two = mongo.metadata_index_v2.data_assets.find_one({})
    assert one is not None
    assert two is not None
    assert one["quality_control"] == {"evaluations": [{"name": "e"}, {"name": "e"}]}
    assert two["quality_control"] == {"metrics": [{"name": "e"}]}
    assert caller.signed("POST", "/v1/add_qc_evaluation", body | {"data_asset_id": "no"}).status_code == 404


def test_a_data_summary_is_signed_and_names_the_asset(caller: Caller, assets: Any) -> None:
    assets.insert_one(record(1) | {"location": "s3://b/p"})
    summary = caller.signed("GET", "/v1/data_summary/id-0001")
    assert "n1" in summary.json()["summary"]
    assert caller.signed("GET", "/v1/data_summary/none").status_code == 404
    assert caller.get("/v1/data_summary/id-0001").status_code == 403


WRITES = [
    ("POST", f"{ASSETS}/insert_one", {"name": "x"}),
    ("POST", f"{ASSETS}/update_one", {"filter": {"_id": "id-0001"}, "update": {"$set": {"name": "x"}}}),
    ("POST", f"{ASSETS}/bulk_write", [{"DeleteOne": {"filter": {"_id": "id-0001"}}}]),
    ("DELETE", f"{ASSETS}/delete_one", {"filter": {"_id": "id-0001"}}),
    ("DELETE", f"{ASSETS}/delete_many", {"filter": {"_id": "id-0001"}}),
    ("POST", "/v1/assets/register", {"s3_location": "s3://b/p"}),
    ("DELETE", "/v1/assets/deregister", {"s3_location": "s3://b/p"}),
    ("POST", "/v1/add_qc_evaluation", {"qc_evaluation": [{}], "data_asset_id": "id-0001"}),
    ("GET", "/v1/data_summary/id-0001", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_whoever_does_not_sign_with_a_known_key_changes_nothing(
    caller: Caller, assets: Any, method: str, path: str, body: Any
) -> None:
    assets.insert_one(record(1))
    refused = [
        caller.session.request(method, caller.url + path, json=body, timeout=20),
        caller.signed(method, path, body, secret="wrong"),
        caller.signed(method, path, body, key="AKIDOTHER"),
    ]
    assert [response.status_code for response in refused] == [403, 403, 403]
    assert all(set(response.json()) == {"message"} for response in refused)
    assert list(assets.find()) == [record(1)]


def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(caller: Caller) -> None:
    response = caller.signed("POST", f"{ASSETS}/insert_one", {"name": "x" * 10_000_001})
    assert response.status_code == 413


@pytest.mark.slow
def test_docdb_that_is_down_is_a_503_within_seconds_and_never_an_empty_list() -> None:
    port, nowhere = free_port(), free_port()
    with module(GATEWAY, "--host", "127.0.0.1", "--port", str(port), env=gateway_environment(nowhere)) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/nothing"), "the start of the gateway", child)
        caller = Caller(port)
        for response in (
            caller.get(f"{ASSETS}/find"),
            caller.get("/healthcheck"),
            caller.signed("POST", f"{ASSETS}/insert_one", {"name": "x"}),
        ):
            assert response.status_code == 503
            assert response.elapsed.total_seconds() < 3.5
            assert "lab/secret" not in response.text
            assert "docdb-pw" not in response.text
            assert response.json()["message"]
        caller.session.close()


def test_a_wrong_docdb_login_is_an_outage_of_the_gateway_not_of_the_caller(docdb_port: int) -> None:
    port = free_port()
    uri = mongo_uri(docdb_port).replace("docdb-pw", "guessed")
    env = gateway_environment(docdb_port) | {"DOCDB_GATEWAY_MONGO_URI": uri}
    with module(GATEWAY, "--host", "127.0.0.1", "--port", str(port), env=env) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/nothing"), "the start of the gateway", child)
        response = Caller(port).get(f"{ASSETS}/find")
    assert response.status_code == 503
    assert "guessed" not in response.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_within_two_seconds_even_while_docdb_is_silent(number: signal.Signals) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = free_port()
        env = gateway_environment(silent.getsockname()[1])
        with module(GATEWAY, "--host", "127.0.0.1", "--port", str(port), env=env) as child:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/nothing"), "the start of the gateway", child)
            waiting = socket.create_connection(("127.0.0.1", port))
            waiting.sendall(f"GET {ASSETS}/find HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            time.sleep(0.3)
            start = time.monotonic()
            child.send_signal(number)
            assert child.wait(timeout=5) == 0
            assert time.monotonic() - start < 2
            waiting.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"DOCDB_GATEWAY_MONGO_URI": ""}, "DOCDB_GATEWAY_MONGO_URI is not set"),
        ({"DOCDB_GATEWAY_MONGO_URI": "postgres://me:hidden@x/"}, "no MongoDB URI"),
        ({"DOCDB_GATEWAY_MONGO_URI": "mongodb://me:hid:den@x/"}, "no MongoDB URI"),
        ({"DOCDB_GATEWAY_KEYS": ""}, "DOCDB_GATEWAY_KEYS is not set"),
        ({"DOCDB_GATEWAY_KEYS": "hidden"}, "must be a JSON object"),
        ({"DOCDB_GATEWAY_KEYS": '{"hidden": 1}'}, "must be a JSON object"),
    ],
)
def test_settings_it_cannot_use_end_it_with_one_line_and_no_secret(change: dict[str, str], words: str) -> None:
    env = gateway_environment(1) | change
    with module(GATEWAY, "--port", str(free_port()), env=env) as child:
        assert child.wait(timeout=20) == 1
        assert child.stderr is not None
        said = child.stderr.read()
    assert words in said
    assert said.count("\n") == 1
    assert "hid" not in said


def test_a_port_that_is_taken_ends_it_with_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with module(GATEWAY, "--port", str(port), env=gateway_environment(1)) as child:
            assert child.wait(timeout=20) == 1
            assert child.stderr is not None
            said = child.stderr.read()
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert said.count("\n") == 1
