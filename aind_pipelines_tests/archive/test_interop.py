"""The published neurobank command and ours work on the same archives and registry, both ways."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from aind_pipelines.archive.copy import copy
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.fetch import fetch
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.layout import Archive, init_archive
from aind_pipelines.archive.naming import name_items
from aind_pipelines.archive.verify import verify
from aind_pipelines_tests.registry_process import PASSWORD, USER, RegistryProcess

NBANK = Path(sysconfig.get_path("scripts")) / "nbank"
pytestmark = pytest.mark.skipif(not NBANK.exists(), reason="the neurobank command is not installed")


def nbank(process: RegistryProcess, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBANK_")}
    return subprocess.run(
        [NBANK, "-r", process.url, "-a", f"{USER}:{PASSWORD}", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )


def test_what_we_deposit_the_command_checks_locates_and_verifies(
    tmp_path, archive, registry, registry_process, unique
):
    file = tmp_path / f"{unique}a.wav"
    file.write_bytes(unique.encode())
    folder = tmp_path / f"{unique}b"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("x" + unique)
    (folder / "sub" / "b").write_text("y")
    items = [DepositItem(path.stem, local_source(path), "session-raw", {"n": 1}) for path in (file, folder)]
    results = list(deposit(archive, registry, items))
    assert {result.status for result in results} == {"deposited"}
    checked = nbank(registry_process, "archive", "check", "-v", archive.path)
    assert checked.returncode == 0, checked.stderr
    located = nbank(registry_process, "locate", *[result.id for result in results])
    assert located.returncode == 0
    for result in results:
        assert str(archive.resources / result.path) in located.stdout
    for path in (file, folder):
        verified = nbank(registry_process, "verify", path)
        assert verified.returncode == 0, verified.stdout
        assert "OK" in verified.stdout
    info = nbank(registry_process, "info", results[0].id)
    assert json.loads(info.stdout)["metadata"] == {"n": 1}


def test_an_archive_of_the_command_takes_our_deposits_and_passes_our_check(
    tmp_path, registry, registry_process, unique
):
    made = nbank(registry_process, "init", "-n", unique, "-u", "027", tmp_path / "theirs")
    assert made.returncode == 0, made.stderr
    theirs = tmp_path / f"{unique}x.json"
    theirs.write_text(json.dumps(unique))
    done = nbank(registry_process, "deposit", "-d", "session-raw", "-k", "a=1", tmp_path / "theirs", theirs)
    assert done.returncode == 0, done.stderr
    archive = Archive.open(tmp_path / "theirs")
    report = check(archive, registry)
    assert (report.ok, list(report.digests)) == (True, [f"{unique}x"])
    ours = tmp_path / "ours.wav"
    ours.write_bytes(b"ours" + unique.encode())
    [result] = deposit(archive, registry, [DepositItem(f"{unique}y", local_source(ours), "session-raw")])
    assert result.status == "deposited", result.reason
    again = tmp_path / f"{unique}x.json"
    again.write_text(json.dumps(unique))
    [there] = deposit(archive, registry, [DepositItem(f"{unique}x", local_source(again), "session-raw")])
    assert (there.status, there.size, there.blake3) == ("already_there", len(unique) + 2, None)
    checked = nbank(registry_process, "archive", "check", archive.path)
    assert checked.returncode == 0, checked.stderr
    assert check(archive, registry).ok


def test_the_command_deposits_into_our_archive_and_meets_our_identifiers(
    tmp_path, archive, registry, registry_process, unique
):
    ours = tmp_path / "ours"
    ours.write_bytes(unique.encode())
    list(deposit(archive, registry, [DepositItem(f"{unique}o", local_source(ours), "session-raw")]))
    taken = tmp_path / f"{unique}o.wav"
    taken.write_bytes(b"other")
    refused = nbank(registry_process, "deposit", "-d", "session-raw", archive.path, taken)
    assert refused.returncode == 1
    assert taken.exists()
    new = tmp_path / f"{unique}n.wav"
    new.write_bytes(b"new" + unique.encode())
    done = nbank(registry_process, "deposit", "-j", "-d", "session-raw", archive.path, new)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == f"{unique}n"
    assert check(archive, registry).findings == []


def test_both_find_the_same_flipped_bit(tmp_path, archive, registry, registry_process, unique):
    path = tmp_path / "x.dat"
    path.write_bytes(unique.encode())
    [result] = deposit(archive, registry, [DepositItem(unique, local_source(path), "session-raw")])
    stored = archive.resources / result.path
    stored.chmod(0o644)
    stored.write_bytes(unique.upper().encode())
    stored.chmod(0o444)
    assert [finding.code for finding in check(archive, registry).findings] == ["corrupt"]
    assert nbank(registry_process, "archive", "check", archive.path).returncode == 1


def test_the_command_finds_what_we_copied_and_assigned(tmp_path, archive, second, registry, registry_process, unique):
    path = tmp_path / f"{unique} a.wav"
    path.write_text(unique)
    [(_, item)] = name_items(archive, registry, "registry", [path], "session-raw", {}, keep_source=True)
    [result] = deposit(archive, registry, [item])
    assert [copied.status for copied in copy(registry, [result.id], second)] == ["copied"]
    for each in (archive, second):
        checked = nbank(registry_process, "archive", "check", each.path)
        assert checked.returncode == 0, checked.stderr
    assert nbank(registry_process, "locate", result.id).stdout.count(f"{result.id}.wav") == 2
    assert f"matches registry resource {result.id}" in nbank(registry_process, "verify", path).stdout
    (tmp_path / "out").mkdir()
    assert nbank(registry_process, "fetch", "-d", tmp_path / "out", result.id).returncode == 0


def test_what_the_command_copied_and_deposited_we_fetch_and_copy(
    tmp_path, archive, registry, registry_process, unique
):
    made = nbank(registry_process, "init", "-n", unique, tmp_path / "theirs")
    assert made.returncode == 0, made.stderr
    file = tmp_path / f"{unique}x.json"
    file.write_text(json.dumps(unique))
    done = nbank(registry_process, "deposit", "-d", "session-raw", tmp_path / "theirs", file)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out").mkdir()
    [fetched] = fetch(registry, [f"{unique}x"], tmp_path / "out")
    assert (fetched.status, fetched.path.read_text()) == ("fetched", json.dumps(unique))
    assert [copied.status for copied in copy(registry, [f"{unique}x"], archive)] == ["copied"]
    [verified] = verify(registry, [fetched.path])
    assert verified.outcome == "ok"


def test_the_command_deposits_into_a_sticky_archive_with_an_acl(tmp_path, registry, registry_process, unique):
    try:
        archive = init_archive(tmp_path / "sticky", registry, unique, 0o027, sticky=True, acl=True)
    except ArchiveError as problem:
        pytest.skip(str(problem))
    for who in ("n", "o"):
        (tmp_path / f"{who}{unique}.wav").write_text(who + unique)
    done = nbank(registry_process, "deposit", "-d", "session-raw", archive.path, tmp_path / f"n{unique}.wav")
    assert done.returncode == 0, done.stderr
    ours = DepositItem(f"o{unique}", local_source(tmp_path / f"o{unique}.wav"), "session-raw")
    assert [result.status for result in deposit(archive, registry, [ours])] == ["deposited"]
    assert check(archive, registry).findings == []
