"""What doctor says of Dagster's own instance, and that it makes nothing there."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from aind_pipelines.cli.doctor_dagster import InstanceUnusable, look

DEPLOY = Path(__file__).parents[2] / "deploy" / "dagster.postgres.yaml"
PG = ("DAGSTER_PG_USERNAME", "DAGSTER_PG_PASSWORD", "DAGSTER_PG_HOST", "DAGSTER_PG_DB")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PG:
        monkeypatch.delenv(name, raising=False)


def said(home: Path, dotenv: dict[str, str] | None = None, origin: str = "environment (DAGSTER_HOME)") -> str:
    return look(home, origin, dotenv or {}, 2.0)


def refused(home: Path, dotenv: dict[str, str] | None = None) -> InstanceUnusable:
    with pytest.raises(InstanceUnusable) as raised:
        said(home, dotenv)
    assert "\n" not in raised.value.cause
    assert raised.value.next_step
    return raised.value


def test_defaults_are_sqlite_and_nothing_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path) == f"SQLite below {tmp_path}: Dagster's defaults, as there is no dagster.yaml"
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert said(tmp_path) == f"SQLite below {tmp_path}"
    (tmp_path / "dagster.yaml").write_text(f"storage: {{sqlite: {{base_dir: {tmp_path}/a/b}}}}\n")
    assert said(tmp_path) == f"SQLite below {tmp_path}/a/b"
    assert [path.name for path in tmp_path.iterdir()] == ["dagster.yaml"]
    assert capfd.readouterr() == ("", "")


def test_a_sqlite_file_that_is_none_is_bad(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    runs = tmp_path / "history" / "runs.db"
    with sqlite3.connect(runs) as connection:
        connection.execute("create table runs (id)")
    assert said(tmp_path).startswith("SQLite")
    runs.write_bytes(b"garbage")
    assert refused(tmp_path).cause == f"{runs} is no SQLite database"


def test_a_home_from_where_dagster_does_not_look_is_bad(tmp_path: Path) -> None:
    with pytest.raises(InstanceUnusable, match="where Dagster itself does not look"):
        said(tmp_path, origin=".env of the home directory (DAGSTER_HOME)")
    assert said(tmp_path, origin=".env of the project root (DAGSTER_HOME)")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("[a", r"cannot be read: no YAML in line 1"),
        ("password: *canary\n", "cannot be read: no YAML in line 1"),
        ("- canary\n", "it is no mapping"),
        ("storage: canary\n", "its storage is no mapping"),
        ("storag: {}\n", "the top level: field not defined: storag"),
        ("run_queue: {}\nrun_coordinator: {module: a, class: b}\n", "`run_queue` which is incompatible"),
        ("storage: {postgres: {}}\n", "needs postgres_db or postgres_url"),
        ("storage: {postgres: {postgres_url: canary}}\n", "postgres_url is no address"),
        ("storage: {postgres: {postgres_url: 'postgresql://b:can@canary@h/x'}}\n", "postgres_url is no address"),
        ("storage: {postgres: {postgres_url: 'postgresql://b:c@h:canary/x'}}\n", "postgres_url is no address"),
        (
            "storage: {postgres: {postgres_db: {username: u, password: [canary], hostname: h}}}\n",
            "storage.postgres.postgres_db: missing required field: db_name; ",
        ),
        ("storage: {custom: {module: nix, class: Nix}}\n", "storage names nix.Nix: No module named 'nix'"),
        ("run_launcher: {module: nix, class: Nix}\n", "run_launcher names nix.Nix: No module named 'nix'"),
        ("instance_class: {module: nix, class: Nix}\n", "Couldn't import module nix"),
        ("storage: {sqlite: {base_dir: {env: AIND_NIX}}}\n", "variables that are not set: AIND_NIX"),
        ("run_queue: {max_concurrent_runs: {env: AIND_NIX}}\n", "variables that are not set: AIND_NIX"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nothing_in_it_quoted(
    tmp_path: Path, content: str, cause: str
) -> None:
    (tmp_path / "dagster.yaml").write_text(content)
    error = refused(tmp_path)
    assert cause in error.cause
    assert "canary" not in error.cause
    assert "dagster.yaml" in error.cause


def test_variables_that_are_not_set_are_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(DEPLOY, tmp_path / "dagster.yaml")
    assert refused(tmp_path).cause.endswith(f"environment variables that are not set: {', '.join(PG)}")
    monkeypatch.setenv("DAGSTER_PG_USERNAME", "u")
    assert refused(tmp_path, {"DAGSTER_PG_HOST": "h"}).next_step == "set DAGSTER_PG_PASSWORD, DAGSTER_PG_DB"


def test_a_postgres_that_is_not_there_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (tmp_path / "dagster.yaml").write_text(
        f"storage: {{postgres: {{postgres_url: 'postgresql+psycopg2://bob:canary-pw@127.0.0.1:{port}/runs'}}}}\n"
    )
    error = refused(tmp_path)
    assert error.cause.startswith(f"Postgres at 127.0.0.1:{port}/runs: connection to server at")
    assert error.cause.endswith("Connection refused")
    assert "canary-pw" in error.secrets
    assert capfd.readouterr() == ("", "")


def test_a_postgres_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "dagster.yaml").write_text(
            "storage: {postgres: {postgres_url: "
            f"'postgresql+psycopg2://bob:pw@127.0.0.1:{listener.getsockname()[1]}/runs?connect_timeout=600'}}}}\n"
        )
        assert "timeout expired" in refused(tmp_path).cause


def test_postgres_is_good_and_no_table_is_made(
    tmp_path: Path, empty_database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As deploy/ has it, but for the port, with one half from the environment and one from .env.
    content = DEPLOY.read_text().replace("port: 5432", "port: {env: DAGSTER_PG_PORT}")
    (tmp_path / "dagster.yaml").write_text(content)
    monkeypatch.setenv("DAGSTER_PG_USERNAME", empty_database.username or "")
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "wrong")
    dotenv = {
        "DAGSTER_PG_PASSWORD": empty_database.password or "none",
        "DAGSTER_PG_HOST": empty_database.host or "",
        "DAGSTER_PG_PORT": str(empty_database.port),
        "DAGSTER_PG_DB": empty_database.database or "",
    }
    place = f"Postgres at {empty_database.host}:{empty_database.port}/{empty_database.database}"
    assert said(tmp_path, dotenv) == f"{place}, where Dagster will make its tables"
    engine = create_engine(empty_database)
    with engine.begin() as connection:
        assert connection.execute(text("select count(*) from pg_tables where schemaname = 'public'")).scalar() == 0
        connection.execute(text("create table alembic_version (version_num text)"))
    engine.dispose()
    assert said(tmp_path, dotenv) == place
    url = empty_database.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    one = f"module: dagster_postgres.run_storage, class: PostgresRunStorage, config: {{postgres_url: '{url}'}}"
    (tmp_path / "dagster.yaml").write_text(f"run_storage: {{{one}}}\n")
    assert place in said(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dagster.yaml"]
