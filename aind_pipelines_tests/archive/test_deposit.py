"""Depositing: what arrives, what is refused, what a second run does, and several depositors at once."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.digests import Digests
from aind_pipelines.archive.errors import ArchiveError, ArchiveWriteFailed
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import LocalDirectory, LocalFile, S3Prefix, local_source
from aind_pipelines.archive.journal import journal_files, read_facts
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines_tests.registry_process import in_child


def item(id_: str, path: Path, **options) -> DepositItem:
    return DepositItem(id_, local_source(path), "session-raw", **options)


def directory(root: Path, mark: str) -> Path:
    (root / "behavior" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "metadata.nd.json").write_text(f'{{"name": "{mark}"}}')
    (root / "behavior" / "a.bin").write_bytes(mark.encode() * 1000)
    (root / "behavior" / "deep" / "b=c.txt").write_text("é")
    return root


def nothing_left(archive: Archive) -> None:
    assert list(archive.staging.iterdir()) == []
    assert journal_files(archive) == []


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(entry.stat().st_mode) for entry in [path, *path.rglob("*")] if entry.is_dir()}


def test_a_file_arrives_read_only_with_its_suffix_and_location(tmp_path, archive, registry, unique):
    path = tmp_path / "song.wav"
    path.write_bytes(unique.encode())
    [result] = deposit(archive, registry, [item(unique, path, metadata={"site": 3, "tag": ["x", None]})])
    assert (result.status, result.path, result.size, result.files) == (
        "deposited",
        f"{unique[:2]}/{unique}.wav",
        len(unique),
        1,
    )
    stored = archive.resources / result.path
    assert stored.read_bytes() == unique.encode()
    assert stat.S_IMODE(stored.stat().st_mode) == 0o444
    record = registry.get_resource(unique)
    assert record.sha1 == result.sha1
    assert record.locations == (archive.name_in(registry),)
    assert record.metadata == {"site": 3, "tag": ["x", None]}
    assert path.exists()
    nothing_left(archive)


def test_a_directory_arrives_whole_and_read_only(tmp_path, archive, registry, unique):
    source = directory(tmp_path / "raw", unique)
    [result] = deposit(archive, registry, [item(unique, source)])
    assert (result.status, result.kind, result.files) == ("deposited", "directory", 3)
    stored = archive.resources / result.path
    assert {path.relative_to(stored) for path in stored.rglob("*")} == {
        path.relative_to(source) for path in source.rglob("*")
    }
    assert (stored / "behavior" / "a.bin").read_bytes() == (source / "behavior" / "a.bin").read_bytes()
    assert modes(stored) == {0o555}
    nothing_left(archive)


def test_every_byte_that_is_read_is_told_once_and_none_when_nothing_is_read(tmp_path, archive, registry, unique):
    (tmp_path / "small.bin").write_bytes(unique.encode())
    (tmp_path / "large.bin").write_bytes(unique.encode() * 1_000_000)
    tree = directory(tmp_path / "tree", unique)
    items = [item(f"{unique}-{path.stem}", path) for path in (tmp_path / "small.bin", tmp_path / "large.bin", tree)]
    seen: list[int] = []
    results = list(deposit(archive, registry, items, sink=lambda piece: seen.append(len(piece))))
    assert [result.status for result in results] == ["deposited"] * 3
    assert sum(seen) == sum(result.size or 0 for result in results)
    assert len(seen) > 5
    seen.clear()
    assert {result.status for result in deposit(archive, registry, items, sink=lambda _: seen.append(1))} == {
        "already_there"
    }
    assert seen == []


def test_a_second_run_reads_nothing_and_changes_nothing(tmp_path, archive, registry, unique):
    source = directory(tmp_path / "raw", unique)
    [first] = deposit(archive, registry, [item(unique, source)])
    before = {path: path.lstat().st_mtime_ns for path in archive.path.rglob("*")}
    (source / "behavior" / "a.bin").unlink()
    (source / "behavior").rename(source / "unreadable")
    for path in source.rglob("*"):
        path.chmod(0)

    def nothing(operation: str, path: Path) -> None:
        raise AssertionError(f"{operation} {path}")

    with fsops.fault_hook(nothing):
        [second] = deposit(archive, registry, [DepositItem(unique, LocalDirectory(source), "session-raw")])
    assert second.status == "already_there"
    assert (second.path, second.size, second.files, second.sha1, second.blake3) == (
        first.path, first.size, first.files, first.sha1, first.blake3,
    )  # fmt: skip
    assert before == {path: path.lstat().st_mtime_ns for path in archive.path.rglob("*")}


def test_moving_removes_the_source_last(tmp_path, archive, registry, unique):
    source = directory(tmp_path / "raw", unique)
    order: list[str] = []

    def hook(operation: str, path: Path) -> None:
        if path.is_relative_to(source) and operation in ("unlink", "rmdir"):
            order.append("remove")
            assert registry.get_resource(unique).locations == (archive.name_in(registry),)

    with fsops.fault_hook(hook):
        [result] = deposit(archive, registry, [item(unique, source, keep_source=False)])
    assert (result.status, result.reason) == ("deposited", "")
    assert order
    assert not source.exists()


def test_a_source_that_changed_meanwhile_is_never_removed(tmp_path, archive, registry, unique):
    path = tmp_path / "x.dat"
    path.write_bytes(unique.encode())

    def hook(operation: str, where: Path) -> None:
        if operation == "rename_new":
            path.write_bytes(b"new content")

    with fsops.fault_hook(hook):
        [result] = deposit(archive, registry, [item(unique, path, keep_source=False)])
    assert result.status == "deposited"
    assert "kept" in result.reason
    assert path.read_bytes() == b"new content"


def test_equal_content_under_another_identifier_is_refused_by_naming_the_first(tmp_path, archive, registry, unique):
    path = tmp_path / "x"
    path.write_bytes(unique.encode())
    list(deposit(archive, registry, [item(f"{unique}first", path)]))
    [result] = deposit(archive, registry, [item(f"{unique}second", path, keep_source=False)])
    assert result.status == "refused"
    assert f"{unique}first" in result.reason
    assert archive.entries(f"{unique}second") == []
    assert path.exists()
    nothing_left(archive)


def test_an_identifier_with_other_content_is_refused(tmp_path, archive, registry, unique):
    registry.register(unique, "9" * 40, "session-raw", None)
    path = tmp_path / "x"
    path.write_bytes(unique.encode())
    [result] = deposit(archive, registry, [item(unique, path)])
    assert result.status == "refused"
    assert "other content" in result.reason
    assert archive.entries(unique) == []
    nothing_left(archive)


def test_a_copy_of_a_resource_in_another_archive_adds_a_location(tmp_path, archive, registry, unique):
    from aind_pipelines.archive.layout import init_archive

    second = init_archive(tmp_path / "second", registry, f"{unique}b")
    path = tmp_path / "x"
    path.write_bytes(unique.encode())
    for target in (archive, second):
        assert [result.status for result in deposit(target, registry, [item(unique, path)])] == ["deposited"]
    assert set(registry.get_resource(unique).locations) == {archive.name_in(registry), second.name_in(registry)}


def test_lost_bytes_are_brought_back_by_depositing_the_same_content(tmp_path, archive, registry, unique):
    path = tmp_path / "x"
    path.write_bytes(unique.encode())
    [first] = deposit(archive, registry, [item(unique, path)])
    (archive.resources / first.path).unlink()
    assert [finding.code for finding in check(archive, registry).findings] == ["missing"]
    lost: list[str] = []

    def on_lost(ids):
        assert archive.entries(unique) == []  # told before anything is brought back
        lost.extend(ids)

    [again] = deposit(archive, registry, [item(unique, path)], on_lost=on_lost)
    assert (again.status, lost) == ("restored", [unique])
    assert "lost" in again.reason
    assert check(archive, registry).ok
    [third] = deposit(archive, registry, [item(unique, path)], on_lost=on_lost)
    assert (third.status, third.reason, lost) == ("already_there", "", [unique])


def test_bytes_that_are_not_registered_are_never_overwritten(tmp_path, archive, registry, unique):
    stray = archive.stub_path(unique) / f"{unique}.json"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("someone's")
    path = tmp_path / "x.wav"
    path.write_bytes(unique.encode())
    [result] = deposit(archive, registry, [item(unique, path)])
    assert result.status == "refused"
    assert stray.read_text() == "someone's"
    assert registry.get_resource(unique) is None


def test_each_unacceptable_item_is_refused_with_a_reason_and_the_others_arrive(tmp_path, archive, registry, unique):
    good, empty = tmp_path / "good", tmp_path / "empty"
    good.write_bytes(unique.encode())
    empty.mkdir()
    untyped = tmp_path / "untyped"
    untyped.write_bytes(b"untyped" + unique.encode())
    (tmp_path / "link").symlink_to(good)
    long = tmp_path / ("y" * 20 + "." + "e" * 100)
    long.write_bytes(b"long" + unique.encode())
    items = [
        DepositItem("a/b", LocalFile(good), "session-raw"),
        DepositItem(f"{unique}gone", LocalFile(tmp_path / "none"), "session-raw"),
        DepositItem(f"{unique}link", LocalFile(tmp_path / "link"), "session-raw"),
        DepositItem(f"{unique}empty", LocalDirectory(empty), "session-raw"),
        DepositItem(f"{unique}dtype", LocalFile(untyped), "unknown-type"),
        DepositItem(f"{unique}json", LocalFile(good), "session-raw", {"x": {1, 2}}),
        DepositItem(unique + "l" * 200, LocalFile(long), "session-raw"),
        DepositItem(f"{unique}s3", S3Prefix("b", "p", None), "session-raw", keep_source=False),
        item(f"{unique}good", good),
        item(f"{unique}good", good),
    ]
    results = list(deposit(archive, registry, items))
    assert [result.status for result in results[:8]] == ["refused"] * 8
    assert sorted(result.status for result in results[8:]) == ["already_there", "deposited"]
    for result, word in zip(
        results,
        ["identifier", "does not exist", "symbolic link", "no files", "no such dtype", "not JSON", "longer", "copy"],
        strict=False,
    ):
        assert word in result.reason
    nothing_left(archive)
    assert check(archive, registry).ok


def test_directories_are_refused_where_the_policy_forbids_them(tmp_path, registry, unique):
    from aind_pipelines.archive.layout import init_archive

    archive = init_archive(tmp_path / "files", registry, unique, allow_directories=False)
    [result] = deposit(archive, registry, [item(unique, directory(tmp_path / "raw", unique))])
    assert result.status == "refused"
    assert "policy" in result.reason


def test_more_than_the_disk_holds_is_refused_before_anything_is_copied(tmp_path, archive, registry, unique):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        disk = os.statvfs(tmp_path)
        file.truncate((disk.f_bavail + 1_000_000) * disk.f_frsize)
    [result] = deposit(archive, registry, [item(unique, path)])
    assert result.status == "refused"
    assert "free" in result.reason


def move(archive: Archive, registry: RegistryClient, id_: str, path: Path) -> None:
    [result] = deposit(archive, registry, [item(id_, path, keep_source=False)])
    assert result.status == "deposited"


def said_by(work) -> str | None:
    """The message of the error that `work` ends with, or None when it succeeds."""
    try:
        work()
    except (ArchiveWriteFailed, OSError) as problem:
        return str(problem)
    return None


@pytest.mark.parametrize("error", [28, 5])
@pytest.mark.parametrize("operation", ["open_excl", "write", "fsync", "close", "rename_new", "fsync_dir", "mkdir"])
def test_a_disk_that_fails_anywhere_loses_nothing_and_the_next_run_converges(
    tmp_path, archive, registry, unique, operation, error
):
    path = tmp_path / "x.dat"
    path.write_bytes(unique.encode() * 100)
    seen = 0
    failing = 0

    def hook(done: str, where: Path) -> None:
        nonlocal seen
        if done == operation:
            seen += 1
            if seen == failing:
                raise OSError(error, os.strerror(error), str(where))

    failing = -1
    with fsops.fault_hook(hook):
        list(deposit(archive, registry, [item(f"{unique}all", path)]))
    total, path = seen, tmp_path / "y.dat"
    for failing in range(1, total + 1):
        id_ = f"{unique}{failing}"
        path.write_bytes(id_.encode())
        seen = 0
        with fsops.fault_hook(hook):
            problem = said_by(lambda id_=id_, path=path: move(archive, registry, id_, path))
        assert problem is None or os.strerror(error) in problem
        record = registry.get_resource(id_)
        if record is None:
            assert path.read_bytes() == id_.encode()
            [result] = deposit(archive, registry, [item(id_, path)])
            assert result.status in ("deposited", "already_there")
        else:
            recover(archive, registry)
        assert check(archive, registry).findings == []
        nothing_left(archive)


def test_an_unreachable_registry_leaves_everything_recoverable(tmp_path, archive, registry_process, registry, unique):
    path = tmp_path / "x"
    path.write_bytes(unique.encode())
    down = registry_process.client()
    down.register_many = lambda *_: (_ for _ in ()).throw(ServiceUnavailable("registry", "down"))
    with pytest.raises(ServiceUnavailable):
        list(deposit(archive, down, [item(unique, path)]))
    assert registry.get_resource(unique) is None
    [recovered] = recover(archive, registry).recovered
    assert (recovered.id, recovered.status) == (unique, "finished")
    assert check(archive, registry).ok


def test_a_login_that_may_not_write_leaves_nothing(tmp_path, archive, registry_process, unique):
    path = tmp_path / "x"
    path.write_bytes(unique.encode())
    with registry_process.client(auth=False) as anonymous, pytest.raises(AccessRefused):
        list(deposit(archive, anonymous, [item(unique, path)]))
    assert archive.entries(unique) == []
    nothing_left(archive)


def test_an_archive_that_the_registry_does_not_know_is_an_error(tmp_path, archive, registry, unique):
    moved = tmp_path / "moved"
    archive.path.rename(moved)
    with pytest.raises(ArchiveError, match="move"):
        list(deposit(Archive.open(moved), registry, []))


def test_ending_the_iteration_early_ends_cleanly(tmp_path, archive, registry, unique):
    items = []
    for number in range(30):
        path = tmp_path / f"{number}.dat"
        path.write_bytes(f"{unique}{number}".encode())
        items.append(item(f"{unique}{number}", path))
    results = deposit(archive, registry, items, threads=2)
    assert next(results).status == "deposited"
    results.close()
    nothing_left(archive)
    assert check(archive, registry).ok


def test_facts_of_every_deposit_are_kept_with_the_archive(tmp_path, archive, registry, unique):
    path = tmp_path / "x.wav"
    path.write_bytes(unique.encode())
    [result] = deposit(archive, registry, [item(unique, path)])
    fact = read_facts(archive)[unique]
    assert (fact.sha1, fact.blake3, fact.size, fact.path, fact.source) == (
        result.sha1, result.blake3, len(unique), result.path, str(path),
    )  # fmt: skip


DEPOSITOR = """
import sys
from pathlib import Path
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.registry import RegistryClient

