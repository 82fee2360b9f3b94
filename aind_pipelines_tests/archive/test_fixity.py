"""Checks: each code has its bad archive, and what changes during a check is not taken for a loss."""

import os
import random
from pathlib import Path

import pytest

from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import NotAnArchive
from aind_pipelines.archive.fixity import WARNINGS, check
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients import http
from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.clients.registry import RegistryClient


@pytest.fixture
def filled(tmp_path, archive, registry, unique) -> tuple[Archive, dict[str, Path]]:
    """An archive with a file and a directory; their paths by identifier."""
    file = tmp_path / "f.wav"
    file.write_bytes(unique.encode() * 50)
    folder = tmp_path / "d"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.bin").write_bytes(unique.encode() * 20)
    (folder / "y.bin").write_bytes(unique.encode() * 10)
    items = [
        DepositItem(f"{unique}f", local_source(file), "session-raw"),
        DepositItem(f"{unique}d", local_source(folder), "session-raw"),
    ]
    results = list(deposit(archive, registry, items))
    assert {result.status for result in results} == {"deposited"}
    return archive, {result.id: archive.resources / str(result.path) for result in results}


def writable(path: Path) -> Path:
    for folder in (path.parent, path):
        folder.chmod(folder.stat().st_mode | 0o700)
    return path


def codes(archive: Archive, registry: RegistryClient, tier: str = "full") -> dict[str, str]:
    return {finding.key.split("/", 1)[1]: finding.code for finding in check(archive, registry, tier).findings}


def test_a_good_archive_passes_and_says_how_much_was_read(filled, registry):
    archive, paths = filled
    report = check(archive, registry)
    size = sum(path.stat().st_size for root in paths.values() for path in [root, *root.rglob("*")] if path.is_file())
    assert (report.ok, report.findings, report.resources, report.bytes) == (True, [], 2, size)
    assert set(report.digests) == set(paths)
    assert check(archive, registry, "exists").bytes == 0


@pytest.mark.parametrize("seed", range(12))
def test_any_flipped_bit_is_found(filled, registry, seed, unique):
    archive, paths = filled
    chance = random.Random(seed)
    id_, root = chance.choice(sorted(paths.items()))
    path = root if root.is_file() else chance.choice(sorted(p for p in root.rglob("*") if p.is_file()))
    data = bytearray(writable(path).read_bytes())
    position = chance.randrange(len(data))
    data[position] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    report = check(archive, registry)
    assert not report.ok
    assert [(finding.code, finding.key) for finding in report.findings] == [("corrupt", f"{report.archive}/{id_}")]
    assert id_ not in report.digests
    assert check(archive, registry, "exists").ok


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("1")


def into_a_link(path: Path) -> None:
    target = path.rename(path.parents[3] / "outside")
    path.symlink_to(target)


def into_another_stub(path: Path) -> None:
    (path.parents[1] / "zz").mkdir()
    path.rename(path.parents[1] / "zz" / path.name)


def doubled(path: Path) -> None:
    path.with_suffix(".json").write_text("{}")


@pytest.mark.parametrize("tier", ["full", "exists"])
@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lose, "missing"),
        (cut, "size_mismatch"),
        (into_a_folder, "wrong_kind"),
        (into_a_link, "wrong_kind"),
        (into_another_stub, "misplaced"),
        (doubled, "ambiguous"),
    ],
)
def test_each_harm_has_its_code_in_both_tiers(filled, registry, unique, harm, code, tier):
    archive, paths = filled
    harm(writable(paths[f"{unique}f"]))
    assert codes(archive, registry, tier) == {f"{unique}f": code}
    assert not check(archive, registry, tier).ok


def test_swapped_contents_are_corrupt(filled, registry, unique):
    archive, paths = filled
    folder = writable(paths[f"{unique}d"])
    one, other = folder / "y.bin", folder / "sub" / "x.bin"
    (folder / "sub").chmod(0o755)
    one.rename(folder / "z")
    other.rename(one)
    (folder / "z").rename(other)
    assert codes(archive, registry) == {f"{unique}d": "corrupt"}


def test_a_missing_empty_folder_or_an_extra_one_is_seen_by_the_second_digest(filled, registry, unique):
    archive, paths = filled
    (writable(paths[f"{unique}d"]) / "extra").mkdir()
    assert codes(archive, registry) == {f"{unique}d": "corrupt"}


