"""Second copies: verified on the way, resumable, and never half visible."""

from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.copy import copy
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import local_source, read_digests
from aind_pipelines.archive.journal import journal_files
from aind_pipelines.archive.recovery import recover
from aind_pipelines_tests.counts import SOAK
from aind_pipelines_tests.registry_process import die, in_child


def put(archive, registry, root: Path, *ids: str) -> list[str]:
    items = []
    for number, id_ in enumerate(ids):
        path = root / f"{id_}.dat"
        if number % 3 == 2:
            path = root / id_
            (path / "sub").mkdir(parents=True, exist_ok=True)
            (path / "sub" / "a").write_text(id_)
        else:
            path.write_text(id_)
        items.append(DepositItem(id_, local_source(path), "session-raw", {"n": number}))
    assert {result.status for result in deposit(archive, registry, items)} == {"deposited"}
    return list(ids)


def damage(archive, id_: str) -> Path:
    [path] = archive.entries(id_)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().swapcase())
    return path


def test_copies_are_verified_and_located_and_a_second_run_says_so(tmp_path, archive, second, registry, unique):
    ids = put(archive, registry, tmp_path, *(f"{unique}-{number}" for number in range(4)))
    name = second.name_in(registry)
    looked = list(copy(registry, ids, second, dry_run=True))
    assert [one.status for one in looked] == ["to_copy"] * 4
    assert name not in registry.get_resource(ids[0]).locations
    done = list(copy(registry, [*ids[::-1], "nothing"], second))
    assert [(one.id, one.status, one.verified) for one in done[:4]] == [(id_, "copied", True) for id_ in ids[::-1]]
    assert (done[4].status, done[4].reason) == ("failed", "not registered")
    assert check(second, registry).findings == []
    assert all(set(registry.get_resource(id_).locations) == {archive.name_in(registry), name} for id_ in ids)
    assert {one.path for one in done[:4]} == {archive.relative(archive.entries(id_)[0]) for id_ in ids}
    again = list(copy(registry, ids, second))
    assert {(one.status, one.verified) for one in again} == {("already_there", False)}
    reread = list(copy(registry, ids, second, reread=True))
    assert {(one.status, one.verified) for one in reread} == {("already_there", True)}
    damage(second, ids[0])
    [bad] = copy(registry, ids[:1], second, reread=True)
    assert bad.status == "failed"
    assert "corrupt" in bad.reason


def test_a_corrupt_source_is_not_copied_and_a_good_one_is_taken_instead(
    tmp_path, archive, second, third, registry, unique
):
    one, two = put(archive, registry, tmp_path, f"{unique}-a", f"{unique}-b")
    assert [done.status for done in copy(registry, [one], second)] == ["copied"]
    bad = damage(archive, one)
    damage(archive, two)
    first, other = copy(registry, [one, two], third)
    assert (first.status, first.source) == ("copied", second.entries(one)[0])
    assert str(bad) in first.reason
    assert other.status == "failed"
    assert "other content" in other.reason
    assert third.entries(two) == []
    assert third.name_in(registry) not in registry.get_resource(two).locations
    [only] = copy(registry, [two], third, only_from=second.name_in(registry))
    assert "no copy of it is in" in only.reason
    assert check(third, registry).findings == []


def test_lost_bytes_are_brought_back_from_another_archive(tmp_path, archive, second, registry, unique):
    [id_] = put(archive, registry, tmp_path, unique)
    list(copy(registry, [id_], second))
    [lost] = archive.entries(id_)
    lost.unlink()
    [back] = copy(registry, [id_], archive)
    assert (back.status, back.verified) == ("restored", True)
    assert "lost" in back.reason
    assert lost.read_text() == id_
    lost.unlink()
    second.entries(id_)[0].unlink()
    [gone] = copy(registry, [id_], archive)
    assert gone.status == "failed"
    assert "no bytes" in gone.reason


def test_a_policy_without_directories_refuses_them(tmp_path, archive, second, registry, unique):
    ids = put(archive, registry, tmp_path, *(f"{unique}-{number}" for number in range(3)))
    second.config.policy.allow_directories = False
    found = list(copy(registry, ids, second))
    assert [one.status for one in found] == ["copied", "copied", "failed"]
    assert "directories" in found[2].reason


@pytest.mark.slow
def test_killed_at_any_step_a_copy_converges(tmp_path, archive, second, registry_process, registry, unique):
    name = second.name_in(registry)
    statuses = set()
    code, step = -9, 0
    while code != 0:
        step += 1 if SOAK else 11
        ids = put(archive, registry, tmp_path, *(f"{step:02d}{unique}-{number}" for number in range(3)))

        def killed(ids=ids, step=step) -> None:
            left = step

            def hook(_operation: str, _path: Path) -> None:
                nonlocal left
                left -= 1
                if not left:
                    die()

            with fsops.fault_hook(hook), registry_process.client() as own:
                assert {one.status for one in copy(own, ids, second, threads=1)} == {"copied"}

        code = in_child(killed)
        assert code in (-9, 0)
        for id_ in ids:
            if name in registry.get_resource(id_).locations:
                [path] = second.entries(id_)
                assert read_digests(local_source(path)).sha1 == registry.get_resource(id_).sha1
        found = list(copy(registry, ids, second))
        statuses |= {one.status for one in found}
        assert statuses <= {"copied", "already_there"}
        assert recover(second, registry).recovered == ()
        assert check(second, registry).findings == []
        assert list(second.staging.iterdir()) == []
        assert journal_files(second) == []
        assert check(archive, registry, "exists").findings == []
    assert statuses == {"copied", "already_there"}
    assert step > 30
