"""The REST client against a gateway that misbehaves: every fault is an error or a retry, never a wrong answer."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from aind_pipelines.clients.docdb import BulkWriteFailed, MetadataDbClient
from aind_pipelines.clients.docdb.rest import to_json
from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.http import SAFE_METHODS, build_session

IDS = [f"id-{place:02d}" for place in range(12)]
Answer = tuple[int, str]
Fault = Callable[[int, str], Answer | None]


class Script:
    """Twelve records, and a fault that may replace the n-th answer (from 1)."""

    def __init__(self) -> None:
        self.fault: Fault = lambda number, path: None
        self.asked: list[str] = []

    def answer(self, path: str) -> Answer:
        self.asked.append(path)
        return self.fault(len(self.asked), path) or (200, self.right(path))

    @staticmethod
    def right(path: str) -> str:
        asked = urlsplit(path)
        if not asked.path.endswith("/find"):
            return "[]" if asked.path.endswith("/aggregate") else "{}"
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        bound = json.loads(query.get("filter", "{}")).get("_id", {"$gte": ""})
        ids = [name for name in IDS if name > bound.get("$gt", "") or "$gte" in bound]
        ids = ids[:: json.loads(query["sort"])["_id"]]
        return json.dumps([{"_id": name} for name in ids[: min(int(query["limit"]), 5)]])


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = script.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_DELETE = _do  # noqa: N815 - the names are http.server's

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        yield script
        server.shutdown()


@pytest.fixture
def client(script: Script) -> MetadataDbClient:
    """A client that retries as the default one does, without its pauses."""
    session = build_session(retries=3, backoff=0, retry_methods=SAFE_METHODS)
    boto = boto3.session.Session("AKIATEST", "canary-secret", region_name="us-west-2")
    return MetadataDbClient(host=script.url, boto=boto, session=session)  # type: ignore[attr-defined]


def _read(client: MetadataDbClient) -> list[str]:
    return [record["_id"] for record in client.iter_records()]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_read_survives_answers_that_are_worth_repeating(
    client: MetadataDbClient, script: Script, status: int
) -> None:
    script.fault = lambda number, path: (status, "busy") if number % 3 else None
    assert _read(client) == IDS


def test_a_gateway_that_stays_broken_is_an_outage(client: MetadataDbClient, script: Script) -> None:
    script.fault = lambda number, path: (503, '{"message": "down"}') if number > 1 else None
    with pytest.raises(ServiceUnavailable, match=r"503 \(down\)"):
        _read(client)
    assert len(script.asked) == 5


@pytest.mark.parametrize(
    "answer",
    [
        (200, "<html>sign in</html>"),
        (200, '[{"_id": "id-05"}, {"_id"'),
        (200, '{"message": "Internal server error"}'),
        (200, "null"),
        (200, '["id-05"]'),
        (200, '[{"name": "no id"}]'),
        (200, '[{"_id": "id-00"}]'),
        (200, '[{"_id": "id-07"}, {"_id": "id-06"}]'),
        (400, '{"message": "no"}'),
        (404, ""),
        (413, ""),
    ],
)
def test_a_page_that_is_none_ends_the_read_with_an_error(
    client: MetadataDbClient, script: Script, answer: Answer
) -> None:
    script.fault = lambda number, path: answer if number == 2 else None
    with pytest.raises(ServiceError, match="DocDB"):
        _read(client)


def test_pages_that_end_too_early_are_asked_for_again_and_then_refused(
    client: MetadataDbClient, script: Script
) -> None:
    script.fault = lambda number, path: (200, "[]") if number == 2 else None
    assert _read(client) == IDS
    script.asked.clear()
    script.fault = lambda number, path: (200, "[]") if "%24gt%22" in path else None
    with pytest.raises(UnexpectedAnswer, match="after _id 'id-04', although 'id-11' exists"):
        _read(client)


@pytest.mark.parametrize("answer", ["{}", "[]", '{"filtered_record_count": "12"}', "12"])
def test_a_count_that_is_none_is_an_error(client: MetadataDbClient, script: Script, answer: str) -> None:
    script.fault = lambda number, path: (200, answer)
    with pytest.raises(UnexpectedAnswer, match="no count"):
        client.count()


@pytest.mark.parametrize("status", [400, 403, 409, 413, 500])
def test_every_write_raises_when_it_is_refused(client: MetadataDbClient, script: Script, status: int) -> None:
    script.fault = lambda number, path: (status, "no")
    writes: list[Callable[[], Any]] = [
        lambda: client.insert_one_docdb_record({"_id": "a"}),
        lambda: client.upsert_one_docdb_record({"_id": "a"}),
        lambda: client.upsert_list_of_docdb_records([{"_id": "a"}]),
        lambda: client.delete_one_record("a"),
        lambda: client.delete_many_records(["a"]),
        lambda: client.register_asset("s3://b/p"),
        lambda: client.register_co_result("s3://b/p", "n", "a", "c"),
        lambda: client.deregister_asset("s3://b/p"),
        lambda: client.add_qc_evaluation("a", {"qc_evaluation": []}),
        lambda: client.generate_data_summary("a"),
    ]
    for write in writes:
        with pytest.raises(ServiceError, match=str(status)):
            write()


def test_what_would_be_done_twice_is_not_repeated(client: MetadataDbClient, script: Script) -> None:
    script.fault = lambda number, path: (503, "")
    own = MetadataDbClient(host=script.url, boto=client._boto)  # type: ignore[attr-defined]
    for write in (
        lambda: own.insert_one_docdb_record({"_id": "a"}),
        lambda: own.add_qc_evaluation("a", {"qc_evaluation": []}),
        lambda: own.register_asset("s3://b/p"),
    ):
        script.asked.clear()
        with pytest.raises(ServiceUnavailable):
            write()
        assert len(script.asked) == 1
    own.close()


def test_an_upsert_and_an_aggregation_are_repeated(client: MetadataDbClient, script: Script) -> None:
    own = MetadataDbClient(host=script.url, boto=client._boto)  # type: ignore[attr-defined]
    for call in (
        lambda: own.upsert_one_docdb_record({"_id": "a"}),
        lambda: own.upsert_list_of_docdb_records([{"_id": "a"}]),
        lambda: own.aggregate_docdb_records([]),
    ):
        script.asked.clear()
        script.fault = lambda number, path: (503, "") if number == 1 else None
        call()
        assert len(script.asked) == 2
    own.close()


def test_an_outage_in_the_middle_of_a_list_says_what_was_not_sent(client: MetadataDbClient, script: Script) -> None:
    script.fault = lambda number, path: (503, "") if number > 1 else None
    records = [{"_id": name, "p": "x" * 400} for name in IDS]
    with pytest.raises(BulkWriteFailed) as raised:
        client.upsert_list_of_docdb_records(records, max_payload_size=2_300)
    assert list(raised.value.failed) == IDS[4:8]
    assert raised.value.unsent == IDS[8:]
    assert raised.value.retryable


@pytest.mark.parametrize("answer", ['{"n_matched": 0, "n_upserted": 0}', '{"writeErrors": [{"index": 1}]}'])
def test_an_answer_that_counts_too_few_records_is_a_failure(
    client: MetadataDbClient, script: Script, answer: str
) -> None:
    script.fault = lambda number, path: (200, answer)
    with pytest.raises(BulkWriteFailed, match="b"):
        client.upsert_list_of_docdb_records([{"_id": "a"}, {"_id": "b"}])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": {1, 2}}, b"raw"])
def test_json_holds_no_value_that_json_has_not(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"v": value})
