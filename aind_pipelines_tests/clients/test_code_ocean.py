"""The scan of data assets ends, repeats what failed, and never passes an outage or a broken page for the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from codeocean.computation import RunParams

from aind_pipelines.clients.code_ocean import get_client, iter_data_assets, mapped_errors
from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines_tests.clients.canned import Answer, Canned, canned_server

LAST: dict[str, Any] = {"has_more": False, "results": [{"id": "z"}]}


@pytest.fixture
def server() -> Iterator[Canned]:
    with canned_server() as canned:
        yield canned


def page(body: Any, status: int = 200) -> Answer:
    return status, {}, (body if isinstance(body, str) else json.dumps(body)).encode()


def scan(server: Canned) -> list[dict[str, Any]]:
    return list(iter_data_assets(get_client(server.url, "cop_t", retries=2, backoff=0.01)))


def test_pages_are_followed_by_their_tokens_to_the_end(server: Canned) -> None:
    pages = [{"has_more": True, "next_token": str(n), "results": [{"id": str(n)}]} for n in range(3)]
    server.queue = [page(each) for each in (*pages, LAST)]
    assert [each["id"] for each in scan(server)] == ["0", "1", "2", "z"]
    assert {(method, path) for method, path, _ in server.asked} == {("POST", "/api/v1/data_assets/search")}


def test_a_search_that_failed_is_repeated_although_it_is_a_post(server: Canned) -> None:
    server.queue = [page("busy", 503), page({"message": "slow down"}, 429), page(LAST)]
    assert scan(server) == [{"id": "z"}]


def test_a_run_that_failed_is_not_started_twice(server: Canned) -> None:
    server.queue = [page({"message": "busy"}, 503)]
    with pytest.raises(ServiceUnavailable, match=r"Code Ocean: POST .*computations answered 503"), mapped_errors():
        get_client(server.url, "cop_t", backoff=0.01).computations.run_capsule(RunParams(capsule_id="c"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("token", [{"next_token": "same"}, {}, {"next_token": None}, {"next_token": ""}])
def test_a_token_that_is_repeated_or_missing_ends_the_scan_with_an_error(
    server: Canned, token: dict[str, Any]
) -> None:
    server.queue = [page({"has_more": True, "results": [{"id": "1"}], **token})] * 5
    with pytest.raises(UnexpectedAnswer, match="next_token"):
        scan(server)
    assert len(server.asked) <= 2


@pytest.mark.parametrize(
    "body", ["<html>", [], {}, {"has_more": False}, {"results": []}, {"has_more": False, "results": [1]}]
)
def test_an_answer_that_is_no_page_is_not_the_end(server: Canned, body: Any) -> None:
    server.queue = [page(body)]
    with pytest.raises(UnexpectedAnswer, match="no page of data assets"):
        scan(server)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AccessRefused), (403, AccessRefused), (404, UnexpectedAnswer), (500, ServiceUnavailable)],
)
def test_refusals_and_outages_are_told_apart(server: Canned, status: int, error: type[Exception]) -> None:
    server.queue = [page({"message": "because"}, status)] * 3
    with pytest.raises(error, match="because") as caught:
        scan(server)
    assert "cop_t" not in str(caught.value)


def test_a_deployment_that_is_not_there_is_an_outage() -> None:
    with canned_server() as canned:
        url = canned.url
    with pytest.raises(ServiceUnavailable, match=r"Code Ocean: POST .*search"):
        list(iter_data_assets(get_client(url, "cop_t", retries=1, backoff=0.01)))
