"""An archive on a real SSHFS: what it promises, and that crashes that lose the mount lose nothing else.

The server side is OpenSSH's own sftp-server, reached by a pipe; there is no network and no login between.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aind_pipelines.archive import copying
from aind_pipelines.archive.deposit import deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.layout import Archive, init_archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines_tests.archive.scenes import Scene, at, seeded
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.registry_process import RegistryProcess, die, in_child

_SERVERS = [Path("/usr/lib/openssh/sftp-server"), Path("/usr/libexec/openssh/sftp-server")]
SERVER = next((path for path in _SERVERS if path.exists()), None)

pytestmark = pytest.mark.skipif(
    SERVER is None or shutil.which("sshfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="sshfs, OpenSSH's sftp-server or /dev/fuse is missing",
)


class Mount:
    """A folder seen through SSHFS."""

    def __init__(self, folder: Path) -> None:
        self.behind = folder / "behind"
        self.path = folder / "mounted"
        self._server = folder / "server"
        self.behind.mkdir()
        self.path.mkdir()
        # sshfs adds arguments for ssh, which the server does not know.
        self._server.write_text(f"#!/bin/sh\nexec {SERVER}\n")
        self._server.chmod(0o755)

    def up(self) -> None:
        done = subprocess.run(
            ["sshfs", "-o", f"ssh_command={self._server}", f"here:{self.behind}", str(self.path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr}")

    def down(self) -> None:
        unmount = shutil.which("fusermount3") or "fusermount"
        subprocess.run([unmount, "-u", "-z", str(self.path)], check=True, timeout=60)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    (tmp_path / "sshfs").mkdir()
    made = Mount(tmp_path / "sshfs")
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def archive(mount: Mount, registry: RegistryClient, unique: str) -> Archive:
    return init_archive(mount.path / "live", registry, f"sshfs{unique}")


def test_what_it_cannot_promise_is_found_out_and_said(archive):
    found = archive.filesystem()
    assert found.type == "fuse.sshfs"
    assert not found.rename_new
    assert not found.syncfs
    assert any("this machine" in promise for promise in found.promises)


def test_deposits_arrive_and_are_found_good_after_a_new_mount(
    tmp_path, mount, archive, registry_process, registry, monkeypatch
):
    monkeypatch.setattr(copying, "LARGE", 40_000)
    scene = Scene(tmp_path, archive, registry_process, "local disk")
    items = scene.items()
    assert {result.status for result in deposit(archive, registry, items)} == {"deposited"}
    scene.oracle.settled(all_there=True)
    mount.down()
    mount.up()
    again = Archive.open(archive.path)
    report = check(again, registry)
    assert (report.ok, report.findings, len(report.verified)) == (True, [], len(items))
    kept = [item for item in items if item.keep_source]
    assert {result.status for result in deposit(again, registry, kept)} == {"already_there"}


def test_what_another_machine_left_is_recovered_only_when_that_is_asked_for(
    tmp_path, archive, registry_process, registry, monkeypatch
):
    scene = Scene(tmp_path, archive, registry_process, "local disk")
    items = scene.items()

    def elsewhere() -> None:
        monkeypatch.setattr("platform.node", lambda: "elsewhere")
        scene.deposit(items, at(1, die, "fsync"))

    assert in_child(elsewhere) == -9
    [left] = recover(archive, registry).blocked
    assert "archive recover --of elsewhere" in left.reason
    result = recover(archive, registry, hosts=["elsewhere"])
    assert result.blocked == ()
    assert len(result.recovered) > 0
    scene.oracle.settled(all_there=False)
    scene.deposit(items)
    scene.oracle.settled(all_there=True)


@pytest.mark.slow
def test_killed_at_any_step_and_mounted_anew_the_next_run_completes(
    tmp_path, mount, archive, registry_process: RegistryProcess, monkeypatch
):
    monkeypatch.setattr(copying, "LARGE", 40_000)
    monkeypatch.setattr(copying, "_BLOCK", 16_384)
    chance = seeded("sshfs kills")
    scene = Scene(tmp_path, archive, registry_process, "local disk")
    scene.oracle.claims = True
    total = len(scene.steps())
    for _ in range(examples(6)):
        items = scene.items()
        step = chance.randint(1, total)
        print("step", step)
        assert in_child(lambda items=items, step=step: scene.deposit(items, at(step, die))) in (-9, 0)
        mount.down()
        mount.up()
        scene.archive = Archive.open(archive.path)
        scene.converges(items)
