"""An archive that a group shares: one member's umask or crash is nobody else's trouble."""

import grp
import os
import pwd
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.journal import journal_files
from aind_pipelines.archive.layout import Archive, init_archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines_tests.archive.oracle import Oracle
from aind_pipelines_tests.archive.scenes import at
from aind_pipelines_tests.registry_process import RegistryProcess, die, in_child

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to become several users")
GROUP, FIRST, SECOND = "daemon", "daemon", "nobody"


def as_user(name: str, work: Callable[[], None]) -> int:
    """Do `work` in a child process of that user, a member of the group, who keeps everything to himself by umask."""

    def child() -> None:
        os.setgroups([])
        os.setgid(grp.getgrnam(GROUP).gr_gid)
        os.setuid(pwd.getpwnam(name).pw_uid)
        os.umask(0o077)
        work()

    return in_child(child)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def live(shared: Path, registry_process: RegistryProcess, unique: str) -> Path:
    def make() -> None:
        with registry_process.client() as registry:
            init_archive(shared / "live", registry, unique)

    assert as_user(FIRST, make) == 0
    return shared / "live"


def items(shared: Path, live: Path, mark: str) -> list[DepositItem]:
    """Four files and a directory, moved and kept, of whoever calls."""
    paths = [shared / f"{number}{mark}.dat" for number in range(4)]
    for path in paths:
        path.write_text(path.name)
    tree = shared / f"t{mark}"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text(f"{mark} a")
    (tree / "sub" / "b").write_text(f"{mark} b")
    return [
        DepositItem(path.stem, local_source(path), "session-raw", {}, keep_source=number % 2 == 0)
        for number, path in enumerate([*paths, tree])
    ]


def deposit_all(registry: RegistryClient, live: Path, wanted: list[DepositItem]) -> None:
    found = list(deposit(Archive.open(live), registry, wanted))
    assert {result.status for result in found} == {"deposited"}, found


def test_everybody_in_the_group_can_deposit_whatever_the_umask_of_the_first(live, shared, registry_process, unique):
    def work(name: str) -> None:
        with registry_process.client() as registry:
            deposit_all(registry, live, items(shared, live, f"{name}{unique}"))
        archive = Archive.open(live)
        assert stat.S_IMODE((archive.journal / "lock").stat().st_mode) == archive.file_mode_shared

    for name in (FIRST, SECOND):
        assert as_user(name, lambda name=name: work(name)) == 0


@pytest.mark.parametrize(
    ("operation", "number"), [("fsync", 3), ("rename_new", 2), ("rename_new", 4), ("chmod", 2), ("unlink", 1)]
)
def test_the_crash_of_one_blocks_nobody_else_and_is_settled_by_its_owner(
    live, shared, registry_process, unique, operation, number
):
    oracle = Oracle(live, registry_process.database)
    for mark in (f"k{unique}", f"o{unique}"):
        for name in [f"{number}{mark}" for number in range(4)]:
            oracle.given[name] = ({"": f"{name}.dat".encode()}, shared / f"{name}.dat")
        oracle.given[f"t{mark}"] = ({"a": f"{mark} a".encode(), "sub/b": f"{mark} b".encode()}, shared / f"t{mark}")

    def killed() -> None:
        with registry_process.client() as registry, fsops.fault_hook(at(number, die, operation)):
            deposit_all(registry, live, items(shared, live, f"k{unique}"))

    def another() -> None:
        with registry_process.client() as registry:
            [left] = recover(Archive.open(live), registry).blocked
            assert "another user" in left.reason
            deposit_all(registry, live, items(shared, live, f"o{unique}"))

    def looked_at() -> None:
        with registry_process.client() as registry:
            archive = Archive.open(live)
            [journal] = journal_files(archive)
            assert "interrupted" not in {finding.code for finding in check(archive, registry, "exists").findings}
            days_ago = time.time() - 3 * 86_400
            os.utime(journal, (days_ago, days_ago))
            report = check(archive, registry, "exists")
            [found] = [finding for finding in report.findings if finding.code == "interrupted"]
            assert f"(user id {pwd.getpwnam(FIRST).pw_uid}) or root settles them" in found.message
            assert found not in report.failures

    def owner() -> None:
        with registry_process.client() as registry:
            result = recover(Archive.open(live), registry)
            assert result.blocked == ()
            assert len(result.recovered) > 0

    assert as_user(FIRST, killed) == -9
    assert as_user(SECOND, another) == 0
    looked_at()
    assert as_user(FIRST, owner) == 0
    oracle.settled(all_there=False)
    assert {name for name in oracle.given if f"o{unique}" in name} <= oracle.registered().keys()
