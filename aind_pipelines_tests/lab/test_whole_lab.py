"""The whole lab with its real services, through the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from aind_pipelines.archive.layout import MARKER, Archive, init_archive
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.lab import control, environment, preparation
from aind_pipelines.lab.home import SERVICES, HomeError, LabHome
from aind_pipelines.lab.postgres import Cluster
from aind_pipelines.lab.processes import Recorded
from aind_pipelines.lab.supervisor import recorded_children

from .conftest import PROGRAM

pytestmark = pytest.mark.slow
CALLER = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(Path(control.__file__).parents[2]),
    "HOME": "/nonexistent",
    "HTTP_PROXY": "http://proxy.invalid:3128",
    "AWS_PROFILE": "production",
    "PGSERVICE": "production",
    "DAGSTER_HOME": "/nonexistent",
    "RDS_HOST": "production.invalid",
}


def aind(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aind_pipelines.cli", *arguments],
        env=CALLER,
        capture_output=True,
        text=True,
        check=check,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHome]:
    made = LabHome(tmp_path_factory.mktemp("the lab") / "home with a space")
    yield made
    control.stop(made)


@pytest.fixture
def up(home: LabHome) -> LabHome:
    control.ensure_up(home)
    home.reload()
    return home


def service(home: LabHome, name: str) -> control.ServiceStatus:
    return next(one for one in control.status(home).services if one.name == name)


def in_the_lab(home: LabHome, program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment.isolated(home),
        capture_output=True,
        text=True,
        timeout=90,
        cwd=home.root,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_lab_comes_up_cold_and_warm_and_stops(home: LabHome) -> None:
    assert "The lab is up" in aind("lab", "up", "--home", str(home.root)).stderr
    again = aind("lab", "up", "--home", str(home.root))
    assert "already up" in again.stderr
    owner, children = recorded_children(home)
    assert "has stopped" in aind("lab", "down", "--home", str(home.root)).stderr
    assert owner is not None
    assert not [process.pid for process in (owner, *children) if process.alive]
    assert "not up" in aind("lab", "down", "--home", str(home.root)).stderr
    assert "The lab is up" in aind("lab", "up", "--home", str(home.root)).stderr


def test_every_service_is_listed_with_url_pid_and_health(up: LabHome) -> None:
    done = aind("lab", "status", "--json", "--home", str(up.root))
    seen = json.loads(done.stdout)
    assert seen["healthy"] is True
    assert {row["name"] for row in seen["services"]} == set(SERVICES)
    assert {row["url"] for row in seen["services"]} == {up.url(name) for name in SERVICES}
    assert all(psutil.pid_exists(row["pid"]) and row["health"] == "ready" for row in seen["services"])
    assert not [secret for secret in up.secrets.values() if secret in done.stdout]


def test_memory_stays_in_bounds(up: LabHome) -> None:
    supervisor = psutil.Process(control.status(up).pid)
    total = sum(process.memory_full_info().uss for process in [supervisor, *supervisor.children(recursive=True)])
    assert total < 600 * 2**20


def test_the_schema_the_registry_user_and_dagsters_instance_are_there(up: LabHome) -> None:
    with psycopg.connect(up.postgres().url("postgresql")) as connection:
        schemas = {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}
        connection.execute("SET ROLE aind_pipelines_reader")
        assert connection.execute("SELECT count(*) FROM data_assets").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM data_assets")
    assert {"docdb", "metadata_service", "indexes", "archive"} <= schemas
    answer = in_the_lab(
        up,
        "import json, os, requests; auth = (os.environ['NBANK_USERNAME'], os.environ['NBANK_PASSWORD']);"
        "url = os.environ['NBANK_REGISTRY'] + 'datatypes/'; body = {'name': 'made-here', 'content_type': 'x/y'};"
        "print(json.dumps([requests.post(url, json=body, auth=a, timeout=10).status_code"
        " for a in (None, (auth[0], 'wrong'), auth)]))",
    )
    assert answer[:2] == [403, 403] or answer[:2] == [401, 401]
    assert answer[2] in {201, 400}
    storage = in_the_lab(
        up,
        "import json, dagster as dg\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    print(json.dumps([type(instance.run_storage).__name__, instance.get_runs_count(),"
        " instance.telemetry_enabled]))",
    )
    assert storage == ["PostgresRunStorage", 0, False]


def test_docdb_and_rds_are_reached_through_the_bastion(up: LabHome) -> None:
    answer = in_the_lab(
        up,
        """
