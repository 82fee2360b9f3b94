"""Fetching: verified and whole, or nothing; and what is there already stays as it was until then."""

import errno
import functools
import os
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.fetch import _Fetch, fetch
from aind_pipelines.archive.intake import local_source, read_digests
from aind_pipelines.archive.places import find_copies
from aind_pipelines_tests.registry_process import die, in_child


@pytest.fixture
def dest(tmp_path) -> Path:
    (tmp_path / "dest").mkdir()
    return tmp_path / "dest"


def put(archive, registry, path: Path, text: str) -> str:
    """Deposit a file, or a directory for a path without a suffix; its identifier."""
    if path.suffix:
        path.write_text(text)
    else:
        (path / "sub" / "empty").mkdir(parents=True)
        (path / "a").write_text(text)
        (path / "sub" / "b").write_text("b")
    [result] = deposit(archive, registry, [DepositItem(path.stem, local_source(path), "session-raw")])
    assert result.status == "deposited", result.reason
    return result.id


def corrupt(archive, id_: str) -> None:
    [path] = archive.entries(id_)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().swapcase())


def test_files_and_directories_are_fetched_in_the_order_asked_for(tmp_path, archive, registry, unique, dest):
    one = put(archive, registry, tmp_path / f"{unique}f.wav", unique)
    two = put(archive, registry, tmp_path / f"{unique}d", unique + "d")
    seen = []
    found = list(fetch(registry, [two, "nothing", one, two], dest, sink=lambda piece: seen.append(len(piece))))
    assert [(got.id, got.status, got.verified) for got in found] == [
        (two, "fetched", True), ("nothing", "failed", False), (one, "fetched", True)]  # fmt: skip
    assert sum(seen) == found[0].size + found[2].size
    assert (dest / f"{one}.wav").read_text() == unique
    assert (dest / two / "sub" / "empty").is_dir()
    assert read_digests(local_source(dest / two)) == read_digests(local_source(tmp_path / two))
    assert os.access(dest / two / "sub", os.W_OK)
    assert sorted(path.name for path in dest.iterdir()) == sorted([f"{one}.wav", two])


def test_each_name_is_durable_when_it_is_told_and_one_sync_serves_many(tmp_path, archive, registry, unique, dest):
    ids = [put(archive, registry, tmp_path / f"{unique}n{number}.wav", f"{unique} {number}") for number in range(40)]
    steps: list[tuple[str, str]] = []

    def hook(operation: str, path: Path) -> None:
        if operation == "rename_new" or (operation == "fsync_dir" and path == dest):
            steps.append((operation, path.stem))
            time.sleep(0.05 if operation == "fsync_dir" else 0)  # others come by meanwhile

    with fsops.fault_hook(hook):
        for got in fetch(registry, ids, dest):
            assert got.status == "fetched"
            assert "fsync_dir" in [operation for operation, _ in steps[steps.index(("rename_new", got.id)) :]]
    assert [operation for operation, _ in steps].count("fsync_dir") < len(ids)


def test_a_folder_that_cannot_be_made_durable_is_told_of_all_it_holds(tmp_path, archive, registry, unique, dest):
    ids = [put(archive, registry, tmp_path / f"{unique}{number}.wav", f"{unique} {number}") for number in range(2)]
    asked = 0

    def hook(operation: str, path: Path) -> None:
        nonlocal asked
        if operation == "fsync_dir" and path == dest:
            asked += 1
            if asked == 1:  # the kernel tells of it only once
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    located = registry.locate(ids)
    work = _Fetch(registry, dest, False, None, None)
    fetched = [work.one(located[id_], find_copies(located)[id_]) for id_ in ids]
    with fsops.fault_hook(hook):
        told = [work.made_durable(one) for one in fetched]
    assert [(one.status, one.verified) for one in told] == [("failed", False)] * 2
    assert all("cannot be made durable: Input/output error" in one.reason for one in told)
    assert asked == 1


