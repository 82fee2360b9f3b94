"""Every change of a file in an archive, and nothing else: the only module here that writes, moves or removes.

Each operation first calls the fault hook, when there is one, with its name and path. Tests raise or kill there, and so
reach every state that a crash can leave. Files are published by `link` and `rename_new`, which never replace.

An ``fsync`` that fails is never repeated on the same file: the kernel has dropped the pages it could not write. The
caller discards the file and begins again from the source.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

FaultHook = Callable[[str, Path], None]
_hook: FaultHook | None = None

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1  # renameat2(2), Linux
_RENAME_EXCL = 4  # renamex_np(2), macOS
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextlib.contextmanager
def fault_hook(hook: FaultHook) -> Iterator[None]:
    """Call `hook` with (operation, path) before every operation of this process, until the block ends."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _step(operation: str, path: Path) -> None:
    if _hook is not None:
        _hook(operation, path)


def open_excl(path: Path, mode: int = 0o600) -> int:
    """Create a file that must not exist, for writing; returns the descriptor."""
    _step("open_excl", path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)


def open_append(path: Path) -> int:
    """Open an existing file for appending; returns the descriptor."""
    _step("open_append", path)
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)


def open_lock(path: Path, mode: int) -> int:
    """Open a lock file for reading and writing, creating it where needed; returns the descriptor."""
    _step("open_lock", path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)


def write_all(fd: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of `data`."""
    _step("write", path)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def truncate(fd: int, size: int, path: Path) -> None:
    """Cut the file to `size` bytes."""
    _step("truncate", path)
    os.ftruncate(fd, size)


def fsync(fd: int, path: Path) -> None:
    """Make the file's bytes durable."""
    _step("fsync", path)
    os.fsync(fd)


def close(fd: int, path: Path) -> None:
    """Close; network file systems report failed writes here."""
    _step("close", path)
    os.close(fd)


def set_mode(fd: int, mode: int, path: Path) -> None:
    """Set an open file's mode."""
    _step("set_mode", path)
    os.fchmod(fd, mode)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Make a new file with `data` and `mode`, durable but for its name (see `fsync_dir`)."""
    fd = open_excl(path)
    try:
        write_all(fd, data, path)
        set_mode(fd, mode, path)
        fsync(fd, path)
    except BaseException:
        os.close(fd)
        raise
    close(fd, path)


def fsync_dir(path: Path) -> None:
    """Make a folder's entries and its own mode durable."""
    _step("fsync_dir", path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems have no fsync for folders; their entries are then as durable as they get.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def mkdir(path: Path, mode: int) -> None:
    """Make a folder that must not exist, with exactly `mode` whatever the process's umask."""
    _step("mkdir", path)
    path.mkdir(mode=0o700)
    path.chmod(mode)


def chmod(path: Path, mode: int) -> None:
    """Set the mode."""
    _step("chmod", path)
    path.chmod(mode)


def chown(path: Path, uid: int, gid: int) -> None:
    """Set owner and group; -1 leaves one as it is."""
    _step("chown", path)
    os.chown(path, uid, gid, follow_symlinks=False)


def link(source: Path, target: Path) -> None:
    """Give the file a second name that must not exist yet."""
    _step("link", target)
    os.link(source, target, follow_symlinks=False)


def rename_new(source: Path, target: Path) -> None:
    """Move to a name that must not exist, atomically.

    Where the file system cannot refuse an existing name atomically, the name is looked at first; callers hold the
    identifier's lock, so only a foreign program could come between.

    Raises:
        FileExistsError: `target` exists.
    """
    _step("rename_new", target)
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform.startswith("linux") and hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    elif sys.platform == "darwin":
        failed = library.renamex_np(os.fsencode(source), os.fsencode(target), _RENAME_EXCL)
    else:
        failed = -1
        ctypes.set_errno(errno.ENOSYS)
    if not failed:
        return
    code = ctypes.get_errno()
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def replace(source: Path, target: Path) -> None:
    """Move over whatever `target` is; only for our own bookkeeping, never for a resource."""
    _step("replace", target)
    source.replace(target)


def unlink(path: Path, *, missing_ok: bool = False) -> None:
    """Remove a file's name."""
    _step("unlink", path)
    path.unlink(missing_ok=missing_ok)


def rmdir(path: Path) -> None:
    """Remove an empty folder."""
    _step("rmdir", path)
    path.rmdir()


def rmtree(path: Path) -> None:
    """Remove a file or a folder with all in it, read-only folders included; a path that is gone is fine."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        unlink(path, missing_ok=True)
        return
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU)
    with os.scandir(path) as entries:
        children = [Path(entry.path) for entry in entries]
    for child in children:
        rmtree(child)
    rmdir(path)