import json, os, psycopg, pymongo
from sshtunnel import SSHTunnelForwarder
e = os.environ
targets = [(e["DOC_DB_HOST"], int(e["DOC_DB_PORT"])), (e["RDS_HOST"], int(e["RDS_PORT"]))]
with SSHTunnelForwarder(
    (e["DOC_DB_SSH_HOST"], int(e["DOC_DB_SSH_PORT"])), ssh_username=e["DOC_DB_SSH_USERNAME"],
    ssh_password=e["DOC_DB_SSH_PASSWORD"], remote_bind_addresses=targets, allow_agent=False,
    host_pkey_directories=[], local_bind_addresses=[("127.0.0.1", 0)] * 2,
) as tunnel:
    docdb, rds = tunnel.local_bind_ports
    client = pymongo.MongoClient("127.0.0.1", docdb, username=e["DOC_DB_USERNAME"], password=e["DOC_DB_PASSWORD"],
                                 authSource="admin", directConnection=True, retryWrites=False)
    client["scratch"]["things"].replace_one({"_id": "one"}, {"_id": "one", "n": 1}, upsert=True)
    with psycopg.connect(host="127.0.0.1", port=rds, user=e["RDS_USER"], password=e["RDS_PASSWORD"],
                         dbname=e["RDS_DATABASE"]) as connection:
        row = connection.execute("select 1").fetchone()
        print(json.dumps([client["scratch"]["things"].find_one({"_id": "one"}), row]))
    client.close()
