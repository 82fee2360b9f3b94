"""The engine: what it needs, what it tells the server, and what it keeps to itself."""

import pytest
from sqlalchemy import text

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds import engine_from_settings, make_engine
from aind_pipelines.clients.rds.errors import translated
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
