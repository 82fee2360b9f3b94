"""Copying what is deposited, with both digests computed from the very bytes that are written.

A small file is one read and one write. A large one goes through a fixed number of buffers, which one thread fills, two
digest and one writes: memory stays the same for any size, and the time is that of the slowest of the four. The disk is
told to begin at once, so that little is left to wait for in the end. Holes of a sparse file are digested as the zeros
that they are, and stay holes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from blake3 import blake3

from aind_pipelines.archive import fsops
from aind_pipelines.archive.digests import FileDigest
from aind_pipelines.archive.intake import Listing, Member, Sink, Source, SourceRefused, read_member
from aind_pipelines.archive.layout import Archive

LARGE = 16 << 20
"""Bytes from which a file goes through the buffers."""
_BLOCK = 4 << 20
_BUFFERS = 6
_AT_ONCE = threading.BoundedSemaphore(2)  # each has its buffers, and the disk gains nothing from more


@dataclass(frozen=True, slots=True)
class Copied:
    """One copied file: its content and its inode."""

    digest: FileDigest
    ino: int


def copy_file(
    archive: Archive, source: Source, member: Member, target: Path, *, durable: bool, sink: Sink | None = None
) -> Copied:
    """Copy one file to `target`, which must not exist, with owner and mode of a deposited file.

    Args:
        archive: Whose policy counts.
        source: What `member` is of.
        member: The file.
        target: Its copy.
        durable: Whether to make its bytes durable; else the caller does so for the whole file system.
        sink: Is handed each piece that is read, e.g. to count bytes.

    Raises:
        SourceRefused: It cannot be read, or changed meanwhile.
        OSError: The copy cannot be written.
    """
    sinks = () if sink is None else (sink,)
    fd = fsops.open_excl(target)
    try:
        if member.size >= LARGE:
            digest = _copy_large(source, member, fd, target, sinks)
        else:
            digest = read_member(member, source, lambda piece: fsops.write_all(fd, piece, target), *sinks)
        archive.give_open(fd, target)
        fsops.set_mode(fd, archive.file_mode, target)
        if durable:
            fsops.fsync(fd, target)
        status = _arrived(fd, digest, target)
    except BaseException:
        os.close(fd)
        raise
    fsops.close(fd, target)
    return Copied(digest, status.st_ino)


def _arrived(fd: int, digest: FileDigest, target: Path) -> os.stat_result:
    status = os.fstat(fd)
    if status.st_size != digest.size:
        raise OSError(errno.EIO, f"{status.st_size} bytes arrived instead of {digest.size}", str(target))
    return status


def copy_tree(
    archive: Archive, source: Source, listing: Listing, target: Path, *, durable: bool, sink: Sink | None = None
) -> dict[str, FileDigest]:
    """Copy everything in `listing` below `target`, which must not exist; see `copy_file`.

    Returns:
        Each file's content by its path within the directory.
    """
    fsops.mkdir(target, 0o700)
    folders = listing.folders
    for folder in folders:
        fsops.mkdir(target / folder, 0o700)
    files = {
        member.relpath: copy_file(archive, source, member, target / member.relpath, durable=durable, sink=sink).digest
        for member in listing.members
    }
    for folder in reversed(folders):
        archive.give(target / folder)
        fsops.chmod(target / folder, archive.folder_mode)
        if durable:
            fsops.fsync_dir(target / folder)
    # The top folder stays writable until it is published: moving a read-only folder is not allowed.
    archive.give(target)
    if durable:
        fsops.fsync_dir(target)
    return files


class _Block:
    """A filled buffer, until everybody who uses it has let go of it."""

    def __init__(self, buffer: memoryview, size: int, offset: int, users: int, *, hole: bool) -> None:
        self.buffer = buffer
        self.view = buffer[:size]
        self.offset = offset
        self.hole = hole
        self._users = users
        self._mutex = threading.Lock()

    def let_go(self) -> bool:
        """Whether that was the last user."""
        with self._mutex:
            self._users -= 1
            return not self._users


class _Worker(threading.Thread):
    """Does one thing with each block, in order. After a failure it only passes blocks on."""

    def __init__(self, name: str, work: Callable[[_Block], object], free: SimpleQueue[memoryview]) -> None:
        super().__init__(name=f"deposit {name}", daemon=True)
        self.blocks: SimpleQueue[_Block | None] = SimpleQueue()
        self.error: BaseException | None = None
        self._work = work
        self._free = free

    def run(self) -> None:
        while (block := self.blocks.get()) is not None:
            if self.error is None:
                try:
                    self._work(block)
                except BaseException as error:  # noqa: BLE001 - raised again where the copy is waited for
                    self.error = error
            if block.let_go():
                self._free.put(block.buffer)


def _copy_large(source: Source, member: Member, fd: int, target: Path, sinks: Iterable[Sink]) -> FileDigest:
    with _AT_ONCE:
        free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(_BUFFERS):
            free.put(memoryview(mmap.mmap(-1, _BLOCK)))  # given back to the system at once, other than from a heap
        sha1, second = hashlib.sha1(usedforsecurity=False), blake3()
        workers = [
            _Worker("sha1", lambda block: sha1.update(block.view), free),
            _Worker("blake3", lambda block: second.update(block.view), free),
            _Worker("write", lambda block: _write(block, fd, target), free),
        ]
        for worker in workers:
            worker.start()
        try:
            size = _read_blocks(source, member, workers, free, sinks)
        finally:
            for worker in workers:
                worker.blocks.put(None)
            for worker in workers:
                worker.join()
        for worker in workers:
            if worker.error is not None:
                raise worker.error
        fsops.truncate(fd, size, target)  # a hole at the end
        return FileDigest(size, sha1.hexdigest(), second.hexdigest())


def _write(block: _Block, fd: int, target: Path) -> None:
    if not block.hole:
        fsops.write_at(fd, block.view, block.offset, target)
        fsops.start_writeback(fd, block.offset, len(block.view), target)


def _read_blocks(
    source: Source,
    member: Member,
    workers: list[_Worker],
    free: SimpleQueue[memoryview],
    sinks: Iterable[Sink],
) -> int:
    """Hand the member to the workers, block by block; returns its size."""
    where = source.uri if source.kind == "file" else f"{source.uri}/{member.relpath}"
    offset = 0
    with member.open() as reader:
        file = reader.fileno() if isinstance(reader, io.FileIO) else None
        sparse = file is not None and _is_sparse(file)
        while not any(worker.error for worker in workers):
            buffer = free.get()
            try:
                hole = file is not None and sparse and _in_hole(file, offset, member.size)
                if hole:
                    size = min(_BLOCK, member.size - offset)
                    buffer[:size] = bytes(size)
                elif file is not None:
                    size = _fill(buffer, lambda rest, at: os.preadv(file, [rest], at), offset)
                else:
                    size = _fill(buffer, lambda rest, _at: _read_into(reader, rest), offset)
            except OSError as error:
                raise SourceRefused(
                    "unreadable", f"{where} cannot be read at byte {offset}: {error.strerror}."
                ) from error
            if not size:
                break
            for sink in sinks:
                sink(buffer[:size])
            block = _Block(buffer, size, offset, len(workers), hole=hole)
            for worker in workers:
                worker.blocks.put(block)
            offset += size
            if size < _BLOCK:
                break
    if offset != member.size and not any(worker.error for worker in workers):
        raise SourceRefused("changed", f"{where} gave {offset} bytes instead of {member.size}.")
    return offset


def _fill(buffer: memoryview, read: Callable[[memoryview, int], int], offset: int) -> int:
    """Fill `buffer` with what the source has from `offset` on; returns how much."""
    filled = 0
    while filled < len(buffer) and (count := read(buffer[filled:], offset + filled)):
        filled += count
    return filled


def _read_into(reader: io.BufferedIOBase | io.RawIOBase | object, rest: memoryview) -> int:
    data: bytes = reader.read(len(rest))  # type: ignore[union-attr]
    rest[: len(data)] = data
    return len(data)


def _is_sparse(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_blocks * 512 < status.st_size and hasattr(os, "SEEK_DATA")


def _in_hole(fd: int, offset: int, size: int) -> bool:
    """Whether the whole block at `offset` is a hole."""
    if offset >= size:
        return False
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= min(offset + _BLOCK, size)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data until the end
            return True
        raise
