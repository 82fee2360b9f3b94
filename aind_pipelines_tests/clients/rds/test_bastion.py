"""RDS through the SSH bastion and over TLS: by password and by key, and again when the bastion was gone."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines.clients.rds import Client, RDSCredentials, SSHBastion
from aind_pipelines.settings import SettingsError
from aind_pipelines_tests.clients.servers import Bastion, PostgresServer
from benchmarks.front import front
from benchmarks.https_front import tls


@pytest.fixture
def running(postgres: PostgresServer, tmp_path: Path) -> Iterator[Bastion]:
    made = Bastion(tmp_path, allow=[postgres.port])
    made.start()
    yield made
    made.stop()


@pytest.fixture
def credentials(postgres: PostgresServer, database: str) -> RDSCredentials:
    return RDSCredentials(
        username=postgres.user, password=postgres.password, host="127.0.0.1", port=postgres.port, dbname=database
    )


def test_password_and_key_both_lead_to_the_tables(
    running: Bastion, credentials: RDSCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOC_DB_SSH_HOST", "127.0.0.1")
    monkeypatch.setenv("DOC_DB_SSH_PORT", str(running.port))
    monkeypatch.setenv("DOC_DB_SSH_USERNAME", running.username)
    by_key = SSHBastion(key_file=running.key_file, host_key=running.host_key_file.read_text())
    with pytest.raises(SettingsError, match="DOC_DB_SSH_PASSWORD"):
        SSHBastion()
    monkeypatch.setenv("DOC_DB_SSH_PASSWORD", running.password)
    for bastion in (by_key, SSHBastion()):
        assert "canary" not in repr(bastion) + str(vars(bastion))
        with Client(credentials, bastion=bastion) as client:
            client.overwrite_table_with_df(pd.DataFrame({"v": ["through"]}), "t")
            assert client.read_table("t")["v"].tolist() == ["through"]
            port = client.execute_query("SELECT inet_client_port()").scalar_one()
        assert port
        assert client.read_table("t")["v"].tolist() == ["through"]  # closed, and opened again when it is needed
        client.close()


def test_a_bastion_that_was_away_is_no_end(running: Bastion, credentials: RDSCredentials) -> None:
    bastion = SSHBastion(host="127.0.0.1", port=running.port, username=running.username, password=running.password)
    with Client(credentials, bastion=bastion) as client:
        client.overwrite_table_with_df(pd.DataFrame({"v": [1]}), "t")
        running.kill()
        with pytest.raises(ServiceUnavailable):
            client.read_table("t")
        running.start()
        assert client.read_table("t")["v"].tolist() == [1]


def test_every_hop_that_refuses_is_named(running: Bastion, credentials: RDSCredentials) -> None:
    def read(**changes: object) -> None:
        options: dict[str, object] = {"host": "127.0.0.1", "port": running.port, "username": running.username}
        bastion = SSHBastion(**(options | {"password": running.password} | changes))  # type: ignore[arg-type]
        with Client(credentials, bastion=bastion) as client:
            client.read_table("t")

    with pytest.raises(AccessRefused, match="login at the bastion"):
        read(password="canary-wrong")
    with pytest.raises(ServiceUnavailable, match="bastion"):
        read(port=1)
    with pytest.raises(ServiceError, match="another host key"):
        read(host_key=running.key_file.with_name("client_key.pub").read_text())
    credentials.port = 1
    with pytest.raises(AccessRefused, match="does not forward"):
        read()


@pytest.fixture
def encrypted(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Postgres behind TLS, which its wheel is built without: port, and the certificate of ``localhost``."""
    context, trusted = tls(tmp_path)

    def accepted(plain: socket.socket) -> socket.socket:
        if plain.recv(8) != bytes.fromhex("0000000804d2162f"):  # SSLRequest of the PostgreSQL protocol
            plain.close()  # a tunnel only sees whether somebody is there
            raise OSError
        plain.sendall(b"S")
        return context.wrap_socket(plain, server_side=True)

    with front(f"//127.0.0.1:{postgres.port}", wrapped=accepted) as port:
        yield port, trusted


def _client(credentials: RDSCredentials, host: str, port: int, **options: Any) -> Client:
    there = RDSCredentials(
        username=credentials.username, password=credentials.password, host=host, port=port, dbname=credentials.database
    )
    return Client(there, **options)


def test_tls_modes_check_what_they_say(
    encrypted: tuple[int, Path], credentials: RDSCredentials, tmp_path: Path
) -> None:
    port, trusted = encrypted
    for host, mode in (("localhost", "verify-full"), ("127.0.0.1", "verify-ca"), ("127.0.0.1", "require")):
        root = trusted if mode.startswith("verify") else None
        with _client(credentials, host, port, sslmode=mode, sslrootcert=root) as client:
            with client.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                assert driver.pgconn.ssl_in_use
            assert client.execute_query("SELECT 1").scalar_one() == 1
    other = tmp_path / "other"
    other.mkdir()
    _, foreign = tls(other)
    for host, root in (("127.0.0.1", trusted), ("localhost", foreign)):
        with (
            _client(credentials, host, port, sslmode="verify-full", sslrootcert=root) as client,
            pytest.raises(ServiceUnavailable, match="certificate"),
        ):
            client.execute_query("SELECT 1")


def test_behind_a_tunnel_the_server_keeps_its_name(
    encrypted: tuple[int, Path], credentials: RDSCredentials, tmp_path: Path
) -> None:
    port, trusted = encrypted
    folder = tmp_path / "bastion"
    folder.mkdir()
    running = Bastion(folder, allow=[port])
    running.start()
    try:
        login = SSHBastion(host="127.0.0.1", port=running.port, username=running.username, key_file=running.key_file)
        options: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": trusted, "bastion": login}
        with _client(credentials, "localhost", port, **options) as client:
            assert client.execute_query("SELECT 1").scalar_one() == 1
        with (
            _client(credentials, "127.0.0.1", port, **options) as client,
            pytest.raises(ServiceUnavailable, match="certificate"),
        ):
            client.execute_query("SELECT 1")
    finally:
        running.stop()
