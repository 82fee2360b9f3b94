"""The registry's own process: it migrates, makes users, serves, stops, and says why it cannot."""

import contextlib
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from aind_pipelines_tests.registry_process import (
    PASSWORD,
    USER,
    RegistryProcess,
    command,
    free_port,
    registry_environment,
    running_registry,
    start,
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("registry with space")) as running:
        yield running


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, timeout=60)


def post(registry: RegistryProcess, route: str, body: object) -> requests.Response:
    return requests.post(registry.url + route, json=body, auth=(USER, PASSWORD), timeout=10)


def test_info_is_what_the_published_client_expects(registry):
    body = requests.get(registry.url + "info/", timeout=5).json()
    assert (body["name"], body["version"]) == ("django-neurobank", "0.12.0")


def test_writing_without_login_is_refused(registry):
    answer = requests.post(registry.url + "datatypes/", json={"name": "x", "content_type": "x"}, timeout=5)
    assert answer.status_code == 403


def test_a_depositor_may_not_delete_a_record(registry):
    assert post(registry, "resources/", {"name": "keep", "dtype": "session-raw"}).status_code == 201
    answer = requests.delete(registry.url + "resources/keep/", auth=(USER, PASSWORD), timeout=5)
    assert answer.status_code == 403
    assert requests.get(registry.url + "resources/keep/", timeout=5).status_code == 200


def test_a_refused_registration_leaves_nothing(registry):
    body = {"name": "half", "dtype": "session-raw", "locations": ["no-such-archive"]}
    assert post(registry, "resources/", body).status_code == 400
    assert requests.get(registry.url + "resources/half/", timeout=5).status_code == 404


def test_one_of_many_equal_registrations_wins_and_none_fails(registry):
    def register(number: int) -> int:
        sha1 = "5" * 40
        body = {"name": f"race{number}", "dtype": "session-raw", "sha1": sha1}
        return post(registry, "resources/", body).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(register, range(8)))
    assert codes == [201] + [400] * 7


def test_long_lists_come_in_pages_that_the_client_follows(registry):
    with contextlib.closing(sqlite3.connect(registry.database, timeout=20)) as database, database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100) "
            "INSERT INTO nbank_registry_resource (name, dtype_id, created_on, created_by_id) "
            "SELECT 'many' || i, (SELECT id FROM nbank_registry_datatype LIMIT 1), '2026-01-01 00:00:00', "
            "(SELECT id FROM auth_user LIMIT 1) FROM n"
        )
        database.execute(
            "INSERT INTO nbank_registry_archive (name, scheme, root, accessibility) VALUES ('many', 's', 'r', 0)"
        )
        database.execute(
            "INSERT INTO nbank_registry_location (resource_id, archive_id) SELECT r.id, a.id "
            "FROM nbank_registry_resource r, nbank_registry_archive a WHERE r.name LIKE 'many%' AND a.name = 'many'"
        )
    first = requests.get(registry.url + "resources/", params={"archive": "many"}, timeout=10)
    assert len(first.json()) == 1000
    with registry.client() as client:
        assert len({resource.id for resource in client.iter_archive_resources("many")}) == 1100


def test_data_outlives_a_kill(tmp_path):
    with running_registry(tmp_path) as running, running.client() as client:
        client.register("survivor", "a" * 40, "session-raw", None)
        running.process.kill()
        running.process.wait(10)
        port = int(running.url.split(":")[2].split("/")[0])
        running.process = start(running.database, port)
        try:
            assert client.get_resource("survivor") is not None
        finally:
            began = time.monotonic()
            running.process.terminate()
            assert running.process.wait(5) == 0
            assert time.monotonic() - began < 2


def test_a_taken_port_is_said_in_one_line(registry):
    port = registry.url.split(":")[2].split("/")[0]
    done = run(["--port", port], registry_environment(registry.database))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert port in done.stderr


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"REGISTRY_FAST_PASSWORDS": ""}, "REGISTRY_SECRET_KEY"),
        ({"REGISTRY_DATABASE_URL": ""}, "REGISTRY_DATABASE_URL"),
        ({"REGISTRY_DATABASE_URL": "mysql://u:hidden@h/n"}, "REGISTRY_DATABASE_URL"),
        ({"REGISTRY_DATABASE_URL": "sqlite:////nonexistent/folder/db"}, "database"),
    ],
)
def test_what_is_missing_is_named_and_no_secret_shown(tmp_path, changes, named):
    done = run(["migrate"], registry_environment(tmp_path / "r") | changes)
    assert done.returncode == 1
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hidden" not in done.stderr


def test_a_user_made_again_gets_the_new_password(tmp_path):
    environment = registry_environment(tmp_path / "r.sqlite")
    assert run(["migrate"], environment).returncode == 0
    assert run(["create-user", "anna"], environment).returncode == 0
    assert run(["create-user", "anna"], environment | {"REGISTRY_USER_PASSWORD": "second"}).returncode == 0
    port = free_port()
    process = start(tmp_path / "r.sqlite", port)
    try:
        url = f"http://127.0.0.1:{port}/neurobank/datatypes/"
        for password, status in ((PASSWORD, 403), ("second", 201)):
            answer = requests.post(url, json={"name": "d"}, auth=("anna", password), timeout=5)
            assert answer.status_code == status
    finally:
        process.terminate()
        process.wait(10)


def test_fast_passwords_are_only_used_when_asked_for(tmp_path: Path):
    script = "from aind_pipelines.services.registry import site; print(hasattr(site, 'PASSWORD_HASHERS'))"
    environment = registry_environment(tmp_path / "r")
    for fast, shown in (("1", "True"), ("0", "False")):
        done = subprocess.run(
            [command()[0], "-c", script],
            env=environment | {"REGISTRY_FAST_PASSWORDS": fast, "REGISTRY_SECRET_KEY": "k"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == shown


@pytest.mark.parametrize(
    ("listed", "host", "allowed"),
    [
        ("registry.example.org", "registry.example.org", True),
        ("registry.example.org", "127.0.0.1", True),
        ("registry.example.org", "localhost", True),
        ("registry.example.org", "[::1]", True),
        ("registry.example.org", "rebound.example.net", False),
        ("", "127.0.0.1", True),
        ("", "registry.example.org", False),
    ],
)
def test_a_registry_answers_to_the_names_that_are_listed_and_to_loopbacks(tmp_path, listed, host, allowed):
    script = (
        "import sys; from django.http.request import validate_host; "
        "from aind_pipelines.services.registry import site; "
        "print(validate_host(sys.argv[1], site.ALLOWED_HOSTS))"
    )
    environment = registry_environment(tmp_path / "r") | {"REGISTRY_ALLOWED_HOSTS": listed}
    done = subprocess.run(
        [command()[0], "-c", script, host], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(allowed)
