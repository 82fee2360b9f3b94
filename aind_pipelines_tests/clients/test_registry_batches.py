"""The client's batches against servers that misbehave: nothing is taken for done, or for whole, that is not."""

import json
from typing import Any

import pytest

from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.registry import Registration, RegistryRefused
from aind_pipelines.clients.registry.records import FEATURES
from aind_pipelines_tests.clients.test_registry import Answer, record, server

OFFERED = {"features": sorted(FEATURES), "items": 3, "bytes": 400}
ITEMS = [Registration(f"r{number}", None, "d", {}, ("arch",)) for number in range(7)]


def created(body: bytes) -> list[dict[str, Any]]:
    return [{"status": "created", "name": item["name"]} for item in json.loads(body)["items"]]


def ok(document: Any) -> Answer:
    return 200, {}, json.dumps(document).encode()


def test_batches_keep_to_the_limits_and_results_to_the_order():
    sizes = []

    def answer(_method: str, _path: str, body: bytes) -> Answer:
        sizes.append((len(json.loads(body)["items"]), len(body)))
        return ok({"results": created(body)})

    large = Registration("large", None, "d", {"text": "x" * 250})
    items = [*ITEMS, large, Registration("bad", None, "d", {"x": float("nan")}), large]
    with server(answer, OFFERED) as (client, _):
        results = client.register_many(items)
    assert [getattr(result, "id", None) for result in results] == [
        *(item.id for item in ITEMS),
        "large",
        None,
        "large",
    ]
    assert isinstance(results[8], RegistryRefused)
    assert [count for count, _ in sizes] == [3, 3, 1, 1, 1]
    assert all(size <= OFFERED["bytes"] for _, size in sizes)


def test_a_batch_whose_reply_is_lost_is_sent_again_under_its_key():
    bodies: list[bytes] = []

    def answer(_method: str, _path: str, body: bytes) -> Answer:
        bodies.append(body)
        return None if len(bodies) == 1 else (503, {}, b"") if len(bodies) == 2 else ok({"results": created(body)})

    with server(answer, OFFERED) as (client, seen):
        assert [one.id for one in client.register_many(ITEMS[:2])] == ["r0", "r1"]
    assert len(set(bodies)) == 1
    assert [path for _, path in seen] == ["/neurobank/batch/register/"] * 3


def test_each_batch_has_a_key_of_its_own_that_its_repetitions_share():
    keys: list[str] = []

    def answer(_method: str, _path: str, body: bytes) -> Answer:
        return None if len(keys) == 1 else ok({"results": created(body)})

    with server(answer, OFFERED, keys=keys) as (client, _):
        client.register_many(ITEMS)
    assert keys[0] == keys[1]
    assert len(keys) == 4
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    "results",
    [
        None,
        [],
        [{"status": "created", "name": "r0"}],
        [{"status": "created", "name": "r1"}, {"status": "created", "name": "r0"}],
        [{"status": "created", "name": "r0"}, {"status": "done", "name": "r1"}],
        [{"status": "created", "name": "r0"}, {"status": "exists", "resource": record("r1", locations=())}],
        [{"status": "created", "name": "r0"}, "created"],
    ],
)
def test_results_that_are_not_of_these_items_are_not_believed(results):
    with server(lambda *_: ok({"results": results}), OFFERED) as (client, _), pytest.raises(UnexpectedAnswer):
        client.register_many(ITEMS[:2])


@pytest.mark.parametrize("answer", [ok({"features": 3}), ok({"features": [], "items": 0, "bytes": 9}), ok([]), ok({})])
def test_capabilities_of_another_form_are_an_error(answer):
    with server(lambda *_: answer, json.loads(answer[2])) as (client, _), pytest.raises(UnexpectedAnswer):
        client.capabilities()


@pytest.mark.parametrize(
    ("status", "error"), [(503, ServiceUnavailable), (403, AccessRefused), (404, UnexpectedAnswer)]
)
def test_no_answer_about_capabilities_is_no_plain_registry(status, error):
    with server(lambda *_: ok({}), (status, {}, b"<html>")) as (client, seen), pytest.raises(error):
        client.register_many(ITEMS)
    assert seen == []


