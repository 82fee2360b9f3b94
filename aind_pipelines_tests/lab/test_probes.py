from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from aind_pipelines.lab import probes
from aind_pipelines.lab.probes import NotReady, Probe

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _ask(handler: Handler, make: Callable[[int], Probe]) -> None:
    async def run() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        try:
            await make(server.sockets[0].getsockname()[1])()
        finally:
            server.close()
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def _says(answer: bytes, reads: int = 1) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reads:
            await reader.read(reads)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return handler


def _http(port: int) -> Probe:
    return probes.http(f"http://127.0.0.1:{port}/health")


def _postgres(port: int) -> Probe:
    return probes.postgres("127.0.0.1", port, "postgres", "postgres")


def _ssh(port: int) -> Probe:
    return probes.ssh("127.0.0.1", port)


def _mongo(port: int) -> Probe:
    return probes.mongo("127.0.0.1", port)


def _op_msg(document: bytes) -> bytes:
    body = struct.pack("<IB", 0, 0) + struct.pack("<i", len(document) + 5) + document + b"\0"
    return struct.pack("<iiii", len(body) + 16, 7, 1, 2013) + body


@pytest.mark.parametrize(
    ("answer", "reads", "make"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nfine", 1, _http),
        (b"R" + struct.pack(">ii", 8, 10), 1, _postgres),
        (b"SSH-2.0-anything\r\n", 0, _ssh),
        (_op_msg(b"\x01ok\0" + struct.pack("<d", 1.0)), 1, _mongo),
        (_op_msg(b"\x10ok\0" + struct.pack("<i", 1)), 1, _mongo),
    ],
    ids=["http", "postgres", "ssh", "mongo", "mongo with an integer"],
)
def test_a_ready_service_passes(answer: bytes, reads: int, make: Callable[[int], Probe]) -> None:
    _ask(_says(answer, reads), make)


@pytest.mark.parametrize(
    ("answer", "make", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", _http, "503 Service Unavailable"),
        (b"SSH-2.0-wrong service\r\n", _http, "answered"),
        (
            b"E" + struct.pack(">i", 60) + b"SFATAL\0C57P03\0Mthe database system is starting up\0\0" + bytes(20),
            _postgres,
            "starting up",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n", _ssh, "does not speak SSH"),
        (_op_msg(b"\x01ok\0" + struct.pack("<d", 0.0)), _mongo, "error"),
        (b"", _mongo, "closed the connection"),
        (b"", _postgres, "closed the connection"),
        (b"", _http, "no HTTP"),
    ],
)
def test_a_service_that_is_not_ready_says_why(answer: bytes, make: Callable[[int], Probe], reason: str) -> None:
    with pytest.raises(NotReady, match=reason):
        _ask(_says(answer, reads=0 if make is _ssh else 1), make)


@pytest.mark.parametrize("make", [_http, _postgres, _ssh, _mongo, lambda port: probes.tcp("127.0.0.1", port)])
def test_a_closed_port_is_not_ready(make: Callable[[int], Probe]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(NotReady, match="refuses connections"):
            asyncio.run(make(other.getsockname()[1])())  # type: ignore[arg-type]


def test_a_host_that_cannot_be_is_not_ready() -> None:
    with pytest.raises(NotReady, match="no name of a host"):
        asyncio.run(probes.tcp("h..x", 5432)())  # type: ignore[arg-type]


def test_a_silent_service_is_not_ready_after_two_seconds() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    with pytest.raises(NotReady, match="no answer within 2 s"):
        _ask(silent, _ssh)
