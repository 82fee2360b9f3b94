from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest

from aind_pipelines.lab.bastion import Config

PASSWORD = "correct horse"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def echo_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(connection.recv(1000).upper())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


class Running:
    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        self.config: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "username": "bastion",
            "password": PASSWORD,
            "host_key": str(folder / "host_key"),
            "client_key": str(folder / "client_key"),
            "allow": [["127.0.0.1", target]],
        }
        self.file = folder / "config.json"
        self.file.write_text(json.dumps(self.config))
        self.process = self.start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                assert self.process.poll() is None, self.process.communicate()
                time.sleep(0.05)
        raise AssertionError("the bastion did not start")

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "aind_pipelines.lab.bastion", "--config", str(self.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def client(self, username: str = "bastion", **login: Any) -> Iterator[paramiko.SSHClient]:
        with paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            host_key = paramiko.Ed25519Key.from_private_key_file(self.config["host_key"])
            client.get_host_keys().add(f"[127.0.0.1]:{self.port}", host_key.get_name(), host_key)
            client.connect(
                "127.0.0.1", self.port, username, allow_agent=False, look_for_keys=False, timeout=10, **login
            )
            yield client


@pytest.fixture(scope="module")
def target() -> Iterator[int]:
    with echo_server() as port:
        yield port


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory, target: int) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("a bastion"), target)
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) == 0


def forwarded(client: paramiko.SSHClient, host: str, port: int) -> bytes:
    transport = client.get_transport()
    assert transport is not None
    with transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=10) as channel:
        channel.sendall(b"hello")
        return channel.recv(100)


def test_a_password_opens_the_way_to_a_target_on_the_list(bastion: Running, target: int) -> None:
    with bastion.client(password=PASSWORD) as client:
        assert forwarded(client, "127.0.0.1", target) == b"HELLO"
        assert forwarded(client, "localhost", target) == b"HELLO"


def test_the_generated_key_opens_it_too(bastion: Running, target: int) -> None:
    with bastion.client(key_filename=bastion.config["client_key"]) as client:
        assert forwarded(client, "127.0.0.1", target) == b"HELLO"


def test_a_wrong_password_another_user_and_a_strange_key_are_refused(bastion: Running, tmp_path: Path) -> None:
    strange = paramiko.RSAKey.generate(2048)
    for username, login in [
        ("bastion", {"password": "wrong"}),
        ("root", {"password": PASSWORD}),
        ("root", {"key_filename": bastion.config["client_key"]}),
        ("bastion", {"pkey": strange}),
    ]:
        with pytest.raises(paramiko.AuthenticationException), bastion.client(username, **login):
            pass


def test_a_target_that_is_not_on_the_list_is_refused_and_the_connection_lives_on(
    bastion: Running, target: int
) -> None:
    with echo_server() as other, bastion.client(password=PASSWORD) as client:
        with pytest.raises(paramiko.ChannelException) as refusal:
            forwarded(client, "127.0.0.1", other)
        assert refusal.value.code == 1  # administratively prohibited
        assert forwarded(client, "127.0.0.1", target) == b"HELLO"


def test_there_is_no_shell_no_command_and_no_reverse_forwarding(bastion: Running) -> None:
    with bastion.client(password=PASSWORD) as client:
        with pytest.raises(paramiko.SSHException):
            client.exec_command("id", timeout=5)
        transport = client.get_transport()
        assert transport is not None
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)


def test_a_second_bastion_on_the_port_ends_with_a_reason_and_no_secret(bastion: Running) -> None:
    second = bastion.start()
    output, _ = second.communicate(timeout=20)
    assert second.returncode == 1
    assert str(bastion.port) in output
    assert "Traceback" not in output
    assert PASSWORD not in output


def test_keys_stay_the_same_over_a_restart_and_an_open_tunnel_does_not_delay_it(tmp_path: Path, target: int) -> None:
    running = Running(tmp_path, target)
    keys = [(tmp_path / name).read_bytes() for name in ("host_key", "client_key")]
    with running.client(password=PASSWORD) as client:
        assert forwarded(client, "127.0.0.1", target) == b"HELLO"
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0  # it would wait for the client, for ever
    assert running.process.stdout is not None
    running.process.stdout.close()
    again = Running(tmp_path, target)
    assert [(tmp_path / name).read_bytes() for name in ("host_key", "client_key")] == keys
    assert (tmp_path / "client_key").stat().st_mode & 0o777 == 0o600
    again.process.send_signal(signal.SIGINT)
    output, _ = again.process.communicate(timeout=5)
    assert again.process.returncode == 0
    assert "Traceback" not in output


def test_a_configuration_that_cannot_be_used_is_named_without_its_values(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"password": PASSWORD, "port": "not a port"}))
    done = subprocess.run(
        [sys.executable, "-m", "aind_pipelines.lab.bastion", "--config", str(tmp_path / "config.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("bastion: ")
    assert len(done.stderr.splitlines()) == 1
    assert PASSWORD not in done.stderr


def test_the_names_of_loopback_are_one_and_other_names_are_not() -> None:
    config = Config(
        port=1, username="u", password="p", host_key="h", client_key="c", allow=[("localhost", 5), ("db.example", 6)]
    )
    assert config.allows("127.0.0.1", 5)
    assert config.allows("::1", 5)
    assert config.allows("db.example", 6)
    assert not config.allows("127.0.0.1", 6)
    assert not config.allows("db.example", 5)
