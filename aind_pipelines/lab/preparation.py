"""What a lab needs beside running services: databases, the RDS schema, and the configuration of Dagster and of us.

Run as ``python -m aind_pipelines.lab.preparation --home DIR`` by the supervisor once Postgres answers. It is a
process of its own so that the supervisor stays small: what it imports goes when it ends. Doing it again changes
nothing. With ``--docdb`` it only makes sure that somebody else's DocDB can be used.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import LiteralString

import psycopg
from psycopg import sql

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.lab.home import OPTIONS, HomeError, LabHome, Postgres, write_private
from aind_pipelines.lab.postgres import SUPERUSER
from aind_pipelines.settings import Policy
from aind_pipelines.tables.migrate import migrate
from aind_pipelines.tables.reader import READER

_PATIENCE = 5
"""Seconds within which a database server must answer."""


def _connect(server: Postgres, database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        server.url("postgresql", database),
        connect_timeout=_PATIENCE,
        autocommit=True,
        application_name="aind-pipelines lab",
    )


def _has(connection: psycopg.Connection[tuple[object, ...]], question: LiteralString, name: str) -> bool:
    return connection.execute(sql.SQL(question), (name,)).fetchone() is not None


def ensure_database(connection: psycopg.Connection[tuple[object, ...]], name: str, owner: str | None = None) -> None:
    """Create a database unless it is there.

    Args:
        connection: Open, in autocommit, as a role that may create databases.
        name: The database.
        owner: Whose it is to be; default: the connection's role.
    """
    if _has(connection, "SELECT 1 FROM pg_database WHERE datname = %s", name):
        return
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if owner:
        statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
    connection.execute(statement)


def ensure_role(
    connection: psycopg.Connection[tuple[object, ...]], name: str, password: str, rights: LiteralString
) -> None:
    """Create a role that may log in, or give it this password and these rights."""
    verb: LiteralString = "ALTER" if _has(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", name) else "CREATE"
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN PASSWORD {} {}").format(
            sql.SQL(verb),
            sql.Identifier(name),
            sql.Literal(password),
            sql.SQL(rights),
        )
    )


def _ensure_reader(connection: psycopg.Connection[tuple[object, ...]], member: str) -> None:
    """Create the role that only reads the analysts' tables, which `member` may then try: ``SET ROLE``."""
    if not _has(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", READER):
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(READER)))
    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER), sql.Identifier(member)))


def ensure_databases(home: LabHome) -> None:
    """Create what the analysts' tables and Dagster's storage live in.

    On the lab's own server with a role each; on an external one with the given login, in the given database and in
    one more beside it.

    Raises:
        HomeError: The server refuses; the message says what to grant.
    """
    ours, dagster = home.postgres(), home.dagster_postgres()
    if "postgres" in home.external:
        try:
            with _connect(ours, ours.database) as connection:
                ensure_database(connection, dagster.database)
        except psycopg.Error as error:
            raise HomeError(
                f"The external Postgres at {ours.host}:{ours.port}, which {OPTIONS['postgres']} names, "
                f"cannot be used: {_brief(error)}. It needs the database {ours.database!r}, and {dagster.database!r} "
                "for Dagster (or a role that may create it)."
            ) from None
        return
    superuser = Postgres(ours.host, ours.port, SUPERUSER, home.secrets["postgres_password"], "postgres")
    with _connect(superuser, "postgres") as connection:
        # Tests and benchmarks make scratch databases beside the analysts'.
        ensure_role(connection, ours.user, ours.password, "CREATEDB")
        # Dagster connects for every event it stores, and spends most of that on these iterations. They make guessing
        # a weak password dear; this one is random. Other clients may insist on the default.
        connection.execute("SET scram_iterations = 1")
        ensure_role(connection, dagster.user, dagster.password, "NOCREATEDB")
        connection.execute("RESET scram_iterations")
        ensure_database(connection, ours.database, ours.user)
        ensure_database(connection, dagster.database, dagster.user)
        _ensure_reader(connection, ours.user)


