"""Sessions repeat what is safe, keep credentials to themselves, and failures become errors that say what to do."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.http import RetryingAdapter, build_session, place, request
from aind_pipelines_tests.clients.canned import Answer, Canned, canned_server


@pytest.fixture
def flaky() -> Iterator[Canned]:
    with canned_server() as service:
        yield service


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drop(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    drop(handler)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_get_is_repeated_until_the_service_answers(flaky: Canned, status: int) -> None:
    flaky.queue = [(status, {}, b"")] * 2
    response = request(build_session(backoff=0.01), "thing", "GET", f"{flaky.url}/x")
    assert response.json() == {"ok": True}
    assert len(flaky.asked) == 3


@pytest.mark.parametrize("step", [drop, cut_short])
def test_a_connection_that_breaks_is_repeated_for_a_get(
    flaky: Canned, step: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    flaky.queue = [step, step]
    assert request(build_session(backoff=0.01), "thing", "GET", flaky.url).ok
    assert len(flaky.asked) == 3


@pytest.mark.parametrize("step", [drop, cut_short, (503, {}, b"")])
def test_a_post_is_never_sent_twice(flaky: Canned, step: Answer) -> None:
    flaky.queue = [step]
    with pytest.raises(ServiceUnavailable):
        request(build_session(backoff=0.01), "thing", "POST", f"{flaky.url}/x", json={})
    assert len(flaky.asked) == 1


def test_a_post_is_repeated_where_its_caller_mounted_it_as_safe(flaky: Canned) -> None:
    session = build_session(backoff=0.01)
    session.mount(f"{flaky.url}/search", RetryingAdapter(backoff=0.01, retry_methods={"POST"}))
    flaky.queue = [cut_short, (503, {}, b"")]
    assert request(session, "thing", "POST", f"{flaky.url}/search", json={}).ok
    assert len(flaky.asked) == 3


def test_retries_end_with_the_service_named_and_what_it_said(flaky: Canned) -> None:
    flaky.queue = [(503, {}, b'{"message": "sources are down"}')] * 3
    with pytest.raises(ServiceUnavailable, match=r"thing: GET .*/x answered 503 \(sources are down\)") as caught:
        request(build_session(retries=2, backoff=0.01), "thing", "GET", f"{flaky.url}/x?token=secret")
    assert len(flaky.asked) == 3
    assert "secret" not in str(caught.value)
    assert caught.value.retryable


def test_a_long_retry_after_does_not_hold_the_worker(monkeypatch: pytest.MonkeyPatch, flaky: Canned) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", pauses.append)
    flaky.queue = [(503, {"Retry-After": "86400"}, b"")]
    assert request(build_session(), "thing", "GET", flaky.url).ok
    assert pauses
    assert max(pauses) <= 30


def test_refused_connections_end_as_an_outage_that_names_the_address() -> None:
    port = free_port()
    with pytest.raises(ServiceUnavailable, match=rf"thing: POST http://127.0.0.1:{port}/x.*is up"):
        request(build_session(retries=1, backoff=0.01), "thing", "POST", f"http://127.0.0.1:{port}/x")


def test_a_silent_service_ends_as_an_outage_in_the_default_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ServiceUnavailable, match=r"no answer in time|connection failed"):
            request(build_session(retries=1, backoff=0.01, timeout=(0.2, 0.2)), "thing", "GET", url)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told_apart_and_not_repeated(flaky: Canned, status: int) -> None:
    flaky.queue = [(status, {}, b'{"message": "no such key"}')]
    with pytest.raises(AccessRefused, match="no such key"):
        request(build_session(), "thing", "GET", flaky.url)
    assert len(flaky.asked) == 1


@pytest.mark.parametrize("status", [300, 400, 404, 406])
def test_other_answers_are_the_callers_to_judge(flaky: Canned, status: int) -> None:
    flaky.queue = [(status, {}, b"{}")]
    assert request(build_session(), "thing", "GET", flaky.url).status_code == status


@pytest.mark.parametrize("url", ["not-a-url", "http://", "gopher://host/x"])
def test_an_address_that_is_none_says_so(url: str) -> None:
    with pytest.raises(UnexpectedAnswer, match="no usable URL"):
        request(build_session(), "thing", "GET", url)


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login intruder password leaked\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("netrc")
def test_netrc_never_leaks_into_requests_or_their_redirects(flaky: Canned) -> None:
    flaky.queue = [(302, {"Location": "/there"}, b"")]
    assert request(build_session(), "thing", "GET", f"{flaky.url}/here").ok
    assert [path for _, path, _ in flaky.asked] == ["/here", "/there"]
    assert all("authorization" not in headers for _, _, headers in flaky.asked)


@pytest.mark.usefixtures("netrc")
def test_credentials_that_were_given_are_sent_but_not_to_another_host(flaky: Canned) -> None:
    elsewhere = flaky.url.replace("127.0.0.1", "localhost")
    flaky.queue = [(302, {"Location": f"{elsewhere}/there"}, b"")]
    assert request(build_session(), "thing", "GET", f"{flaky.url}/here", auth=("me", "pw")).ok
    given = "Basic " + base64.b64encode(b"me:pw").decode()
    assert [headers.get("authorization") for _, _, headers in flaky.asked] == [given, None]


def test_a_login_in_the_url_works_and_is_not_shown(flaky: Canned) -> None:
    url = flaky.url.replace("http://", "http://me:hidden@")
    flaky.queue = [(403, {}, b"")]
    with pytest.raises(AccessRefused) as caught:
        request(build_session(), "thing", "GET", url)
    assert flaky.asked[0][2]["authorization"].startswith("Basic ")
    assert "hidden" not in str(caught.value)
    assert place(f"{url}/x?y#z") == f"{flaky.url}/x"


def test_no_proxy_of_the_environment_stands_before_the_loopback(
    flaky: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert request(build_session(retries=0), "thing", "GET", flaky.url).ok


def test_an_https_address_of_a_plain_port_is_told_from_a_bad_certificate() -> None:
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(ServiceUnavailable, match=r"does not speak TLS\. Give an http:// address"):
            request(build_session(retries=0), "thing", "GET", url)
