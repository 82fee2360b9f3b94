"""What the fault tests do their deposits with: an archive, mixed sources, faults at any step, and the oracle."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines_tests.archive.oracle import Oracle, read
from aind_pipelines_tests.registry_process import RegistryProcess

WAYS = {
    "local disk": {},
    "no syncfs": {"syncfs": False},
    "no rename that refuses": {"rename_new": False},
    "no links either": {"rename_new": False, "links": False, "syncfs": False},
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


def at(number: int, act: Callable[[], None], operation: str | None = None) -> Callable[[str, Path], None]:
    """Do `act` at the step of that number, counted from 1."""
    steps = itertools.count(1)

    def fault(done: str, _path: Path) -> None:
        if operation in (None, done) and next(steps) == number:
            act()

    return fault