def require_docdb(home: LabHome) -> None:
    """Log in to the external DocDB and read from it.

    Raises:
        HomeError: That does not go; the message says why.
    """
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    docdb, sources = home.docdb(), Policy().docdb.sources
    limit = _PATIENCE * 1000
    try:
        with MongoClient[dict[str, object]](
            docdb.uri, serverSelectionTimeoutMS=limit, connectTimeoutMS=limit, socketTimeoutMS=2 * limit
        ) as client:
            for source in sources:
                client[source.database][source.collection].find_one({}, {"_id": 1})
    except (PyMongoError, ValueError) as error:
        # What follows is the server's whole answer, or the state of every member.
        cause = re.split(r"\.?, full error: | \(configured timeouts:|, Timeout: ", _brief(error))[0]
        raise HomeError(
            f"The external DocDB at {home.url('docdb')}, which {OPTIONS['docdb']} names, cannot be used: {cause}. "
            f"It needs a user who may read and write the databases "
            f"{' and '.join(source.database for source in sources)}."
        ) from None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())


def dagster_yaml(home: LabHome) -> str:
    """Dagster's instance: storage in Postgres, runs started as plain processes, nothing reported to anybody."""
    server = home.dagster_postgres()
    login: dict[str, object] = {
        "username": server.user,
        "password": server.password,
        "hostname": server.host,
        "port": server.port,
        "db_name": server.database,
        # SQLAlchemy 2.1 reads a bare "postgresql" as psycopg 3, which dagster-postgres does not speak.
        "scheme": "postgresql+psycopg2",
    }
    if server.options:
        login["params"] = dict(server.options)
    instance = {
        "storage": {"postgres": {"postgres_db": login}},
        "run_launcher": {"module": "dagster", "class": "DefaultRunLauncher"},
        "run_monitoring": {
            "enabled": True,
            "start_timeout_seconds": 180,
            "max_resume_run_attempts": 0,
            "poll_interval_seconds": 60,
        },
        "run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False},
        "concurrency": {"runs": {"max_concurrent_runs": 4}},
        "sensors": {"use_threads": True, "num_workers": 4},
        "schedules": {"use_threads": True, "num_workers": 2},
        "backfills": {"use_threads": True, "num_workers": 2},
        "retention": {
            "sensor": {"purge_after_days": {"skipped": 2, "failure": 30, "success": 30}},
            "schedule": {"purge_after_days": 90},
        },
        "code_servers": {"local_startup_timeout": 180},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }
    return _yaml(instance)


def workspace_yaml(home: LabHome) -> str:
    """The workspace for Dagster's processes on the lab; they work in its home, where no ``.env`` of a person's is."""
    module = {
        "module_name": "aind_pipelines.definitions",
        "location_name": "aind_pipelines",
        "working_directory": str(home.root),
    }
    return _yaml({"load_from": [{"python_module": module}]})


def _yaml(content: object) -> str:
    # JSON is YAML, and quotes whatever a password or a path may hold.
    return "# Written by `aind-pipelines lab up`, again at every start.\n" + json.dumps(content, indent=2) + "\n"


def policy_toml(home: LabHome) -> str:
    """The lab's policy: one archive and one inbox in its home, and the buckets that the seed fills."""
    buckets = "".join(f"    {json.dumps(bucket)},\n" for bucket in Policy().s3.buckets)
    archive = (home.archives_dir / "live").relative_to(home.root)
    inbox = home.inbox_dir.relative_to(home.root)
    return (
        "# The lab's policy. Written by `aind-pipelines lab up` when it is missing; change it as you like.\n\n"
        f"[archives.live]\npath = {json.dumps(archive.as_posix())}\n\n"
        f'[inboxes.files]\npath = {json.dumps(inbox.as_posix())}\narchive = "live"\ndtype = "session-metadata"\n'
        "quiet_seconds = 10\n\n"
        f"[s3]\nbuckets = [\n{buckets}]\n"
    )


def write_configuration(home: LabHome) -> None:
    """Write what Dagster and this package read in the lab's home; a policy that is there stays."""
    write_private(home.dagster_home / "dagster.yaml", dagster_yaml(home))
    write_private(home.workspace_file, workspace_yaml(home))
    if not home.config_file.exists():
        write_private(home.config_file, policy_toml(home))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m aind_pipelines.lab.preparation``."""
    parser = argparse.ArgumentParser(prog="preparation", description="databases, schema and configuration of a lab")
    parser.add_argument("--home", required=True, help="the lab's home")
    parser.add_argument("--docdb", action="store_true", help="only try the external DocDB")
    options = parser.parse_args(arguments)
    home = LabHome(options.home)
    try:
        if options.docdb:
            require_docdb(home)
            return 0
        write_configuration(home)
        ensure_databases(home)
        migrate(home.postgres().url())
    except (HomeError, ServiceError, OSError) as error:
        sys.stderr.write(f"preparation: {error}\n")
        return 1
    except psycopg.Error as error:
        sys.stderr.write(f"preparation: Postgres refused: {_brief(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
