"""The plain API is that of django-neurobank 0.12: a recorded conversation, on each engine."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from aind_pipelines_tests.registry_process import PASSWORD
from aind_pipelines_tests.services.registry.conftest import NewRegistry

EXCHANGES = [json.loads(line) for line in Path(__file__).with_name("plain_api.jsonl").read_text().splitlines()]
CONTRACT = Path(
    os.environ.get("NEUROBANK_CONTRACT")
    or Path(__file__).parents[4] / "shared" / "reference" / "contracts" / "neurobank_registry_wire.jsonl"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)")


def same(answer: Any, expected: Any, base: str) -> bool:
    """Whether `answer` is `expected`, where ``<time>`` and ``<registry>`` stand for what differs."""
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and answer.keys() == expected.keys()
            and all(same(answer[key], value, base) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(expected)
            and all(same(*pair, base) for pair in zip(answer, expected, strict=True))
        )
    if expected == "<time>":
        return isinstance(answer, str) and _TIME.fullmatch(answer) is not None
    if isinstance(expected, str):
        expected = expected.replace("<registry>", base)
    return bool(answer == expected) and type(answer) is type(expected)


def say(base: str, exchange: dict[str, Any]) -> requests.Response:
    content: dict[str, Any] = {}
    if "raw" in exchange:
        content = {"data": exchange["raw"], "headers": {"Content-Type": exchange["type"]}}
    elif "send" in exchange:
        content = {"json": exchange["send"]}
    auth = (exchange["as"], PASSWORD) if exchange["as"] else None
    return requests.request(
        exchange["method"], base + exchange["path"], auth=auth, timeout=10, allow_redirects=False, **content
    )


def read(response: requests.Response) -> Any:
    """JSON; the bulk routes' lines as a list; None for nothing."""
    if not response.content:
        return None
    if response.status_code == 200 and "/bulk/" in response.url:
        return [json.loads(line) for line in response.content.splitlines()]
    return response.json()


def test_every_recorded_answer_is_given(new_registry: NewRegistry):
    with new_registry() as running:
        for number, exchange in enumerate(EXCHANGES, 1):
            response = say(running.url, exchange)
            told = f"line {number}: {exchange['method']} {exchange['path']}: {response.status_code} {response.text}"
            assert response.status_code == exchange["status"], told
            if "answer" in exchange:
                assert same(read(response), exchange["answer"], running.url), told


def test_the_conversation_holds_what_is_recorded_of_a_published_server():
    if not CONTRACT.is_file():
        pytest.skip(f"The recorded contract is not at {CONTRACT}; NEUROBANK_CONTRACT names it.")
    ours = [(e["method"], e["path"], e.get("raw", e.get("send")), e["status"], e.get("answer")) for e in EXCHANGES]
    left_out = []
    for line in CONTRACT.read_text().splitlines():
        recorded = json.loads(line)
        path = recorded["path"].removeprefix("/neurobank/")
        sent = recorded["request"]
        if isinstance(sent, dict) and str(sent.get("name")).endswith("256 characters ..."):
            sent = {**sent, "name": "x" * 256}
        if not any(
            (method, place, body, status) == (recorded["method"], path, sent, recorded["status"])
            and same(recorded["response"], answer, "http://HOST:PORT/neurobank/")
            for method, place, body, status, answer in ours
        ):
            left_out.append((recorded["method"], path, recorded["status"]))
    # Failures that are no promise, a regular expression that SQLite alone takes, and OPTIONS, which tells of HTML.
    assert [(method, status) for method, _, status in left_out] == [
        ("GET", 200), ("GET", 500), ("POST", 500), ("OPTIONS", 200), ("POST", 500)
    ]  # fmt: skip
