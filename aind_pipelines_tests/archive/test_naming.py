"""Identifiers that the registry assigns: reserved with their content before it is published."""

import hashlib
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.naming import name_items
from aind_pipelines.clients.registry import Query
from aind_pipelines_tests.registry_process import die, in_child


def assigned(archive, registry, *paths: Path, **given):
    """Deposit `paths` with identifiers of the registry: each one's result, or why there is none."""
    metadata = given.pop("metadata", {})
    named = list(name_items(archive, registry, "registry", paths, "session-raw", metadata, keep_source=True, **given))
    assert [path for path, _ in named] == list(paths)
    results = deposit(archive, registry, [item for _, item in named if not isinstance(item, str)])
    return [item if isinstance(item, str) else next(results) for _, item in named]


def make(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).write_text(name)
    return [root / name for name in names]


def test_new_content_gets_an_identifier_and_known_content_keeps_its_own(tmp_path, archive, registry, unique):
    one, two = make(tmp_path, f"{unique} one.wav", f"{unique} two.nii.gz")
    twin = tmp_path / "twin"
    twin.write_bytes(one.read_bytes())
    first, other, same, gone = assigned(archive, registry, one, two, twin, tmp_path / "gone")
    assert [first.status, other.status, same.status] == ["deposited", "deposited", "already_there"]
    assert same.id == first.id
    assert "does not exist" in gone
    assert (first.path, other.path) == (
        f"{first.id[:2]}/{first.id}.wav",
        f"{other.id[:2]}/{other.id}.gz",
    )
    record = registry.get_resource(first.id)
    assert (record.sha1, record.locations) == (first.sha1, (archive.name_in(registry),))
    assert check(archive, registry).findings == []


def test_content_of_another_archive_gets_no_second_identifier(tmp_path, archive, second, registry, unique):
    [path] = make(tmp_path, unique)
    [done] = assigned(archive, registry, path)
    [refused] = assigned(second, registry, path)
    assert done.id in refused
    assert "already registered" in refused


def test_what_the_archive_does_not_take_reserves_nothing(tmp_path, archive, registry, unique):
    archive.config.policy.allow_directories = False
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder", unique)
    (tmp_path / "link").symlink_to(tmp_path / "folder" / unique)
    before = len(list(registry.search(Query(dtype="session-raw"))))
    refused = assigned(archive, registry, tmp_path / "folder", tmp_path / "link")
    assert "does not allow directories" in refused[0]
    assert "symbolic link" in refused[1]
    [bad] = assigned(archive, registry, *make(tmp_path, unique), metadata={"x": float("nan")})
    assert "not JSON" in bad
    assert len(list(registry.search(Query(dtype="session-raw")))) == before


@pytest.mark.parametrize("operation", ["open_excl", "write", "rename_new"])
def test_killed_after_the_reservation_it_is_found_again(
    tmp_path, archive, registry, registry_process, unique, operation
):
    [path] = make(tmp_path, f"{unique}.wav")

    def killed() -> None:
        def hook(step: str, at: Path) -> None:
            if step == operation and {"staging", "resources"} & set(at.parts):
                die()

        with fsops.fault_hook(hook), registry_process.client() as own:
            assigned(archive, own, path, metadata={"n": 1})

    assert in_child(killed) == -9
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    [reserved] = registry.find_by_sha1(sha1)
    assert reserved.locations == ()
    [differs] = assigned(archive, registry, path, metadata={"n": 2})
    assert reserved.id in differs
    [done] = assigned(archive, registry, path, metadata={"n": 1})
    assert done.id == reserved.id
    assert registry.get_resource(done.id).locations == (archive.name_in(registry),)
    assert check(archive, registry).findings == []


def test_content_that_changes_after_the_reservation_is_refused(tmp_path, archive, registry, unique):
    [path] = make(tmp_path, f"{unique}.wav")
    [(_, item)] = name_items(archive, registry, "registry", [path], "session-raw", {}, keep_source=False)
    path.write_text("changed" + unique)
    [refused] = deposit(archive, registry, [item])
    assert refused.status == "refused"
    assert path.read_text() == "changed" + unique
    assert check(archive, registry).findings == []
