"""A relay in front of a service of the lab, for what the service does not do itself: count, or speak TLS."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(slots=True)
class Traffic:
    """What went through a front.

    Attributes:
        sent: Bytes that the server sent.
        received: Bytes that the server got.
        requests: HTTP requests among these, if it is HTTP: their heads are counted by the empty line that ends each
            (JSON, the body of some, has no such line).
    """

    sent: int = 0
    received: int = 0
    requests: int = 0


@contextmanager
def front(
    url: str,
    traffic: Traffic | None = None,
    wrapped: Callable[[socket.socket], socket.socket] = lambda plain: plain,
) -> Iterator[int]:
    """Relay connections on a free port of loopback to the host and port of `url`; gives that port.

    Args:
        url: Where to; the rest of it does not matter.
        traffic: Counts what goes through.
        wrapped: What to make of each accepted connection.
    """
    target = urlsplit(url)
    address = (str(target.hostname), int(target.port or 80))
    listener = socket.create_server(("127.0.0.1", 0))
    counted = traffic or Traffic()

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:  # closed: the measurement is over
                return
            with contextlib.suppress(OSError):  # a caller that does not finish its handshake
                outer = wrapped(plain)
                inner = socket.create_connection(address)
                threading.Thread(target=_relay, args=(outer, inner, counted), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _relay(client: socket.socket, server: socket.socket, counted: Traffic) -> None:
    with client, server:
        asking = threading.Thread(target=_to_server, args=(client, server, counted), daemon=True)
        asking.start()
        _to_client(client, server, counted)
        asking.join()


def _to_server(client: socket.socket, server: socket.socket, counted: Traffic) -> None:
    tail = b""

    def count(chunk: bytes) -> None:
        nonlocal tail
        counted.received += len(chunk)
        counted.requests += (tail + chunk).count(_END_OF_HEAD)
        tail = (tail + chunk)[1 - len(_END_OF_HEAD) :]

    _pump(client, server, count)


def _to_client(client: socket.socket, server: socket.socket, counted: Traffic) -> None:
    def count(chunk: bytes) -> None:
        counted.sent += len(chunk)

    _pump(server, client, count)


def _pump(source: socket.socket, sink: socket.socket, count: Callable[[bytes], None]) -> None:
    try:
        while chunk := source.recv(1 << 18):
            count(chunk)
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # either side hung up: both directions end
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
