"""Killed at any change of a file, a deposit is finished or rolled back by the next recovery."""

import os
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import JournalDamaged
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import local_source, read_digests
from aind_pipelines.archive.journal import Journal, journal_files
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines_tests.registry_process import RegistryProcess, die, in_child


def killer(after: int):
    left = after

    def hook(_operation: str, _path: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    return hook


def make(root: Path, kind: str, mark: str) -> Path:
    if kind == "file":
        path = root / f"{mark}.dat"
        path.write_bytes(mark.encode())
        return path
    path = root / mark
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "a").write_bytes(mark.encode())
    (path / "b").write_bytes(b"b")
    return path


def every_location_has_its_bytes(archive: Archive, registry: RegistryClient) -> None:
    for resource in registry.iter_archive_resources(archive.name_in(registry)):
        [path] = archive.entries(resource.id)
        assert read_digests(local_source(path)).sha1 == resource.sha1


def deposit_one(process: RegistryProcess, archive: Archive, id_: str, path: Path, *, keep: bool) -> None:
    with process.client() as registry:
        list(deposit(archive, registry, [DepositItem(id_, local_source(path), "session-raw", keep_source=keep)]))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False], ids=["copy", "move"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_killed_at_any_step_a_deposit_converges(tmp_path, archive, registry_process, registry, unique, kind, keep):
    count = 0

    def counting(_operation: str, _path: Path) -> None:
        nonlocal count
        count += 1

    path = make(tmp_path, kind, f"{unique}count")
    with fsops.fault_hook(counting):
        deposit_one(registry_process, archive, f"{unique}count", path, keep=keep)
    assert count > 15
    outcomes = set()
    code = -9
    step = 0
    while code != 0:
        step += 1
        id_ = f"{step:02d}{unique}{kind[0]}{keep:d}"  # each in a folder of its own, made by the deposit
        path = make(tmp_path, kind, id_)

        def killed(id_=id_, path=path, step=step) -> None:
            with fsops.fault_hook(killer(step)):
                deposit_one(registry_process, archive, id_, path, keep=keep)

        code = in_child(killed)
        assert code in (-9, 0)
        every_location_has_its_bytes(archive, registry)
        if keep or registry.get_resource(id_) is None:
            assert read_digests(local_source(path)).size > 0

        def killed_again(step=step) -> None:
            with fsops.fault_hook(killer(1 + step % 7)), registry_process.client() as own:
                recover(archive, own)

        in_child(killed_again)
        every_location_has_its_bytes(archive, registry)
        outcomes |= {recovered.status for recovered in recover(archive, registry).recovered}
        assert recover(archive, registry).recovered == ()
        assert check(archive, registry).findings == []
        assert list(archive.staging.iterdir()) == []
        assert journal_files(archive) == []
        if registry.get_resource(id_) is None:
            deposit_one(registry_process, archive, id_, path, keep=keep)
        assert registry.get_resource(id_).locations == (archive.name_in(registry),)
        assert os.path.lexists(path) is keep
    assert outcomes == {"finished", "rolled_back"}
    assert step > count


@pytest.mark.parametrize("step", range(1, 9))
def test_killed_while_a_refused_copy_is_taken_out_it_still_goes(
    tmp_path, archive, registry_process, registry, unique, step
):
    original = make(tmp_path, "directory", f"{unique}o")
    deposit_one(registry_process, archive, f"{unique}o", original, keep=True)
    begun = False
    kill = killer(step)

    def hook(operation: str, path: Path) -> None:
        nonlocal begun
        begun = begun or (
            operation == "chmod" and path.name == f"{unique}dup" and path.parent.parent.name == "resources"
        )
        if begun:
            kill(operation, path)

    def refused() -> None:
        with fsops.fault_hook(hook):
            deposit_one(registry_process, archive, f"{unique}dup", original, keep=True)

    in_child(refused)
    recover(archive, registry)
    assert archive.entries(f"{unique}dup") == []
    assert check(archive, registry).findings == []
    assert journal_files(archive) == []


def test_a_live_depositor_is_left_alone(tmp_path, archive, registry):
    journal = Journal.create(archive)
    [entry] = journal.intend(
        [
            {
                "id": "busy", "dtype": "d", "metadata": {}, "kind": "file", "source": "/s", "source_kind": "file",
                "keep_source": True, "fingerprint": "f", "path": "bu/busy",
            }
        ]
    )  # fmt: skip
    assert recover(archive, registry).recovered == ()
    assert in_child(lambda: None if Journal.take_over(archive, journal_files(archive)[0]) is None else die()) == 0
    journal.dropped({entry: "test"})
    journal.close()


def interrupted(archive: Archive, process: RegistryProcess, id_: str, path: Path) -> Path:
    """A deposit that was killed once its copy was published; returns its journal."""

    def killed() -> None:
        published = False

        def hook(operation: str, _path: Path) -> None:
            nonlocal published
            if published:
                die()
            published = operation == "rename_new"

        with fsops.fault_hook(hook):
            deposit_one(process, archive, id_, path, keep=True)

    assert in_child(killed) == -9
    [journal] = journal_files(archive)
    return journal


def test_a_line_cut_short_by_the_crash_is_dropped(tmp_path, archive, registry_process, registry, unique):
    journal = interrupted(archive, registry_process, unique, make(tmp_path, "file", unique))
    with journal.open("ab") as file:
        file.write(b'{"event":"regi')
    assert [recovered.status for recovered in recover(archive, registry).recovered] == ["finished"]


def test_a_block_of_zeros_after_a_power_failure_is_dropped(tmp_path, archive, registry_process, registry, unique):
    journal = interrupted(archive, registry_process, unique, make(tmp_path, "file", unique))
    with journal.open("ab") as file:
        file.write(b"\0" * 512)
    assert [recovered.status for recovered in recover(archive, registry).recovered] == ["finished"]


def test_a_damaged_journal_is_named_and_not_touched(tmp_path, archive, registry_process, registry, unique):
    journal = interrupted(archive, registry_process, unique, make(tmp_path, "file", unique))
    good = journal.read_bytes()
    journal.write_bytes(b"garbage\n" + good)
    with pytest.raises(JournalDamaged, match=f"{journal.name}, line 1"):
        recover(archive, registry)
    assert journal.read_bytes() == b"garbage\n" + good
    journal.write_bytes(good)
    recover(archive, registry)


def test_a_copy_that_the_crash_hurt_is_not_registered(tmp_path, archive, registry_process, registry, unique):
    path = make(tmp_path, "file", unique)
    interrupted(archive, registry_process, unique, path)
    [copy] = archive.entries(unique)
    copy.chmod(0o644)
    copy.write_bytes(b"\0" * len(unique))
    [recovered] = recover(archive, registry).recovered
    assert recovered.status == "rolled_back"
    assert archive.entries(unique) == []
    assert registry.get_resource(unique) is None
    assert path.read_bytes() == unique.encode()


def test_the_next_deposit_recovers_by_itself(tmp_path, archive, registry_process, registry, unique):
    interrupted(archive, registry_process, unique, make(tmp_path, "file", unique))
    deposit_one(registry_process, archive, f"{unique}next", make(tmp_path, "file", f"{unique}next"), keep=True)
    assert registry.get_resource(unique).locations == (archive.name_in(registry),)
    assert check(archive, registry).findings == []


def test_an_identifier_taken_meanwhile_is_withdrawn(tmp_path, archive, registry_process, registry, unique):
    interrupted(archive, registry_process, unique, make(tmp_path, "file", unique))
    registry.register(unique, "7" * 40, "session-raw", None)
    [recovered] = recover(archive, registry).recovered
    assert recovered.status == "rolled_back"
    assert "other content" in recovered.reason
    assert archive.entries(unique) == []


def test_a_registered_copy_that_the_crash_hurt_is_damaged_and_stays(
    tmp_path, archive, registry_process, registry, unique
):
    path = make(tmp_path, "file", unique)
    interrupted(archive, registry_process, unique, path)
    [copy] = archive.entries(unique)
    registry.register(unique, read_digests(local_source(copy)).sha1, "session-raw", archive.name_in(registry))
    copy.chmod(0o644)
    copy.write_bytes(b"\0" * len(unique))
    [recovered] = recover(archive, registry).recovered
    assert recovered.status == "damaged"
    assert "archive check" in recovered.reason
    assert path.exists()
    assert [finding.code for finding in check(archive, registry).findings] == ["corrupt"]
    assert recover(archive, registry).recovered == ()
