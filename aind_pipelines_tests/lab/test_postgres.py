from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from aind_pipelines.lab import postgres, preparation
from aind_pipelines.lab.home import HomeError, LabHome, Postgres
from aind_pipelines.lab.postgres import SUPERUSER, Cluster

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs to give up rights")


@pytest.fixture
def home() -> Iterator[LabHome]:
    # Not tmp_path: pytest closes its parents to other users, and one test runs the server as one.
    with tempfile.TemporaryDirectory(prefix="a lab ") as folder:
        Path(folder).chmod(0o755)
        made = LabHome(Path(folder) / "home")
        made.initialise()
        yield made


def create(cluster: Cluster, password: str) -> None:
    cluster.settle_ownership()
    subprocess.run(
        cluster.creation(password),
        env=cluster.environment({}),
        preexec_fn=cluster.demote,
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    cluster.adopt()


@contextmanager
def serving(cluster: Cluster, home: LabHome) -> Iterator[subprocess.Popen[bytes]]:
    with (home.logs_dir / "postgres.log").open("ab") as log:
        process = subprocess.Popen(
            cluster.server(home.ports["postgres"]),
            env=cluster.environment({}),
            preexec_fn=cluster.demote,
            stdout=log,
            stderr=log,
            cwd="/",
        )
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                login(home).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (home.logs_dir / "postgres.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def superuser(home: LabHome, password: str | None = None) -> Postgres:
    return Postgres(
        "127.0.0.1", home.ports["postgres"], SUPERUSER, password or home.secrets["postgres_password"], "postgres"
    )


def login(home: LabHome, server: Postgres | None = None) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect((server or superuser(home)).url("postgresql"), connect_timeout=5)


def test_a_cluster_listens_on_tcp_with_scram_and_on_no_socket_file(home: LabHome) -> None:
    cluster = Cluster(home)
    create(cluster, home.secrets["postgres_password"])
    assert not list(home.data("postgres").glob("password*"))
    with serving(cluster, home):
        with login(home) as connection:
            method, sockets, addresses = (
                connection.execute(
                    "SELECT (SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules),"
                    " current_setting('unix_socket_directories'), current_setting('listen_addresses')"
                ).fetchone()
                or ()
            )
        assert (method, sockets, addresses) == ("scram-sha-256", "", "127.0.0.1")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            login(home, superuser(home, "wrong"))
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            login(home, Postgres("127.0.0.1", home.ports["postgres"], SUPERUSER, "", "postgres"))


def test_an_unfinished_cluster_is_made_again_from_the_start(home: LabHome) -> None:
    cluster = Cluster(home)
    unfinished = home.data("postgres") / "unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    assert not cluster.exists
    create(cluster, home.secrets["postgres_password"])
    assert cluster.exists
    with serving(cluster, home):
        pass


def test_programs_in_a_folder_that_initdb_cannot_run_from_are_named(
    home: LabHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel's own initdb, in such a folder, does fail; we say so before it does."""
    cluster = Cluster(home)
    wheel = cluster.binaries().parents[1]
    odd = home.root.parent / "costs $HOME" / wheel.name / cluster.binaries().parent.name
    shutil.copytree(cluster.binaries().parent, odd, symlinks=True)
    (odd.parents[1] / f"{wheel.name}.libs").symlink_to(wheel.with_name(f"{wheel.name}.libs"))
    command = [str(odd / "bin" / "initdb"), "-D", str(home.root / "never made")]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=cluster.demote, check=False)
    assert "but was not found" in done.stderr
    monkeypatch.setattr(Cluster, "binaries", lambda _: odd / "bin")
    with pytest.raises(HomeError, match=r"cannot run: .* holds \$\. Put the Python environment"):
        cluster.creation("password")


def test_committed_rows_survive_a_killed_server_and_a_reused_process_id(home: LabHome) -> None:
    cluster = Cluster(home)
    create(cluster, home.secrets["postgres_password"])
    with serving(cluster, home) as process:
        with login(home) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS row")
        process.kill()
        process.wait(5)
    pid_file = cluster.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    # The id now belongs to another program: this one.
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    cluster.forget_dead_server()
    assert not pid_file.exists()
    with serving(cluster, home):
        cluster.forget_dead_server()
        assert pid_file.exists(), "a running server's file must stay"
        with login(home) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_stopping_does_not_wait_for_clients(home: LabHome) -> None:
    cluster = Cluster(home)
    create(cluster, home.secrets["postgres_password"])
    with serving(cluster, home) as process, login(home) as connection:
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0  # it would wait for the client, for ever
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@as_root
def test_root_without_user_namespaces_runs_it_as_nobody(home: LabHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_user_namespaces_work", lambda: False)
    cluster = Cluster(home)
    try:
        demote = cluster.demote
    except HomeError as error:
        pytest.skip(str(error))
    assert demote is not None
    create(cluster, home.secrets["postgres_password"])
    assert cluster.data.stat().st_uid == 65534
    with serving(cluster, home) as process:
        assert Path(f"/proc/{process.pid}").stat().st_uid == 65534
    assert home.file.stat().st_mode & 0o077 == 0, "others may pass through the home, not read in it"
    home.check()


@as_root
def test_a_cluster_changes_hands_when_user_namespaces_come_and_go(
    home: LabHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not postgres._user_namespaces_work():
        pytest.skip("this system has no user namespaces")
    first = Cluster(home)
    create(first, home.secrets["postgres_password"])
    with serving(first, home), login(home) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS row")
    with monkeypatch.context() as without:
        without.setattr(postgres, "_user_namespaces_work", lambda: False)
        second = Cluster(home)
        try:
            second.settle_ownership()
        except HomeError as error:
            pytest.skip(str(error))
        with serving(second, home), login(home) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
    third = Cluster(home)
    third.settle_ownership()
    assert {path.stat().st_uid for path in (third.folder, third.data, third.data / "PG_VERSION")} == {0}
    with serving(third, home), login(home) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)


@as_root
def test_root_is_told_which_folder_keeps_the_server_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres, "_user_namespaces_work", lambda: False)
    (tmp_path / "closed").mkdir(mode=0o700)
    closed = LabHome(tmp_path / "closed" / "home")
    closed.initialise()
    with pytest.raises(HomeError, match="cannot pass"):
        _ = Cluster(closed).demote


def test_a_cluster_of_a_version_that_is_not_installed_is_named(home: LabHome) -> None:
    cluster = Cluster(home)
    cluster.data.mkdir()
    (cluster.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(HomeError, match="made by Postgres 9"):
        cluster.binaries()


def test_preparing_twice_changes_nothing_and_gives_each_role_its_own_database(home: LabHome) -> None:
    cluster = Cluster(home)
    create(cluster, home.secrets["postgres_password"])
    with serving(cluster, home):
        preparation.ensure_databases(home)
        with login(home, home.postgres()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS row")
        preparation.ensure_databases(home)
        with login(home, home.postgres()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
        with login(home, home.dagster_postgres()) as connection:
            assert connection.execute("SELECT current_user::text, current_database()::text").fetchone() == (
                "dagster",
                "dagster",
            )
        with login(home) as connection:
            verifiers = "SELECT rolname, split_part(split_part(rolpassword, '$', 2), ':', 1) FROM pg_authid"
            iterations = dict(connection.execute(verifiers + " WHERE rolpassword IS NOT NULL").fetchall())
        # Dagster connects all the time; some clients refuse fewer than the default.
        assert iterations.pop("dagster") == "1"
        assert set(iterations.values()) == {"4096"}


def test_an_external_postgres_gets_a_database_for_dagster_beside_the_analysts(home: LabHome) -> None:
    cluster = Cluster(home)
    create(cluster, home.secrets["postgres_password"])
    with serving(cluster, home):
        preparation.ensure_databases(home)
        theirs = LabHome(home.root.parent / "other")
        theirs.initialise(postgres_url=home.postgres().url("postgresql"))
        preparation.ensure_databases(theirs)
        with login(home, theirs.dagster_postgres()) as connection:
            assert connection.execute("SELECT current_database()::text").fetchone() == ("rds_dagster",)
        wrong = home.postgres().url("postgresql").replace(home.secrets["rds_password"], "wrong")
        theirs.initialise(postgres_url=wrong)
        with pytest.raises(HomeError, match="external Postgres") as refusal:
            preparation.ensure_databases(theirs)
        assert "wrong" not in str(refusal.value)


def test_the_policy_is_written_once_and_is_valid(home: LabHome) -> None:
    from aind_pipelines.settings import load_policy

    preparation.write_configuration(home)
    policy = load_policy(home.config_file)
    assert policy.archives["live"].path == home.archives_dir / "live"
    home.config_file.write_text("[docdb]\npage_size = 7\n")
    preparation.write_configuration(home)
    assert load_policy(home.config_file).docdb.page_size == 7


def test_the_dagster_instance_holds_the_password_and_only_its_owner_reads_it(home: LabHome) -> None:
    preparation.write_configuration(home)
    file = home.dagster_home / "dagster.yaml"
    assert home.secrets["dagster_password"] in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_preparation_without_postgres_ends_with_one_line(home: LabHome, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", home.ports["postgres"]))
        assert preparation.main(["--home", str(home.root)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("preparation: Postgres refused")
    assert len(error.splitlines()) == 1
    assert not [secret for secret in home.secrets.values() if secret in error]
