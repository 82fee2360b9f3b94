"""What doctor says of settings that are bad, halves, or hold a password where an address is."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.cli import diagnosis, doctor_dagster
from aind_pipelines.cli.diagnosis import Connection, Setting, connections, settings_table
from aind_pipelines.clients import http
from aind_pipelines.settings import Settings, SettingsError, load_settings, read_settings, setting_names
from aind_pipelines_tests.clients.canned import canned_server
from aind_pipelines_tests.registry_process import RegistryProcess

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "AIND_PIPELINES_NO_DOTENV")
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name not in KEPT and not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setitem(http.build_session.__kwdefaults__, "backoff", 0)
    monkeypatch.chdir(tmp_path)


def rows() -> dict[str, Connection]:
    return {row.name: row for row in connections()}


def table() -> dict[str, Setting]:
    return {row.name: row for row in settings_table()}


EVERY = [setting_names(field)[0] for field in Settings.model_fields]
SERVICES = [
    "policy file",
    "DocDB REST gateway",
    "DocDB over SSH",
    "RDS",
    "metadata-service",
    "Code Ocean",
    "S3",
    "neurobank registry",
    "Dagster instance",
]


def test_with_nothing_set_every_connection_is_not_configured() -> None:
    assert list(table()) == EVERY
    assert {name: row.state for name, row in rows().items()} == dict.fromkeys(SERVICES, "not configured")


@pytest.mark.parametrize(
    ("name", "value", "spoiled"),
    [
        ("DOC_DB_PORT", "abc", "DocDB over SSH"),
        ("DOC_DB_API_VERSION", "V2", "DocDB REST gateway"),
        ("RDS_PORT", "1e3", "RDS"),
        ("METADATA_SERVICE_VERSION", "3", "metadata-service"),
    ],
)
def test_a_bad_setting_spoils_only_what_needs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, spoiled: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NBANK_REGISTRY", f"http://{NOWHERE}")
    shown = table()
    assert list(shown) == EVERY
    assert (shown[name].value, shown[name].origin) == (value, f"environment ({name})")
    assert shown[name].problem
    assert name in shown[name].next_step
    assert shown["NBANK_REGISTRY"].value == f"http://{NOWHERE}"
    assert [each for each, row in shown.items() if row.problem] == [name]
    found = rows()
    assert list(found) == SERVICES
    assert found[spoiled].state == "bad"
    assert name in found[spoiled].detail
    assert found["neurobank registry"].state == "bad"
    assert NOWHERE in found["neurobank registry"].detail, "it was tried"
    others = set(SERVICES) - {spoiled, "neurobank registry"}
    assert {found[other].state for other in others} == {"not configured"}
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_an_aws_parameter_that_cannot_be_read_is_named_and_the_rest_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_PARAM_STORE_NAME": "/no/such",
        "AWS_ENDPOINT_URL": f"http://bob:hunter2pw@{NOWHERE}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
        "AWS_REGION": "us-west-2",
        "AWS_MAX_ATTEMPTS": "1",
        "NBANK_REGISTRY": f"http://{NOWHERE}",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(diagnosis, "_s3", lambda *_: "tried")
    read = read_settings()
    shown = {row.name: row for row in settings_table(read)}
    assert list(shown) == EVERY
    assert "/no/such" in shown["AWS_PARAM_STORE_NAME"].problem
    found = {row.name: row for row in connections(read)}
    assert list(found) == SERVICES
    assert found["S3"].detail == "tried"
    assert NOWHERE in found["neurobank registry"].detail
    assert found["RDS"].state == "bad", "it may be configured there"
    assert "AWS_PARAM_STORE_NAME" in found["RDS"].detail
    said = json.dumps([asdict(row) for row in (*shown.values(), *found.values())])
    assert "hunter2pw" not in said
    assert "wJalr" not in said
    with pytest.raises(SettingsError, match="AWS_PARAM_STORE_NAME"):
        load_settings()


def test_a_dotenv_file_that_cannot_be_read_is_a_row_and_the_rest_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIND_PIPELINES_NO_DOTENV")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NBANK_REGISTRY", f"http://{NOWHERE}")
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert table()["NBANK_REGISTRY"].value
    found = rows()
    assert found["settings"].state == "bad"
    assert ".env cannot be read" in found["settings"].detail
    assert found["RDS"].state == "bad"
    assert NOWHERE in found["neurobank registry"].detail


@pytest.mark.parametrize(
    ("given", "service", "missing"),
    [
        (("DOC_DB_HOST", "DOC_DB_USERNAME", "DOC_DB_PASSWORD"), "DocDB over SSH", "DOC_DB_SSH_HOST"),
        (("DOC_DB_SSH_HOST",), "DocDB over SSH", "DOC_DB_HOST"),
        (("RDS_USER", "RDS_PASSWORD"), "RDS", "RDS_HOST, RDS_DATABASE"),
        (("RDS_HOST", "RDS_USER", "RDS_DATABASE"), "RDS", "RDS_PASSWORD"),
        (("NBANK_USERNAME", "NBANK_PASSWORD"), "neurobank registry", "NBANK_REGISTRY"),
        (("NBANK_REGISTRY", "NBANK_USERNAME"), "neurobank registry", "NBANK_PASSWORD"),
        (("CODE_OCEAN_DOMAIN",), "Code Ocean", "CODE_OCEAN_API_TOKEN"),
        (("AWS_SECRET_ACCESS_KEY",), "S3", "AWS_ACCESS_KEY_ID"),
        (("AWS_ACCESS_KEY_ID",), "S3", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_half_a_configuration_is_bad_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], service: str, missing: str
) -> None:
    for name in given:
        monkeypatch.setenv(name, "http://someone")
    found = rows()
    assert found[service].state == "bad"
    assert f"but not {missing}" in found[service].detail
    assert f"set {missing}" in found[service].next_step
    assert {row.state for name, row in found.items() if name != service} == {"not configured"}


def test_what_the_template_sets_configures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (ROOT / ".env.template").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    assert {row.state for row in rows().values()} == {"not configured"}


def test_the_bastion_of_rds_alone_does_not_mean_docdb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RDS_HOST", "RDS_USER", "RDS_PASSWORD", "RDS_DATABASE", "DOC_DB_SSH_HOST", "DOC_DB_SSH_USERNAME"):
        monkeypatch.setenv(name, "someone")
    monkeypatch.setattr(diagnosis, "_rds", lambda _: "tried")
    found = rows()
    assert (found["RDS"].state, found["DocDB over SSH"].state) == ("good", "not configured")


def test_a_bad_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_settings(rds_password=4_711_000_815)
    (row,) = (row for row in settings_table(read) if row.name == "RDS_PASSWORD")
    assert row.problem
    assert "4711" not in json.dumps(asdict(row))
    assert "4711" not in json.dumps([asdict(row) for row in connections(read)])


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("DOC_DB_API_HOST", "bob:hunter2pw@127.0.0.1:1", "********@127.0.0.1:1"),
        ("METADATA_SERVICE_URL", "http://bob:pa/ssword9@127.0.0.1:1", "http://********@127.0.0.1:1"),
        ("NBANK_REGISTRY", "http://bob:p@ss@127.0.0.1:1/neurobank/", "http://********@127.0.0.1:1/neurobank/"),
        ("NBANK_REGISTRY", "http://127.0.0.1:1/neurobank/", "http://127.0.0.1:1/neurobank/"),
        ("DOC_DB_USERNAME", "someone@institute.org", "someone@institute.org"),
    ],
)
def test_a_login_in_an_address_is_masked(monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str) -> None:
    monkeypatch.setenv(name, value)
    assert table()[name].value == shown


PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=8, max_size=30
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    password=PASSWORDS | st.text("ab1/:@?#%[]\\ ", min_size=8, max_size=20), scheme=st.sampled_from(["", "http://"])
)
def test_no_password_in_an_address_ever_shows(password: str, scheme: str) -> None:
    address = f"{scheme}bob:{password}@{NOWHERE}"
    environment = dict.fromkeys(("DOC_DB_API_HOST", "METADATA_SERVICE_URL", "NBANK_REGISTRY"), address)
    with mock.patch.dict(os.environ, environment):
        shown, found = settings_table(), connections()
    assert {row.state for row in found if row.name in ("DocDB REST gateway", "metadata-service")} == {"bad"}
    texts = [text for row in (*shown, *found) for text in asdict(row).values()]
    # With its first letters too, since what reads an address may take a part of it for the host.
    parts = {password, *(part for part in re.split(r"[/:@?#%\[\]\\\s&=+]", password) if len(part) >= 5)}
    assert [text for text in texts if any(part in text for part in parts)] == []


def bare() -> dict[str, str]:
    passed = {
        name: os.environ[name] for name in ("PATH", "HOME", "AIND_PIPELINES_NO_DOTENV", "AWS_EC2_METADATA_DISABLED")
    }
    return passed | {"PYTHONPATH": str(ROOT)}


def test_the_command_shows_everything_and_exits_1() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "aind_pipelines.cli", "doctor"],
        env={**bare(), "DOC_DB_PORT": "abc", "RDS_HOST": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 1, result.stderr
    assert [name for name in (*EVERY, *SERVICES) if name not in result.stdout] == []
    assert re.search(r"DOC_DB_PORT\W+abc\W+environment \(DOC_DB_PORT\)\W+bad: .*integer", result.stdout)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener whose connections are made by the system, and never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def everything_at(listener: socket.socket) -> dict[str, str]:
    url, port = address(listener), str(listener.getsockname()[1])
    return {
        "DOC_DB_API_HOST": url,
        "METADATA_SERVICE_URL": url,
        "CODE_OCEAN_DOMAIN": url,
        "CODE_OCEAN_API_TOKEN": "token",
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-west-2",
        **{f"RDS_{name}": "someone" for name in ("USER", "PASSWORD", "DATABASE")},
        "RDS_HOST": "127.0.0.1",
        "RDS_PORT": port,
        **{f"DOC_DB_{name}": "someone" for name in ("HOST", "USERNAME", "PASSWORD", "SSH_USERNAME", "SSH_PASSWORD")},
        "DOC_DB_SSH_HOST": "127.0.0.1",
        "DOC_DB_SSH_PORT": port,
    }


@pytest.mark.slow
def test_what_does_not_answer_is_bad_in_time_and_what_answers_is_shown(
    silent: socket.socket, registry_process: RegistryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBANK_REGISTRY", registry_process.url)
    connections()  # so that what the probes import is there
    for name, value in everything_at(silent).items():
        monkeypatch.setenv(name, value)
    found = {row.name: row for row in connections(within=3)}
    assert list(found) == SERVICES
    assert found["policy file"].state == "not configured"
    assert found["neurobank registry"].state == "good"
    assert found["Dagster instance"].state == "not configured"
    del found["policy file"], found["neurobank registry"], found["Dagster instance"]
    assert {row.detail for row in found.values()} == {"no answer within 3 s"}
    assert {name: row.next_step.split()[1].rstrip(",") for name, row in found.items()} == {
        "DocDB REST gateway": "DOC_DB_API_HOST",
        "DocDB over SSH": "DOC_DB_SSH_HOST",
        "RDS": "RDS_HOST",
        "metadata-service": "METADATA_SERVICE_URL",
        "Code Ocean": "CODE_OCEAN_API_TOKEN",
        "S3": "AWS_ENDPOINT_URL",
    }


def doctor(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aind_pipelines.cli", "doctor"],
        env={**bare(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize("store", [{}, {"AWS_PARAM_STORE_NAME": "/x"}])
def test_an_interrupt_ends_it_while_nothing_answers(silent: socket.socket, store: dict[str, str]) -> None:
    process = doctor(**everything_at(silent), **store)
    silent.settimeout(60)
    asked, _ = silent.accept()
    with asked:
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "\ninterrupted\n")
    assert bool(store) or "METADATA_SERVICE_URL" in out, "the settings are shown at once"


@pytest.mark.slow
def test_a_process_whose_probes_hang_ends_and_says_nothing_but_its_verdict(silent: socket.socket) -> None:
    process = doctor(**everything_at(silent))
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (1, "")
    assert out.count("no answer within") >= 5


def test_a_parameter_store_that_does_not_answer_is_given_up_soon(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**everything_at(silent), "AWS_PARAM_STORE_NAME": "/x"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"AWS_PARAM_STORE_NAME names '/x', .*timeout.*AWS_ENDPOINT_URL"):
        load_settings()
    silent.setblocking(False)
    for _ in range(2):
        silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()


def test_a_code_ocean_token_that_is_refused_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with canned_server() as server:
        server.queue = [(401, {}, b"{}")]
        monkeypatch.setenv("CODE_OCEAN_DOMAIN", server.url)
        monkeypatch.setenv("CODE_OCEAN_API_TOKEN", "token")
        row = rows()["Code Ocean"]
    assert row.state == "bad"
    assert "answered 401: the credentials were refused" in row.detail
    assert row.next_step == "check CODE_OCEAN_API_TOKEN and CODE_OCEAN_DOMAIN, and the rights"


def test_buckets_that_do_not_exist_are_all_named(
    moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[s3]\nbuckets = ["no-such-a", "no-such-b"]\n')
    login = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-west-2"}
    for name, value in {"AIND_PIPELINES_CONFIG": str(policy), "AWS_ENDPOINT_URL": moto_url, **login}.items():
        monkeypatch.setenv(name, value)
    row = rows()["S3"]
    assert "no-such-a, no-such-b; of the first: bucket 'no-such-a' does not exist" in row.detail


def shared_credentials(home: Path, text: str) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(text)


def test_credentials_that_boto3_finds_itself_are_tried(
    moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_credentials(tmp_path, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / ".aws" / "config").write_text(f"[default]\nregion = us-west-2\nendpoint_url = {moto_url}\n")
    policy = tmp_path / "policy.toml"
    policy.write_text('[s3]\nbuckets = ["no-such-a"]\n')
    monkeypatch.setenv("AIND_PIPELINES_CONFIG", str(policy))
    row = rows()["S3"]
    assert row.state == "bad"
    assert "bucket 'no-such-a' does not exist" in row.detail


def test_half_a_key_pair_that_boto3_finds_is_bad(tmp_path: Path) -> None:
    shared_credentials(tmp_path, "[default]\naws_access_key_id = a\n")
    row = rows()["S3"]
    assert row.state == "bad"
    assert "missing: aws_secret_access_key" in row.detail


def test_the_role_of_an_instance_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c", "Expiration": "2999-01-01T00:00:00Z"}
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setattr("aind_pipelines.clients.s3.client", lambda *_, **__: None)
    monkeypatch.setattr("aind_pipelines.clients.s3.iter_listing_pages", lambda *_, **__: iter([]))
    with canned_server() as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        server.queue = [
            (200, {}, b"token"),
            (200, {}, b"role"),
            (200, {}, json.dumps({"Code": "Success", **login}).encode()),
        ]
        assert rows()["S3"].state == "good"
        server.queue = [(404, {}, b""), (404, {}, b"")]
        assert rows()["S3"].state == "not configured"


def test_a_session_token_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "canary-secret")
    shown = table()["AWS_SESSION_TOKEN"]
    assert (shown.value, shown.origin) == ("********", "environment (AWS_SESSION_TOKEN)")


@pytest.mark.parametrize("home", ["relative/dir", "/nonexistent/x", "~nobody-of-this-name/x"])
def test_a_dagster_home_that_dagster_refuses_is_bad(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)
    row = rows()["Dagster instance"]
    assert row.state == "bad"
    assert home in row.detail
    assert "DAGSTER_HOME" in row.next_step


def test_without_dagster_home_dagster_is_not_imported() -> None:
    process = doctor(PYTHONPROFILEIMPORTTIME="1")
    out, imported = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"Dagster instance\W+not configured\W+`dagster dev` keeps.*set DAGSTER_HOME", out)
    assert "botocore" in imported
    assert "| dagster" not in re.sub(" +", " ", imported)


def test_the_password_of_dagsters_storage_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: object) -> str:
        raise doctor_dagster.InstanceUnusable("no login with hunter2 pw, hunter2%20pw", "ask", ("hunter2 pw",))

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(doctor_dagster, "look", look)
    row = rows()["Dagster instance"]
    assert (row.state, row.detail, row.next_step) == ("bad", "no login with ********, ********", "ask")


def test_a_policy_file_below_a_home_that_there_is_not_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIND_PIPELINES_CONFIG", "~nobody-of-this-name/x.toml")
    row = rows()["policy file"]
    assert row.state == "bad"
    assert "AIND_PIPELINES_CONFIG" in row.detail


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[archives."[/x] :smile:"]\npath = "nowhere[/y]"\n')
    process = doctor(AIND_PIPELINES_CONFIG=str(policy))
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (1, "")
    assert "archive [/x] :smile: " in out
    assert f"{tmp_path}/nowhere[/y]" in out
