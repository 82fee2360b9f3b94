"""One way to make a SQLAlchemy engine for RDS: driver named, time limits set, secrets out of sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL, create_engine, event

from aind_pipelines.settings import Settings, SettingsError, setting_names

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from aind_pipelines.clients.rds.bastion import SSHBastion

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

DRIVER = "postgresql+psycopg"
"""Always named: SQLAlchemy 2.1 changed what plain ``postgresql://`` means."""

DEFAULT_PORT = 5432
CONNECT_SECONDS = 10

_SESSION = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres"}
"""How a server has to write times for the driver to read them, and for them to read the same everywhere."""


def make_engine(
    url: URL,
    *,
    application_name: str = "aind_pipelines",
    statement_timeout: float | None = None,
    sslmode: SslMode = "prefer",
    sslrootcert: Path | None = None,
    pool_size: int = 5,
    bastion: SSHBastion | None = None,
) -> Engine:
    """A pooled engine; it connects when it is first used.

    Sessions speak UTF-8, UTC and ISO dates, whatever the server's, the role's or the shell's own (``PGTZ``,
    ``PGDATESTYLE``, ``PGCLIENTENCODING``). Statement parameters stay out of error messages.

    Args:
        url: With the driver named, see `DRIVER`.
        application_name: What the server's ``pg_stat_activity`` shows.
        statement_timeout: Seconds after which the server cancels a statement; None for no limit.
        sslmode: libpq's TLS mode; ``verify-full`` also checks the server's name.
        sslrootcert: CA bundle for the ``verify-`` modes.
        pool_size: Connections kept; as many more may be opened for a while.
        bastion: SSH bastion that the connections go through; disposing of the engine closes the tunnel.
    """
    session_options = [f"-c {name}={value}" for name, value in _SESSION.items()]
    if statement_timeout is not None:
        session_options.append(f"-c statement_timeout={round(statement_timeout * 1000)}")
    connect_args: dict[str, object] = {
        "application_name": application_name,
        "client_encoding": "UTF8",
        "connect_timeout": CONNECT_SECONDS,
        "options": " ".join(session_options),
        "sslmode": sslmode,
    }
    if sslrootcert is not None:
        connect_args["sslrootcert"] = str(sslrootcert)
    engine = create_engine(
        url,
        connect_args=connect_args,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _settle)
    if bastion is not None:
        from aind_pipelines.clients.rds.bastion import send_through

        send_through(engine, bastion.tunnel(url.host or "localhost", url.port or DEFAULT_PORT))
    return engine


def _settle(connection: Any, _record: object) -> None:
    """Take back what libpq has set from ``PGTZ`` and ``PGDATESTYLE``, which win over the options of a connection.

    A server tells these values as the connection begins: only where one differs is there something to ask of it.
    """
    told = {name: connection.pgconn.parameter_status(name.encode()) for name in _SESSION}
    wrong = [name for name, value in told.items() if value and value.split(b",")[0] != _SESSION[name].encode()]
    if wrong:
        connection.autocommit = True  # a setting made in a transaction goes with its rollback
        connection.execute("; ".join(f"SET {name} TO '{_SESSION[name]}'" for name in wrong))
        connection.autocommit = False


def engine_from_settings(
    settings: Settings,
    *,
    application_name: str = "aind_pipelines",
    statement_timeout: float | None = None,
    sslmode: SslMode = "prefer",
    sslrootcert: Path | None = None,
    pool_size: int = 5,
    bastion: SSHBastion | None = None,
) -> Engine:
    """The engine for the configured RDS; the other arguments are those of `make_engine`.

    Raises:
        SettingsError: A setting that is needed is not set; the message names each of them.
    """
    needed = ("rds_host", "rds_user", "rds_password", "rds_database")
    missing = [setting_names(field)[0] for field in needed if getattr(settings, field) is None]
    if missing:
        raise SettingsError(
            f"RDS is not configured: set {', '.join(missing)} in the environment or in .env, "
            "or start the lab and use `aind-pipelines lab env`."
        )
    assert settings.rds_password is not None
    url = URL.create(
        DRIVER,
        username=settings.rds_user,
        password=settings.rds_password.get_secret_value(),
        host=settings.rds_host,
        port=settings.rds_port,
        database=settings.rds_database,
    )
    return make_engine(
        url,
        application_name=application_name,
        statement_timeout=statement_timeout,
        sslmode=sslmode,
        sslrootcert=sslrootcert,
        pool_size=pool_size,
        bastion=bastion,
    )
