"""How to log in to RDS: given, from the environment, or from AWS Secrets Manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import URL

from aind_pipelines.clients.rds.engine import DEFAULT_PORT, DRIVER
from aind_pipelines.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


class RDSCredentials:
    """Host, database and login of an RDS server.

    What is not given comes from the environment and the ``.env`` files (``RDS_HOST``, ``RDS_PORT``, ``RDS_USER`` or
    ``RDS_USERNAME``, ``RDS_PASSWORD``, ``RDS_DATABASE`` or ``RDS_DBNAME``). With `aws_secrets_name` it comes from
    that secret instead (JSON with ``username``, ``password``, ``host``, ``port``, ``database`` or ``dbname``), and
    the environment is not asked.

    Attributes:
        username: Postgres role.
        password: Its password; use ``get_secret_value()``.
        host: Server name or address.
        port: TCP port.
        database: Database name; `dbname` is the same.

    Raises:
        SettingsError: Something is missing or unusable; the message names it.
        ServiceError: The secret cannot be read.
    """

    def __init__(
        self,
        *,
        username: str | None = None,
        password: str | SecretStr | None = None,
        host: str | None = None,
        port: int | str | None = None,
        dbname: str | None = None,
        database: str | None = None,
        aws_secrets_name: str | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "username": username,
            "password": password,
            "host": host,
            "port": port,
            "database": database if database is not None else dbname,
        }
        if aws_secrets_name is not None:
            from aind_pipelines.clients.secrets import get_secret

            found = _from_secret(get_secret(aws_secrets_name))
            origin = f"the secret {aws_secrets_name!r}"
        elif None in given.values():
            found = _from_environment()
            origin = "the environment or .env"
        else:
            found, origin = {}, "the arguments"
        values = {name: value if value is not None else found.get(name) for name, value in given.items()}
        missing = [name for name, value in values.items() if value in (None, "") and name != "port"]
        if missing:
            raise SettingsError(f"RDS credentials lack {', '.join(missing)}: give them as arguments or in {origin}.")
        secret = values["password"]
        self.username = str(values["username"])
        self.password = secret if isinstance(secret, SecretStr) else SecretStr(str(secret))
        self.host = str(values["host"])
        self.port = _port(values["port"], origin)
        self.database = str(values["database"])

    @property
    def dbname(self) -> str:
        """The database's name, under the field's other spelling."""
        return self.database

    def url(self) -> URL:
        """The SQLAlchemy URL, driver named; its text form masks the password."""
        return URL.create(DRIVER, self.username, self.password.get_secret_value(), self.host, self.port, self.database)

    def __repr__(self) -> str:
        return (
            f"RDSCredentials(username={self.username!r}, password={self.password!r}, host={self.host!r}, "
            f"port={self.port}, database={self.database!r})"
        )


def _port(value: Any, origin: str) -> int:
    text = str(value if value not in (None, "") else DEFAULT_PORT)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SettingsError(f"RDS credentials: the port in {origin} is no number from 1 to 65535.")
    return int(text)


def _from_secret(secret: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "username": secret.get("username") or secret.get("user"),
        "password": secret.get("password"),
        "host": secret.get("host"),
        "port": secret.get("port"),
        "database": secret.get("database") or secret.get("dbname"),
    }


def _from_environment() -> dict[str, Any]:
    settings = load_settings()
    return {
        "username": settings.rds_user,
        "password": settings.rds_password,
        "host": settings.rds_host,
        "port": settings.rds_port,
        "database": settings.rds_database,
    }
