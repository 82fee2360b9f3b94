"""Who may connect, by which road, and who is refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from aind_pipelines.lab.docdb.errors import CommandError
from aind_pipelines.lab.docdb.scram import Conversation, credentials


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_the_right_password_logs_in_with_either_mechanism(server: Any, mechanism: str) -> None:
    client = server.client(authMechanism=mechanism)
    assert client.admin.command("ping")["ok"] == 1
    users = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
    assert users == [{"user": server.username, "db": "admin"}]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "somebody"}])
def test_a_wrong_password_or_user_is_refused_with_code_18(server: Any, mechanism: str, wrong: dict[str, str]) -> None:
    with pytest.raises(OperationFailure) as refused:
        server.client(authMechanism=mechanism, **wrong).tests.things.find_one()
    assert refused.value.code == 18
    assert server.password not in str(refused.value)


def test_without_login_only_the_handshake_is_answered(server: Any) -> None:
    client = pymongo.MongoClient("127.0.0.1", server.port, directConnection=True)
    try:
        assert client.admin.command("ping")["ok"] == 1
        for command in ({"find": "things"}, {"insert": "things", "documents": [{}]}, {"listDatabases": 1}):
            with pytest.raises(OperationFailure) as refused:
                client.admin.command(command)
            assert refused.value.code == 13
    finally:
        client.close()


def test_a_user_of_another_database_is_refused(server: Any) -> None:
    with pytest.raises(OperationFailure) as refused:
        server.client(authSource="metadata_index").tests.things.find_one()
    assert refused.value.code == 18


def test_the_connection_table_of_the_guide_connects_as_a_member_of_rs0(server: Any) -> None:
    client = server.client(
        directConnection=False,
        replicaSet="rs0",
        readPreference="secondaryPreferred",
        authMechanism="SCRAM-SHA-1",
    )
    client.tests.replica.insert_one({"_id": 1})
    assert client.tests.replica.find_one() == {"_id": 1}
    assert client.nodes == frozenset({("127.0.0.1", server.port)})
    assert client.topology_description.replica_set_name == "rs0"


@pytest.fixture
def forwarded(server: Any) -> Iterator[int]:
    """A local port that leads to the server, as an SSH tunnel's does."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", server.port))
            opened.extend((near, far))
            threading.Thread(target=pump, args=(near, far), daemon=True).start()
            threading.Thread(target=pump, args=(far, near), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in opened:
        connection.close()


def test_a_direct_connection_through_another_port_stays_on_that_port(server: Any, forwarded: int) -> None:
    client = server.client(port=forwarded)
    hello = client.admin.command("hello")
    assert (hello["setName"], hello["me"]) == ("rs0", f"127.0.0.1:{server.port}")
    assert hello["hosts"] == [hello["me"]] == [hello["primary"]]
    assert client.address == ("127.0.0.1", forwarded)
    assert client.server_info()["version"]
    client.close()


def test_retryable_writes_are_refused_with_the_setting_to_add(server: Any) -> None:
    with pytest.raises(OperationFailure, match="retryWrites=false"):
        server.client(retryWrites=True).tests.things.insert_one({})


def test_a_changed_password_holds_over_a_restart_until_another_is_configured(own_server: Any) -> None:
    original = own_server.password
    client = own_server.client()
    client.admin.command("updateUser", own_server.username, pwd="changed")
    own_server.kill()
    own_server.start()
    for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
        assert own_server.client(password="changed", authMechanism=mechanism).admin.command("ping")
        with pytest.raises(OperationFailure):
            own_server.client(authMechanism=mechanism).tests.things.find_one()
    own_server.kill()
    own_server.password = original + "2"
    own_server.start()
    assert own_server.client().admin.command("ping")
    with pytest.raises(OperationFailure):
        own_server.client(password="changed").tests.things.find_one()


def test_nobody_can_change_another_user_s_password(server: Any) -> None:
    with pytest.raises(OperationFailure, match="not found"):
        server.client().admin.command("updateUser", "somebody", pwd="x")


@pytest.mark.parametrize("first", [b"", b"nonsense", b"n,,r=abc", b"n,,n=u", b"p=tls,,n=u,r=x", b"\xff"])
def test_a_malformed_first_message_is_an_authentication_failure(first: bytes) -> None:
    with pytest.raises(CommandError, match="Authentication failed"):
        Conversation("SCRAM-SHA-256", first, {"u": credentials("u", "p")})


@pytest.mark.parametrize("final", [b"", b"c=biws,r=other,p=AAAA", b"c=biws,p=!!", b"\xff"])
def test_a_malformed_proof_is_an_authentication_failure(final: bytes) -> None:
    conversation = Conversation("SCRAM-SHA-256", b"n,,n=u,r=abc", {"u": credentials("u", "p")})
    with pytest.raises(CommandError, match="Authentication failed"):
        conversation.verify(final)
