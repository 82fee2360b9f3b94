"""What the file system of an archive can do: tried once, and kept beside the journal for the programs of one machine.

Local disks can do everything that is asked here. Network file systems often cannot: `promises` says what is weaker
then. A record made on another machine, under another kernel or for another device is not believed: it is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aind_pipelines.archive import fsops

_MOUNTS = Path("/proc/self/mountinfo")
_REPORTS_SYNC_ERRORS = (5, 8)
"""Linux from here on tells `syncfs` about bytes that could not be written (syncfs(2))."""
_SYNCS_WHOLE = frozenset({"btrfs", "ext4", "f2fs", "tmpfs", "xfs"})
"""Types whose `syncfs` covers every file and folder; network file systems are none."""
_KEEPS_INODES = _SYNCS_WHOLE | {"apfs", "ceph", "ext2", "ext3", "gpfs", "lustre", "nfs", "nfs4", "zfs"}
"""Types that give a file the same inode number for all its life; FUSE makes numbers up for each mount."""
_NO_ACL = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What was tried, and whether it works.

    Attributes:
        system: Machine and kernel that tried it.
        device: Device number there.
        type: Its type, e.g. ``ext4``, ``nfs4`` or ``fuse.sshfs``; ``unknown`` where the system does not say.
        rename_new: A rename that refuses an existing name.
        links: Hard links.
        fsync_folder: Making a folder's entries durable.
        syncfs: Making everything durable in one call that reports errors.
        acl: POSIX access control lists.
        case_sensitive: Names that differ in case only are two names.
        locks: POSIX record locks.
        shared_locks: Locks that other machines with the same archive see.
        inodes: Inode numbers that a file keeps when it is moved and when the file system is mounted anew.
    """

    system: str
    device: int
    type: str
    rename_new: bool
    links: bool
    fsync_folder: bool
    syncfs: bool
    acl: bool
    case_sensitive: bool
    locks: bool
    shared_locks: bool
    inodes: bool

    @property
    def promises(self) -> list[str]:
        """What is weaker here than on a local disk, one sentence each."""
        found = []
        if not self.rename_new and not self.links:
            found.append(
                "Neither hard links nor a rename that refuses an existing name: while a file is published, an empty "
                "one has its name for a moment, after a crash until the recovery."
            )
        elif not self.rename_new:
            found.append(
                "No rename that refuses an existing name: while a directory is published, an empty one has its name "
                "for a moment, after a crash until the recovery."
            )
        if not self.fsync_folder:
            found.append(
                "Folders cannot be made durable: a name can be lost in a power failure although it is registered."
            )
        if not self.case_sensitive:
            found.append("Names that differ in case only are one name: such identifiers are refused.")
        if not self.locks:
            found.append("No record locks: only one process at a time may deposit here.")
        elif not self.shared_locks:
            found.append(
                "Locks hold on this machine only: deposit from one machine at a time. What another one left "
                "unfinished is recovered from here only when that is asked for."
            )
        if not self.inodes:
            found.append("Files cannot be told apart by inode: after a crash, copies are read again to be recognised.")
        return found


def probe(folder: Path) -> Filesystem:
    """Try everything in `folder`, a folder of the archive's own that exists; what is made is removed again.

    Raises:
        OSError: Nothing can be written there.
    """
    place = folder / "probe"
    fsops.rmtree(place)
    fsops.mkdir(place, 0o700)
    try:
        file = place / "a"
        fsops.write_file(file, b"a", 0o600)
        type_, options = _mount(folder)
        locks = _locks(place / "lock")
        return Filesystem(
            system=_system(),
            device=folder.stat().st_dev,
            type=type_,
            links=_works(lambda: fsops.link(file, place / "linked")),
            rename_new=_renames_new(file, place / "b"),
            fsync_folder=_works(lambda: fsops.fsync_dir(place, strict=True)),
            syncfs=_syncs_whole(type_) and _works(lambda: fsops.syncfs(place)),
            acl=_has_acl(place),
            case_sensitive=not os.path.lexists(place / "B"),
            locks=locks,
            shared_locks=locks and _shares_locks(type_, options),
            inodes=type_ in _KEEPS_INODES,
        )
    finally:
        fsops.rmtree(place)


def read_record(record: Path, folder: Path) -> Filesystem | None:
    """What `record` says of the file system of `folder`, or None when it says nothing of what is there now."""
    try:
        values = json.loads(record.read_text())
        known = Filesystem(**{field.name: values[field.name] for field in fields(Filesystem)})
    except (FileNotFoundError, PermissionError, ValueError, KeyError, TypeError):
        return None
    return known if (known.system, known.device) == (_system(), folder.stat().st_dev) else None


def write_record(record: Path, known: Filesystem, mode: int) -> None:
    """Keep `known` for later calls."""
    draft = record.with_name(f"{record.name}.{os.getpid()}.partial")
    fsops.unlink(draft, missing_ok=True)
    fsops.write_file(draft, json.dumps(asdict(known), indent=4).encode(), mode)
    fsops.replace(draft, record)


def _system() -> str:
    return f"{platform.node()} {platform.system()} {platform.release()}"


def filesystem_type(path: Path) -> str:
    """The type of the file system that `path` is on, as Linux names it; ``unknown`` where it does not say."""
    return _mount(path)[0]


def _mount(path: Path) -> tuple[str, str]:
    """Type and options of the file system that `path` is on; see proc_pid_mountinfo(5)."""
    place = path.resolve()
    best, found = -1, ("unknown", "")
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        front, _, back = line.partition(" - ")
        mounted = Path(front.split()[4].encode().decode("unicode_escape"))
        if place.is_relative_to(mounted) and len(mounted.parts) >= best:
            words = back.split()
            best, found = len(mounted.parts), (words[0], words[-1])
    return found


def _works(trial: Callable[[], None]) -> bool:
    try:
        trial()
    except OSError as error:
        if error.errno not in fsops.UNSUPPORTED:
            raise
        return False
    return True


def _renames_new(source: Path, target: Path) -> bool:
    """Whether it moves, and then refuses: some file systems take the call and replace."""
    if not _works(lambda: fsops.rename_new(source, target)):
        fsops.replace(source, target)
        return False
    fsops.write_file(source, b"", 0o600)
    try:
        fsops.rename_new(source, target)
    except FileExistsError:
        return True
    return False


def _syncs_whole(type_: str) -> bool:
    release = platform.release().split("-")[0].split(".")
    with contextlib.suppress(ValueError):
        return type_ in _SYNCS_WHOLE and tuple(map(int, release[:2])) >= _REPORTS_SYNC_ERRORS
    return False


def _shares_locks(type_: str, options: str) -> bool:
    """Whether locks reach other machines: not with FUSE, nor where NFS is told to keep them local (nfs(5))."""
    if type_.startswith("fuse"):
        return False
    local = {"local_lock=all", "local_lock=posix", "nolock"}
    return not (type_.startswith("nfs") and local & set(options.split(",")))


def _has_acl(path: Path) -> bool:
    if not hasattr(os, "getxattr"):  # POSIX access control lists are extended attributes on Linux alone
        return False
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError as error:
        return error.errno not in _NO_ACL
    return True


def _locks(path: Path) -> bool:
    import fcntl

    fd = fsops.open_lock(path, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 40)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
