"""Whether a service answers: one question in its own protocol, without credentials and without its client library.

A probe returns when the service is ready and raises `NotReady` with the reason otherwise. The supervisor asks often
while a service starts, so a probe costs one connection and no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

Probe = Callable[[], Awaitable[None]]
_TIMEOUT = 2.0


class NotReady(Exception):
    """The service does not answer, or answers that it is not ready; the message says which."""


@contextlib.asynccontextmanager
async def _connection(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                yield reader, writer
            finally:
                writer.close()
    except TimeoutError:
        raise NotReady(f"no answer within {_TIMEOUT:g} s") from None
    except asyncio.IncompleteReadError:
        raise NotReady("closed the connection instead of answering") from None
    except ConnectionRefusedError:
        raise NotReady("refuses connections") from None
    except OSError as error:
        raise NotReady(error.strerror or str(error)) from None
    except UnicodeError:
        raise NotReady(f"{host!r} is no name of a host") from None


def tcp(host: str, port: int) -> Probe:
    """Ready when a connection is accepted."""

    async def probe() -> None:
        async with _connection(host, port):
            pass

    return probe


def http(url: str) -> Probe:
    """Ready when ``GET url`` (plain HTTP) answers 200."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    request = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: */*\r\n\r\n".encode("ascii")

    async def probe() -> None:
        async with _connection(host, port) as (reader, writer):
            writer.write(request)
            status = (await reader.readline()).decode("latin-1").split(maxsplit=2)
            # Reading on spares the server an error when it writes the rest.
            await reader.read(65536)
        if len(status) < 2 or status[1] != "200":
            raise NotReady(f"GET {parts.path or '/'} answered {' '.join(status[1:]).strip() or 'no HTTP'}")

    return probe


def ssh(host: str, port: int) -> Probe:
    """Ready when the server introduces itself (RFC 4253, section 4.2)."""

    async def probe() -> None:
        async with _connection(host, port) as (reader, _):
            if not (await reader.readline()).startswith(b"SSH-2.0-"):
                raise NotReady("does not speak SSH")

    return probe


def postgres(host: str, port: int, user: str, database: str) -> Probe:
    """Ready when the server answers a start-up message by asking for authentication (as ``pg_isready`` does)."""
    body = struct.pack(">i", 3 << 16)
    for name, value in (("user", user), ("database", database)):
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    message = struct.pack(">i", len(body) + 4) + body

    async def probe() -> None:
        async with _connection(host, port) as (reader, writer):
            writer.write(message)
            kind, length = struct.unpack(">ci", await reader.readexactly(5))
            answer = await reader.readexactly(min(length, 4096) - 4)
        if kind != b"R":
            fields = (part[1:].decode("utf-8", "replace") for part in answer.split(b"\0") if part[:1] == b"M")
            raise NotReady(next(fields, "does not speak Postgres"))

    return probe


def mongo(host: str, port: int) -> Probe:
    """Ready when the server answers ``hello`` in an OP_MSG."""
    document = b"\x10hello\0" + struct.pack("<i", 1) + b"\x02$db\0" + struct.pack("<i", 6) + b"admin\0" + b"\0"
    document = struct.pack("<i", len(document) + 4) + document
    body = struct.pack("<IB", 0, 0) + document
    message = struct.pack("<iiii", len(body) + 16, 1, 0, 2013) + body
    agreements = (b"\x01ok\0" + struct.pack("<d", 1.0), b"\x10ok\0" + struct.pack("<i", 1))

    async def probe() -> None:
        async with _connection(host, port) as (reader, writer):
            writer.write(message)
            (length,) = struct.unpack("<i", await reader.readexactly(4))
            answer = await reader.readexactly(min(length, 65536) - 4)
        if not any(agreement in answer for agreement in agreements):
            raise NotReady("answers hello with an error")

    return probe
