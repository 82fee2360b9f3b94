"""``aind-pipelines archive fetch`` and ``copy``."""

import json


def test_fetch_tells_each_result(live, run, deposited, files, tmp_path, registry_process):
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / files[1].name).write_text("mine")
    full = f"{registry_process.url}resources/{deposited[0]}/"
    code, out, _ = run("archive", "fetch", full, deposited[1], "gone", "-d", dest)
    assert code == 1
    assert out.splitlines() == [
        f"{full:<20}\t-> {dest / files[0].name}",
        f"{deposited[1]:<20}\t(target {dest / files[1].name} already exists)",
        f"{'gone':<20}\t(not registered)",
    ]
    assert (dest / files[0].name).read_bytes() == files[0].read_bytes()
    assert (dest / files[1].name).read_text() == "mine"
    code, out, _ = run("archive", "fetch", "-j", "-f", "-@", "-d", dest, stdin=deposited[1].encode())
    assert (code, json.loads(out)["status"], json.loads(out)["verified"]) == (0, "fetched", True)
    assert (dest / files[1].name).read_bytes() == files[1].read_bytes()
    assert run("archive", "fetch", "-e", "dat", "-d", dest, deposited[0])[0] == 0
    assert sorted(path.name for path in dest.iterdir()) == sorted([*(f.name for f in files), f"{deposited[0]}.dat"])


def test_copy_says_what_was_copied_verified_and_missing(live, second, run, deposited, tmp_path, mark):
    code, out, _ = run("archive", "copy", second, *deposited, "-y")
    assert code == 0
    assert all("to be copied from" in line for line in out.splitlines())
    assert run("archive", "check", second, "--json")[0] == 0
    listed = tmp_path / "ids.txt"
    listed.write_text("\n".join(["# both", *deposited]))
    code, out, _ = run("archive", "copy", second, "-f", listed, "gone", "-j")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["status"] for row in rows]) == (1, ["failed", "copied", "copied"])
    code, out, _ = run("archive", "copy", second, *deposited)
    assert code == 0
    assert out.count("not read again") == 2
    code, out, _ = run("archive", "copy", second, *deposited, "--verify", "-a", f"live-{mark}")
    assert (code, out.count(", verified")) == (0, 2)
    code, out, _ = run("archive", "check", second, "--json")
    assert (code, json.loads(out)["resources"]) == (0, 2)