def test_a_plain_registry_is_asked_once_what_it_offers():
    with server(lambda *_: (200, {}, b""), counted=True) as (client, seen):
        for _ in range(3):
            assert not client.capabilities().features
            assert client.get_resources(["a"]) == {}
    assert [path for _, path in seen].count("/neurobank/capabilities/") == 1


def test_nothing_is_asked_for_nothing():
    with server(lambda *_: None, counted=True) as (client, seen):
        assert (client.register_many([]), client.add_locations([]), client.get_resources(["no.slug"])) == ([], [], {})
        assert client.find_by_sha1s(["no sha1"]) == {}
    assert seen == []


# --- streams ------------------------------------------------------------------------------------------------------


def stream(names: list[str], end: int | None = None, cut: int = 0) -> Answer:
    rows = [json.dumps(record(name)) for name in names]
    if end is not None:
        rows.append(json.dumps({"end": True, "count": end}))
    text = "\n".join(rows) + "\n"
    return 200, {"Content-Type": "application/x-ndjson"}, text[: len(text) - cut].encode()


def test_a_stream_is_whole_by_its_count():
    with server(lambda *_: stream(["a", "b"], end=2), OFFERED) as (client, _):
        assert [resource.id for resource in client.iter_archive_resources("arch")] == ["a", "b"]


@pytest.mark.parametrize("end", [1, 3])
def test_a_stream_with_another_count_is_an_error(end):
    with server(lambda *_: stream(["a", "b"], end=end), OFFERED) as (client, _), pytest.raises(UnexpectedAnswer):
        list(client.iter_archive_resources("arch"))


@pytest.mark.parametrize("cut", [0, 2, 9])
def test_a_stream_without_its_end_is_taken_up_behind_its_last_row_and_no_more_than_so_often(cut):
    def answer(_method: str, path: str, _body: bytes) -> Answer:
        return stream([]) if "after=b" in path else stream(["a", "b", "c"] if cut else ["a", "b"], cut=cut)

    with server(answer, OFFERED) as (client, seen), pytest.raises(ServiceUnavailable, match="broke off after 'b'"):
        list(client.iter_archive_resources("arch"))
    assert len(seen) > 2


def test_a_stream_that_broke_off_goes_on_without_a_gap_or_a_repetition():
    def answer(_method: str, path: str, _body: bytes) -> Answer:
        after = path.rpartition("after=")[2]
        if not after:
            return stream(["a", "b", "c"], cut=7)
        return stream(["c", "d"], cut=1) if after == "b" else stream(["e"], end=1)

    with server(answer, OFFERED) as (client, seen):
        assert [resource.id for resource in client.iter_archive_resources("arch")] == ["a", "b", "c", "d", "e"]
    assert [path.rpartition("after=")[2] for _, path in seen] == ["", "b", "d"]


@pytest.mark.parametrize(
    "answer",
    [
        stream(["b", "a"], end=2),
        stream(["a", "a"], end=2),
        (200, {}, b'{"no": "name"}\n'),
        (200, {}, b"[]\n"),
        (200, {}, json.dumps(record("a", locations=("other",))).encode() + b'\n{"end": true, "count": 1}\n'),
        (200, {"Content-Type": "text/html"}, b"<html>down for maintenance</html>"),
    ],
)
def test_a_stream_of_another_form_is_an_error(answer):
    with server(lambda *_: answer, OFFERED) as (client, _), pytest.raises((UnexpectedAnswer, ServiceUnavailable)):
        list(client.iter_archive_resources("arch"))


@pytest.mark.parametrize("offered", [None, OFFERED])
def test_an_archive_that_is_not_registered_is_not_an_empty_one(offered):
    def answer(_method: str, path: str, _body: bytes) -> Answer:
        return ok([]) if "contents" not in path else (404, {}, b'{"detail": "No Archive matches the given query."}')

    with server(answer, offered) as (client, _), pytest.raises(RegistryRefused, match="no such archive 'arch'"):
        list(client.iter_archive_resources("arch"))
