"""Large files: through few buffers, digested as they are, with their holes; whatever their size and the disk."""

import hashlib
import os
import resource
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.archive import copying, fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import LocalFile, SourceRefused
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.registry_process import in_child

BLOCK = 16_384


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(copying, "LARGE", 1)
    monkeypatch.setattr(copying, "_BLOCK", BLOCK)


def copied(archive, path: Path, target: Path) -> copying.Copied:
    source = LocalFile(path)
    target.unlink(missing_ok=True)
    return copying.copy_file(archive, source, source.scan().members[0], target, durable=True)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.one_of(
        st.integers(1, 6 * BLOCK),
        st.integers(0, 8).flatmap(lambda n: st.integers(-1, 1).map(lambda d: n * 4096 + d + 1)),
    ).filter(bool)
)
def test_every_size_arrives_as_it_is(tmp_path, archive, small_blocks, size):
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    done = copied(archive, tmp_path / "source", archive.staging / "copy")
    assert (archive.staging / "copy").read_bytes() == data
    assert (done.digest.size, done.digest.sha1) == (size, hashlib.sha1(data).hexdigest())
    assert done.digest.blake3 == blake3(data).hexdigest()
    assert done.ino == (archive.staging / "copy").stat().st_ino


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.tuples(st.integers(0, 20 * BLOCK), st.binary(min_size=1, max_size=200)), max_size=4),
    size=st.integers(1, 24 * BLOCK),
)
def test_a_sparse_file_keeps_its_bytes_and_its_holes(tmp_path, archive, small_blocks, pieces, size):
    source = tmp_path / "source"
    with source.open("wb") as file:
        for offset, piece in pieces:
            file.seek(offset)
            file.write(piece)
        file.truncate(max(size, file.tell()))
    os.sync() if pieces else None
    done = copied(archive, source, archive.staging / "copy")
    assert (archive.staging / "copy").read_bytes() == source.read_bytes()
    assert done.digest.sha1 == hashlib.sha1(source.read_bytes()).hexdigest()
    most = source.stat().st_blocks * 512 + (len(pieces) + 1) * 2 * BLOCK
    assert (archive.staging / "copy").stat().st_blocks * 512 <= most


def test_a_source_that_changes_while_it_goes_through_the_buffers_is_refused(
    tmp_path, archive, registry, small_blocks, unique
):
    path = tmp_path / f"{unique}.dat"
    path.write_bytes(os.urandom(40 * BLOCK))

    def hook(operation: str, where: Path) -> None:
        if operation == "write" and where.parent == archive.staging:
            with path.open("r+b") as file:
                file.write(b"changed")

    with fsops.fault_hook(hook):
        [result] = deposit(archive, registry, [DepositItem(unique, LocalFile(path), "session-raw", keep_source=False)])
    assert (result.status, path.exists()) == ("refused", True)
    assert "changed" in result.reason
    assert list(archive.staging.iterdir()) == []


def test_a_writer_that_fails_ends_the_reader(tmp_path, archive, small_blocks):
    path = tmp_path / "source"
    path.write_bytes(os.urandom(100 * BLOCK))
    written = 0

    def hook(operation: str, where: Path) -> None:
        nonlocal written
        written += operation == "write"
        if written == 3:
            raise OSError(28, os.strerror(28), str(where))

    with fsops.fault_hook(hook), pytest.raises(OSError, match="No space"):
        copied(archive, path, archive.staging / "copy")
    assert written < 20


def test_a_file_that_shrank_since_it_was_looked_at_is_refused(tmp_path, archive, small_blocks):
    path = tmp_path / "source"
    path.write_bytes(os.urandom(10 * BLOCK))
    source = LocalFile(path)
    member = source.scan().members[0]
    os.truncate(path, BLOCK)
    with pytest.raises(SourceRefused, match="changed"):
        copying.copy_file(archive, source, member, archive.staging / "copy", durable=True)


@pytest.mark.slow
def test_a_file_larger_than_the_memory_it_may_use_is_deposited_with_its_hole(
    tmp_path, archive, registry_process, unique
):
    path = tmp_path / f"{unique}.dat"
    size = 3 << 30
    with path.open("wb") as file:
        file.write(unique.encode())
        file.truncate(size)

    def work() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with registry_process.client() as registry:
            [result] = deposit(archive, registry, [DepositItem(unique, LocalFile(path), "session-raw")])
        assert (result.status, result.size) == ("deposited", size)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 100_000, f"{grown} KiB more"

    assert in_child(work) == 0
    [stored] = archive.entries(unique)
    assert stored.stat().st_blocks * 512 < 16 << 20
    with registry_process.client() as registry:
        assert check(archive, registry, "exists").findings == []
