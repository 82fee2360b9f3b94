"""Frames: what the wire protocol allows, and what closes one connection without harming another."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure

from aind_pipelines.lab.docdb.cursors import Cursor
from aind_pipelines.lab.docdb.protocol import MAX_DOCUMENT_BYTES, MAX_MESSAGE_BYTES, ProtocolError, read_request

PING = bson.encode({"ping": 1, "$db": "admin"})


def message(body: bytes, operation: int = 2013, length: int | None = None) -> bytes:
    return struct.pack("<iiii", 16 + len(body) if length is None else length, 7, 0, operation) + body


def exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


MALFORMED = {
    "a negative length": message(b"", length=-1),
    "a length below the header's": message(b"", length=15),
    "an unknown operation": message(b"\0" * 16, operation=2002),
    "an enormous length": message(b"", length=2**31 - 1),
    "no section": message(struct.pack("<I", 0)),
    "an unknown required flag": message(struct.pack("<IB", 4, 0) + PING),
    "an unknown section kind": message(struct.pack("<IB", 0, 9) + PING),
    "two commands": message(struct.pack("<IB", 0, 0) + PING + b"\0" + PING),
    "a document longer than the message": message(struct.pack("<IBi", 0, 0, 10_000) + b"\0" * 20),
    "a sequence without a name": message(struct.pack("<IB", 0, 0) + PING + b"\x01" + struct.pack("<i", 8) + b"abcd"),
    "a command that is no BSON": message(struct.pack("<IBi", 0, 0, 9) + b"\x63a\0\0\0"),
    "half a header": b"\x10\0\0",
    "half a body": message(struct.pack("<IB", 0, 0) + PING)[:-3],
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_frame_closes_its_own_connection_only(server: Any, frame: bytes) -> None:
    client = server.client()
    client.admin.command("ping")
    assert exchange(server.port, frame) == b""
    assert client.admin.command("ping")["ok"] == 1


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_raise_anything_but_a_protocol_error(body: bytes) -> None:
    frame = message(body)
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        piece = frame[position : position + size]
        position += len(piece)
        return piece

    try:
        request = read_request(read)
    except ProtocolError:
        return
    assert request is not None


def test_the_handshake_of_older_drivers_is_answered_in_its_own_form(server: Any) -> None:
    query = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"isMaster": 1})
    reply = exchange(server.port, message(query, operation=2004))
    assert struct.unpack_from("<iiii", reply)[2:] == (7, 1)
    assert bson.decode(reply[36:])["ismaster"] is True


def test_other_commands_in_the_old_form_are_refused(server: Any) -> None:
    query = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"ping": 1})
    reply = exchange(server.port, message(query, operation=2004))
    assert bson.decode(reply[36:])["code"] == 352


def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        stream = connection.makefile("rb")
        connection.sendall(struct.pack("<iiii", MAX_MESSAGE_BYTES + 1, 7, 0, 2013))
        left = MAX_MESSAGE_BYTES + 1 - 16
        while left:
            piece = bytes(min(left, 1 << 20))
            connection.sendall(piece)
            left -= len(piece)
        for expected in (17, None):
            length, _, answered, _ = struct.unpack("<iiii", stream.read(16))
            assert answered == 7
            assert bson.decode(stream.read(length - 16)[5:]).get("code") == expected
            connection.sendall(message(struct.pack("<IB", 0, 0) + PING))


def test_a_document_of_16_mb_is_stored_and_a_larger_one_is_refused(server: Any, collection: Any) -> None:
    collection.insert_one({"_id": 1, "text": "x" * (16 * 1024 * 1024 - 100)})
    assert len(collection.find_one()["text"]) == 16 * 1024 * 1024 - 100
    with pytest.raises(DocumentTooLarge):  # the driver knows the limit from hello
        collection.insert_one({"_id": 2, "text": "x" * (17 * 1024 * 1024)})
    with pytest.raises(OperationFailure) as refused:  # a little over it, the driver leaves to the server
        collection.insert_one({"_id": 2, "text": "x" * (16 * 1024 * 1024)})
    assert refused.value.code == 10334
    with pytest.raises(OperationFailure) as refused:
        collection.update_one({"_id": 1}, {"$set": {"more": "x" * 200}})
    assert refused.value.code == 10334
    assert collection.count_documents({}) == 1


def test_answers_of_many_megabytes_come_in_several_batches(collection: Any) -> None:
    collection.insert_many([{"_id": n, "text": "x" * 3_000_000} for n in range(12)])
    assert [len(document["text"]) for document in collection.find(batch_size=1000)] == [3_000_000] * 12


@pytest.fixture(scope="module")
def large(server: Any) -> Any:
    """Documents of which two are more than an answer may hold in one."""
    collection = server.client().tests.large
    collection.insert_many([{"_id": n, "all": 1, "text": str(n) + "x" * 9_000_000} for n in range(8)])
    return collection


_SEVERAL = dict.fromkeys("abcdef", "$text")
_JOIN = {"$lookup": {"from": "large", "localField": "all", "foreignField": "all", "as": "joined"}}
_GROUP = {"$group": {"_id": None, "texts": {"$push": "$text"}}}
_BY_TYPE = {"$match": {"text": {"$type": "string"}}}
TOO_LARGE: dict[str, tuple[Callable[[Any], Any], int]] = {
    "a group": (lambda c: list(c.aggregate([_BY_TYPE, _GROUP])), 10334),
    "a group of two": (lambda c: list(c.aggregate([{"$match": {"_id": {"$lt": 2}}}, _GROUP])), 10334),
    "one in the middle of others": (
        lambda c: list(
            c.aggregate([{"$project": {"a": "$text", "b": {"$cond": [{"$eq": ["$_id", 5]}, "$text", 0]}}}])
        ),
        10334,
    ),
    "a projection that adds fields": (lambda c: c.find_one({"_id": 1}, _SEVERAL), 10334),
    "a join": (lambda c: list(c.aggregate([{"$match": {"_id": 1}}, _JOIN])), 10334),
    "distinct values": (lambda c: c.distinct("text"), 17217),
    "a changed document": (
        lambda c: c.find_one_and_update({"_id": 1}, {"$set": {"seen": 1}}, projection=_SEVERAL),
        10334,
    ),
    "a deleted document": (lambda c: c.find_one_and_delete({"_id": 1}, projection=_SEVERAL), 10334),
    "an upserted document": (
        lambda c: c.find_one_and_update(
            {"_id": "new"}, {"$set": {"text": "x" * 9_000_000}}, upsert=True, projection=_SEVERAL, return_document=True
        ),
        10334,
    ),
    "an error that repeats it": (
        # Each of these bytes takes four letters to be told.
        lambda c: c.find_one_and_update({"_id": 1}, {"$set": {"_id": "\1" * 14_000_000}}),
        66,
    ),
}


@pytest.mark.parametrize(("question", "code"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_an_answer_that_is_too_large_is_an_error_and_changes_nothing(
    server: Any, large: Any, question: Callable[[Any], Any], code: int
) -> None:
    with pytest.raises(OperationFailure) as refused:
        question(large)
    assert refused.value.code == code
    assert large.find_one({"_id": 1}, {"_id": 1, "seen": 1}) == {"_id": 1}
    assert large.count_documents({}) == 8


def test_large_answers_come_one_by_one_where_each_can(large: Any) -> None:
    one = [
        {"$match": {"_id": 1}},
        _JOIN,
        {"$unwind": "$joined"},
        {"$project": {"n": "$joined._id", "t": "$joined.text"}},
    ]
    assert [(found["n"], len(found["t"])) for found in large.aggregate(one)] == [(n, 9_000_001) for n in range(8)]


def test_a_batch_of_the_smallest_documents_is_no_larger_than_a_document() -> None:
    cursor = Cursor("tests.things", iter([{"_id": n} for n in range(1_000_000)]))
    first = cursor.batch(None)
    size = sum(len(document.raw) for document in first) + sum(len(str(n)) + 2 for n in range(len(first)))
    assert MAX_DOCUMENT_BYTES - 100 < size <= MAX_DOCUMENT_BYTES
    assert not cursor.done
    assert len(first) + len(cursor.batch(None)) == 1_000_000
    assert cursor.done


@pytest.mark.parametrize("many", [[str(n) + "x" * 6_000_000 for n in range(4)], range(8_000)], ids=["large", "many"])
def test_errors_that_would_fill_an_answer_are_told_by_their_code(collection: Any, many: Sequence[object]) -> None:
    collection.insert_many([{"_id": identity} for identity in many])
    with pytest.raises(BulkWriteError) as refused:
        collection.insert_many([{"_id": identity} for identity in many], ordered=False)
    errors = refused.value.details["writeErrors"]
    assert [error["code"] for error in errors] == [11000] * len(many)
    assert ("keyValue" in errors[0], errors[-1]["errmsg"]) == (len(many) == 8_000, "")


@pytest.mark.parametrize("size", [-1, 1.5, "x", float("nan"), float("inf"), bson.Decimal128("NaN")])
def test_a_batch_size_that_is_none_is_refused(server: Any, size: object) -> None:
    for command in (
        {"find": "things", "batchSize": size},
        {"aggregate": "things", "pipeline": [], "cursor": {"batchSize": size}},
        {"listCollections": 1, "cursor": {"batchSize": size}},
        {"find": "things", "limit": size},
    ):
        with pytest.raises(OperationFailure) as refused:
            server.client().tests.command(command)
        assert refused.value.code == 51024


def test_an_unknown_command_is_refused_with_code_59(server: Any) -> None:
    with pytest.raises(OperationFailure) as refused:
        server.client().admin.command("inventedCommand")
    assert refused.value.code == 59


def test_a_deeply_nested_document_is_refused_and_the_server_lives(server: Any, collection: Any) -> None:
    deep: dict[str, Any] = {}
    for _ in range(190):
        deep = {"a": deep}
    with pytest.raises(OperationFailure) as refused:
        collection.insert_one(deep)
    assert refused.value.code == 15
    body = b"\x05\0\0\0\0"
    for _ in range(50_000):
        body = struct.pack("<i", len(body) + 8) + b"\x03a\0" + body + b"\0"
    command = bson.encode({"ping": 1, "$db": "admin"})[4:-1]
    document = struct.pack("<i", len(command) + len(body) + 4 + 4) + command + b"\x03x\0" + body + b"\0"
    reply = exchange(server.port, message(struct.pack("<IB", 0, 0) + document))
    assert bson.decode(reply[21:])["ok"] == 0
    assert server.client().admin.command("ping")["ok"] == 1
