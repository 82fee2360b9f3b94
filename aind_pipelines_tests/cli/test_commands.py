"""The command as a whole: help, exit codes, and services in the foreground."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from aind_pipelines.cli import _COMMANDS

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "aind_pipelines.cli"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert [name for name in _COMMANDS if name not in result.stdout] == []


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_every_command_has_a_help_text(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) > 5


def test_a_command_that_does_not_exist_is_a_usage_error() -> None:
    result = run("no-such-command")
    assert result.returncode == 2
    assert "no-such-command" in result.stderr


def test_a_setting_that_cannot_be_used_is_one_line_and_exit_code_1() -> None:
    result = run("db", "status", RDS_PORT="many")
    assert result.returncode == 1
    assert "RDS_PORT" in result.stderr
    assert "Traceback" not in result.stderr


_FROM_ITS_FIRST_IMPORT = """
import pathlib, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            started.touch()
started = pathlib.Path(sys.argv.pop(1))
sys.meta_path.insert(0, Watch())
runpy.run_module("aind_pipelines.cli", run_name="__main__")
"""
"""Runs the command, and tells when it is past what is Python's own."""


@pytest.mark.parametrize("seconds", [0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_command_that_is_interrupted_at_once_shows_no_stack(seconds: float, tmp_path: Path) -> None:
    started, program = tmp_path / "started", _FROM_ITS_FIRST_IMPORT
    process = subprocess.Popen(
        [sys.executable, "-c", program, started, "lab", "status", "--home", tmp_path / "lab"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert "Traceback" not in said
    # 1: it was quicker; killed: it was at its very end, where Python gives the signal back its default.
    assert process.returncode in {1, 130, -signal.SIGINT}


def test_a_demo_that_could_not_serve_its_ui_says_so_before_it_runs(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else's is as good
            taken.bind(("127.0.0.1", 3000))
            taken.listen()
        result = run("demo", "--ui", "--home", str(tmp_path / "lab"))
    assert result.returncode == 1
    assert "3000" in result.stderr
    assert not (tmp_path / "lab").exists()


def test_doctor_with_nothing_set_says_what_to_set_and_is_content() -> None:
    result = run("doctor", "--json")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count('"not configured"') >= 7
    assert "set DOC_DB_API_HOST" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("doctor",), ("doctor", "--json"), ("lab", "status")])
def test_output_that_cannot_be_written_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*CLI, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (result.returncode, result.stderr) == (1, "error: No space left on device\n")


def test_doctor_in_a_pipe_cuts_no_name_and_no_reason() -> None:
    missing = "/a/folder/that/is/not/there/" + "and/has/a/long/name/" * 5 + "policy.toml"
    result = run("doctor", AIND_PIPELINES_CONFIG=missing, COLUMNS="80")
    assert "METADATA_SERVICE_VERSION " in result.stdout
    assert sum(missing in line for line in result.stdout.splitlines()) == 2  # the setting, and why it is bad
    assert "…" not in result.stdout


def test_doctor_names_a_bad_connection_and_masks_secrets() -> None:
    result = run(
        "doctor",
        RDS_HOST="127.0.0.1",
        RDS_PORT="9",
        RDS_USER="u",
        RDS_PASSWORD="canary-secret",
        RDS_DATABASE="d",
        COLUMNS="200",
    )
    assert result.returncode == 1
    assert "bad" in result.stdout
    assert "environment (RDS_USER)" in result.stdout
    assert "canary-secret" not in result.stdout + result.stderr


def test_serve_metadata_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    tables = tmp_path / "tables.json"
    tables.write_text('{"project_names": ["A"]}')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [*CLI, "serve", "metadata", "--port", str(port), "--tables", str(tables)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/project_names", timeout=2)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert answer.json()["data"] == ["A"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_ui_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("dev", "--home", str(tmp_path / "home"), "--port", str(port))
    assert result.returncode == 1
    assert f"Port {port} is taken" in result.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_doctor_masks_a_password_inside_an_address() -> None:
    address = "http://u:canary-secret@127.0.0.1:9"
    result = run(
        "doctor",
        "--json",
        METADATA_SERVICE_URL=address,
        DOC_DB_API_HOST=address,
        NBANK_REGISTRY=f"{address}/neurobank/",
        CODE_OCEAN_DOMAIN=address,
        CODE_OCEAN_API_TOKEN="canary-secret",
    )
    assert result.returncode == 1
    assert "http://********@127.0.0.1:9" in result.stdout
    assert "canary-secret" not in result.stdout + result.stderr


@pytest.mark.slow
def test_doctor_names_the_settings_that_lead_to_what_a_library_cannot_reach() -> None:
    result = run("doctor", "--json", CODE_OCEAN_DOMAIN="http://127.0.0.1:9", CODE_OCEAN_API_TOKEN="token")
    rows = {row["name"]: row for row in json.loads(result.stdout)["connections"]}
    assert rows["Code Ocean"]["state"] == "bad"
    assert "CODE_OCEAN_DOMAIN" in rows["Code Ocean"]["next_step"]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("OSError(errno.EIO, 'it broke', '/a/file')", r"\Aerror: /a/file: it broke\n\Z"),
        ("OSError(errno.EIO, 'it broke')", r"(?s)\ATraceback .* it broke\n\Z"),
    ],
)
def test_an_error_of_the_system_takes_no_output_along(failure: str, told: str) -> None:
    """What a command wrote before arrives; an error that does not say of what keeps its stack."""
    program = f"""
import errno
import click
from aind_pipelines.cli import db, main

def breaking():
    print("a row", flush=False)
    raise {failure}

db.db = click.Command("db", callback=breaking)
main(["db"])
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "a row\n")
    assert re.search(told, result.stderr)
