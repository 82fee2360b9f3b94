"""A misbehaving proxy in front of the real gateway: each answer is the real one unless a fault replaces it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        number: From 1, since the proxy last forgot what it was asked.
        operation: Last part of the path: ``find``, ``aggregate``, ``count_documents`` ...
        target: Path and query.
        body: What was sent.
    """

    number: int
    operation: str
    target: str
    body: bytes

    def parameter(self, name: str) -> Any:
        """A query parameter that holds JSON; None when absent."""
        values = parse_qs(urlsplit(self.target).query).get(name)
        return json.loads(values[0]) if values else None


@dataclass(frozen=True)
class Answer:
    """What goes back: `length` other than the body's own cuts the connection off after the body."""

    status: int
    body: bytes
    content_type: str = "application/json"
    length: int | None = None


Fault = Callable[[Callable[[], Answer]], Answer]
"""Makes an answer; given is the way to the real one."""

Rule = Callable[[Asked], Fault | None]


class MisbehavingGateway:
    """The proxy.

    Attributes:
        url: Its address.
        rule: Which fault a request meets; None for the real answer.
        asked: What it was asked.
    """

    def __init__(self, real: str) -> None:
        self._real = real
        self._session = requests.Session()
        self._session.trust_env = False
        self.asked: list[Asked] = []
        self.rule: Rule = well
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = proxy._answer(self.command, self.path, body, dict(self.headers.items()))
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
                self.end_headers()
                self.wfile.write(answer.body)
                if answer.length is not None:
                    self.close_connection = True
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_POST = do_DELETE = _do  # noqa: N815 - the names are http.server's

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Answer:
        def real() -> Answer:
            response = self._session.request(method, self._real + target, data=body, headers=headers, timeout=60)
            return Answer(response.status_code, response.content)

        asked = Asked(len(self.asked) + 1, urlsplit(target).path.rpartition("/")[2], target, body)
        self.asked.append(asked)
        fault = self.rule(asked)
        return real() if fault is None else fault(real)

    def behave(self) -> None:
        """Give real answers from now on, and forget what was asked."""
        self.rule = well
        self.asked.clear()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve for the block's time."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
            self._session.close()


def well(_: Asked) -> None:
    """No fault."""


def status(code: int, text: str = '{"message": "injected"}') -> Fault:
    """An answer of this status."""
    return lambda real: Answer(code, text.encode())


def html(real: Callable[[], Answer]) -> Answer:
    """A page for people, as a login or an error page of something in between."""
    return Answer(200, b"<!DOCTYPE html><html><body>Sign in</body></html>", "text/html")


def truncated(real: Callable[[], Answer]) -> Answer:
    """The first half of the real answer, as if it were whole."""
    answer = real()
    return Answer(answer.status, answer.body[: len(answer.body) // 2])


def cut_off(real: Callable[[], Answer]) -> Answer:
    """The first half of the real answer, then the connection breaks."""
    answer = real()
    return Answer(answer.status, answer.body[: len(answer.body) // 2], length=len(answer.body))


def short(records: int) -> Fault:
    """The first few records of the real page."""

    def fault(real: Callable[[], Answer]) -> Answer:
        answer = real()
        page = json.loads(answer.body)
        return Answer(answer.status, json.dumps(page[:records]).encode()) if isinstance(page, list) else answer

    return fault


def doubled(real: Callable[[], Answer]) -> Answer:
    """The real page with each record twice."""
    answer = real()
    page = json.loads(answer.body)
    return Answer(answer.status, json.dumps([record for record in page for _ in range(2)]).encode())


class Repeating:
    """Answers a request for a page with the page before."""

    def __init__(self) -> None:
        self._before: Answer | None = None

    def remember(self, real: Callable[[], Answer]) -> Answer:
        """The real page, to be repeated."""
        self._before = real()
        return self._before

    def repeat(self, real: Callable[[], Answer]) -> Answer:
        """The page before."""
        assert self._before is not None
        return self._before


def capped(limit: int) -> Fault:
    """413 instead of an answer of more than `limit` bytes, as API Gateway and Lambda have it."""

    def fault(real: Callable[[], Answer]) -> Answer:
        answer = real()
        return answer if len(answer.body) <= limit else Answer(413, b'{"message": "Request Entity Too Large"}')

    return fault


@contextmanager
def altering(port: int, before: bytes, after: bytes) -> Iterator[int]:
    """A port that leads to another one of this machine; what comes back from there is altered, in place."""
    assert len(before) == len(after)

    def carry(source: socket.socket, target: socket.socket, alter: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(1 << 20):
                target.sendall(alter(data))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            opened.extend((caller, server))
            for way in ((caller, server, bytes), (server, caller, lambda data: data.replace(before, after))):
                threading.Thread(target=carry, args=way, daemon=True).start()

    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for each in opened:
        each.close()
