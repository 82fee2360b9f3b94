"""How to log in to DocDB through the bastion: given, from the environment, or from AWS Secrets Manager."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from aind_pipelines.settings import SettingsError, load_settings, setting_names


class DocumentDbSSHCredentials:
    """Host, database and login of DocDB, and of the SSH bastion in front of it.

    What is not given comes from the environment and the ``.env`` files (``DOC_DB_HOST``, ``DOC_DB_USERNAME``,
    ``DOC_DB_SSH_HOST`` ...; see `aind_pipelines.settings`).

    Attributes:
        host: DocDB server, as the bastion names it.
        port: Its port, default 27017.
        username: DocDB user.
        password: DocDB password; use ``get_secret_value()``.
        database: Database, default ``metadata_index``.
        collection: Collection, default ``data_assets``.
        ssh_host: The bastion.
        ssh_port: Its SSH port, default 22.
        ssh_username: SSH user.
        ssh_password: SSH password, or None with a key.
        ssh_key_file: Private key, or None.
        ssh_key_password: The key's passphrase.
        ssh_host_key: The bastion's public key; None accepts any.

    Raises:
        SettingsError: Something is missing or unusable; the message names it.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int | str | None = None,
        username: str | None = None,
        password: str | SecretStr | None = None,
        database: str | None = None,
        collection: str | None = None,
        ssh_host: str | None = None,
        ssh_port: int | str | None = None,
        ssh_username: str | None = None,
        ssh_password: str | SecretStr | None = None,
        ssh_key_file: str | Path | None = None,
        ssh_key_password: str | SecretStr | None = None,
        ssh_host_key: str | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": username,
            "password": password,
            "database": database,
            "collection": collection,
            "ssh_host": ssh_host,
            "ssh_port": ssh_port,
            "ssh_username": ssh_username,
            "ssh_password": ssh_password,
        }
        values = dict(given)
        if None in values.values():
            settings = load_settings()
            for name, value in given.items():
                values[name] = getattr(settings, f"doc_db_{name}") if value is None else value
        if ssh_key_file is not None and given["ssh_password"] is None:
            values["ssh_password"] = None  # the key was asked for, not what happens to be in the environment
        spare = {"ssh_password"} if ssh_key_file is not None else set()
        missing = [setting_names(f"doc_db_{name}")[0] for name in values if not values[name] and name not in spare]
        if missing:
            raise SettingsError(
                f"DocDB credentials lack {', '.join(missing)}: set them in the environment or in .env, give them as "
                "arguments, or use `from_secrets_manager`."
            )
        self.host = str(values["host"])
        self.port = _port("DOC_DB_PORT", values["port"])
        self.username = str(values["username"])
        self.password = _secret(values["password"])
        self.database = str(values["database"])
        self.collection = str(values["collection"])
        self.ssh_host = str(values["ssh_host"])
        self.ssh_port = _port("DOC_DB_SSH_PORT", values["ssh_port"])
        self.ssh_username = str(values["ssh_username"])
        self.ssh_password = None if values["ssh_password"] is None else _secret(values["ssh_password"])
        self.ssh_key_file = None if ssh_key_file is None else Path(ssh_key_file).expanduser()
        self.ssh_key_password = None if ssh_key_password is None else _secret(ssh_key_password)
        self.ssh_host_key = ssh_host_key

    @classmethod
    def from_secrets_manager(cls, doc_db_secret_name: str, ssh_secret_name: str) -> Self:
        """Credentials from two secrets of AWS Secrets Manager.

        Args:
            doc_db_secret_name: Secret with ``host``, ``username``, ``password``, and optionally ``port``,
                ``database`` and ``collection``.
            ssh_secret_name: Secret with ``host``, ``username``, ``password``, and optionally ``port``.

        Raises:
            SettingsError: A secret lacks something.
            ServiceError: A secret cannot be read.
        """
        from aind_pipelines.clients.secrets import get_secret

        values: dict[str, Any] = {}
        for name, prefix, optional in (
            (doc_db_secret_name, "", ("port", "database", "collection")),
            (ssh_secret_name, "ssh_", ("port",)),
        ):
            secret = get_secret(name)
            missing = [key for key in ("host", "username", "password") if not secret.get(key)]
            if missing:
                raise SettingsError(f"The secret {name!r} lacks {', '.join(missing)}.")
            values |= {f"{prefix}{key}": secret[key] for key in ("host", "username", "password")}
            values |= {f"{prefix}{key}": secret[key] for key in optional if secret.get(key)}
        return cls(**values)

    def __repr__(self) -> str:
        return (
            f"DocumentDbSSHCredentials(host={self.host!r}, port={self.port}, username={self.username!r}, "
            f"password={self.password!r}, database={self.database!r}, collection={self.collection!r}, "
            f"ssh_host={self.ssh_host!r}, ssh_port={self.ssh_port}, ssh_username={self.ssh_username!r}, "
            f"ssh_password={self.ssh_password!r}, ssh_key_file={self.ssh_key_file!r})"
        )


def _secret(value: Any) -> SecretStr:
    return value if isinstance(value, SecretStr) else SecretStr(str(value))


def _port(name: str, value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SettingsError(f"DocDB credentials: {name} is no number from 1 to 65535.")
    return int(text)
