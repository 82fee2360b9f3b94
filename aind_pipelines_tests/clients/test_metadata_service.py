"""The client understands what real servers of both generations were recorded to send, and takes no outage for a no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.http import build_session
from aind_pipelines.clients.metadata_service import AindMetadataServiceClient, Answer
from aind_pipelines_tests.clients.canned import Canned, canned_server

MODEL = {"subject_id": "115977", "sex": "Female"}
SURGERY = {"procedure_type": "Surgery", "start_date": "2023-10-02"}


@pytest.fixture
def server() -> Iterator[Canned]:
    with canned_server() as canned:
        yield canned


def ask(server: Canned, version: Any, endpoint: str, key: str, status: int, body: Any, **headers: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    server.queue = [(status, sent, text.encode())] * 3
    session = build_session(retries=1, backoff=0.01)
    with AindMetadataServiceClient(server.url, session=session, version=version) as client:
        return client.ask(endpoint, key)


@pytest.mark.parametrize(
    ("status", "message", "data", "valid"),
    [
        (200, "Valid Model.", MODEL, True),
        (300, "Multiple Items Found. All Models Valid.", [MODEL, MODEL], True),
        (300, "Multiple Items Found. Validation Errors: 1 validation error for Subject", [MODEL], False),
        (406, "Validation Errors: 1 validation error for Surgery\nprotocol_id\n  Field required", SURGERY, False),
        (207, "There was an error retrieving records from one or more of the databases.", SURGERY, False),
        (422, "Instrument, not validated", MODEL, False),
        (200, "Success", [], True),
    ],
)
def test_v1_answers_with_data_are_found_and_told_apart(
    server: Canned, status: int, message: str, data: Any, valid: bool
) -> None:
    answer = ask(server, "v1", "subject", "115977", status, {"message": message, "data": data})
    assert answer == Answer(status, message, data)
    assert (answer.found, answer.valid) == (True, valid)


def test_v1_says_no_with_an_envelope(server: Canned) -> None:
    answer = ask(server, "v1", "subject", "999999", 404, {"message": "No Data Found.", "data": None})
    assert answer == Answer(404, "No Data Found.", None)
    assert (answer.found, answer.valid) == (False, False)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"message": "Internal Server Error.", "data": None}),
        (503, {"message": "Connection Error.", "data": None}),
        (500, {"detail": "Internal Server Error"}),
        (500, "Proxy request failed: All connection attempts failed"),
        (502, "<html>Bad Gateway</html>"),
        (429, "slow down"),
    ],
)
def test_a_service_that_fails_is_an_outage_after_retries(server: Canned, version: str, status: int, body: Any) -> None:
    with pytest.raises(ServiceUnavailable, match=f"metadata-service: GET .*subject/115977 answered {status}"):
        ask(server, version, "subject", "115977", status, body)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("version", "status", "body"),
    [
        ("v1", 404, {"detail": "Not Found"}),  # the path does not exist on that server: not "no data"
        ("v2", 404, {"detail": "Not Found"}),
        ("v1", 404, "<html>not found</html>"),
        ("v1", 200, MODEL),
        ("v1", 200, {"message": "Valid Model.", "data": None}),
        ("v1", 400, {"message": "subject_id cannot be an empty string!", "data": None}),
        ("v1", 422, {"detail": [{"loc": ["path"], "msg": "Input should be a valid string"}]}),
        ("v1", 200, []),
        ("v2", 200, None),
        ("v2", 200, {"detail": "Not found"}),
        ("v2", 400, {"detail": "bad"}),
        ("v2", 422, {"detail": [{"loc": ["path"]}]}),
        ("v2", 300, [MODEL]),
        ("v2", 200, "no json"),
    ],
)
def test_what_the_contract_does_not_allow_is_an_error_of_its_own(
    server: Canned, version: str, status: int, body: Any
) -> None:
    with pytest.raises(UnexpectedAnswer, match="metadata-service: GET"):
        ask(server, version, "subject", "115977", status, body)


def test_v2_answers_carry_the_model_itself(server: Canned) -> None:
    answer = ask(server, "v2", "subject", "632269", 200, MODEL)
    assert (answer, answer.valid) == (Answer(200, "", MODEL), True)
    assert server.asked[0][1] == "/api/v2/subject/632269"
    assert ask(server, "v2", "project_names", "", 200, ["P - S1", "Q"]).data == ["P - S1", "Q"]


def test_v2_data_that_fails_validation_comes_with_a_400_and_its_problems(server: Canned) -> None:
    problem = '[{"type":"string_type","loc":["genotype"],"msg":"Input should be a valid string"}]'
    answer = ask(server, "v2", "subject", "632269", 400, MODEL, X_Error_Message=problem)
    assert answer == Answer(400, problem, MODEL)
    assert (answer.found, answer.valid) == (True, False)


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "Not found"), (406, "Subject ID abc is not valid. Please specify a numeric subject ID.")],
)
def test_v2_says_no_in_a_detail(server: Canned, status: int, words: str) -> None:
    answer = ask(server, "v2", "subject", "abc", status, {"detail": words})
    assert answer == Answer(status, words, None)
    assert not answer.found


def test_refused_credentials_are_no_answer(server: Canned) -> None:
    with pytest.raises(AccessRefused):
        ask(server, "v1", "subject", "1", 403, {"message": "no"})


def test_a_service_that_is_not_there_is_an_outage() -> None:
    with canned_server() as canned:
        url = canned.url
    client = AindMetadataServiceClient(url, session=build_session(retries=1, backoff=0.01))
    with pytest.raises(ServiceUnavailable, match="is up"):
        client.ask("subject", "1")


def test_keys_are_escaped_and_slims_is_asked_by_parameter(server: Canned) -> None:
    body = {"message": "m", "data": [1]}
    for endpoint, key in (("funding", "A/B - C?"), ("ecephys_sessions", "775745"), ("injection_materials", "VT3214G")):
        ask(server, "v1", endpoint, key, 200, body)
    assert [path for _, path, _ in server.asked] == [
        "/funding/A%2FB%20-%20C%3F",
        "/slims/ecephys_sessions?subject_id=775745",
        "/tars_injection_materials/VT3214G",
    ]


@pytest.mark.parametrize(("endpoint", "key"), [("nothing", "1"), ("subject", ""), ("healthcheck", "")])
def test_an_endpoint_or_key_that_cannot_be_is_refused_before_it_is_asked(endpoint: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"metadata-service|needs a key"):
        AindMetadataServiceClient("http://127.0.0.1:9").ask(endpoint, key)
    with pytest.raises(ValueError, match="generations"):
        AindMetadataServiceClient("http://127.0.0.1:9", version="v3")  # type: ignore[arg-type]
