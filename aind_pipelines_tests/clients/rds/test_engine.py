"""The engine: what it needs, what it tells the server, and what it keeps to itself."""

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg.sql import SQL
from sqlalchemy import text

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines.clients.rds import engine_from_settings, make_engine
from aind_pipelines.clients.rds.errors import RdsError, translated
from aind_pipelines.settings import Settings, SettingsError
from aind_pipelines_tests.clients.servers import PostgresServer


def test_missing_settings_are_all_named() -> None:
    with pytest.raises(SettingsError, match="set RDS_USER, RDS_DATABASE in the environment"):
        engine_from_settings(Settings(rds_host="h", rds_password="canary"))


def test_an_engine_from_settings_says_who_it_is_and_speaks_utc(postgres: PostgresServer, database: str) -> None:
    settings = Settings(
        rds_host=postgres.host, rds_port=postgres.port, rds_user=postgres.user,
        rds_password=postgres.password, rds_database=database,
    )  # fmt: skip
    engine = engine_from_settings(settings, application_name="ingest", sslmode="disable")
    assert postgres.password not in repr(engine) + str(engine.url)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "ingest"
        assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"
    engine.dispose()


def test_a_statement_that_takes_too_long_is_cancelled_and_explained(postgres: PostgresServer, database: str) -> None:
    engine = make_engine(postgres.url(database), statement_timeout=0.1)
    with engine.connect() as connection, pytest.raises(ServiceError, match="statement timeout"), translated("waiting"):
        connection.execute(text("SELECT pg_sleep(5)"))
    engine.dispose()


def test_tls_that_the_server_does_not_offer_is_not_silently_done_without(
    postgres: PostgresServer, database: str
) -> None:
    engine = make_engine(postgres.url(database), sslmode="require")
    with pytest.raises(ServiceError, match="SSL"), translated("connecting"), engine.connect():
        pass


def test_a_connection_that_died_in_the_pool_is_replaced(postgres: PostgresServer, database: str) -> None:
    engine = make_engine(postgres.url(database))
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    killer = make_engine(postgres.url())
    with killer.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid
    engine.dispose()
    killer.dispose()


@pytest.fixture
def guest(postgres: PostgresServer, database: str) -> Iterator[str]:
    """A user whose connections are refused as a test wants it."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE guest LOGIN PASSWORD {}").format(postgres.password))
        yield "guest"
        connection.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        connection.execute("DROP ROLE guest")


@pytest.mark.parametrize(
    ("before", "database", "kind", "step"),
    [
        ("SELECT 1", "nosuch", RdsError, r'"nosuch" does not exist\. Check RDS_DATABASE, or create'),
        ("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC", "postgres", AccessRefused, "Ask for the right"),
        ("ALTER ROLE guest CONNECTION LIMIT 0", "postgres", ServiceUnavailable, "out of a resource"),
        ("ALTER ROLE guest PASSWORD 'another'", "postgres", AccessRefused, "Check RDS_USER and RDS_PASSWORD"),
    ],
)
def test_a_connection_that_the_server_refuses_is_told_from_an_outage(
    postgres: PostgresServer, guest: str, before: LiteralString, database: str, kind: type[ServiceError], step: str
) -> None:
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(before)
    engine = make_engine(postgres.url(database).set(username=guest))
    with pytest.raises(ServiceError, match=step) as raised, translated("connecting"), engine.connect():
        pass
    assert type(raised.value) is kind
    assert "RDS_HOST" not in str(raised.value)
