"""What was acknowledged is there after a kill, and a data directory has one owner."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from aind_pipelines_tests.lab.docdb.conftest import DocDB


def test_every_acknowledged_write_is_found_after_a_kill(own_server: Any) -> None:
    things = own_server.client().tests.things
    things.create_index("n", unique=True)
    acknowledged: list[int] = []
    started = threading.Event()

    def write() -> None:
        try:
            for n in range(100_000):
                things.insert_one({"_id": n, "n": n, "text": "x" * 500})
                if n:
                    things.update_one({"_id": n - 1}, {"$set": {"seen": True}})
                acknowledged.append(n)
                if n == 100:
                    started.set()
        except PyMongoError:
            return

    writer = threading.Thread(target=write)
    writer.start()
    assert started.wait(20)
    own_server.kill()
    writer.join(20)
    own_server.start()
    things = own_server.client().tests.things
    stored = {document["_id"]: document for document in things.find()}
    assert set(acknowledged) <= set(stored)
    assert all(stored[n].get("seen") for n in acknowledged[:-1])
    assert things.count_documents({}) == len(stored) == things.count_documents({"n": {"$gte": 0}})
    assert things.index_information()["n_1"]["unique"]


def test_documents_come_back_byte_for_byte_after_a_restart(own_server: Any) -> None:
    import bson
    from bson.raw_bson import RawBSONDocument

    options = bson.CodecOptions(document_class=RawBSONDocument)
    original = bson.encode(
        {"_id": "a", "long": bson.Int64(1), "double": 1.0, "none": None, "bin": bson.Binary(b"x", 5),
         "nested": {"b": [1, {"c": "ü\0"}]}, "decimal": bson.Decimal128("1.10"), "re": bson.Regex("a", "i")}
    )  # fmt: skip
    own_server.client().get_database("tests", codec_options=options).things.insert_one(RawBSONDocument(original))
    own_server.kill()
    own_server.start()
    found = own_server.client().get_database("tests", codec_options=options).things.find_one({"_id": "a"})
    assert bytes(found.raw) == original


def test_a_second_server_on_the_same_data_is_refused_with_the_pid_of_the_first(own_server: Any) -> None:
    refused = own_server.second()
    assert refused.returncode == 1
    assert str(own_server.process.pid) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert own_server.client().admin.command("ping")


def test_a_taken_port_is_one_line_and_exit_code_1(own_server: Any, tmp_path: Path) -> None:
    refused = own_server.second(port=own_server.port, data=tmp_path / "other")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert str(own_server.port) in refused.stderr


def test_a_data_directory_that_cannot_be_made_is_one_line_and_exit_code_1(own_server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = own_server.second(data=tmp_path / "file" / "data")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


def test_a_file_that_is_no_database_is_refused_and_left_alone(own_server: Any, tmp_path: Path) -> None:
    data = tmp_path / "odd"
    data.mkdir()
    (data / "docdb.sqlite3").write_bytes(b"something else entirely" * 100)
    refused = own_server.second(data=data)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert (data / "docdb.sqlite3").read_bytes() == b"something else entirely" * 100


def test_sigterm_and_sigint_end_the_server_within_two_seconds_with_clients_connected(own_server: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        client = own_server.client()
        client.tests.things.insert_many([{"n": n} for n in range(5000)])
        scan = threading.Thread(target=_scan, args=(client,), daemon=True)
        scan.start()
        time.sleep(0.1)
        begin = time.monotonic()
        own_server.process.send_signal(number)
        assert own_server.process.wait(10) == 0
        assert time.monotonic() - begin < 2
        client.close()
        own_server.start()


def test_a_signal_right_after_the_start_ends_it_too(tmp_path: Path) -> None:
    for number in range(20):
        server = DocDB(tmp_path / str(number))
        time.sleep(number / 1_000)
        assert server.stop() == 0


def _scan(client: pymongo.MongoClient[Any]) -> None:
    try:
        while True:
            client.tests.things.count_documents({"n": {"$mod": [7, 3]}})
    except PyMongoError:
        return
