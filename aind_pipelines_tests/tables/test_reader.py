"""The role that may read the analysts' tables and views."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError

from aind_pipelines.tables import reader
from aind_pipelines.tables.migrate import migrate
from aind_pipelines.tables.reader import READABLE, READER, ReaderStatus
from aind_pipelines.tables.schema import ANALYSTS_TABLES
from aind_pipelines.tables.views import VIEWS
from aind_pipelines_tests.postgres import running_postgres


@contextmanager
def _as_reader(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection.execute(text(f"SET ROLE {READER}"))
        yield connection


def _run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _status(engine: Engine) -> ReaderStatus:
    with engine.connect() as connection:
        return reader.status(connection)


def test_the_reader_reads_every_table_and_view_and_nothing_else(engine: Engine) -> None:
    with _as_reader(engine) as connection:
        for name in (*VIEWS, *(table.name for table in ANALYSTS_TABLES), "session_assets"):
            connection.execute(text(f"SELECT * FROM public.{name} LIMIT 1"))
    for statement in (
        "DELETE FROM public.subjects",
        "INSERT INTO public.subjects (subject_id, asset_count) VALUES ('1', 1)",
        "TRUNCATE public.modalities",
        "SELECT * FROM docdb.records",
        "SELECT * FROM tables.derived_records",
        "CREATE TABLE public.mine (id int)",
    ):
        with _as_reader(engine) as connection, pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text(statement))


def test_migrating_again_gives_the_reader_what_it_lacks(engine: Engine) -> None:
    assert _status(engine) == ReaderStatus(exists=True)
    _run(
        engine,
        f"REVOKE SELECT ON public.subjects, public.table_status FROM {READER}",
        f"REVOKE ALL ON SCHEMA public FROM PUBLIC, {READER}",
    )
    assert _status(engine).withheld == READABLE
    assert "Run aind-pipelines db migrate" in _status(engine).summary
    migrate(engine)
    assert _status(engine) == ReaderStatus(exists=True)
    with _as_reader(engine) as connection:
        assert connection.scalar(text("SELECT count(*) FROM subjects")) == 0


def test_what_is_not_there_is_not_withheld(engine: Engine) -> None:
    _run(engine, "DROP VIEW public.table_status")
    assert _status(engine) == ReaderStatus(exists=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[URL]:
    """A server of its own: roles belong to the whole of one, and the tests' other one has the reader already."""
    with running_postgres(tmp_path) as url:
        yield url


def test_a_login_that_may_not_make_roles_migrates_all_the_same(server: URL) -> None:
    administrator = create_engine(server, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        for name in ("modest", "stranger"):
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'"))
        connection.execute(text("CREATE DATABASE theirs OWNER modest"))
    modest = create_engine(server.set(username="modest", password="modest", database="theirs"))
    stranger = create_engine(server.set(username="stranger", password="stranger", database="theirs"))

    assert migrate(modest).is_current
    assert _status(modest) == ReaderStatus(exists=False)
    assert f"CREATE ROLE {READER} NOLOGIN" in _status(modest).summary

    with administrator.connect() as connection:
        connection.execute(text(f"CREATE ROLE {READER} NOLOGIN"))
    _run(modest, "GRANT SELECT ON public.aind_pipelines_schema_version TO stranger")
    assert migrate(stranger).is_current
    assert _status(stranger).withheld == READABLE
    assert migrate(modest).is_current
    assert _status(stranger) == ReaderStatus(exists=True)
    for engine in (administrator, modest, stranger):
        engine.dispose()


def test_another_database_that_makes_the_role_meanwhile_is_no_failure(server: URL) -> None:
    first = create_engine(server)
    second = create_engine(server.set(database="second"))
    with first.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE second"))
    with ThreadPoolExecutor() as pool:
        with first.begin() as connection:
            connection.execute(text(f"CREATE ROLE {READER} NOLOGIN"))
            done = pool.submit(migrate, second)
            deadline = time.monotonic() + 60
            while not connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert done.result(60).is_current
    assert _status(second) == ReaderStatus(exists=True)
    for engine in (first, second):
        engine.dispose()
