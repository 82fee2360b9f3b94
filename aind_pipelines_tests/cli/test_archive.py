"""``aind-pipelines archive`` and ``registry``: what they print, and the exit codes that a scheduler sees."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aind_pipelines.cli import main
from aind_pipelines_tests.registry_process import PASSWORD, USER, registry_environment, running_registry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def run(registry, monkeypatch, capsys) -> Run:
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    monkeypatch.setenv("NBANK_REGISTRY", registry.url)
    monkeypatch.setenv("NBANK_USERNAME", USER)
    monkeypatch.setenv("NBANK_PASSWORD", PASSWORD)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def live(tmp_path, run, request) -> Path:
    name = f"live-{abs(hash(request.node.name)) % 10**8}"
    code, out, err = run("archive", "init", tmp_path / "live", "-n", name, "-u", "027")
    assert (code, out) == (0, "")
    assert name in err
    return tmp_path / "live"


@pytest.fixture
def files(tmp_path, request) -> list[Path]:
    mark = f"f{abs(hash(request.node.name)) % 10**8}"
    made = [tmp_path / f"{mark}{number}.wav" for number in range(2)]
    for path in made:
        path.write_text(path.name)
    return made


def test_deposit_moves_and_prints_a_json_list_of_sources_and_identifiers(live, run, files):
    code, out, _ = run("archive", "deposit", live, *files, "-d", "session-raw", "-k", "site=3", "-k", "tag=x")
    assert code == 0
    rows = json.loads(out)
    assert [(row["source"], row["id"]) for row in rows] == [(str(path), path.stem) for path in files]
    assert not any(path.exists() for path in files)
    code, out, _ = run("archive", "info", files[0].stem, "--json")
    assert code == 0
    assert json.loads(out)[0]["metadata"] == {"site": 3, "tag": "x"}
    code, out, _ = run("archive", "locate", files[0].stem, "nothing-here")
    assert code == 1
    assert str(live / "resources" / files[0].name[:2] / files[0].name) in out
    assert "(not found)" in out


def test_copy_keeps_and_json_lines_come_one_per_file(live, run, files):
    code, out, _ = run("archive", "deposit", live, *files, "-d", "session-raw", "--copy", "-j")
    assert code == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["deposited", "deposited"]
    assert all(path.exists() for path in files)
    code, out, _ = run("archive", "deposit", live, *files, "-d", "session-raw", "-j")
    assert code == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["already_there", "already_there"]
    assert all(path.exists() for path in files)


def test_one_refused_file_makes_the_exit_code_1_and_the_others_arrive(live, run, files, tmp_path):
    odd = tmp_path / "x.nii.gz"
    odd.write_text("odd")
    code, out, err = run("archive", "deposit", live, odd, tmp_path / "gone", *files, "-d", "session-raw")
    assert code == 1
    rows = json.loads(out)
    assert ["error" in row for row in rows] == [True, True, False, False]
    assert "x.nii.gz" in err
    assert odd.exists()


def test_a_dry_run_changes_nothing(live, run, files, registry):
    before = sorted(live.rglob("*"))
    code, out, _ = run("archive", "deposit", live, *files, "-d", "session-raw", "-y")
    assert code == 0
    assert all(row["dry_run"] for row in json.loads(out))
    assert sorted(live.rglob("*")) == before
    assert all(path.exists() for path in files)
    with registry.client() as client:
        assert client.get_resource(files[0].stem) is None


def test_a_check_tells_good_from_bad_by_its_exit_code(live, run, files):
    assert run("archive", "deposit", live, *files, "-d", "session-raw")[0] == 0
    code, out, _ = run("archive", "check", live, "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["resources"]) == (0, True, 2)
    stored = live / "resources" / files[0].name[:2] / files[0].name
    stored.chmod(0o644)
    stored.write_text(files[0].name.swapcase())
    assert run("archive", "check", live, "--tier", "exists")[0] == 0
    code, out, _ = run("archive", "check", live)
    assert code == 1
    assert out.startswith("corrupt")
    code, out, _ = run("archive", "check", live, "--json")
    assert code == 1
    assert [finding["code"] for finding in json.loads(out)["findings"]] == ["corrupt"]


def test_an_archive_is_found_by_its_registered_name(live, run):
    code, out, _ = run("archive", "list", "--json")
    assert code == 0
    [name] = [entry["name"] for entry in json.loads(out) if entry["root"] == str(live)]
    assert run("archive", "check", name)[0] == 0
    code, _, err = run("archive", "check", "no-such-archive")
    assert code == 1
    assert "no-such-archive" in err


def test_recover_says_that_there_was_nothing_to_do(live, run):
    code, out, _ = run("archive", "recover", live, "--json")
    assert (code, json.loads(out)) == (0, {"recovered": [], "blocked": []})


def test_dtypes_are_added_and_listed(run):
    assert run("archive", "dtype", "add", "spikes", "application/x-spikes")[0] == 0
    assert "spikes" in run("archive", "dtype", "list")[1]
    code, _, err = run("archive", "dtype", "add", "spikes", "application/other")
    assert code == 1
    assert "already exists" in err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("archive", "deposit", "LIVE", "x"), 2, "--dtype"),
        (("archive", "deposit", "LIVE", "-d", "session-raw"), 2, "at least one file"),
        (("archive", "deposit", "LIVE", "x", "-d", "nope"), 1, "nope"),
        (("archive", "deposit", "LIVE", "x", "-d", "session-raw", "-k", "novalue"), 2, "KEY=VALUE"),
        (("archive", "deposit", "/nonexistent", "x", "-d", "session-raw"), 1, "not an archive"),
        (("archive", "init", "LIVE"), 1, "already exists"),
        (("archive", "init", "LIVE2", "-u", "9"), 2, "octal"),
        (("archive", "init", "LIVE2", "-g", "no-such-group"), 1, "group"),
        (("-r", "http://127.0.0.1:9/", "archive", "list"), 1, "registry"),
        (("-a", "nocolon", "archive", "list"), 2, "USER:PASSWORD"),
        (("-a", "depositor:secret-text", "archive", "dtype", "add", "q", "r"), 1, "login"),
    ],
)
def test_what_is_wrong_is_said_with_the_right_exit_code(live, run, monkeypatch, arguments, code, word):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    got, out, err = run(
        *(str(live) + argument[4:] if argument.startswith("LIVE") else argument for argument in arguments)
    )
    assert (got, out) == (code, "")
    assert word in err
    assert "secret-text" not in err


def test_without_a_registry_the_command_says_how_to_name_one(run, monkeypatch):
    monkeypatch.delenv("NBANK_REGISTRY")
    code, _, err = run("archive", "list")
    assert code == 2
    assert "NBANK_REGISTRY" in err


def test_the_registry_command_migrates_and_makes_users(tmp_path):
    import subprocess
    import sys

    environment = registry_environment(tmp_path / "r.sqlite")
    command = [sys.executable, "-m", "aind_pipelines.cli", "registry"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    early = call("create-user", "anna")
    assert early.returncode == 1
    assert "Migrate" in early.stderr
    assert call("migrate").returncode == 0
    done = call("create-user", "anna")
    assert (done.returncode, done.stdout) == (0, "")
    assert "made the user anna" in done.stderr
    assert PASSWORD not in done.stderr


def test_a_file_system_that_promises_less_is_told_by_init_and_doctor(run, tmp_path, request):
    import errno
    import os

    from aind_pipelines.archive import fsops
    from aind_pipelines.cli.diagnosis import _archive

    def lacking(operation: str, path: Path) -> None:
        if operation in ("link", "rename_new"):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))

    with fsops.fault_hook(lacking):
        code, _, err = run("archive", "init", tmp_path / "weak", "-n", f"weak-{abs(hash(request.node.name)) % 10**8}")
        assert (code, "Neither hard links" in err) == (0, True)
        assert "Neither hard links" in _archive(tmp_path / "weak")
    assert "links" not in _archive(tmp_path / "weak")