def test_bytes_without_a_row_are_dark_and_never_removed(filled, registry, unique):
    archive, _ = filled
    stub = archive.resources / "da"
    stub.mkdir()
    (stub / f"dark{unique}.wav").write_text("1")
    (archive.resources / "stray.txt").write_text("1")
    assert codes(archive, registry) == {f"dark{unique}": "dark", "stray.txt": "dark"}
    assert (stub / f"dark{unique}.wav").exists()


def test_a_resource_without_sha1_is_a_warning_neither_good_nor_bad(filled, registry, unique):
    import requests

    from aind_pipelines_tests.registry_process import PASSWORD, USER

    archive, _ = filled
    id_ = f"{unique}nohash"
    body = {"name": id_, "dtype": "session-raw", "locations": [archive.name_in(registry)]}
    requests.post(registry.url + "resources/", json=body, auth=(USER, PASSWORD), timeout=5).raise_for_status()
    archive.stub_path(id_).mkdir(exist_ok=True)
    (archive.stub_path(id_) / id_).write_text("1")
    report = check(archive, registry)
    assert [finding.code for finding in report.findings] == ["unverifiable"]
    assert report.ok
    assert id_ not in report.digests
    assert {"unverifiable", "in_flight", "interrupted"} == WARNINGS


@pytest.mark.skipif(os.getuid() == 0 and not Path("/proc/self/status").exists(), reason="root reads everything")
def test_what_cannot_be_read_is_unreadable_and_the_rest_is_checked(filled, registry_process, unique):
    from aind_pipelines_tests.registry_process import in_child

    archive, paths = filled
    secret = paths[f"{unique}f"]
    secret.chmod(0)
    for folder in archive.path.parents:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o711)

    def work() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        with registry_process.client() as registry:
            report = check(archive, registry)
        assert [finding.code for finding in report.findings] == ["unreadable"], report.findings
        assert set(report.digests) == {f"{unique}d"}

    assert in_child(work) == 0


def test_an_unmounted_archive_is_one_error_not_many_losses(filled, registry):
    archive, _ = filled
    (archive.path / "nbank.json").rename(archive.path / "gone")
    with pytest.raises(NotAnArchive, match="mounted"):
        check(archive, registry)


def test_an_archive_that_goes_away_during_the_check_is_an_error(filled, registry):
    archive, _ = filled

    def gone(_done: int, _total: int, _bytes: int) -> None:
        if (archive.path / "nbank.json").exists():
            (archive.path / "nbank.json").rename(archive.path / "gone")

    with pytest.raises(NotAnArchive):
        check(archive, registry, on_progress=gone)


def test_an_unreachable_registry_says_nothing_about_the_archive(filled):
    archive, _ = filled
    session = http.build_session(retries=0)
    with RegistryClient("http://127.0.0.1:9/neurobank/", session=session) as down, pytest.raises(ServiceUnavailable):
        check(archive, down)


def test_what_is_removed_or_arrives_during_the_check_is_in_flight_or_checked(filled, registry, tmp_path, unique):
    archive, paths = filled
    late = tmp_path / "late.wav"
    late.write_bytes(b"late" + unique.encode())
    genuine = registry.iter_archive_resources

    def listed_before_the_changes(name: str):
        rows = list(genuine(name))
        list(deposit(archive, registry, [DepositItem(f"{unique}late", local_source(late), "session-raw")]))
        paths[f"{unique}f"].unlink()
        registry.add_archive(f"{unique}other", f"/other/{unique}")
        registry.add_location(f"{unique}f", f"{unique}other")
        registry.delete_location(f"{unique}f", name)
        return iter(rows)

    registry.iter_archive_resources = listed_before_the_changes
    report = check(archive, registry)
    assert {finding.key.split("/")[1]: finding.code for finding in report.findings} == {f"{unique}f": "in_flight"}
    assert report.ok
    assert f"{unique}late" in report.digests


def test_progress_counts_to_the_end(filled, registry):
    archive, _ = filled
    seen: list[tuple[int, int, int]] = []
    report = check(archive, registry, on_progress=lambda *told: seen.append(told))
    assert seen[-1] == (2, 2, report.bytes)
