"""Framing of MongoDB's wire protocol: OP_MSG, and OP_QUERY for the first hello of older drivers.

Format: the MongoDB wire protocol specification. Every message starts with four little-endian int32: its whole length,
its request id, the id it answers, and its operation code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from aind_pipelines.lab.docdb.values import RAW

OP_REPLY = 1
OP_QUERY = 2004
OP_MSG = 2013
MAX_MESSAGE_BYTES = 48_000_000
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_DISCARDED_BYTES = 8 * MAX_MESSAGE_BYTES

_HEADER = struct.Struct("<iiii")
_INT32 = struct.Struct("<i")
_CHECKSUM_PRESENT = 1
_MORE_TO_COME = 2
_REQUIRED_FLAGS = 0xFFFF


class ProtocolError(Exception):
    """A frame that cannot be understood: its connection has to be closed."""


class MessageTooLarge(Exception):
    """A frame over the limit; its body was read and thrown away, so that the connection can go on.

    Attributes:
        header: The frame's header, for the answer.
    """

    def __init__(self, header: Header) -> None:
        super().__init__(f"a message of {header.length} bytes is larger than the limit of {MAX_MESSAGE_BYTES} bytes")
        self.header = header


@dataclass(frozen=True, slots=True)
class Header:
    """The first 16 bytes of a message; lengths in bytes, the header included."""

    length: int
    request_id: int
    operation: int


@dataclass(frozen=True, slots=True)
class Request:
    """One command as it arrived.

    Attributes:
        header: The frame's header.
        body: The command, undecoded below its top level.
        sequences: Documents that travelled beside the command, by the name of the argument they are.
        database: The database of an OP_QUERY; OP_MSG carries it in ``$db``.
        wants_reply: False for an unacknowledged command.
    """

    header: Header
    body: RawBSONDocument
    sequences: Mapping[str, list[RawBSONDocument]]
    database: str | None = None
    wants_reply: bool = True


def read_request(read: Callable[[int], bytes]) -> Request | None:
    """Read one message.

    Args:
        read: Returns exactly as many bytes as asked for, or fewer when the peer has closed.

    Returns:
        The request, or None when the peer closed between messages.

    Raises:
        ProtocolError: The frame is malformed, cut short or of an unknown kind.
        MessageTooLarge: It is over the limit.
    """
    start = read(_HEADER.size)
    if not start:
        return None
    if len(start) < _HEADER.size:
        raise ProtocolError("the connection ended inside a message header")
    length, request_id, _, operation = _HEADER.unpack(start)
    header = Header(length, request_id, operation)
    if length < _HEADER.size or operation not in (OP_MSG, OP_QUERY):
        raise ProtocolError(f"a message of {length} bytes with operation code {operation} is not understood")
    remaining = length - _HEADER.size
    if length > MAX_MESSAGE_BYTES:
        if length > MAX_DISCARDED_BYTES:
            raise ProtocolError(f"a message of {length} bytes is far over the limit")
        while remaining > 0:
            piece = read(min(remaining, 1 << 20))
            if not piece:
                raise ProtocolError("the connection ended inside a message")
            remaining -= len(piece)
        raise MessageTooLarge(header)
    body = read(remaining)
    if len(body) < remaining:
        raise ProtocolError("the connection ended inside a message")
    try:
        return _parse_message(header, body) if operation == OP_MSG else _parse_query(header, body)
    except (struct.error, IndexError, UnicodeDecodeError, bson.errors.BSONError) as error:
        raise ProtocolError(f"malformed message: {error}") from error


def _document_at(body: bytes, offset: int, end: int) -> tuple[RawBSONDocument, int]:
    size = _INT32.unpack_from(body, offset)[0]
    if size < 5 or offset + size > end:
        raise ProtocolError(f"a document claims {size} bytes where {end - offset} are left")
    document = RawBSONDocument(body[offset : offset + size], RAW)
    return document, offset + size


def _string_at(body: bytes, offset: int, end: int) -> tuple[str, int]:
    stop = body.find(b"\0", offset, end)
    if stop < 0:
        raise ProtocolError("a name has no end")
    return body[offset:stop].decode(), stop + 1


def _parse_message(header: Header, body: bytes) -> Request:
    flags = struct.unpack_from("<I", body)[0]
    if flags & _REQUIRED_FLAGS & ~(_CHECKSUM_PRESENT | _MORE_TO_COME):
        raise ProtocolError(f"unknown message flags {flags:#x}")
    end = len(body) - (4 if flags & _CHECKSUM_PRESENT else 0)
    offset = 4
    command: RawBSONDocument | None = None
    sequences: dict[str, list[RawBSONDocument]] = {}
    while offset < end:
        kind = body[offset]
        offset += 1
        if kind == 0:
            if command is not None:
                raise ProtocolError("a message holds two commands")
            command, offset = _document_at(body, offset, end)
        elif kind == 1:
            section_end = offset + _INT32.unpack_from(body, offset)[0]
            if section_end <= offset or section_end > end:
                raise ProtocolError("a document sequence is longer than its message")
            name, offset = _string_at(body, offset + 4, section_end)
            if name in sequences:
                raise ProtocolError(f"the document sequence {name!r} occurs twice")
            documents = sequences[name] = []
            while offset < section_end:
                document, offset = _document_at(body, offset, section_end)
                documents.append(document)
        else:
            raise ProtocolError(f"unknown section kind {kind}")
    if command is None:
        raise ProtocolError("a message holds no command")
    len(command)  # decodes the top level: a command that is no BSON is found here
    return Request(header, command, sequences, wants_reply=not flags & _MORE_TO_COME)


def _parse_query(header: Header, body: bytes) -> Request:
    namespace, offset = _string_at(body, 4, len(body))
    command, _ = _document_at(body, offset + 8, len(body))
    len(command)
    return Request(header, command, {}, database=namespace.partition(".")[0])


def encode_reply(header: Header, document: Mapping[str, Any]) -> bytes:
    """The frame that answers `header` with `document`, in the form of the question."""
    body = bson.encode(document)
    if header.operation == OP_QUERY:
        fixed = struct.pack("<iqii", 8, 0, 0, 1)
        operation = OP_REPLY
    else:
        fixed = struct.pack("<IB", 0, 0)
        operation = OP_MSG
    length = _HEADER.size + len(fixed) + len(body)
    return _HEADER.pack(length, 0, header.request_id, operation) + fixed + body
