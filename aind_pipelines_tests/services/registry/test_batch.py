"""Batches: a result per item, the rules of the plain API, one transaction, and answers kept under their keys."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.registry_process import (
    ADMIN,
    PASSWORD,
    READER,
    USER,
    RegistryProcess,
    running_registry,
    start,
)

DTYPE = "session-raw"


def post(
    registry: RegistryProcess, route: str, body: Any, user: str | None = USER, key: str | None = None
) -> requests.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    auth = None if user is None else (user, PASSWORD)
    return requests.post(registry.url + route, json=body, auth=auth, headers=headers, timeout=60)


def register(registry: RegistryProcess, items: list[Any], **options: Any) -> list[dict[str, Any]]:
    response = post(registry, "batch/register/", {"items": items}, **options)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def locate(registry: RegistryProcess, items: list[Any]) -> list[dict[str, Any]]:
    response = post(registry, "batch/locate/", {"items": items})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def get(registry: RegistryProcess, route: str) -> Any:
    response = requests.get(registry.url + route, timeout=10)
    return response.json() if response.status_code == 200 else None


def item(name: str | None, sha1: str | None = None, **others: Any) -> dict[str, Any]:
    given = {"name": name, "sha1": sha1, "dtype": DTYPE, **others}
    return {field: value for field, value in given.items() if value is not None}


def statuses(results: list[Mapping[str, Any]]) -> list[str]:
    return [result["status"] for result in results]


def test_what_is_registered_is_what_the_plain_api_would_have_made(registry, unique):
    places = ["two", {"archive": "one", "key": f"{unique}/key"}]
    wanted = item(f"{unique}a", unique.encode().hex().rjust(40, "A"), metadata={"site": 3}, locations=places)
    assert register(registry, [wanted]) == [{"status": "created", "name": f"{unique}a"}]
    made = get(registry, f"resources/{unique}a/")
    assert post(registry, "resources/", {**wanted, "name": f"{unique}b", "sha1": None, "locations": ["two", "one"]})
    other = get(registry, f"resources/{unique}b/")
    assert made.pop("created_on")[:10] == other.pop("created_on")[:10]
    different = {name for name in made if made[name] != other[name]}
    assert different == {"name", "filename", "sha1"}
    assert made["sha1"] == wanted["sha1"].lower()
    keys = {place["archive_name"]: place["key"] for place in get(registry, f"resources/{unique}a/locations/")}
    assert keys == {"one": f"{unique}/key", "two": None}
    again = register(registry, [wanted])
    assert statuses(again) == ["exists"]
    assert again[0]["resource"] == get(registry, f"resources/{unique}a/")


def test_what_is_refused_is_left_out_and_the_rest_is_kept(registry, unique):
    sha1 = unique.encode().hex().rjust(40, "0")
    results = register(
        registry,
        [
            item(f"{unique}1", sha1, locations=["one"]),
            item(f"{unique}2", sha1),
            item(f"{unique}1"),
            item(f"{unique}1", sha1, locations=["one"]),
            item(f"{unique}3", locations=["nowhere", "one"]),
            "no item",
            item(f"{unique}4"),
        ],
    )
    assert statuses(results) == ["created", "refused", "refused", "exists", "refused", "refused", "created"]
    assert results[1]["errors"] == {"sha1": ["a resource with this sha1 already exists"]}
    assert results[2]["errors"] == {"name": ["a resource with this name already exists"]}
    assert results[4]["errors"] == {"locations": {"0": ["no such archive 'nowhere'"]}}
    assert {row["name"] for row in get(registry, f"resources/?name={unique}")} == {f"{unique}1", f"{unique}4"}


def test_a_record_with_more_locations_is_the_same_and_with_fewer_is_not(registry, unique):
    register(registry, [item(f"{unique}1", locations=["one"])])
    locate(registry, [{"resource_name": f"{unique}1", "archive_name": "two"}])
    assert statuses(register(registry, [item(f"{unique}1", locations=["one"])])) == ["exists"]
    register(registry, [item(f"{unique}2")])
    assert statuses(register(registry, [item(f"{unique}2", locations=["one"])])) == ["refused"]


def test_identifiers_are_made_up_where_none_is_given(registry, unique):
    sha1 = unique.encode().hex().rjust(40, "1")
    first, second, third = register(registry, [item(None, sha1), item(None), item(None)])
    assert len({first["name"], second["name"], third["name"]}) == 3
    assert get(registry, f"resources/{first['name']}/")["sha1"] == sha1
    (again,) = register(registry, [item(None, sha1)])
    assert again["resource"]["name"] == first["name"]


def test_core_fields_go_where_the_plain_api_puts_them(registry, unique):
    wanted = item(f"{unique}1", metadata={"experimenter": USER, "site": 1})
    assert statuses(register(registry, [wanted])) == ["created"]
    made = get(registry, f"resources/{unique}1/")
    assert (made["experimenter"], made["metadata"]) == (USER, {"site": 1, "experimenter": USER})
    assert statuses(register(registry, [wanted])) == ["exists"]
    results = register(
        registry,
        [
            item(f"{unique}2", experimenter="no such"),
            item(f"{unique}3", animal="no such"),
            item(f"{unique}4", experimenter=USER, metadata={"experimenter": ADMIN}),
        ],
    )
    assert [list(result["errors"]) for result in results] == [["experimenter"], ["animal"], ["experimenter"]]


def test_locations_are_added_once_and_refused_with_reasons(registry, unique):
    register(registry, [item(f"{unique}1"), item(f"{unique}2")])
    wanted = [
        {"resource_name": f"{unique}1", "archive_name": "one"},
        {"resource_name": f"{unique}1", "archive_name": "one"},
        {"resource_name": f"{unique}1", "archive_name": "two", "key": unique},
        {"resource_name": f"{unique}2", "archive_name": "two", "key": unique},
        {"resource_name": f"{unique}1", "archive_name": "one", "key": "other"},
        {"resource_name": "no-such", "archive_name": "nowhere"},
        {"archive_name": 3},
    ]
    results = locate(registry, wanted)
    assert statuses(results) == ["created", "exists", "created", "refused", "refused", "refused", "refused"]
    assert [sorted(result["errors"]) for result in results[3:]] == [
        ["key"],
        ["key"],
        ["archive_name", "resource_name"],
        ["archive_name", "resource_name"],
    ]
    assert statuses(locate(registry, wanted)[:3]) == ["exists"] * 3
    assert len(get(registry, f"resources/{unique}1/locations/")) == 2


def test_records_are_found_by_name_and_by_sha1(registry, unique):
    sha1 = unique.encode().hex().rjust(40, "2")
    register(registry, [item(f"{unique}1", sha1, locations=["one"]), item(f"{unique}2")])
    body = {"names": [f"{unique}1", f"{unique}2", "none", 3, "nul\0"], "sha1s": [sha1.upper(), "4" * 40]}
    response = post(registry, "batch/find/", body, user=None)
    found = {row["name"]: row for row in response.json()["resources"]}
    assert found == {name: get(registry, f"resources/{name}/") for name in (f"{unique}1", f"{unique}2")}


@pytest.mark.parametrize("route", ["batch/register/", "batch/locate/"])
@pytest.mark.parametrize("user", [None, READER])
def test_who_may_not_write_one_may_not_write_many(registry, route, user):
    assert post(registry, route, {"items": []}, user=user).status_code == 403


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        ("{bad", "application/json", 400),
        ('{"items": [NaN]}', "application/json", 400),
        ("[]", "application/json", 400),
        ('{"items": 3}', "application/json", 400),
        (json.dumps({"items": [{}] * 2001}), "application/json", 400),
        ('{"items": [' + "[" * 100_000 + "]" * 100_000 + "]}", "application/json", 400),
        ("{}", "text/csv", 415),
        ('{"items": ["' + "x" * 2**24 + '"]}', "application/json", 413),
    ],
)
def test_a_body_that_is_no_batch_is_refused_with_a_detail(registry, content, kind, status):
    answer = requests.post(
        f"{registry.url}batch/register/",
        data=content,
        auth=(USER, PASSWORD),
        headers={"Content-Type": kind},
        timeout=20,
    )
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("value", ["nul\0", "\ud800", [{"a": "nul\0"}], 1e999, {"nul\0": 1}])
def test_what_some_database_cannot_keep_is_refused_everywhere(registry, unique, value):
    text = json.dumps({"items": [item(f"{unique}1", metadata={"a": value})]}).replace("Infinity", "1e999")
    answer = requests.post(
        f"{registry.url}batch/register/",
        data=text,
        auth=(USER, PASSWORD),
        headers={"Content-Type": "application/json"},
        timeout=20,
    )
    assert [list(result["errors"]) for result in answer.json()["results"]] == [["metadata"]]


# --- keys ---------------------------------------------------------------------------------------------------------


def test_the_same_request_under_its_key_is_answered_again_and_does_nothing(registry, unique):
    items = [item(f"{unique}1", locations=["one"]), item(None), item(f"{unique}1", metadata={"other": 1})]
    first = register(registry, items, key=unique)
    assert statuses(first) == ["created", "created", "refused"]
    assert register(registry, items, key=unique) == first
    assert statuses(register(registry, items)) == ["exists", "created", "refused"]


def test_a_key_is_good_for_one_request_of_one_user(registry, unique):
    register(registry, [item(f"{unique}1")], key=unique)
    answer = post(registry, "batch/register/", {"items": [item(f"{unique}2")]}, key=unique)
    assert answer.status_code == 409
    assert "Idempotency-Key" in answer.json()["detail"]
    assert get(registry, f"resources/{unique}2/") is None
    body = {"items": [item(f"{unique}1")]}
    assert post(registry, "batch/locate/", body, key=unique).status_code == 409
    assert statuses(register(registry, [item(f"{unique}2")], key=unique, user=ADMIN)) == ["created"]
    assert post(registry, "batch/register/", body, key="x" * 129).status_code == 400


def test_of_many_equal_requests_at_once_one_does_the_work(registry, unique):
    items = [item(None, metadata={"of": unique}) for _ in range(20)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: register(registry, items, key=unique), range(6)))
    assert all(answer == answers[0] for answer in answers)
    with registry.client() as client:
        assert len(client.get_resources(result["name"] for result in answers[0])) == 20


def test_batches_at_once_that_want_the_same_share_it_without_a_failure(registry, unique):
    items = [
        item(f"{unique}-{number}", f"{unique.encode().hex()}{number:018x}", locations=["one"]) for number in range(60)
    ]
    orders = [items, items[::-1], items[30:] + items[:30], items[::2] + items[1::2]]
    together = threading.Barrier(len(orders))

    def send(order: list[Any]) -> list[dict[str, Any]]:
        together.wait(20)
        return register(registry, order)

    with ThreadPoolExecutor(len(orders)) as pool:
        answers = list(pool.map(send, orders))
    assert all(set(statuses(answer)) <= {"created", "exists"} for answer in answers)
    assert sum(statuses(answer).count("created") for answer in answers) == len(items)
    assert all(get(registry, f"resources/{one['name']}/")["locations"] == ["one"] for one in items[::20])


def test_the_same_registered_at_once_by_plain_requests_is_refused_and_no_failure(registry, unique):
    together = threading.Barrier(8)

    def send(number: int) -> int:
        together.wait(20)
        body = item(f"{unique}-{number}", unique.encode().hex().rjust(40, "3"))
        return post(registry, "resources/", body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(send, range(8))) == [201] + [400] * 7


def test_keys_are_forgotten_after_some_days(tmp_path):
    with running_registry(tmp_path) as running:
        register(running, [item("a")], key="old")
        register(running, [item("b")], key="young")
        with contextlib.closing(sqlite3.connect(running.database, timeout=20)) as database:
            with database:
                database.execute(
                    "UPDATE registry_batch_answer SET created_on = datetime('now', '-8 days') WHERE key = 'old'"
                )
            register(running, [item("c")], key="new")
            kept = {key for (key,) in database.execute("SELECT key FROM registry_batch_answer")}
    assert kept == {"young", "new"}


@pytest.mark.slow
def test_a_registry_that_is_killed_in_a_batch_has_all_of_it_or_nothing(tmp_path, unique):
    """Killed later and later, until the batch is through; sent again under its key it is done once."""
    items = [item(f"{unique}-{number}", f"{number:040x}") for number in range(400)]
    with running_registry(tmp_path) as running:
        for attempt in range(8):
            sent = threading.Thread(target=lambda: _answer_or_none(running, items, unique))
            sent.start()
            time.sleep(0.02 * 3**attempt)
            running.process.kill()
            running.process.wait(10)
            sent.join(20)
            with contextlib.closing(sqlite3.connect(running.database, timeout=20)) as database:
                (count,) = database.execute("SELECT count(*) FROM nbank_registry_resource").fetchone()
            assert count in (0, len(items))
            running.process = start(running.database, int(running.url.split(":")[2].split("/")[0]))
            if count:
                break
        else:
            pytest.fail("no batch came through")
        assert statuses(register(running, items, key=unique)) == ["created"] * len(items)


def _answer_or_none(registry: RegistryProcess, items: list[Any], key: str) -> None:
    with contextlib.suppress(requests.RequestException):
        post(registry, "batch/register/", {"items": items}, key=key)


# --- the same rules -----------------------------------------------------------------------------------------------

_VALUES = st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.text("aé\n", max_size=3))
_NAMES = st.one_of(st.text("a-_9.é /", max_size=6), st.sampled_from(["x" * 255, "x" * 256]), st.none())
_SHA1S = st.one_of(st.text("0aFg", min_size=38, max_size=42), st.sampled_from(["A" * 40, "", None]))
_PLACES = st.one_of(
    st.lists(
        st.one_of(
            st.sampled_from(["one", "two", "nowhere", {"archive": "one"}, {"archive": "two", "key": "k"}]),
            st.sampled_from([3, None, {}, {"archive": 1}, {"archive": "one", "key": 3}, {"archive": "one", "x": 1}]),
        ),
        max_size=3,
    ),
    st.sampled_from([None, "one", 3]),
)
_ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "name": _NAMES,
        "sha1": _SHA1S,
        "dtype": st.sampled_from([DTYPE, "none", "", None, 3]),
        "metadata": st.one_of(
            st.dictionaries(st.text("ab", max_size=2), _VALUES, max_size=2), st.just([1]), st.none()
        ),
        "locations": _PLACES,
        "experimenter": st.sampled_from([USER, "no such", None]),
        "animal": st.sampled_from(["none", None]),
    },
)
_counter = iter(range(10**9))


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=_ITEMS)
def test_a_batch_of_one_decides_as_the_plain_api_does(registry, wanted):
    """What is refused is so for fields that the plain API names too; what is accepted shows the same record."""
    # A blank around a text is cut off by one and refused by the other.
    wanted = {field: value.strip() if isinstance(value, str) else value for field, value in wanted.items()}
    number = next(_counter)
    places = wanted.get("locations")
    with_key = isinstance(places, list) and {"archive": "two", "key": "k"} in places

    def named(side: str) -> dict[str, Any]:
        own = dict(wanted)
        if isinstance(own.get("name"), str) and 0 < len(own["name"]) < 9:
            own["name"] += f"{side}{number}"
        if isinstance(own.get("sha1"), str) and len(own["sha1"]) == 40 and "g" not in own["sha1"]:
            own["sha1"] = f"{number:x}{side}".rjust(40, "F")
        if with_key:
            own["locations"] = [
                {**place, "key": f"{side}{number}"} if isinstance(place, dict) and place.get("key") == "k" else place
                for place in own["locations"]
            ]
        if own.get("name") == "x" * 255:
            own["name"] = f"{side}{number}".rjust(255, "x")
        return own

    plain = post(registry, "resources/", named("a"))
    (ours,) = register(registry, [named("b")])
    assert plain.status_code in (201, 400), plain.text
    if plain.status_code == 400:
        assert ours["status"] == "refused", ours
        assert ours["errors"].keys() <= plain.json().keys(), (ours, plain.json())
        assert ours["errors"]
        return
    assert ours["status"] == "created", ours
    left, right = plain.json(), get(registry, f"resources/{ours['name']}/")
    for field in ("dtype", "metadata", "experimenter", "animal", "locations", "created_by"):
        assert left[field] == right[field], field
    assert (left["sha1"] is None) == (right["sha1"] is None)
