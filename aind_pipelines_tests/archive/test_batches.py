"""Many small files at once: few syncs, one registration, and each item's own outcome."""

import errno
import os
import stat
from collections import Counter
from pathlib import Path

import pytest

from aind_pipelines.archive import batches, fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import LocalFile, local_source
from aind_pipelines.archive.journal import FactIndex, journal_files, read_facts
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable
from aind_pipelines_tests.registry_process import die, in_child


def made(folder: Path, mark: str, count: int, *, keep: bool = True) -> list[DepositItem]:
    folder.mkdir(exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"{mark}n{number}.dat"
        path.write_bytes(path.stem.encode())
        items.append(DepositItem(path.stem, LocalFile(path), "session-raw", {"number": number}, keep))
    return items


def nothing_left(archive) -> None:
    assert list(archive.staging.iterdir()) == []
    assert journal_files(archive) == []


def test_many_small_files_cost_few_syncs_and_one_registration(tmp_path, archive, registry, unique):
    items = made(tmp_path / "in", unique, 300, keep=False)
    done: Counter[str] = Counter()
    calls = []
    genuine = registry.register_many
    registry.register_many = lambda items: calls.append(len(items)) or genuine(items)
    with fsops.fault_hook(lambda operation, _path: done.update([operation])):
        results = list(deposit(archive, registry, items))
    assert [result.id for result in results] == [item.id for item in items]
    assert {result.status for result in results} == {"deposited"}
    assert calls == [300]
    assert done["rename_new"] == 300
    assert done["syncfs"] + done["fsync"] + done["fsync_dir"] < 20
    for item, result in zip(items, results, strict=True):
        stored = archive.resources / result.path
        assert stored.read_bytes() == item.id.encode()
        assert stat.S_IMODE(stored.stat().st_mode) == 0o444
        assert not os.path.lexists(item.source.uri)
    assert registry.get_resource(items[7].id).metadata == {"number": 7}
    assert check(archive, registry).findings == []
    nothing_left(archive)


def test_a_refusal_within_a_batch_leaves_the_others_untouched(tmp_path, archive, registry, unique):
    items = made(tmp_path / "in", unique, 12, keep=False)
    Path(items[1].source.uri).unlink()
    registry.register(items[2].id, "5" * 40, "session-raw", None)
    first = made(tmp_path / "first", f"{unique}first", 1)[0]
    Path(items[3].source.uri).write_bytes(Path(first.source.uri).read_bytes())
    assert [result.status for result in deposit(archive, registry, [first])] == ["deposited"]
    Path(items[5].source.uri).write_bytes(Path(items[4].source.uri).read_bytes())
    stray = archive.stub_path(items[6].id) / f"{items[6].id}.txt"
    stray.write_text("someone's")
    items[7] = DepositItem(items[7].id, items[7].source, "unknown-type", {}, keep_source=False)
    items.append(items[8])
    results = list(deposit(archive, registry, items))
    words = {
        1: "does not exist",
        2: "other content",
        3: first.id,
        5: items[4].id,
        6: "without being registered",
        7: "no such dtype",
    }
    for number, result in enumerate(results[:12]):
        assert result.status == ("refused" if number in words else "deposited"), result
        assert words.get(number, "") in result.reason
        assert os.path.lexists(items[number].source.uri) is (number in words and number != 1)
        assert bool(archive.entries(result.id)) is (number not in words or number == 6)
    assert results[12].status == "already_there"
    nothing_left(archive)
    assert [finding.code for finding in check(archive, registry).findings] == ["dark"]


def test_content_given_several_times_at_once_is_kept_once(tmp_path, archive, registry, unique):
    items = made(tmp_path / "in", unique, 40)
    for item in items:
        Path(item.source.uri).write_bytes(unique.encode())
    results = list(deposit(archive, registry, items))
    assert [result.status for result in results] == ["deposited"] + ["refused"] * 39
    assert all(items[0].id in result.reason for result in results[1:])
    nothing_left(archive)


def test_repeated_content_follows_when_what_it_repeats_is_refused(tmp_path, archive, registry, unique):
    first, second = made(tmp_path / "in", unique, 2)
    Path(second.source.uri).write_bytes(Path(first.source.uri).read_bytes())
    first = DepositItem(first.id, first.source, "unknown-type")
    assert [result.status for result in deposit(archive, registry, [first, second])] == ["refused", "deposited"]


@pytest.mark.parametrize("operation", ["syncfs", "fsync"])
def test_a_failing_sync_voids_the_batch_and_the_next_run_converges(tmp_path, archive, registry, unique, operation):
    items = made(tmp_path / "in", unique, 20, keep=False)
    staged = False

    def hook(done: str, path: Path) -> None:
        nonlocal staged
        staged = staged or path.parent == archive.staging
        if staged and done == operation:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    if operation == "fsync":
        no_syncfs(archive)
    with fsops.fault_hook(hook), pytest.raises(ArchiveWriteFailed, match=os.strerror(errno.EIO)):
        list(deposit(archive, registry, items))
    assert registry.get_resources(item.id for item in items) == {}
    assert all(Path(item.source.uri).exists() for item in items)
    assert not any(archive.entries(item.id) for item in items)
    assert {result.status for result in deposit(archive, registry, items)} == {"deposited"}
    assert check(archive, registry).findings == []
    nothing_left(archive)


def no_syncfs(archive) -> None:
    import dataclasses

    archive._filesystem = dataclasses.replace(archive.filesystem(), syncfs=False)


def test_without_syncfs_each_file_is_synced(tmp_path, archive, registry, unique):
    no_syncfs(archive)
    items = made(tmp_path / "in", unique, 20)
    done: Counter[tuple[str, Path]] = Counter()
    with fsops.fault_hook(lambda operation, path: done.update([(operation, path.parent)])):
        assert {result.status for result in deposit(archive, registry, items)} == {"deposited"}
    assert done["fsync", archive.staging] == 20
    assert not any(operation == "syncfs" for operation, _ in done)


def test_a_service_that_fails_half_way_leaves_a_batch_that_recovers(
    tmp_path, archive, registry_process, registry, unique
):
    items = made(tmp_path / "in", unique, 20, keep=False)
    genuine = registry.register_many

    def half(items):
        genuine(items[:9])
        raise ServiceUnavailable("registry", "down")

    failing = registry_process.client()
    failing.register_many = half
    with pytest.raises(ServiceUnavailable):
        list(deposit(archive, failing, items))
    assert all(Path(item.source.uri).exists() for item in items)
    assert {recovered.status for recovered in recover(archive, registry).recovered} == {"finished"}
    assert not any(Path(item.source.uri).exists() for item in items)
    assert check(archive, registry).findings == []
    nothing_left(archive)


def test_access_refused_half_way_keeps_what_is_registered(tmp_path, archive, registry_process, registry, unique):
    items = made(tmp_path / "in", unique, 20, keep=False)
    genuine = registry.register_many

    def half(items):
        genuine(items[:9])
        raise AccessRefused("registry", "revoked")

    failing = registry_process.client()
    failing.register_many = half
    with pytest.raises(AccessRefused):
        list(deposit(archive, failing, items))
    assert [Path(item.source.uri).exists() for item in items] == [False] * 9 + [True] * 11
    assert [bool(archive.entries(item.id)) for item in items] == [True] * 9 + [False] * 11
    assert check(archive, registry).findings == []
    nothing_left(archive)


def test_journals_are_rolled_and_their_facts_found(tmp_path, archive, registry, unique, monkeypatch):
    monkeypatch.setattr(batches, "_ROLL", 10)
    items = made(tmp_path / "in", unique, 60)
    for start in range(0, 60, 12):
        list(deposit(archive, registry, items[start : start + 12]))
    monkeypatch.setattr("aind_pipelines.archive.deposit._BATCH_ITEMS", 7)
    more = made(tmp_path / "more", f"{unique}m", 60)
    assert {result.status for result in deposit(archive, registry, more)} == {"deposited"}
    files = list((archive.journal / "done").iterdir())
    assert len(files) >= 5 + 3
    facts, index = read_facts(archive), FactIndex(archive)
    assert {id_: index.get(id_) for id_ in facts} == facts
    assert len(facts) == 120
    assert index.get("never") is None


def test_a_batch_of_the_journal_counts_whole_or_not_at_all(tmp_path, archive, registry_process, registry, unique):
    items = made(tmp_path / "in", unique, 8)

    def killed() -> None:
        def hook(operation: str, _path: Path) -> None:
            if operation == "rename_new":
                die()

        with fsops.fault_hook(hook), registry_process.client() as own:
            list(deposit(archive, own, items))

    assert in_child(killed) == -9
    [journal] = journal_files(archive)
    opened, intents, staged = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(opened + intents + staged[:-20])
    recovered = recover(archive, registry).recovered
    assert [entry.status for entry in recovered] == ["rolled_back"] * 8
    nothing_left(archive)
    assert {result.status for result in deposit(archive, registry, items)} == {"deposited"}


def test_a_journal_of_single_lines_is_understood(tmp_path, archive, registry_process, registry, unique):
    import json

    items = made(tmp_path / "in", unique, 5, keep=False)

    def killed() -> None:
        def hook(operation: str, path: Path) -> None:
            if operation == "rename_new" and path.stem == items[3].id:
                die()

        with fsops.fault_hook(hook), registry_process.client() as own:
            list(deposit(archive, own, items))

    assert in_child(killed) == -9
    [journal] = journal_files(archive)
    records = [record for line in journal.read_text().splitlines() for record in json.loads(line)]
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert {entry.status for entry in recover(archive, registry).recovered} == {"finished"}
    assert not any(Path(item.source.uri).exists() for item in items)
    assert check(archive, registry).findings == []


def test_directories_and_small_files_keep_their_order(tmp_path, archive, registry, unique):
    items = made(tmp_path / "in", unique, 6)
    for number in (1, 4):
        folder = tmp_path / f"{unique}d{number}"
        folder.mkdir()
        (folder / "a").write_bytes(f"{unique}d{number}".encode())
        items.insert(number, DepositItem(folder.name, local_source(folder), "session-raw"))
    items.insert(2, DepositItem("a/b", items[0].source, "session-raw"))
    results = list(deposit(archive, registry, items))
    assert [result.id for result in results] == [item.id for item in items]
    assert [result.status for result in results].count("deposited") == 8
