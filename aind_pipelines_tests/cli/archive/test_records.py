"""``aind-pipelines archive info``, ``search`` and ``modify``, and the data types."""

import hashlib
import json


def test_info_prints_records_and_names_what_is_missing(live, run, files, registry_process):
    assert run("archive", "deposit", live, *files, "-d", "session-raw", "-k", "site=3", "-k", "tag=x")[0] == 0
    code, out, _ = run("archive", "info", files[0].stem)
    assert (code, json.loads(out)["metadata"]) == (0, {"site": 3, "tag": "x"})
    full = f"{registry_process.url}resources/{files[0].stem}/"
    code, out, _ = run("archive", "info", "-j", full, "gone", "-@", stdin=files[1].stem.encode())
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["id"] for row in rows]) == (1, [files[0].stem, "gone", files[1].stem])
    assert rows[1] == {"id": "gone", "error": "not found"}
    assert json.loads(run("archive", "info", files[0].stem, "--json")[1])[0]["dtype"] == "session-raw"


def test_search_by_name_hash_dtype_archive_scheme_and_metadata(live, run, files, mark, registry_process):
    assert run("archive", "deposit", live, files[0], "-d", "session-raw", "-k", f"who={mark}", "-k", "n=1")[0] == 0
    assert run("archive", "deposit", live, files[1], "-d", "session-raw", "-k", f"who={mark}", "-k", "n=2")[0] == 0
    one, two = (path.stem for path in files)
    sha1 = hashlib.sha1(files[0].name.encode()).hexdigest()

    def found(*arguments: object) -> list[str]:
        code, out, _ = run("archive", "search", *arguments)
        assert code == 0
        return sorted(out.split())

    assert found(mark) == [one, two]
    assert found(f"{registry_process.url}resources/{two}/") == [two]
    assert found("-H", sha1) == found("-H", sha1[3:20], mark) == [one]
    assert found("-n", f"live-{mark}") == [one, two]
    assert found("-n", f"live-{mark}x") == []
    assert found(mark, "-d", "session", "-s", "neuro") == [one, two]
    assert found(mark, "-s", "tape") == []
    assert found("-k", f"who={mark}", "-k", "n=2") == [two]
    assert found("-k", f"who={mark}", "-K", "n=2") == [one]
    _, out, _ = run("archive", "search", "-j", mark)
    assert {row["id"]: row["metadata"]["n"] for row in map(json.loads, out.splitlines())} == {one: 1, two: 2}


def test_modify_sets_and_removes_and_says_what_is_missing(live, run, files):
    assert run("archive", "deposit", live, *files, "-d", "session-raw", "-k", "a=1", "-k", "b=2")[0] == 0
    code, out, _ = run(
        "archive", "modify", "-j", files[0].stem, "gone", files[1].stem, "-k", 'c={"d": [1]}', "-K", "a"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert rows[1] == {"id": "gone", "error": "not found"}
    assert rows[0]["metadata"] == rows[2]["metadata"] == {"b": 2, "c": {"d": [1]}}


def test_dtypes_are_added_and_listed(run, mark):
    assert run("archive", "dtype", "add", mark, "application/x-spikes")[0] == 0
    assert f"{mark:<25}\t(application/x-spikes)" in run("archive", "dtype", "list")[1]
    assert mark in [row["name"] for row in json.loads(run("archive", "dtype", "list", "--json")[1])]
    code, _, err = run("archive", "dtype", "add", mark, "application/other")
    assert code == 1
    assert "already exists" in err


def test_a_reader_that_ends_early_is_no_traceback(deposited, mark, registry_process):
    import os
    import subprocess
    import sys

    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "aind_pipelines.cli", "archive", "search", "-j", mark]
    environment = os.environ | {"NBANK_REGISTRY": registry_process.url}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
