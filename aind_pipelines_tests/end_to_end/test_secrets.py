"""No secret of the lab is told by what the flow leaves behind: Dagster's storage, logs, tables, the archive."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from aind_pipelines_tests.end_to_end.conftest import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WHERE_SECRETS_BELONG = {
    "lab.json",
    "dagster/dagster.yaml",
    "data/bastion/config.json",
    "seed/aws/secrets.json",
    "seed/aws/parameters.json",
}
"""Reached by their owner alone; the databases' own files are looked at through SQL."""


def _secrets(lab: Lab) -> dict[str, str]:
    from aind_pipelines.lab.home import LabHome

    secrets = {name: value for name, value in LabHome(lab.home).secrets.items() if len(value) >= 12}
    assert {"rds_password", "dagster_password", "registry_password", "code_ocean_token"} <= secrets.keys()
    return secrets


def test_no_secret_is_in_a_table_of_dagster_or_of_ours(lab: Lab) -> None:
    secrets, environment = _secrets(lab), lab.environment
    logins = [
        (environment["PGUSER"], environment["PGPASSWORD"], environment["PGDATABASE"]),
        ("dagster", secrets["dagster_password"], "dagster"),
    ]
    looked_at = 0
    for user, password, database in logins:
        with psycopg.connect(
            host=environment["PGHOST"], port=environment["PGPORT"], user=user, password=password, dbname=database
        ) as connection:
            tables = connection.execute(
                "select schemaname, tablename from pg_tables "
                "where schemaname not in ('pg_catalog', 'information_schema')"
            ).fetchall()
            for table in tables:
                for name, secret in secrets.items():
                    query = sql.SQL("select count(*) from {} as x where strpos(x::text, %s) > 0").format(
                        sql.Identifier(*table)
                    )
                    assert connection.execute(query, [secret]).fetchone() == (0,), (table, name)
                    looked_at += 1
            if database == "dagster":
                assert connection.execute("select count(*) > 100 from event_logs").fetchone() == (True,)
    assert looked_at > 50


def test_no_secret_is_in_a_file_where_it_does_not_belong(lab: Lab) -> None:
    secrets = _secrets(lab)
    found = set()
    for root, folders, files in os.walk(lab.home):
        if Path(root) == lab.home / "data":
            folders.remove("postgres")
        for name in files:
            path = Path(root, name)
            content = path.read_bytes() if path.is_file() else b""
            if any(secret.encode() in content for secret in secrets.values()):
                found.add(path.relative_to(lab.home).as_posix())
    assert found <= WHERE_SECRETS_BELONG
    assert "lab.json" in found
    for name in found:
        path = lab.home / name
        ways = [path, *(folder for folder in path.parents if folder.is_relative_to(lab.home))]
        assert any(way.stat().st_mode & 0o077 == 0 for way in ways), name
