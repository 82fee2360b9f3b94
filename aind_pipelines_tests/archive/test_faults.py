"""Killed anywhere, or with a disk that fails anywhere, a mixed deposit loses nothing and the next run completes it."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.archive import copying
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.intake import LocalFile
from aind_pipelines.archive.layout import Archive
from aind_pipelines_tests.archive.oracle import Oracle, read
from aind_pipelines_tests.archive.scenes import WAYS, Scene, at, seeded
from aind_pipelines_tests.counts import SOAK, examples
from aind_pipelines_tests.registry_process import PASSWORD, USER, RegistryProcess, die, in_child

_numbers = itertools.count()


@pytest.fixture(params=list(WAYS))
def scene(request, tmp_path, archive, registry_process, monkeypatch) -> Scene:
    monkeypatch.setattr(copying, "LARGE", 40_000)
    monkeypatch.setattr(copying, "_BLOCK", 16_384)
    return Scene(tmp_path, archive, registry_process, request.param)


@pytest.mark.slow
def test_killed_at_any_step_nothing_is_lost_and_the_next_run_completes(scene):
    chance = seeded("kills")
    total = len(scene.steps())
    steps = range(1, total + 1) if SOAK else chance.sample(range(1, total + 1), 6)
    for step in steps:
        items = scene.items()
        code = in_child(lambda items=items, step=step: scene.deposit(items, at(step, die)))
        assert code in (-9, 0)
        scene.oracle.holds()
        again = chance.randint(1, 12)
        in_child(lambda again=again: scene.recover(at(again, die)))
        scene.converges(items)


@pytest.mark.slow
def test_a_disk_that_fails_anywhere_loses_nothing_and_the_next_run_completes(scene):
    chance = seeded("errors")
    steps = scene.steps()
    for _ in range(examples(5)):
        items = scene.items()
        code = chance.choice([errno.EIO, errno.ENOSPC, errno.EDQUOT])
        operation = chance.choice(sorted(set(steps)))
        number = chance.randint(1, steps.count(operation))
        print(os.strerror(code), operation, number)

        def fail(code=code) -> None:
            raise OSError(code, os.strerror(code), "somewhere")

        try:
            scene.deposit(items, at(number, fail, operation))
        except ArchiveWriteFailed as problem:
            assert os.strerror(code) in str(problem)  # noqa: PT017 - not every step fails the deposit
        scene.converges(items)


DEPOSITOR = """
import sys
from pathlib import Path
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.registry import RegistryClient

target, url, user, password, keep, *files = sys.argv[1:]
items = [DepositItem(Path(f).stem, local_source(Path(f)), "session-raw", {}, keep == "keep") for f in files]
print("ready", flush=True)
sys.stdin.readline()
with RegistryClient(url, (user, password), pause=0.05) as registry:
    for result in deposit(Archive.open(target), registry, items):
        print(result.id, result.status, result.reason, flush=True)