@pytest.mark.parametrize("suffix", [".wav", ""], ids=["file", "directory"])
def test_a_corrupt_copy_never_gets_the_name(tmp_path, archive, registry, unique, dest, suffix):
    id_ = put(archive, registry, tmp_path / f"{unique}{suffix}", unique)
    if suffix:
        corrupt(archive, id_)
    else:
        [folder] = archive.entries(id_)
        (folder / "a").chmod(0o600)
        (folder / "a").write_text("other")
    target = dest / f"{unique}{suffix}"
    target.write_text("mine")
    [got] = fetch(registry, [id_], dest, replace=True)
    assert got.status == "failed"
    assert "corrupt" in got.reason
    assert target.read_text() == "mine"
    assert list(dest.iterdir()) == [target]


def test_the_next_copy_is_taken_when_one_is_bad(tmp_path, archive, second, registry, unique, dest):
    id_ = put(archive, registry, tmp_path / f"{unique}.dat", unique)
    put(second, registry, tmp_path / f"{unique}.dat", unique)
    corrupt(archive, id_)
    [got] = fetch(registry, [id_], dest)
    assert (got.status, got.verified, got.source) == ("fetched", True, str(second.entries(id_)[0]))
    assert (dest / f"{unique}.dat").read_text() == unique


@pytest.mark.parametrize("new", [".x", ""], ids=["file", "directory"])
@pytest.mark.parametrize("old", ["file", "directory"])
def test_what_is_replaced_stays_until_the_new_one_is_verified(tmp_path, archive, registry, unique, dest, new, old):
    id_ = put(archive, registry, tmp_path / f"{unique}{new}", unique)
    target = dest / f"{unique}{new}"
    if old == "file":
        target.write_text("old")
    else:
        target.mkdir()
        (target / "mine").write_text("old")
    [left] = fetch(registry, [id_], dest)
    assert left.status == "exists"
    states = []

    def look(_operation: str, _path: Path) -> None:
        states.append(os.path.lexists(target))

    with fsops.fault_hook(look):
        [got] = fetch(registry, [id_], dest, replace=True)
    assert (got.status, all(states)) == ("fetched", True)
    assert read_digests(local_source(target)) == read_digests(local_source(tmp_path / f"{unique}{new}"))
    assert list(dest.iterdir()) == [target]


@pytest.mark.parametrize("kind", [".dat", ""], ids=["file", "directory"])
def test_killed_at_any_step_the_name_has_the_old_content_or_the_new(
    tmp_path, archive, registry_process, registry, unique, dest, kind
):
    id_ = put(archive, registry, tmp_path / f"{unique}{kind}", unique)
    target = dest / f"{unique}{kind}"
    wanted = read_digests(local_source(tmp_path / f"{unique}{kind}"))
    code, step = -9, 0
    while code != 0:
        step += 1
        fsops.rmtree(target)
        target.write_text("old")

        def killed(step=step) -> None:
            left = step

            def hook(_operation: str, path: Path) -> None:
                nonlocal left
                left -= dest in path.parents
                if not left:
                    die()

            with fsops.fault_hook(hook), registry_process.client() as own:
                [got] = fetch(own, [id_], dest, replace=True)
                assert got.status == "fetched"

        code = in_child(killed)
        assert code in (-9, 0)
        assert target.is_dir() or target.read_text() == "old" or read_digests(local_source(target)) == wanted
        [again] = fetch(registry, [id_], dest, replace=True)
        assert again.status == "fetched", again.reason
        assert read_digests(local_source(target)) == wanted
        assert list(dest.iterdir()) == [target]
    assert step > 4


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, archive, registry, unique, dest):
    ids = [put(archive, registry, tmp_path / f"{unique}{number}.dat", f"{unique}{number}") for number in range(2)]

    def full(operation: str, path: Path) -> None:
        if operation == "write" and ids[0] in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with fsops.fault_hook(full):
        found = list(fetch(registry, ids, dest))
    assert [got.status for got in found] == ["failed", "fetched"]
    assert "No space left" in found[0].reason
    assert [path.name for path in dest.iterdir()] == [f"{ids[1]}.dat"]


