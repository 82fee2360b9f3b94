"""The SSH bastion in front of DocDB and RDS: it authenticates, forwards to an allow-list, and does nothing else.

Run as ``python -m aind_pipelines.lab.bastion --config FILE``, where FILE is JSON::

    {
        "host": "127.0.0.1",
        "port": 2222,
        "username": "...",
        "password": "...",
        "host_key": PATH,
        "client_key": PATH,
        "allow": [["127.0.0.1", 27017], ...],
    }

Keys that do not exist yet are made. Whoever holds the private ``client_key`` may log in without the password.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any, Self

import asyncssh
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from aind_pipelines.lab.home import write_private

_log = logging.getLogger(__name__)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Config(BaseModel):
    """What the bastion is told: where to listen, whom to let in, and where to."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    username: str
    password: SecretStr
    host_key: Path
    client_key: Path
    allow: frozenset[tuple[str, int]]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the configuration file.

        Raises:
            OSError: It cannot be read.
            ValidationError: It holds something else.
        """
        return cls.model_validate_json(file.read_bytes())

    def allows(self, host: str, port: int) -> bool:
        """Whether clients may be forwarded there; the names of loopback are one."""
        names = _LOOPBACK if host in _LOOPBACK else {host}
        return any((name, port) in self.allow for name in names)


def ensure_key(file: Path, comment: str) -> asyncssh.SSHKey:
    """Read an ed25519 private key, or make it and its ``.pub`` first."""
    if not file.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_name(f"{file.name}.pub").write_bytes(key.export_public_key())
        write_private(file, key.export_private_key().decode("ascii"))
    return asyncssh.read_private_key(file)


class _Bastion(asyncssh.SSHServer):
    def __init__(
        self,
        config: Config,
        authorized: asyncssh.SSHAuthorizedKeys,
        connections: set[asyncssh.SSHServerConnection],
    ) -> None:
        self._config = config
        self._authorized = authorized
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncssh's
        self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        if username == self._config.username:
            self._connection.set_authorized_keys(self._authorized)
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        right_name = hmac.compare_digest(username.encode(), self._config.username.encode())
        right_password = hmac.compare_digest(password.encode(), self._config.password.get_secret_value().encode())
        return right_name and right_password

    def auth_completed(self) -> None:
        _log.info("a client logged in")

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        if self._config.allows(dest_host, dest_port):
            return True
        _log.warning("refused to forward %s:%s to %s:%s", orig_host, orig_port, dest_host, dest_port)
        raise asyncssh.ChannelOpenError(
            asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, f"{dest_host}:{dest_port} is not on the bastion's list"
        )


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; open tunnels are then closed.

    Raises:
        OSError: The port cannot be opened or a key cannot be read or written.
    """
    host_key = ensure_key(config.host_key, "lab-bastion")
    client_key = ensure_key(config.client_key, "lab-client")
    authorized = asyncssh.import_authorized_keys(client_key.export_public_key().decode("ascii"))
    connections: set[asyncssh.SSHServerConnection] = set()
    options: dict[str, Any] = {
        "server_host_keys": [host_key],
        "allow_scp": False,
        "allow_pty": False,
        "agent_forwarding": False,
        "keepalive_interval": 30,
        "login_timeout": 30,
    }
    listener = await asyncssh.create_server(
        lambda: _Bastion(config, authorized, connections), config.host, config.port, **options
    )
    _log.info("listening on %s:%d", config.host, config.port)
    await stop.wait()
    listener.close()
    for connection in list(connections):
        connection.abort()
    await listener.wait_closed()


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m aind_pipelines.lab.bastion``."""
    parser = argparse.ArgumentParser(prog="bastion", description="SSH bastion that forwards to an allow-list only")
    parser.add_argument("--config", type=Path, required=True, help="JSON file: where to listen, whom and where to let")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    try:
        config = Config.read(options.config)
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        reason = "; ".join(str(error).splitlines())
        sys.stderr.write(f"bastion: {options.config} cannot be used: {reason}\n")
        return 1

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(config, stop)

    try:
        asyncio.run(run())
    except (OSError, asyncssh.KeyImportError) as error:
        sys.stderr.write(f"bastion: cannot start on {config.host}:{config.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
