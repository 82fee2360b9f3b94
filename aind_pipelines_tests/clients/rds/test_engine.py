"""The engine: what it needs, what it tells the server, and what it keeps to itself."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.abc import Query
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier
from sqlalchemy import event, text

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


_VALUES = (
    "SELECT timestamptz '2024-03-05 12:00:00+01', date '2024-03-05', interval '1 day 2 hours', 'ä'::text, "
    "current_setting('TimeZone')"
)
_READ = (datetime(2024, 3, 5, 11, tzinfo=UTC), date(2024, 3, 5), timedelta(days=1, hours=2), "ä", "UTC")


@pytest.mark.parametrize(
    "shell",
    [
        {"PGDATESTYLE": "German, DMY"},
        {"PGDATESTYLE": "SQL", "PGTZ": "America/Los_Angeles"},
        {"PGCLIENTENCODING": "SQL_ASCII"},
        {"PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "Postgres, DMY", "PGTZ": "Europe/Vienna", "PGGEQO": "off"},
    ],
)
def test_what_the_shell_says_about_dates_and_encodings_does_not_change_what_is_read(
    postgres: PostgresServer, database: str, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    engine = make_engine(postgres.url(database))
    with engine.connect() as connection:
        assert tuple(connection.execute(text(_VALUES)).one()) == _READ
        connection.rollback()
        assert tuple(connection.execute(text(_VALUES)).one()) == _READ
        assert connection.connection.driver_connection.autocommit is False  # type: ignore[union-attr]
    engine.dispose()


@pytest.mark.parametrize(
    "of_the_database",
    ["DateStyle TO 'German, DMY'", "IntervalStyle TO 'sql_standard'", "client_encoding TO 'LATIN1'"],
)
def test_what_the_database_says_about_dates_and_encodings_does_not_either(
    postgres: PostgresServer, database: str, of_the_database: LiteralString
) -> None:
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(SQL("ALTER DATABASE {} SET ").format(Identifier(database)) + SQL(of_the_database))
    engine = make_engine(postgres.url(database))
    with engine.connect() as connection:
        assert tuple(connection.execute(text(_VALUES)).one()) == _READ
    engine.dispose()


def test_a_connection_is_asked_for_nothing_where_the_server_has_told_what_is_relied_on(
    postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Noting(psycopg.Connection[TupleRow]):
        def execute(self, query: Query, *arguments: Any, **options: Any) -> psycopg.Cursor[TupleRow]:
            asked.append(str(query))
            return super().execute(query, *arguments, **options)

    def connected() -> list[str]:
        engine = make_engine(postgres.url(database))
        event.listen(engine, "do_connect", lambda _dialect, _record, _, given: Noting.connect(**given))
        asked.clear()
        engine.connect().close()
        engine.dispose()
        return asked

    assert connected() == []
    monkeypatch.setenv("PGTZ", "Europe/Vienna")
    monkeypatch.setenv("PGDATESTYLE", "German")
    assert connected() == ["SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO'"]


@pytest.mark.parametrize(("name", "value"), [("PGTZ", "Nowhere"), ("PGDATESTYLE", "Klingon"), ("PGGEQO", "perhaps")])
def test_a_value_of_the_shell_that_the_server_does_not_know_is_named(
    postgres: PostgresServer, database: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(postgres.url(database))
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"That is {name} in the environment") as raised, translated("connecting"):
        engine.connect()
    monkeypatch.undo()  # the database's own fixture connects too
    assert "RDS_" not in str(raised.value)


def test_the_same_said_of_a_statement_is_not_blamed_on_the_shell(postgres: PostgresServer, database: str) -> None:
    engine = make_engine(postgres.url(database))
    with engine.connect() as connection, pytest.raises(RdsError, match="TimeZone"), translated("setting"):
        connection.execute(text("SET timezone TO 'Nowhere'"))
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