""",
    )
    assert answer == [{"_id": "one", "n": 1}, [1]]


@pytest.mark.parametrize("name", SERVICES)
def test_each_killed_service_comes_back_on_its_port(up: LabHome, name: str) -> None:
    before = service(up, name)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not ((after := service(up, name)).healthy and after.pid != before.pid):
        assert time.monotonic() < deadline, after
        time.sleep(0.1)
    assert after.url == before.url
    assert after.restarts == before.restarts + 1


def test_data_survive_a_killed_supervisor(up: LabHome) -> None:
    write = (
        "import json, os, psycopg, pymongo; from aind_pipelines.lab.home import LabHome;"
        f"home = LabHome({str(up.root)!r}); things = pymongo.MongoClient(home.docdb().uri)['scratch']['kept'];"
    )
    in_the_lab(up, write + "things.replace_one({'_id': 1}, {'_id': 1}, upsert=True); print(1)")
    with psycopg.connect(up.postgres().url("postgresql"), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS row")
    owner, children = recorded_children(up)
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 3
    while living := [child.pid for child in children if child.alive]:
        assert time.monotonic() < deadline, living
        time.sleep(0.02)
    ports = up.ports
    control.ensure_up(up)
    assert up.ports == ports
    assert in_the_lab(up, write + "print(things.count_documents({}))") == 1
    with psycopg.connect(up.postgres().url("postgresql")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_a_shell_meets_the_lab_through_lab_env(up: LabHome) -> None:
    script = (
        f'eval "$("{sys.executable}" -m aind_pipelines.cli lab env --home "{up.root}")" && exec "{sys.executable}" -c '
        '\'import boto3, json, psycopg; psycopg.connect("").close();'
        'print(json.dumps([boto3.client("s3").list_buckets()["ResponseMetadata"]["HTTPStatusCode"]]))\''
    )
    done = subprocess.run(["sh", "-c", script], env=CALLER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [200]


def test_a_service_held_down_makes_status_fail_and_its_release_mends_it(up: LabHome) -> None:
    where = ("--home", str(up.root))
    aind("lab", "down", "metadata_service", *where)
    seen = aind("lab", "status", *where, check=False)
    assert seen.returncode == 1
    assert "held" in seen.stdout
    aind("lab", "up", "metadata_service", *where)
    assert aind("lab", "status", *where).returncode == 0


def test_an_external_postgres_and_docdb_replace_the_labs_own(up: LabHome, tmp_path: Path) -> None:
    other = LabHome(tmp_path / "other")
    try:
        control.ensure_up(other, docdb_uri=up.docdb().uri, postgres_url=up.postgres().url("postgresql", "rds"))
        seen = control.status(other)
        assert seen.healthy
        assert {one.name for one in seen.services if one.external} == {"docdb", "postgres"}
        assert all(one.pid is None for one in seen.services if one.external)
        assert other.environment()["RDS_PORT"] == str(up.ports["postgres"])
        config = json.loads((other.data("bastion") / "config.json").read_text())
        assert sorted(config["allow"]) == sorted(
            [["127.0.0.1", up.ports["docdb"]], ["127.0.0.1", up.ports["postgres"]]]
        )
    finally:
        control.stop(other)


@pytest.mark.parametrize(
    ("option", "address", "cause"),
    [
        ("--docdb-uri", "mongodb://u:canary@127.0.0.1:9/", "refuses connections"),
        ("--postgres-url", "postgresql://u:canary@127.0.0.1:9/d", "refuses connections"),
        ("--docdb-uri", "mongodb://docdb:canary@127.0.0.1:{docdb}/?authSource=admin", "Authentication failed"),
    ],
)
def test_an_external_server_that_cannot_be_used_is_named_with_its_option_and_the_cause(
    up: LabHome, tmp_path: Path, option: str, address: str, cause: str
) -> None:
    home = tmp_path / "other"
    done = aind("lab", "up", option, address.format(**up.ports), "--home", str(home), check=False)
    assert done.returncode == 1
    assert f"which {option} names" in done.stderr
    assert cause in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not control.is_up(LabHome(home))


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("mongodb://127.0.0.1:{docdb}/?directConnection=true", "authentication"),
        ("mongodb://docdb:canary@127.0.0.1:{docdb}/?tls=true", "SSL handshake failed"),
        ("mongodb://docdb:canary@127.0.0.1:{postgres}/", "connection closed"),
        ("mongodb://docdb:canary@127.0.0.1:{docdb}/?replicaSet=other", "other"),
    ],
)
def test_a_docdb_that_does_not_let_us_in_says_why_in_one_line(
    up: LabHome, tmp_path: Path, address: str, cause: str
) -> None:
    home = LabHome(tmp_path / "other")
    home.initialise(docdb_uri=address.format(**up.ports))
    with pytest.raises(HomeError, match=f"(?i)which --docdb-uri names, cannot be used: .*{cause}") as refusal:
        preparation.require_docdb(home)
    assert "canary" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_staying_in_the_foreground_ends_with_ctrl_c(tmp_path: Path) -> None:
    home = LabHome(tmp_path / "foreground")
    process = subprocess.Popen(
        [sys.executable, "-m", "aind_pipelines.cli", "lab", "up", "--foreground", "--home", str(home.root)],
        env=CALLER,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        assert control.status(home).healthy, lines
        _, children = recorded_children(home)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(20) == 0
    assert "SIGINT" in rest
    assert not [child.pid for child in children if child.alive]


_LONG = "SELECT sum(sqrt(a::float8)) FROM generate_series(1, 60000) a, generate_series(1, 2000000) b"


@contextlib.contextmanager
def computing(home: LabHome) -> Iterator[Recorded]:
    """A backend of Postgres that computes for longer than any test takes."""
    with (
        psycopg.connect(home.postgres().url("postgresql"), autocommit=True) as connection,
        ThreadPoolExecutor(1) as one,
    ):
        backend = Recorded.of(connection.info.backend_pid, signal.SIGTERM)
        assert backend is not None
        query = one.submit(connection.execute, _LONG)
        used = sum(psutil.Process(backend.pid).cpu_times()[:2])
        while sum(psutil.Process(backend.pid).cpu_times()[:2]) < used + 0.2:
            time.sleep(0.05)
        try:
            yield backend
        finally:
            backend.signal(signal.SIGKILL)
            assert query.exception(30) is not None


def test_a_supervisor_that_is_silent_for_a_while_is_waited_for_while_a_lab_starts(up: LabHome) -> None:
    owner, _ = recorded_children(up)
    assert owner is not None
    with ThreadPoolExecutor(1) as pool:
        os.kill(owner.pid, signal.SIGSTOP)
        try:
            waiting = pool.submit(control._wait_until_ready, up, time.monotonic() + 60)
            with pytest.raises(TimeoutError):
                waiting.result(control._ANSWER_LIMIT + 1.5)
        finally:
            os.kill(owner.pid, signal.SIGCONT)
        waiting.result(30)
    assert control.status(up).healthy


def test_postgres_comes_back_though_a_backend_did_not_notice_its_end(up: LabHome) -> None:
    with psycopg.connect(up.postgres().url("postgresql"), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS committed AS SELECT 1 AS row")
    before = service(up, "postgres")
    assert before.pid is not None
    with computing(up) as backend:
        os.kill(before.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not ((after := service(up, "postgres")).healthy and after.pid != before.pid):
            assert time.monotonic() < deadline, after
            assert after.health != "failed", after
            time.sleep(0.1)
        assert not backend.alive
    assert (after.url, after.restarts) == (before.url, before.restarts + 1)
    with psycopg.connect(up.postgres().url("postgresql")) as connection:
        assert connection.execute("SELECT count(*) FROM committed").fetchone() == (1,)


@pytest.mark.parametrize("watchdog", [True, False], ids=["watchdog", "no-watchdog"])
def test_a_backend_that_outlived_supervisor_and_server_is_ended(up: LabHome, watchdog: bool) -> None:
    owner, children = recorded_children(up)
    assert owner is not None
    server = service(up, "postgres").pid
    known = {child.pid for child in children}
    [other] = [one.pid for one in psutil.Process(owner.pid).children() if one.pid not in known]
    assert server is not None
    with computing(up) as backend:
        # The server first: told by the supervisor's end to stop, it would end its backends.
        for pid in (server, owner.pid) if watchdog else (server, other, owner.pid):
            os.kill(pid, signal.SIGKILL)
        if watchdog:
            deadline = time.monotonic() + 30
            while backend.alive:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        else:
            assert backend.alive
            done = aind("lab", "down", "--home", str(up.root))
            assert "has stopped" in done.stderr
            assert not backend.alive
    control.ensure_up(up)


def test_a_postgres_of_another_cluster_is_left_alone(up: LabHome, tmp_path: Path) -> None:
    other = LabHome(tmp_path / "other")
    other.initialise()
    folder = Cluster(other).data
    folder.mkdir(parents=True)
    assert Cluster(other).end_orphans() == []
    assert {one.pid for one in Cluster(up).processes()} > {service(up, "postgres").pid}
    assert service(up, "postgres").healthy


def test_a_moved_home_goes_on_with_its_archives_though_the_registrys_port_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir(mode=0o700)
    (folder / ".fake.json").write_text(json.dumps([{"name": "registry", "real": True}]))

    @contextlib.contextmanager
    def registry_of(home: LabHome) -> Iterator[RegistryClient]:
        control.ensure_up(home, program=PROGRAM)
        try:
            login = home.environment()["NBANK_USERNAME"], home.environment()["NBANK_PASSWORD"]
            with RegistryClient(home.url("registry"), login) as client:
                yield client
        finally:
            control.stop(home)

    with registry_of(LabHome(folder)) as registry:
        port = LabHome(folder).ports["registry"]
        for place in (folder / "archives" / "live", tmp_path / "elsewhere", tmp_path / "first-not"):
            init_archive(place, registry)
        (tmp_path / "elsewhere" / MARKER).chmod(0o640)
    moved = folder.rename(tmp_path / "second")
    with socket.create_server(("127.0.0.1", port)), registry_of(LabHome(moved)) as registry:
        roots = {one.name: one.root for one in registry.archives()}
        assert str(port) not in registry.url
        assert roots == {
            "live": str(moved / "archives" / "live"),
            "elsewhere": str(tmp_path / "elsewhere"),
            "first-not": str(tmp_path / "first-not"),
        }
        assert {Archive.open(root).config.registry for root in roots.values()} == {registry.url}
        assert (tmp_path / "elsewhere" / MARKER).stat().st_mode & 0o777 == 0o640