target, url, user, password, suffix, *files = sys.argv[1:]
items = [DepositItem(Path(f).stem, local_source(Path(f)), "session-raw") for f in files if f.endswith(suffix)]
with RegistryClient(url, (user, password), pause=0.05) as registry:
    print(*[result.status for result in deposit(Archive.open(target), registry, items)])
"""


@pytest.mark.parametrize("suffixes", [("wav", "wav"), ("wav", "json")])
def test_two_depositors_at_once_give_each_identifier_one_copy(tmp_path, archive, registry_process, unique, suffixes):
    from aind_pipelines_tests.registry_process import PASSWORD, USER

    files = []
    for number in range(25):
        for suffix in set(suffixes):
            path = tmp_path / f"{unique}n{number}.{suffix}"
            path.write_bytes(f"{unique}{number}".encode())
            files.append(str(path))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", DEPOSITOR, str(archive.path), registry_process.url, USER, PASSWORD, suffix, *files],
            stdout=subprocess.PIPE,
            text=True,
        )
        for suffix in suffixes
    ]
    outcomes = [child.communicate(timeout=100)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    with registry_process.client() as registry:
        report = check(archive, registry)
    assert report.findings == []
    assert report.resources == 25
    for one, other in zip(*outcomes, strict=True):
        assert sorted([one, other]) in (["already_there", "deposited"], ["deposited", "refused"])
    nothing_left(archive)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become an ordinary user")
def test_an_ordinary_user_can_deposit_take_back_and_move_directories(tmp_path_factory, registry_process, unique):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)

        def work() -> None:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            from aind_pipelines.archive.layout import init_archive

            here = Path(folder)
            with registry_process.client() as registry:
                archive = init_archive(here / "live", registry, unique, shared=True)
                first, same = directory(here / "one", unique), directory(here / "two", unique)
                results = list(
                    deposit(
                        archive,
                        registry,
                        [item(f"{unique}1", first, keep_source=False), item(f"{unique}2", same)],
                        threads=1,
                    )
                )
                assert [result.status for result in results] == ["deposited", "refused"], results
                assert modes(archive.resources / results[0].path) == {0o555}
                assert not first.exists()
                assert check(archive, registry).findings == []
                nothing_left(archive)

        assert in_child(work) == 0


def test_the_results_of_a_directory_agree_with_a_full_check(tmp_path, archive, registry: RegistryClient, unique):
    [result] = deposit(archive, registry, [item(unique, directory(tmp_path / "raw", unique))])
    assert check(archive, registry).digests == {
        unique: Digests("directory", result.size, result.files, result.sha1, result.blake3)
    }
