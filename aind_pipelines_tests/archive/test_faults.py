"""Killed anywhere, or with a disk that fails anywhere, a mixed deposit loses nothing and the next run completes it."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import random
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.archive import copying, fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.intake import LocalFile, local_source
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines_tests.archive.oracle import Oracle, read
from aind_pipelines_tests.counts import SOAK, examples
from aind_pipelines_tests.registry_process import PASSWORD, USER, RegistryProcess, die, in_child

WAYS = {
    "local disk": {},
    "no syncfs": {"syncfs": False},
    "no rename that refuses": {"rename_new": False},
    "no links either": {"rename_new": False, "links": False, "syncfs": False, "direct": False},
}
"""File systems by what they cannot do; what they cannot do fails when it is called."""
_CALLS = {"syncfs": "syncfs", "rename_new": "rename_new", "links": "link"}
_numbers = itertools.count()


def seeded(name: str) -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"{name}: seed {seed}")
    return random.Random(seed)


class Scene:
    """An archive on a file system that lacks something, and mixed deposits into it."""

    def __init__(self, folder: Path, archive: Archive, process: RegistryProcess, way: str) -> None:
        self.folder = folder
        self.process = process
        self.lacks = WAYS[way]
        archive._filesystem = dataclasses.replace(archive.filesystem(), **self.lacks)
        self.archive = archive
        self.oracle = Oracle(
            archive.path, process.database, claims="links" in self.lacks or "rename_new" in self.lacks
        )

    def items(self) -> list[DepositItem]:
        """Small files, one that goes through the buffers, a directory; moved or kept; all of them new."""
        mark = f"f{next(_numbers)}x{random.randrange(36**4)}"
        folder = self.folder / mark
        folder.mkdir()
        items = []
        for number in range(5):
            path = folder / f"{number}{mark}.dat"
            path.write_bytes(f"{mark} {number}".encode())
            items.append(path)
        large = folder / f"l{mark}.bin"
        large.write_bytes(mark.encode() * 20_000)
        tree = folder / f"d{mark}"
        (tree / "sub").mkdir(parents=True)
        for name in ("a", "b", "c", "sub/d"):
            (tree / name).write_bytes(f"{mark} {name}".encode())
        made = []
        for number, path in enumerate([*items, large, tree]):
            self.oracle.given[path.stem] = (read(path), path)
            made.append(DepositItem(path.stem, local_source(path), "session-raw", {}, keep_source=number % 2 == 0))
        return made

    def hook(self, fault: Callable[[str, Path], None] | None = None) -> Callable[[str, Path], None]:
        """What the file system lacks fails; and `fault` comes at its time."""
        missing = {_CALLS[name] for name in self.lacks if name in _CALLS}

        def step(operation: str, path: Path) -> None:
            if operation in missing:
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
            if fault is not None:
                fault(operation, path)

        return step

    def deposit(self, items: list[DepositItem], fault: Callable[[str, Path], None] | None = None) -> None:
        with fsops.fault_hook(self.hook(fault)), self.process.client() as registry:
            list(deposit(self.archive, registry, items, threads=2))

    def recover(self, fault: Callable[[str, Path], None] | None = None) -> None:
        with fsops.fault_hook(self.hook(fault)), self.process.client() as registry:
            recover(self.archive, registry)

    def steps(self) -> list[str]:
        """The operations of a deposit here, in order."""
        seen: list[str] = []
        self.deposit(self.items(), lambda done, _path: seen.append(done))
        self.oracle.settled(all_there=True)
        return seen

    def converges(self, items: list[DepositItem]) -> None:
        """The same deposit again completes it, and once more changes nothing."""
        self.oracle.holds()
        self.recover()
        self.oracle.settled(all_there=False)
        left = [item for item in items if os.path.lexists(item.source.uri)]
        self.deposit(left)
        self.oracle.settled(all_there=True)
        for item in items:
            assert item.keep_source or not os.path.lexists(item.source.uri) or item.id in self.oracle.registered()


@pytest.fixture(params=list(WAYS))
def scene(request, tmp_path, archive, registry_process, monkeypatch) -> Scene:
    monkeypatch.setattr(copying, "LARGE", 40_000)
    monkeypatch.setattr(copying, "_BLOCK", 16_384)
    return Scene(tmp_path, archive, registry_process, request.param)


def at(number: int, act: Callable[[], None], operation: str | None = None) -> Callable[[str, Path], None]:
    """Do `act` at the step of that number, counted from 1."""
    steps = itertools.count(1)

    def fault(done: str, _path: Path) -> None:
        if operation in (None, done) and next(steps) == number:
            act()

    return fault


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
