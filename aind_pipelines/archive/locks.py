"""Locks between depositors of one archive: they end with the process that holds them and leave no files behind.

One lock file per archive; each key locks one byte of it, at an offset derived from the key. POSIX record locks work on
network file systems too, and need one descriptor per process, since closing any of them would release all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from aind_pipelines.archive import fsops

_BUSY = frozenset({errno.EACCES, errno.EAGAIN})


class _LockFile:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pid = os.getpid()
        self.held: set[int] = set()
        self.mutex = threading.Lock()


_open_files: dict[tuple[int, int], _LockFile] = {}
_opening = threading.Lock()


def _offset(key: str) -> int:
    return int.from_bytes(blake3(key.encode()).digest()[:8], "big") >> 2


def _lock_file(path: Path, mode: int) -> _LockFile:
    with _opening:
        with contextlib.suppress(FileNotFoundError):
            known = path.stat()
            lock_file = _open_files.get((known.st_dev, known.st_ino))
            if lock_file is not None and lock_file.pid == os.getpid():
                return lock_file
        fd = fsops.open_lock(path, mode)
        here = os.fstat(fd)
        if stat.S_IMODE(here.st_mode) != mode and here.st_uid == os.geteuid():
            fsops.set_mode(fd, mode, path)  # made under this process's umask, which would shut out the group
        lock_file = _LockFile(fd)
        _open_files[here.st_dev, here.st_ino] = lock_file
        return lock_file


def _try_lock(lock_file: _LockFile, offset: int) -> bool:
    with lock_file.mutex:
        if offset in lock_file.held:
            return False
        try:
            fcntl.lockf(lock_file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise
        lock_file.held.add(offset)
        return True


class ArchiveLocks:
    """The locks of one archive.

    Args:
        path: The lock file; it is made where needed.
        mode: Its mode when it is made.
    """

    def __init__(self, path: Path, mode: int = 0o660) -> None:
        self._path = path
        self._mode = mode

    def try_acquire(self, key: str) -> bool:
        """Take the lock of `key`, unless another process or thread has it."""
        return self.try_acquire_each([key]) == [True]

    def try_acquire_each(self, keys: Sequence[str]) -> list[bool]:
        """Take the lock of each of `keys` that nobody has; whether it was taken, in order.

        When it raises, none is held.
        """
        lock_file = _lock_file(self._path, self._mode)
        taken: list[bool] = []
        try:
            for key in keys:
                taken.append(_try_lock(lock_file, _offset(key)))  # noqa: PERF401 - what was taken before is given back
        except BaseException:
            self.release_each(key for key, mine in zip(keys, taken, strict=False) if mine)
            raise
        return taken

    def release(self, key: str) -> None:
        """Give the lock of `key` back."""
        self.release_each([key])

    def release_each(self, keys: Iterable[str]) -> None:
        """Give the locks of `keys` back."""
        lock_file = _lock_file(self._path, self._mode)
        for key in keys:
            offset = _offset(key)
            with lock_file.mutex:
                fcntl.lockf(lock_file.fd, fcntl.LOCK_UN, 1, offset)
                lock_file.held.discard(offset)

    @contextlib.contextmanager
    def hold(self, key: str, wait: float = 0.0) -> Iterator[bool]:
        """Hold the lock of `key` for the block, after at most `wait` seconds; yields whether it is held."""
        deadline = time.monotonic() + wait
        while not (held := self.try_acquire(key)) and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield held
        finally:
            if held:
                self.release(key)
