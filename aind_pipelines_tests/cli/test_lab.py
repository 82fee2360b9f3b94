from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aind_pipelines.cli import main
from aind_pipelines.lab import control
from aind_pipelines.lab.home import SERVICES, LabHome


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["lab", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("command", ["up", "down", "status", "env", "seed"])
def test_each_command_explains_itself_with_its_home(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "--home" in out
    assert ".lab" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "no_such_service"),
        ("down", "no_such_service"),
        ("up", "docdb", "--sessions", "3"),
        ("up", "docdb", "--foreground"),
        ("up", "--foreground", "--sessions", "3"),
        ("up", "--sessions", "-1"),
        ("up", "--sessions", "0"),
        ("seed", "--sessions", "0"),
        ("seed", "--records", ""),
        ("seed",),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = run(capsys, *arguments, "--home", tmp_path / "lab")
    assert code == 2
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    "arguments", [("up", "docdb"), ("down", "docdb"), ("env",), ("seed", "--sessions", "1"), ("status",)]
)
def test_without_a_lab_every_command_fails_and_says_how_to_start_one(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = run(capsys, *arguments, "--home", tmp_path / "lab")
    assert code == 1
    assert f"aind-pipelines lab up --home {tmp_path / 'lab'}" in out + error
    assert not (tmp_path / "lab").exists()


def test_down_without_a_lab_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "down", "--home", tmp_path / "lab")[0] == 0


def test_a_home_that_is_a_file_is_named_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code, _, error = run(capsys, "up", "--home", tmp_path / "file")
    assert code == 1
    assert "not a folder" in error
    assert len(error.splitlines()) == 1


_COMMANDS = (["status"], ["env"], ["down"], ["up"], ["seed", "--sessions", "1"])


def test_a_home_that_may_not_be_read_is_refused_by_every_command_in_our_words() -> None:
    program = (
        "import encodings.ascii, json, os, sys\n"
        "from aind_pipelines.cli import main\n"
        "import aind_pipelines.cli.lab, aind_pipelines.settings\n"
        "if os.geteuid() == 0:\n"  # root may read every folder
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "for command in json.loads(sys.argv[2]):\n"
        "    try:\n"
        "        main(['lab', *command, '--home', sys.argv[1]])\n"
        "    except SystemExit as ended:\n"
        "        print(ended.code)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may not be passed by others
        Path(folder).chmod(0o755)
        closed = Path(folder, "closed").resolve()
        closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0o000)
        done = subprocess.run(
            [sys.executable, "-c", program, closed, json.dumps(_COMMANDS)],
            capture_output=True,
            text=True,
            check=False,
        )
        closed.chmod(0o700)
    assert done.stdout.split() == ["1"] * len(_COMMANDS), done.stderr
    reason = "belongs to another user (id 0)" if os.geteuid() == 0 else "is not writable (Permission denied)"
    assert [line.partition(". ")[0] for line in done.stderr.splitlines()] == [
        f"error: lab: {closed} {reason}" for _ in _COMMANDS
    ]


@pytest.mark.parametrize("command", [["lab", "seed"], ["lab", "up"], ["demo"]])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "No such file or directory"),
        ("file", "Not a directory"),
        ("loop", "symbolic links"),
        ("empty", "holds no *.json"),
    ],
)
def test_a_folder_of_records_that_cannot_be_used_is_named_in_the_same_words_by_every_command(
    command: list[str], name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        main([*command, "--records", str(tmp_path / name), "--home", str(tmp_path / "lab")])
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert str(tmp_path / name) in error
    assert said in error
    assert "DocDB record" in error
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--docdb-uri", "mongodb+srv://u:hidden@h/"),
        ("--docdb-uri", "mongodb://u:hidden@[::1"),
        ("--postgres-url", "postgresql://u:hidden@h:port/d"),
        ("--postgres-url", "postgresql://u:hidden@[::1/d"),
        ("--postgres-url", "postgresql://u:hidden@h..x/d"),
    ],
)
def test_a_malformed_connection_string_fails_without_being_repeated(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = run(capsys, "up", *option, "--home", tmp_path / "lab")
    assert code == 1
    assert option[0] in error
    assert len(error.splitlines()) == 1
    assert "hidden" not in out + error
    assert not (tmp_path / "lab").exists()


def test_the_status_of_a_stopped_lab_lists_every_service_as_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = LabHome(tmp_path / "lab")
    home.initialise()
    code, out, _ = run(capsys, "status", "--json", "--home", home.root)
    seen = json.loads(out)
    assert code == 1
    assert (seen["up"], seen["healthy"]) == (False, False)
    assert {row["name"]: (row["health"], row["pid"]) for row in seen["services"]} == dict.fromkeys(
        SERVICES, ("stopped", None)
    )
    code, out, _ = run(capsys, "status", "--home", home.root)
    assert code == 1
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [[name, "stopped"] for name in SERVICES]


def test_env_prints_nothing_but_shell_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = LabHome(tmp_path / "lab")
    home.initialise()
    code, out, error = run(capsys, "env", "--home", home.root)
    assert (code, error) == (0, "")
    assert all(not line or line.startswith(("export ", "unset ", "#")) for line in out.splitlines())


def test_a_service_whose_cause_is_another_one_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = LabHome(tmp_path / "lab")
    home.initialise()
    health = dict.fromkeys(SERVICES, "ready") | {
        "docdb": "held", "docdb_gateway": "unresponsive", "aws": "unresponsive", "registry": "failed"
    }  # fmt: skip
    rows = tuple(
        control.ServiceStatus(name, "", False, health[name], 1, 0, None, "answers nothing") for name in SERVICES
    )
    monkeypatch.setattr(control, "ensure_up", lambda *_, **__: False)
    monkeypatch.setattr(control, "status", lambda _: control.LabStatus(str(home.root), True, True, 1, rows))
    code, _, error = run(capsys, "up", "--home", home.root)
    assert code == 0
    assert error.splitlines()[1:] == [
        f"docdb is held. Start it: aind-pipelines lab up docdb --home {home.root}",
        "docdb_gateway is unresponsive: it needs docdb, which is held",
        "aws is unresponsive: answers nothing",
        f"registry is failed. Start it: aind-pipelines lab up registry --home {home.root}",
    ]