def test_a_folder_that_is_not_there_is_an_error(registry, tmp_path):
    with pytest.raises(ArchiveError, match="no folder"):
        list(fetch(registry, ["x"], tmp_path / "nowhere"))


@contextmanager
def web_server(folder: Path, *, cut: int = 0):
    """Serves the files of `folder`; the first `cut` answers of content break off after half of the bytes."""
    left = cut
    logins: list[str | None] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal left
            logins.append(self.headers.get("Authorization"))
            self.path = self.path.rstrip("/")
            path = Path(self.translate_path(self.path))
            if not left or not path.exists():
                super().do_GET()
                return
            left -= 1
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])

        def log_message(self, *_arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{httpd.server_port}", logins
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_a_download_that_breaks_off_begins_again_and_not_for_ever(tmp_path, registry, unique, dest, size):
    content = (unique.encode() * size)[:size]
    (tmp_path / unique).write_bytes(content)
    sha1 = read_digests(local_source(tmp_path / unique)).sha1
    with web_server(tmp_path, cut=5) as (root, logins):
        registry.add_archive(f"web-{unique}", root, "http")
        registry.register(unique, sha1, "session-raw", f"web-{unique}")
        [failed] = fetch(registry, [unique], dest, extension="raw")
        assert failed.status == "failed"
        assert "broke while the content was sent" in failed.reason
        assert not list(dest.iterdir())
        [got] = fetch(registry, [unique], dest, extension="raw")
        assert (got.status, got.verified) == ("fetched", True)
        assert len(logins) == 6
    assert (dest / f"{unique}.raw").read_bytes() == content


def test_a_web_servers_copy_is_downloaded_without_our_login(tmp_path, registry, unique, dest, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    content = unique.encode() * 100_000
    (tmp_path / unique).write_bytes(content)
    sha1 = read_digests(local_source(tmp_path / unique)).sha1
    with web_server(tmp_path) as (root, logins):
        registry.add_archive(f"web-{unique}", root, "http")
        registry.register(unique, sha1, "session-raw", f"web-{unique}")
        registry.register(f"{unique}gone", "1" * 40, "session-raw", f"web-{unique}")
        found = list(fetch(registry, [unique, f"{unique}gone"], dest, extension="raw"))
        assert [got.status for got in found] == ["fetched", "failed"]
        assert "404" in found[1].reason
        assert (dest / f"{unique}.raw").read_bytes() == content
        (tmp_path / unique).write_bytes(content.swapcase())
        [bad] = fetch(registry, [unique], dest)
        assert bad.status == "failed"
        assert "corrupt" in bad.reason
    assert set(logins) == {None}
    [down] = fetch(registry, [unique], dest)
    assert down.status == "failed"
    assert [path.name for path in dest.iterdir()] == [f"{unique}.raw"]


def test_what_is_registered_without_a_sha1_is_fetched_unverified_and_replaces_nothing(
    tmp_path, archive, registry, registry_process, unique, dest
):
    import requests

    from aind_pipelines_tests.registry_process import PASSWORD, USER

    body = {"name": unique, "dtype": "session-raw", "locations": [archive.name_in(registry)]}
    requests.post(registry_process.url + "resources/", json=body, auth=(USER, PASSWORD), timeout=10).raise_for_status()
    archive.stub_path(unique).mkdir()
    (archive.stub_path(unique) / f"{unique}.x").write_text("x")
    [got] = fetch(registry, [unique], dest)
    assert (got.status, got.verified) == ("fetched", False)
    assert "not verified" in got.reason
    [kept] = fetch(registry, [unique], dest, replace=True)
    assert kept.status == "failed"
    assert "not replaced" in kept.reason
