"""``aind-pipelines archive deposit`` and ``recover``: what they print, and the exit codes that a scheduler sees."""

import contextlib
import hashlib
import json
import os
import pty
import subprocess
import sys

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines_tests.registry_process import die, in_child


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


def test_a_terminal_sees_the_bytes_go_by_and_a_file_sees_no_bar(live, run, files, tmp_path):
    path = files[0]
    path.write_bytes(path.name.encode() * 1_000_000)
    command = [sys.executable, "-m", "aind_pipelines.cli", "archive", "deposit", str(live), str(path)]
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        [*command, "-d", "session-raw", "--copy"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=other
    )
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal that has lost its other side with EIO
        while piece := os.read(terminal, 65_536):
            shown += piece
    os.close(terminal)
    assert process.wait() == 0
    assert "deposit" in shown.decode()
    assert f"{path.stat().st_size / 1e6:.1f} MB" in shown.decode()
    assert run("archive", "deposit", live, path, "-d", "session-raw", "--copy")[2] == ""


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


def test_a_dry_run_changes_nothing(live, run, files, registry_process):
    before = sorted(live.rglob("*"))
    code, out, _ = run("archive", "deposit", live, *files, "-d", "session-raw", "-y")
    assert code == 0
    assert all(row["dry_run"] for row in json.loads(out))
    assert sorted(live.rglob("*")) == before
    assert all(path.exists() for path in files)
    with registry_process.client() as client:
        assert client.get_resource(files[0].stem) is None


def test_recover_says_that_there_was_nothing_to_do(live, run):
    code, out, err = run("archive", "recover", live, "--json")
    assert (code, json.loads(out)) == (0, {"recovered": [], "blocked": []})
    assert "0 finished, 0 rolled back, 0 blocked" in err


@pytest.mark.parametrize(("operation", "status"), [("write", "rolled_back"), ("unlink", "finished")])
def test_recover_names_what_it_settled(live, run, files, operation, status):
    def killed() -> None:
        def hook(step: str, path: object) -> None:
            if step == operation and str(path) != str(files[0]) and "jsonl" not in str(path):
                die()
            if step == operation == "unlink":
                die()

        with fsops.fault_hook(hook):
            run("archive", "deposit", live, files[0], "-d", "session-raw")

    assert in_child(killed) == -9
    code, out, err = run("archive", "recover", live)
    assert code == 0
    assert out.split("\t")[:2] == [f"{files[0].stem:<20}", status]
    assert "1 " + status.replace("_", " ") in err
    assert files[0].exists() is (status == "rolled_back")


