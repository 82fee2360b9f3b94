"""``aind-pipelines archive check`` and ``verify``."""

import json


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


def test_verify_says_what_each_file_is(run, deposited, files, tmp_path, mark):
    renamed = tmp_path / "renamed by hand.wav"
    renamed.write_bytes(files[0].read_bytes())
    taken = tmp_path / "other" / files[0].name
    taken.parent.mkdir()
    taken.write_bytes(files[1].read_bytes())
    new = tmp_path / f"{mark}new"
    new.write_text("new" + mark)
    named = [*files, renamed, taken, new, tmp_path / "gone"]
    code, out, err = run("archive", "verify", *named)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"{files[0]}: OK",
        f"{files[1]}: OK",
        f"{renamed}: matches registry resource {deposited[0]}",
        f"{taken}: FAILED to match record for {deposited[0]}; it matches registry resource {deposited[1]}",
        f"{new}: no matches in registry",
        f"{tmp_path / 'gone'}: no such file or directory",
    ]
    code, out, _ = run("archive", "verify", "-@", "-j", stdin=f"{files[0]}\n{renamed}\n".encode())
    assert code == 0
    assert [json.loads(line)["outcome"] for line in out.splitlines()] == ["ok", "renamed"]


def test_on_a_terminal_a_bar_is_shown_and_the_data_stays_clean(live, deposited, files, registry_process):
    import os
    import pty
    import subprocess
    import sys

    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "aind_pipelines.cli", "archive", "verify", "-j", *map(str, files)]
    environment = os.environ | {"NBANK_REGISTRY": registry_process.url, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=secondary, env=environment, timeout=60)
    os.close(secondary)
    shown = os.read(primary, 65536).decode()
    os.close(primary)
    assert done.returncode == 0
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True, True]
    assert "verify" in shown
    assert "2/2" in shown
