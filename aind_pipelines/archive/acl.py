"""Default access control lists: the rights of whatever is made in a folder, by any program.

Format: Linux keeps a POSIX ACL in the extended attribute ``system.posix_acl_default`` as a version (32 bits) and
entries of tag (16 bits), permissions (16 bits) and identifier (32 bits), little-endian (``linux/posix_acl_xattr.h``).
"""

from __future__ import annotations

import struct
from pathlib import Path

from aind_pipelines.archive import fsops
from aind_pipelines.archive.errors import ArchiveError

ATTRIBUTE = "system.posix_acl_default"
_VERSION = 2
_USER_OBJ, _GROUP_OBJ, _OTHER = 0x01, 0x04, 0x20
_NO_ID = 0xFFFFFFFF


def default_acl(umask: int) -> bytes:
    """The attribute that gives owner, group and others all rights but those of `umask` (mode bits).

    With 0o027: ``u::rwx,g::r-x,o::---``.
    """
    entries = ((_USER_OBJ, 7 & ~(umask >> 6)), (_GROUP_OBJ, 7 & ~(umask >> 3)), (_OTHER, 7 & ~umask))
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", tag, may, _NO_ID) for tag, may in entries)


def set_default_acl(folder: Path, umask: int) -> None:
    """Give `folder` the default ACL of `umask`; folders that are made in it inherit it.

    Raises:
        ArchiveError: The file system has no ACLs, or does not let us.
    """
    try:
        fsops.set_attribute(folder, ATTRIBUTE, default_acl(umask))
    except OSError as error:
        raise ArchiveError(
            f"{folder.parent.parent} takes no default ACL: {error.strerror}. Leave out --acl, or put the archive on a "
            "file system with POSIX ACLs. Nothing was made."
        ) from error