def test_recover_exits_1_when_a_journal_is_another_users(live, run, monkeypatch):
    (live / ".journal" / "20260101T000000-00000000.jsonl").touch()

    def refused(*_arguments: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setattr("aind_pipelines.archive.recovery.Journal.take_over", refused)
    code, _, err = run("archive", "recover", live)
    assert code == 1
    assert "20260101T000000-00000000.jsonl: blocked" in err


def test_recover_exits_1_for_a_registered_copy_that_the_crash_hurt(live, run, files, mark, registry_process):
    def killed() -> None:
        published = False

        def hook(operation: str, _path: object) -> None:
            nonlocal published
            if published:
                die()
            published = operation == "rename_new"

        with fsops.fault_hook(hook):
            run("archive", "deposit", live, files[0], "--copy", "-d", "session-raw")

    assert in_child(killed) == -9
    copy = live / "resources" / files[0].name[:2] / files[0].name
    with registry_process.client() as client:
        client.register(files[0].stem, hashlib.sha1(copy.read_bytes()).hexdigest(), "session-raw", f"live-{mark}")
    copy.chmod(0o600)
    copy.write_text(files[0].name.swapcase())
    code, out, err = run("archive", "recover", live)
    assert (code, out.split("\t")[1]) == (1, "damaged")
    assert "1 damaged" in err
    assert files[0].exists()


@pytest.mark.parametrize("between", [b"\n", b"\0"], ids=["lines", "nul"])
def test_names_come_from_standard_input(live, run, files, between):
    listed = between.join(str(path).encode() for path in files)
    code, out, _ = run("archive", "deposit", live, "-@", "-j", "-d", "session-raw", stdin=listed)
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [path.stem for path in files]


def test_the_registry_assigns_identifiers_and_they_are_mapped_to_the_old_names(live, run, files, tmp_path, mark):
    odd = tmp_path / "no id.nii.gz"
    odd.write_text("odd" + mark)
    code, out, _ = run("archive", "deposit", live, odd, files[0], tmp_path / "gone", "-A", "-d", "session-raw")
    rows = json.loads(out)
    assert code == 1
    assert [row["source"] for row in rows] == [str(odd), str(files[0]), str(tmp_path / "gone")]
    assert ["error" in row for row in rows] == [False, False, True]
    ids = [row["id"] for row in rows[:2]]
    assert all(len(id_) == 8 and id_ != files[0].stem for id_ in ids)
    assert (live / "resources" / ids[0][:2] / f"{ids[0]}.gz").read_text() == "odd" + mark
    assert not odd.exists()
    odd.write_text("odd" + mark)
    code, out, _ = run("archive", "deposit", live, odd, "-A", "-d", "session-raw")
    assert (code, json.loads(out)[0]["id"], json.loads(out)[0]["status"]) == (0, ids[0], "already_there")
    assert run("archive", "check", live)[0] == 0


def test_the_archives_policy_can_ask_for_uuids(live, run, files):
    config = json.loads((live / "nbank.json").read_text())
    config["policy"] |= {"auto_identifiers": True, "auto_id_type": "uuid"}
    (live / "nbank.json").write_text(json.dumps(config))
    code, out, _ = run("archive", "deposit", live, *files, "-d", "session-raw", "-j")
    assert code == 0
    assert all(len(json.loads(line)["id"]) == 36 for line in out.splitlines())
    config["policy"]["auto_id_type"] = "roman"
    (live / "nbank.json").write_text(json.dumps(config))
    code, _, err = run("archive", "deposit", live, "x", "-d", "session-raw")
    assert code == 1
    assert "auto_id_type" in err


def test_a_list_is_closed_when_the_registry_fails_in_its_midst(live, run, files, monkeypatch):
    from aind_pipelines.clients.errors import ServiceUnavailable
    from aind_pipelines.clients.registry import RegistryClient

    def fails(*_arguments: object) -> None:
        raise ServiceUnavailable("registry", "it went away")

    monkeypatch.setattr(RegistryClient, "register_many", fails)
    code, out, err = run("archive", "deposit", live, *files, "-d", "session-raw")
    assert (code, json.loads(out)) == (1, [])
    assert "it went away" in err
    assert all(path.exists() for path in files)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("archive", "deposit", "LIVE", "x"), 1, "session-raw"),
        (("archive", "deposit", "LIVE", "-d", "session-raw"), 2, "at least one file"),
        (("archive", "deposit", "LIVE", "x", "-d", "nope"), 1, "session-raw"),
        (("archive", "deposit", "LIVE", "x", "-d", "session-raw", "-k", "novalue"), 2, "KEY=VALUE"),
        (("archive", "locate"), 2, "at least one identifier"),
        (("archive", "locate", "a b"), 2, "no identifier"),
        (("archive", "locate", "x", "-0", "-j"), 2, "-0"),
        (("archive", "locate", "x", "-L", "/nonexistent"), 1, "no folder"),
        (("archive", "search"), 2, "filter"),
        (("archive", "search", "-K", "x"), 2, "KEY=VALUE"),
        (("archive", "modify", "x"), 2, "name a change"),
        (("archive", "modify", "x", "-k", "a=1", "-K", "a"), 2, "both"),
        (("archive", "modify", "http://127.0.0.1:9/n/resources/x/", "-K", "a"), 2, "another registry"),
        (("archive", "verify"), 2, "at least one file"),
        (("archive", "fetch", "x", "-d", "/nonexistent"), 1, "no folder"),
        (("archive", "copy", "/nonexistent", "x"), 1, "not an archive"),
        (("archive", "copy", "LIVE", "-f", "/nonexistent"), 2, "cannot be read"),
        (("archive", "deposit", "/nonexistent", "x", "-d", "session-raw"), 1, "not an archive"),
        (("archive", "init", "LIVE"), 1, "already exists"),
        (("archive", "init", "LIVE-new", "-u", "9"), 2, "octal"),
        (("archive", "init", "LIVE-new", "-g", "no-such-group"), 1, "group"),
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


def test_what_the_archive_had_lost_is_restored_and_said_so(live, run, files, deposited):
    (lost,) = (live / "resources").glob(f"*/{files[0].name}")
    lost.unlink()
    code, out, err = run("archive", "deposit", live, *files, "-d", "session-raw", "--copy", "-y")
    assert (code, [row["status"] for row in json.loads(out)]) == (0, ["to_restore", "already_there"])
    code, out, err = run("archive", "deposit", live, *files, "-d", "session-raw", "--copy")
    rows = json.loads(out)
    assert (code, [row["status"] for row in rows]) == (0, ["restored", "already_there"])
    assert "had lost its bytes" in rows[0]["note"]
    assert f"{files[0]}: the archive had lost its bytes" in err
    assert lost.read_bytes() == files[0].read_bytes()
    code, out, err = run("archive", "deposit", live, *files, "-d", "session-raw", "--copy", "-y")
    assert [row["status"] for row in json.loads(out)] == ["already_there", "already_there"]