"""


def depositor(archive: Archive, process: RegistryProcess, keep: str, files: list[Path], *before: str):
    command = [*before, sys.executable, "-c", DEPOSITOR, str(archive.path), process.url, USER, PASSWORD, keep]
    return subprocess.Popen(
        [*command, *map(str, files)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_killed_by_the_kernel_at_a_system_call(tmp_path, archive, registry_process, registry):
    chance = seeded("strace")
    scene = Scene(tmp_path, archive, registry_process, "local disk")
    for call in chance.sample(["renameat2", "syncfs", "fsync", "fchmod", "unlink", "pwrite64"], 6 if SOAK else 2):
        items = scene.items()
        inject = f"inject={call}:signal=KILL:when={chance.randint(1, 4)}"
        files = [Path(item.source.uri) for item in items]
        child = depositor(
            archive, registry_process, "move", files, "strace", "-f", "-qq", "-o", os.devnull, "-e", inject
        )
        child.communicate("\n", timeout=120)
        scene.oracle.holds()
        scene.recover()
        scene.oracle.settled(all_there=False)
        scene.deposit([item for item in items if os.path.lexists(item.source.uri)])
        scene.oracle.settled(all_there=True)


@pytest.mark.slow
def test_eight_depositors_of_overlapping_sets_give_each_identifier_one_copy(tmp_path, archive, registry_process):
    chance = seeded("eight")
    oracle = Oracle(archive.path, registry_process.database)
    mark = f"e{next(_numbers)}x"
    files = []
    for number in range(40):
        path = tmp_path / f"{mark}{number}.dat"
        path.write_bytes(path.stem.encode())
        oracle.given[path.stem] = (read(path), path)
        files.append(path)
    children = []
    for _ in range(8):
        own = chance.sample(files, 25)
        children.append(depositor(archive, registry_process, "keep", own))
    for child in children:
        assert child.stdout.readline() == "ready\n"
    said = [child.communicate("\n", timeout=200) for child in children]
    assert [child.returncode for child in children] == [0] * 8, said
    outcomes: dict[str, list[str]] = {}
    for out, _ in said:
        for line in out.splitlines():
            id_, status = line.split()[:2]
            outcomes.setdefault(id_, []).append(status)
    for statuses in outcomes.values():
        assert sorted(statuses) == ["already_there"] * (len(statuses) - 1) + ["deposited"]
    oracle.settled(all_there=False)
    assert oracle.registered().keys() == outcomes.keys()


NAMES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=string.ascii_letters + string.digits + "-_.~", min_size=1, max_size=12),
    st.sampled_from(
        ["..", ".", "", "a/b", "x\0y", "-rf", "~", "a" * 256, "A" * 255, "é", "a\nb", "\udcff", "*", "con"]
    ),
)


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(names=st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6))
def test_any_name_is_either_kept_in_its_place_or_refused(tmp_path, archive, registry_process, registry, names):
    number = next(_numbers)
    folder = tmp_path / f"names{number}"
    folder.mkdir()
    oracle = Oracle(archive.path, registry_process.database)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(archive.path)}
    items = []
    for place, (id_, name) in enumerate(names):
        path = folder / f"{place}" / "plain"
        path.parent.mkdir()
        try:
            path = path.with_name(name)
            path.write_bytes(f"{number} {place} {id_!r}".encode())
        except (OSError, ValueError):
            path = path.parent / "plain"
            path.write_bytes(f"{number} {place} {id_!r}".encode())
        items.append(DepositItem(id_, LocalFile(path), "session-raw"))
    results = list(deposit(archive, registry, items))
    assert [result.id for result in results] == [item.id for item in items]
    for item, result in zip(items, results, strict=True):
        assert result.reason or result.status != "refused"
        if result.status == "deposited":
            stored = archive.resources / result.path
            assert stored.parent.parent == archive.resources
            assert stored.stem == item.id
            assert read(stored) == read(Path(item.source.uri))
            oracle.given[item.id] = (read(stored), Path(item.source.uri))
    assert outside <= set(tmp_path.rglob("*"))
    assert list(archive.staging.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_fails_clearly_and_with_more_room_the_next_run_completes(tmp_path, registry_process, registry):
    from aind_pipelines.archive.layout import init_archive

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        mark = f"full{next(_numbers)}x"
        archive = init_archive(disk / "live", registry, mark)
        oracle = Oracle(archive.path, registry_process.database)
        items = []
        for number in range(400):
            path = tmp_path / f"{mark}{number}.dat"
            path.write_bytes(f"{mark} {number} ".encode() * 400)
            oracle.given[path.stem] = (read(path), path)
            items.append(DepositItem(path.stem, LocalFile(path), "session-raw", {}, keep_source=False))
        with pytest.raises(ArchiveWriteFailed, match="No space left"):
            list(deposit(archive, registry, items))
        oracle.holds()
        subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
        left = [item for item in items if os.path.lexists(item.source.uri)]
        assert {result.status for result in deposit(archive, registry, left)} == {"deposited"}
        oracle.settled(all_there=True)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
