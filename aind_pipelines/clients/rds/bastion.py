"""The SSH bastion in front of RDS: who to be there, and an engine whose connections go through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, event

from aind_pipelines.clients.ssh import Tunnel
from aind_pipelines.settings import Settings, SettingsError, load_settings, setting_names


class SSHBastion:
    """Host and login of the bastion, which is the one in front of DocDB.

    What is not given comes from the environment and the ``.env`` files (``DOC_DB_SSH_HOST``, ``DOC_DB_SSH_PORT``,
    ``DOC_DB_SSH_USERNAME``, ``DOC_DB_SSH_PASSWORD``). With a key and no password, no password is looked for.

    Args:
        host: The bastion.
        port: Its SSH port.
        username: SSH user.
        password: SSH password.
        key_file: Private key.
        key_password: The key's passphrase.
        host_key: The bastion's public key (``ssh-ed25519 AAAA...``); None accepts any.
        settings: Where to take what is not given; None reads them.

    Raises:
        SettingsError: Something is missing; the message names it.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | SecretStr | None = None,
        key_file: str | Path | None = None,
        key_password: str | SecretStr | None = None,
        host_key: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        known = settings or load_settings()
        values: dict[str, Any] = {
            "doc_db_ssh_host": host or known.doc_db_ssh_host,
            "doc_db_ssh_username": username or known.doc_db_ssh_username,
        }
        if key_file is None:
            values["doc_db_ssh_password"] = password or known.doc_db_ssh_password
        missing = [setting_names(name)[0] for name, value in values.items() if not value]
        if missing:
            raise SettingsError(
                f"The SSH bastion is not configured: set {', '.join(missing)} in the environment or in .env, or give "
                "it as an argument."
            )
        self.host = str(values["doc_db_ssh_host"])
        self.port = port or known.doc_db_ssh_port
        self.username = str(values["doc_db_ssh_username"])
        self.password = _secret(password if key_file is not None else values["doc_db_ssh_password"])
        self.key_file = None if key_file is None else Path(key_file).expanduser()
        self.key_password = _secret(key_password)
        self.host_key = host_key

    def __repr__(self) -> str:
        return f"SSHBastion({self.username}@{self.host}:{self.port})"

    def tunnel(self, host: str, port: int) -> Tunnel:
        """A tunnel, not yet open, to a server as the bastion names it."""
        return Tunnel(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            key_file=self.key_file,
            key_password=self.key_password,
            host_key=self.host_key,
            target=(host, port),
        )


def send_through(engine: Engine, tunnel: Tunnel) -> None:
    """Have every connection of an engine go through a tunnel.

    It is opened before the first connection, opened again when it broke, and closed with the engine's pool. The
    server keeps its own name, so that ``verify-full`` checks what it should.
    """

    def connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        if tunnel.local_port:
            tunnel.heal()
        else:
            tunnel.start()
        parameters["hostaddr"] = "127.0.0.1"
        parameters["port"] = tunnel.local_port

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "engine_disposed", lambda _engine: tunnel.stop())


def _secret(value: str | SecretStr | None) -> SecretStr | None:
    return value if value is None or isinstance(value, SecretStr) else SecretStr(value)
