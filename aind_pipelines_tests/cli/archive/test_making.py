"""``aind-pipelines archive init``."""

import errno
import os
import stat
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.cli.diagnosis import _archive


def test_modes_follow_the_umask_and_the_sticky_bit_is_asked_for(tmp_path, run, mark, files):
    live = tmp_path / "s"
    assert run("archive", "init", live, "-n", f"s-{mark}", "-u", "027", "--sticky")[0] == 0
    assert run("archive", "deposit", live, *files, "-d", "session-raw")[0] == 0
    modes = {name: stat.S_IMODE((live / name).stat().st_mode) for name in ("resources", "staging", ".journal")}
    assert modes == {"resources": 0o3750, "staging": 0o2750, ".journal": 0o2750}
    assert stat.S_IMODE((live / "resources" / mark[:2]).stat().st_mode) == 0o3750
    assert run("archive", "check", live)[0] == 0


def test_what_other_programs_make_gets_the_rights_of_the_umask(tmp_path, run, mark):
    live = tmp_path / "a"
    code, _, err = run("archive", "init", live, "-n", f"a-{mark}", "-u", "027", "--acl")
    if "takes no default ACL" in err:
        pytest.skip("this file system has no ACLs")
    assert code == 0
    before = os.umask(0)
    try:
        (live / "resources" / "xy").mkdir()
        (live / "resources" / "xy" / "f").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((live / "resources" / "xy").stat().st_mode) & 0o777 == 0o750
    assert stat.S_IMODE((live / "resources" / "xy" / "f").stat().st_mode) == 0o640


def test_a_file_system_without_acls_is_said_before_anything_is_made(tmp_path, run, mark, registry_process):
    def refuses(operation: str, path: object) -> None:
        if operation == "set_attribute":
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    with fsops.fault_hook(refuses):
        code, out, err = run("archive", "init", tmp_path / "a", "-n", f"n-{mark}", "--acl")
    assert (code, out) == (1, "")
    assert "--acl" in err
    assert list(tmp_path.iterdir()) == []
    with registry_process.client() as client:
        assert client.get_archive(f"n-{mark}") is None


def test_a_name_that_the_registry_has_is_refused_before_anything_is_made(live, tmp_path, run, mark):
    code, _, err = run("archive", "init", tmp_path / "again", "-n", f"live-{mark}")
    assert code == 1
    assert "already has" in err
    assert not (tmp_path / "again").exists()


def test_a_file_system_that_promises_less_is_told_by_init_and_doctor(run, tmp_path, mark):
    def lacking(operation: str, path: Path) -> None:
        if operation in ("link", "rename_new"):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))

    with fsops.fault_hook(lacking):
        code, _, err = run("archive", "init", tmp_path / "weak", "-n", f"weak-{mark}")
        assert (code, "Neither hard links" in err) == (0, True)
        assert "Neither hard links" in _archive(tmp_path / "weak")
    assert "links" not in _archive(tmp_path / "weak")
