"""Which login a registry gets, and that a netrc is never in the way."""

from pathlib import Path

import pytest
import requests

from aind_pipelines.clients.errors import AccessRefused
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.clients.registry.login import login_for
from aind_pipelines.resources.registry import RegistryResource
from aind_pipelines.settings import Settings
from aind_pipelines_tests.registry_process import PASSWORD, USER, running_registry

URL = "http://registry.example.org:8901/neurobank/"


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("AIND_PIPELINES_NO_DOTENV")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".netrc"


def write(netrc: Path, text: str | bytes) -> None:
    netrc.write_bytes(text if isinstance(text, bytes) else text.encode())
    netrc.chmod(0o600)


def test_what_is_configured_wins(netrc):
    write(netrc, "machine registry.example.org login anna password secret\n")
    assert login_for(URL, Settings(NBANK_USERNAME="me", NBANK_PASSWORD="pw")) == ("me", "pw")
    assert login_for(URL, Settings()) == ("anna", "secret")
    assert login_for("http://other.example.org/neurobank/", Settings()) is None


def test_the_file_may_be_named(netrc, tmp_path, monkeypatch):
    write(tmp_path / "elsewhere", "default login anna password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "elsewhere"))
    assert login_for(URL, Settings()) == ("anna", "secret")


@pytest.mark.parametrize(
    ("configured", "sent"),
    [
        (None, True),
        (URL, True),
        ("http://REGISTRY.example.org:8901/other/", True),
        ("https://registry.example.org:8901/neurobank/", False),
        ("http://registry.example.org/neurobank/", False),
        ("http://elsewhere.example.org:8901/neurobank/", False),
    ],
)
def test_a_login_goes_only_to_the_registry_it_was_set_for(netrc, configured, sent):
    settings = Settings(NBANK_REGISTRY=configured, NBANK_USERNAME="me", NBANK_PASSWORD="pw")
    assert login_for(URL, settings) == (("me", "pw") if sent else None)
    write(netrc, "machine registry.example.org login anna password secret\n")
    assert login_for(URL, settings) == (("me", "pw") if sent else ("anna", "secret"))


def test_a_write_without_a_login_says_how_to_give_one(tmp_path):
    with (
        running_registry(tmp_path) as running,
        RegistryClient(running.url) as client,
        pytest.raises(AccessRefused, match=r"no login was sent\. Give one by -a"),
    ):
        client.add_dtype("made", "x/y")


@pytest.mark.parametrize("text", [None, "", "machine", "machine registry.example.org login anna\n", b"\xff\xfe\0bad"])
def test_a_netrc_that_is_missing_or_broken_is_like_an_empty_one(netrc, text):
    if text is not None:
        write(netrc, text)
    assert login_for(URL, Settings()) is None


def test_a_folder_in_its_place_is_no_error(netrc):
    netrc.mkdir()
    assert login_for(URL, Settings()) is None


def test_nothing_of_the_caller_is_read_in_the_lab(netrc, monkeypatch):
    write(netrc, "default login stray password stray\n")
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    assert login_for(URL, Settings()) is None


def test_the_resource_logs_in_from_the_netrc(netrc, tmp_path, monkeypatch):
    with running_registry(tmp_path) as running:
        monkeypatch.setenv("NBANK_REGISTRY", running.url)
        write(netrc, f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        with RegistryResource().client() as client:
            client.add_dtype("made", "x/y")
        answer = requests.get(f"{running.url}datatypes/made/", timeout=5)
    assert answer.json()["content_type"] == "x/y"
