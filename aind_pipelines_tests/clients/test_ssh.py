"""The tunnel: every hop that can fail says so, and a dropped bastion is no end."""

import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines.clients.ssh import Tunnel
from aind_pipelines_tests.clients.servers import DEAD_PORT, Bastion, DocDBServer, free_port


def _tunnel(bastion: Bastion, port: int, **changes: object) -> Tunnel:
    options: dict[str, object] = {
        "host": "127.0.0.1", "port": bastion.port, "username": bastion.username,
        "password": SecretStr(bastion.password), "target": ("127.0.0.1", port), "timeout": 3.0,
    }  # fmt: skip
    return Tunnel(**(options | changes))  # type: ignore[arg-type]


def _connects(port: int) -> bool:
    """Whether something behind the tunnel holds the connection open."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(0.5)
        try:
            return connection.recv(1) != b""
        except TimeoutError:
            return True


def _open_sockets() -> int:
    return sum(os.path.realpath(fd).partition(":")[0].endswith("socket") for fd in Path("/proc/self/fd").iterdir())


def test_two_tunnels_at_once_have_ports_of_their_own(bastion: Bastion, docdb: DocDBServer) -> None:
    with _tunnel(bastion, docdb.port) as one, _tunnel(bastion, docdb.port) as two:
        assert one.local_port != two.local_port
        assert _connects(one.local_port)
        assert _connects(two.local_port)
        assert one.is_up
    assert not one.is_up
    one.stop()


def test_a_key_opens_the_tunnel_without_password(bastion: Bastion, docdb: DocDBServer) -> None:
    with _tunnel(bastion, docdb.port, password=None, key_file=bastion.key_file) as tunnel:
        assert _connects(tunnel.local_port)


def test_the_bastions_identity_is_checked_where_it_is_given(bastion: Bastion, docdb: DocDBServer) -> None:
    right = bastion.host_key_file.read_text()
    with _tunnel(bastion, docdb.port, host_key=right) as tunnel:
        assert tunnel.is_up
    wrong = bastion.key_file.with_name("client_key.pub").read_text()
    with pytest.raises(ServiceError, match="another host key"):
        _tunnel(bastion, docdb.port, host_key=wrong).start()
    with pytest.raises(ServiceError, match="looks like"):
        _tunnel(bastion, docdb.port, host_key="ssh-ed25519 ???").start()


def test_an_unreachable_bastion_is_named() -> None:
    port = free_port()
    tunnel = Tunnel(host="127.0.0.1", port=port, username="u", password=SecretStr("p"), target=("127.0.0.1", 1))
    with pytest.raises(ServiceUnavailable, match=rf"the bastion 127\.0\.0\.1:{port} cannot be reached"):
        tunnel.start()


def test_something_that_is_no_bastion_is_named(docdb: DocDBServer) -> None:
    def answer(server: socket.socket) -> None:
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(ServiceUnavailable, match="no SSH session"):
            Tunnel(host="127.0.0.1", port=port, username="u", password=SecretStr("p"), target=("h", 1)).start()


def test_paramiko_says_nothing_of_its_own_where_logging_is_not_set_up() -> None:
    program = (
        "import sys; from pydantic import SecretStr; from aind_pipelines.clients.ssh import Tunnel\n"
        "login = dict(username='u', password=SecretStr('p'))\n"
        "try: Tunnel(host='127.0.0.1', port=int(sys.argv[1]), target=('h', 1), **login).start()\n"
        "except Exception as error: print(type(error).__name__)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                server.accept()[0].close()

        threading.Thread(target=answer, daemon=True).start()
        result = subprocess.run(
            [sys.executable, "-c", program, str(server.getsockname()[1])], capture_output=True, text=True, timeout=60
        )
    assert (result.stdout, result.stderr) == ("ServiceUnavailable\n", "")


@pytest.mark.parametrize("changes", [{"password": SecretStr("canary-wrong")}, {"username": "nobody"}])
def test_a_refused_login_is_told_from_an_outage_without_the_password(
    bastion: Bastion, docdb: DocDBServer, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tunnel = _tunnel(bastion, docdb.port, **changes)
    with pytest.raises(AccessRefused, match="login at the bastion") as raised:
        tunnel.start()
    assert "canary" not in str(raised.value) + repr(tunnel) + str(vars(tunnel)) + caplog.text


def test_a_target_that_is_not_allowed_or_dead_is_the_tunnels_failure(bastion: Bastion) -> None:
    with pytest.raises(AccessRefused, match=r"tunnel failed.*does not forward"):
        _tunnel(bastion, free_port()).start()
    with pytest.raises(ServiceUnavailable, match=rf"tunnel failed.*cannot reach 127\.0\.0\.1:{DEAD_PORT}"):
        _tunnel(bastion, DEAD_PORT).start()


def test_a_key_that_cannot_be_used_is_named(bastion: Bastion, docdb: DocDBServer, tmp_path: Path) -> None:
    absent, odd = tmp_path / "absent", tmp_path / "odd"
    odd.write_text("canary-no-key")
    odd.chmod(stat.S_IRUSR)
    with pytest.raises(ServiceError, match="absent cannot be read"):
        _tunnel(bastion, docdb.port, password=None, key_file=absent).start()
    with pytest.raises(ServiceError, match="odd cannot be used"):
        _tunnel(bastion, docdb.port, password=None, key_file=odd).start()


def test_a_failed_start_leaves_nothing_open(bastion: Bastion) -> None:
    before, threads = _open_sockets(), threading.active_count()
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            _tunnel(bastion, DEAD_PORT).start()
    deadline = time.monotonic() + 5
    while (_open_sockets() > before or threading.active_count() > threads) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _open_sockets() <= before
    assert threading.active_count() <= threads


def test_a_tunnel_heals_on_the_same_port_when_the_bastion_is_back(bastion: Bastion, docdb: DocDBServer) -> None:
    with _tunnel(bastion, docdb.port) as tunnel:
        port = tunnel.local_port
        assert not tunnel.heal()
        bastion.kill()
        deadline = time.monotonic() + 5
        while tunnel.is_up and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(ServiceUnavailable, match="the bastion"):
            tunnel.heal()
        with pytest.raises(ServiceUnavailable, match="is lost"):
            tunnel.probe()
        bastion.start()
        assert tunnel.heal()
        assert tunnel.local_port == port
        assert _connects(port)
        assert tunnel.heal(force=True)
        assert _connects(port)
