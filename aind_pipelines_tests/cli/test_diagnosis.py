"""What doctor says of settings that are bad, halves, or hold a password where an address is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.cli import diagnosis
from aind_pipelines.cli.diagnosis import Connection, Setting, connections, settings_table
from aind_pipelines.clients import http
from aind_pipelines.settings import Settings, SettingsError, load_settings, read_settings, setting_names

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "AIND_PIPELINES_NO_DOTENV")
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name not in KEPT and not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
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


def test_the_command_shows_everything_and_exits_1() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AIND_PIPELINES_NO_DOTENV": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "aind_pipelines.cli", "doctor"],
        env={**environment, "DOC_DB_PORT": "abc", "RDS_HOST": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 1, result.stderr
    assert [name for name in (*EVERY, *SERVICES) if name not in result.stdout] == []
    assert re.search(r"DOC_DB_PORT\W+abc\W+environment \(DOC_DB_PORT\)\W+bad: .*integer", result.stdout)
