"""The registry's client, against a real registry and against servers that misbehave."""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aind_pipelines.clients import http
from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.registry import Location, Registration, RegistryClient, RegistryRefused, Resource
from aind_pipelines_tests.registry_process import running_registry


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("registry")) as process:
        yield process


@pytest.fixture(scope="module")
def client(running):
    with running.client() as made:
        made.add_archive("arch", "/d/arch")
        made.add_archive("arch2", "/d/arch2")
        yield made


Answer = tuple[int, dict[str, str], bytes] | None
NOT_FOUND: Answer = (404, {}, b'{"detail": "not found"}')


@contextmanager
def server(
    answer: Callable[[str, str, bytes], Answer],
    offered: object = None,
    *,
    keys: list[str] | None = None,
    counted: bool = False,
):
    """A registry that answers by `answer(method, path, body)`; None closes the connection without a reply.

    It is a plain one unless it has capabilities `offered`, or answers so when asked for them; such a question is
    among those seen only when it is `counted`. The idempotency keys it gets go to `keys`.
    """
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            result: Answer
            if self.path == "/neurobank/capabilities/":
                if counted:
                    seen.append((self.command, self.path))
                if offered is None:
                    result = NOT_FOUND
                else:
                    result = offered if isinstance(offered, tuple) else (200, {}, json.dumps(offered).encode())
            else:
                if keys is not None:
                    keys.append(self.headers["Idempotency-Key"])
                seen.append((self.command, self.path))
                result = answer(self.command, self.path, body)
            if result is None:
                self.close_connection = True
                return
            status, headers, content = result
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _any  # noqa: N815 - the names are the standard library's

        def log_message(self, *_arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{httpd.server_port}/neurobank/"
        session = http.build_session(retries=1, backoff=0.01)
        yield RegistryClient(url, ("u", "p"), session=session, pause=0.01), seen
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def record(name: str, sha1: str = "a" * 40, locations: tuple[str, ...] = ("arch",)) -> dict[str, object]:
    return {"name": name, "sha1": sha1, "dtype": "d", "metadata": None, "locations": list(locations)}


def test_a_registered_resource_is_found_by_id_and_by_sha1(client):
    made = client.register("r1", "b" * 40, "session-raw", "arch", {"site": 3})
    assert made.locations == ("arch",)
    assert client.get_resource("r1") == made
    assert client.find_by_sha1("B" * 40) == [made]
    assert [place.root for place in client.locations("r1")] == ["/d/arch"]


def test_what_is_not_registered_is_none_not_an_error(client):
    assert client.get_resource("nothing") is None
    assert client.get_resource("../info") is None
    assert client.find_by_sha1("0" * 40) == []
    assert client.locations("nothing") == []


def test_bulk_lookup_is_split_where_the_server_would_fail(client):
    for number in range(3):
        client.register(f"bulk{number}", f"{number:040d}", "session-raw", "arch")
    names = [f"none{number}" for number in range(1_200)] + ["bulk0", "bulk1", "bulk2", "no.slug"]
    assert set(client.get_resources(names)) == {"bulk0", "bulk1", "bulk2"}


def test_an_archive_lists_its_own_resources_only(client):
    client.register("in-2", "c" * 40, "session-raw", "arch2")
    assert [resource.id for resource in client.iter_archive_resources("arch2")] == ["in-2"]
    assert "in-2" not in {resource.id for resource in client.iter_archive_resources("arch")}


def test_adding_a_location_twice_is_the_same_as_once(client):
    client.register("twice", "d" * 40, "session-raw", "arch")
    client.add_location("twice", "arch2")
    client.add_location("twice", "arch2")
    assert {place.archive for place in client.locations("twice")} == {"arch", "arch2"}


@pytest.mark.parametrize(
    ("arguments", "field", "text"),
    [
        (("taken", "e" * 40, "session-raw", "arch"), "name", "already exists"),
        (("other", "f" * 40, "session-raw", "arch"), "sha1", "already exists"),
        (("new", "1" * 40, "nope", "arch"), "dtype", "no such dtype"),
        (("new", "1" * 40, "session-raw", "nowhere"), "locations", "no such archive"),
    ],
)
def test_a_refusal_says_which_field_and_why(client, arguments, field, text):
    if client.get_resource("taken") is None:
        client.register("taken", "f" * 40, "session-raw", "arch")
    with pytest.raises(RegistryRefused, match=text) as raised:
        client.register(*arguments)
    assert field in raised.value.fields


def test_many_are_registered_in_order_and_each_refusal_has_its_reason(client):
    items = [
        Registration("many-1", "2" * 40, "session-raw", {"site": 1}, ("arch",)),
        Registration("many-2", "2" * 40, "session-raw"),
        Registration("many-3", None, "session-raw", {"bad": float("nan")}),
        Registration("many-4", "3" * 40, "nope"),
        Registration(None, "4" * 40, "session-raw", {}, ("arch2", "arch")),
    ]
    for _ in range(2):
        made = client.register_many(items)
        assert made[0] == Resource("many-1", "2" * 40, "session-raw", {"site": 1}, ("arch",))
        assert [getattr(one, "fields", {}).keys() for one in made[1:4]] == [{"sha1"}, {"metadata"}, {"dtype"}]
        assert made[4] == client.find_by_sha1("4" * 40)[0]
    changed = client.register_many([Registration("many-1", "2" * 40, "session-raw", {"site": 2}, ("arch",))])
    assert isinstance(changed[0], RegistryRefused)
    assert client.get_resource("many-1").metadata == {"site": 1}


def test_many_sha1s_are_found_by_what_they_are(client):
    client.register_many([Registration(f"by-sha1-{n}", f"{n:040x}", "session-raw") for n in (0xABC1, 0xABC2)])
    found = client.find_by_sha1s([f"{0xABC1:040X}", f"{0xABC2:040x}", "9" * 40, "no sha1"])
    assert {sha1: resource.id for sha1, resource in found.items()} == {
        f"{0xABC1:040x}": f"by-sha1-{0xABC1}",
        f"{0xABC2:040x}": f"by-sha1-{0xABC2}",
    }


def test_locations_are_added_in_order_and_each_refusal_has_its_reason(client):
    client.register_many([Registration(f"place-{n}", None, "session-raw") for n in range(2)])
    pairs = [("place-0", "arch"), ("place-1", "nowhere"), ("no-such", "arch"), ("place-1", "arch2", "dir/1.dat")]
    for _ in range(2):
        added = client.add_locations(pairs)
        assert [getattr(one, "fields", {}).keys() for one in added[1:3]] == [{"archive_name"}, {"resource_name"}]
        assert (added[0].archive, added[0].root, added[0].key) == ("arch", "/d/arch", None)
        assert (added[3].archive, added[3].resource, added[3].key) == ("arch2", "place-1", "dir/1.dat")


def test_a_registration_that_cannot_be_found_again_is_not_made():
    with pytest.raises(ValueError, match="id or a sha1"):
        Registration(None, None, "session-raw")


def test_wrong_credentials_are_an_access_problem_and_stay_hidden(running):
    with RegistryClient(running.url, ("depositor", "wrong-secret")) as client, pytest.raises(AccessRefused) as raised:
        client.add_dtype("x", "y")
    assert "wrong-secret" not in str(raised.value)
    assert "wrong-secret" not in repr(client)


def test_every_page_is_read_and_rows_of_other_archives_are_left_out():
    def answer(_method: str, path: str, _body: bytes) -> Answer:
        if "page=2" in path:
            return 200, {}, json.dumps([record("b"), record("other", locations=("arch2",))]).encode()
        headers = {"Link": '<https://public.example/neurobank/resources/?archive=arch&page=2>; rel="next"'}
        return 200, headers, json.dumps([record("a")]).encode()

    with server(answer) as (client, _):
        assert [resource.id for resource in client.iter_archive_resources("arch")] == ["a", "b"]


def test_pages_in_a_circle_end():
    def answer(_method: str, _path: str, _body: bytes) -> Answer:
        return 200, {"Link": '</neurobank/resources/?page=9>; rel="next"'}, b"[]"

    with server(answer) as (client, _), pytest.raises(UnexpectedAnswer, match="circle"):
        list(client.iter_archive_resources("arch"))


@pytest.mark.parametrize("arrived", [True, False])
def test_after_a_lost_reply_the_registry_is_asked_before_anything_is_sent_again(arrived):
    posts = 0

    def answer(method: str, _path: str, _body: bytes) -> Answer:
        nonlocal posts
        if method == "POST":
            posts += 1
            return None if posts == 1 else (201, {}, json.dumps(record("x")).encode())
        if arrived:
            return 200, {}, json.dumps(record("x")).encode()
        return 404, {}, b'{"detail": "No Resource matches the given query."}'

    with server(answer) as (client, seen):
        assert client.register("x", "a" * 40, "d", "arch").id == "x"
    assert [method for method, _ in seen] == (["POST", "GET"] if arrived else ["POST", "GET", "POST"])


def test_a_lost_reply_that_arrives_late_is_recognised_by_its_content():
    asked = 0

    def answer(method: str, _path: str, _body: bytes) -> Answer:
        nonlocal asked
        if method == "POST":
            return (500, {}, b"{}") if asked == 0 else (400, {}, b'{"name": ["a resource with this name exists"]}')
        asked += 1
        if asked == 1:
            return 404, {}, b'{"detail": "not found"}'
        return 200, {}, json.dumps(record("x")).encode()

    with server(answer) as (client, _):
        assert client.register("x", "a" * 40, "d", "arch").sha1 == "a" * 40


def test_an_outage_is_never_an_empty_answer():
    with server(lambda *_: (503, {}, b"down")) as (client, _):
        for ask in (
            lambda: client.get_resource("x"),
            lambda: client.find_by_sha1("a" * 40),
            lambda: list(client.iter_archive_resources("arch")),
            lambda: client.get_resources(["x"]),
        ):
            with pytest.raises(ServiceUnavailable):
                ask()


@pytest.mark.parametrize("answer", [(404, b"<html>"), (200, b"<html>"), (200, b'{"a": 1}'), (301, b"")])
def test_another_web_server_is_not_taken_for_a_registry(answer):
    status, body = answer
    with server(lambda *_: (status, {"Content-Type": "text/html"}, body)) as (client, _):
        with pytest.raises(UnexpectedAnswer):
            client.get_resource("x")
        with pytest.raises(UnexpectedAnswer):
            client.archives()


def test_a_registry_that_does_not_know_its_name_is_told_from_a_wrong_address(running):
    session = http.build_session()
    session.headers["Host"] = "unknown.example.org"
    with (
        RegistryClient(running.url, session=session) as client,
        pytest.raises(UnexpectedAnswer, match=r"answered 400 .* REGISTRY_ALLOWED_HOSTS .* lists 127\.0\.0\.1\."),
    ):
        client.archives()
    with server(lambda *_: (200, {}, b"<html>")) as (client, _), pytest.raises(UnexpectedAnswer) as caught:
        client.archives()
    assert "REGISTRY_ALLOWED_HOSTS" not in str(caught.value)


def test_a_broken_line_of_a_bulk_answer_is_an_error():
    line = json.dumps(record("x")).encode()
    with server(lambda *_: (200, {}, line + b"\n" + line[:20])) as (client, _), pytest.raises(UnexpectedAnswer):
        client.get_resources(["x", "y"])


def test_many_are_located_in_few_requests_and_what_has_no_location_is_left_out(client):
    for number in range(3):
        client.register(f"loc{number}", f"{number}" * 39 + "e", "session-raw", None if number == 2 else "arch")
    client.add_location("loc0", "arch2")
    found = client.locate([f"loc{number}" for number in range(700)] + ["a b"])
    assert {id_: sorted(place.archive for place in one.locations) for id_, one in found.items()} == {
        "loc0": ["arch", "arch2"],
        "loc1": ["arch"],
    }
    assert (found["loc0"].sha1, found["loc0"].filename) == ("0" * 39 + "e", "loc0")
    assert client.locate([]) == {}


def test_a_registrys_own_download_is_asked_for_as_we_reach_it_and_a_refusal_keeps_its_words():
    def answer(method: str, path: str, body: bytes) -> Answer:
        if path == "/neurobank/download/x/":
            return 200, {"Content-Type": "application/octet-stream"}, b"content"
        return 415, {}, b'{"detail": "The resource is a directory"}'

    with server(answer) as (client, _):
        host = client.url.split("/")[2]
        place = Location("registry", "https", f"{host}/neurobank/download/", "x")
        assert b"".join(client.download(place)) == b"content"
        with pytest.raises(UnexpectedAnswer, match=r"415 \(The resource is a directory\)"):
            list(client.download(replace(place, resource="y")))
