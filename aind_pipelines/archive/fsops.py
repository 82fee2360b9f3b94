"""Every change of a file in an archive, and nothing else: the only module here that writes, moves or removes.

Each operation first calls the fault hook, when there is one, with its name and path. Tests raise or kill there, and so
reach every state that a crash can leave. Files are published by `rename_new`, `link` and `rename_claimed`, which never
replace.

An ``fsync`` or ``syncfs`` that fails is never repeated on the same files: the kernel has dropped the pages it could
not write. The caller discards them and begins again from the source.
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
_RENAME_EXCHANGE = 2
_RENAME_EXCL = 4  # renamex_np(2), macOS
_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2), Linux
_PIECE = 128 << 10
"""Bytes of one write: Linux looks for one stretch of memory for each, which takes long for several MiB."""
UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK})
"""What `rename_new`, `link` and `syncfs` fail with where the file system has no such thing."""
_library = ctypes.CDLL(None, use_errno=True)


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
        view = view[os.write(fd, view[:_PIECE]) :]


def write_at(fd: int, data: memoryview, offset: int, path: Path) -> None:
    """Write all of `data` at `offset`."""
    _step("write", path)
    while data:
        written = os.pwrite(fd, data[:_PIECE], offset)
        data, offset = data[written:], offset + written


def start_writeback(fd: int, offset: int, size: int, path: Path) -> None:
    """Let the system begin to write these bytes to the disk, where it can be told so: a later `fsync` waits less.

    Nothing is promised, so nothing is an error: a disk that fails is told by the `fsync`.
    """
    _step("start_writeback", path)
    if hasattr(_library, "sync_file_range"):
        _library.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


def truncate(fd: int, size: int, path: Path) -> None:
    """Make the file `size` bytes long; what is added is a hole."""
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


def fsync_dir(path: Path, *, strict: bool = False) -> None:
    """Make a folder's entries and its own mode durable.

    Some file systems have no fsync for folders; their entries are then as durable as they get, unless `strict`.
    """
    _step("fsync_dir", path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if strict or error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def fsync_tree(path: Path) -> None:
    """Make a file, or a folder with everything in it, durable."""
    if not stat.S_ISDIR(path.lstat().st_mode):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fsync(fd, path)
        finally:
            os.close(fd)
        return
    for child in path.iterdir():
        fsync_tree(child)
    fsync_dir(path)


def syncfs(path: Path) -> None:
    """Make everything durable that was written to the file system of the folder `path`, by anybody."""
    _step("syncfs", path)
    if not hasattr(_library, "syncfs"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _library.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
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


def chown_open(fd: int, uid: int, gid: int, path: Path) -> None:
    """Set an open file's owner and group; -1 leaves one as it is."""
    _step("chown", path)
    os.fchown(fd, uid, gid)


def link(source: Path, target: Path) -> None:
    """Give the file a second name that must not exist yet."""
    _step("link", target)
    os.link(source, target, follow_symlinks=False)


def rename_new(source: Path, target: Path) -> None:
    """Move to a name that must not exist, atomically.

    Raises:
        FileExistsError: `target` exists.
        OSError: With a code of `UNSUPPORTED` where the file system cannot refuse an existing name atomically.
    """
    _step("rename_new", target)
    names = os.fsencode(source), os.fsencode(target)
    if sys.platform.startswith("linux") and hasattr(_library, "renameat2"):
        failed = _library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
    elif sys.platform == "darwin":
        failed = _library.renamex_np(*names, _RENAME_EXCL)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source), None, str(target))
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(source), None, str(target))


def rename_claimed(source: Path, target: Path) -> None:
    """Move to a name that must not exist, in two steps: where neither `rename_new` nor `link` works.

    The name is claimed by an exclusively created empty file or folder, which the move then replaces. So nothing is
    ever overwritten, but the empty claim is seen for a moment; when the process is killed then, until the recovery.

    Raises:
        FileExistsError: `target` exists, and not as an empty claim of an earlier call.
    """
    folder = stat.S_ISDIR(source.lstat().st_mode)
    try:
        if folder:
            mkdir(target, 0o700)
        else:
            close(open_excl(target), target)
    except FileExistsError:
        if not _is_claim(target, folder=folder):
            raise
    try:
        _step("rename_claimed", target)
        source.rename(target)
    except OSError:
        with contextlib.suppress(OSError):  # what stays is dropped when the deposit is withdrawn
            drop_claim(target, folder=folder)
        raise


def drop_claim(target: Path, *, folder: bool) -> None:
    """Remove what `rename_claimed` left under a name when its move failed; anything but an empty claim stays."""
    try:
        if _is_claim(target, folder=folder):
            rmdir(target) if folder else unlink(target)
    except FileNotFoundError:
        return


def move_new(source: Path, target: Path, *, rename: bool = True, links: bool = True) -> None:
    """Move to a name that must not exist, in the best way that the file system offers.

    Args:
        source: A file or folder.
        target: Its new name, on the same file system.
        rename: Whether to try `rename_new`.
        links: Whether to try `link`, for a file.

    Raises:
        FileExistsError: `target` exists.
    """
    if rename:
        try:
            rename_new(source, target)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            return
    if links and not stat.S_ISDIR(source.lstat().st_mode):
        try:
            link(source, target)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            unlink(source)
            return
    rename_claimed(source, target)


def _is_claim(path: Path, *, folder: bool) -> bool:
    """Whether `path` is empty, and of the kind that `rename_claimed` makes; it holds no byte that could be lost."""
    status = path.lstat()
    if folder:
        return stat.S_ISDIR(status.st_mode) and not any(path.iterdir())
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def replace(source: Path, target: Path) -> None:
    """Move over whatever `target` is; only for our own bookkeeping and outside of archives, never for a resource."""
    _step("replace", target)
    source.replace(target)


def exchange(one: Path, other: Path) -> None:
    """Let two names change places, atomically; for what is outside of archives.

    Raises:
        OSError: With a code of `UNSUPPORTED` where the file system, or the system, cannot do that.
    """
    _step("exchange", other)
    names = os.fsencode(one), os.fsencode(other)
    if not (sys.platform.startswith("linux") and hasattr(_library, "renameat2")):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one), None, str(other))
    if _library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one), None, str(other))


def set_attribute(path: Path, name: str, value: bytes) -> None:
    """Set an extended attribute.

    Raises:
        OSError: With ENOTSUP where the file system, or the system, has none of this name.
    """
    _step("set_attribute", path)
    if not hasattr(os, "setxattr"):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
    os.setxattr(path, name, value)


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
