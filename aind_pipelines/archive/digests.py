"""Digests of resources, computed in one pass.

A file has the sha1 of its bytes (neurobank's digest) and their blake3. A directory has

* neurobank's sha1: of the lines ``relpath=sha1`` of its regular files, ordered by path components and joined by
  newlines. It does not see empty folders.
* a blake3 over a manifest: one line ``relpath=size:blake3`` per regular file and one line ``relpath/`` per folder that
  holds nothing, ordered by path components and joined by newlines, in UTF-8.

Both are unambiguous as long as no name contains a line break, so names with control characters are refused, as are
names that are not UTF-8.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from blake3 import blake3

Kind = Literal["file", "directory"]
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """What a resource's content is.

    Attributes:
        kind: One file, or a directory.
        size: Bytes of content, over all files.
        files: Regular files; 1 for a file.
        sha1: neurobank's digest, hex.
        blake3: Second digest, hex.
    """

    kind: Kind
    size: int
    files: int
    sha1: str
    blake3: str


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file's content: size in bytes, digests in hex."""

    size: int
    sha1: str
    blake3: str


class FileHasher:
    """Takes a file's bytes in order and gives both digests."""

    def __init__(self) -> None:
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._blake3 = blake3()
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._sha1.update(data)
        self._blake3.update(data)
        self.size += len(data)

    def result(self) -> FileDigest:
        """The digests of all bytes taken so far."""
        return FileDigest(self.size, self._sha1.hexdigest(), self._blake3.hexdigest())


def chunks(reader: BinaryIO, size: int = CHUNK) -> Iterator[bytes]:
    """What `reader` gives, in pieces of at most `size` bytes."""
    while data := reader.read(size):
        yield data


def name_problem(relpath: str) -> str | None:
    """Why `relpath` cannot be a member of a directory resource, or None when it can.

    It must be a relative path of plain components, in UTF-8 and without control characters.
    """
    if not relpath.isprintable():  # a printable name has neither
        categories = {unicodedata.category(character) for character in relpath}
        if "Cs" in categories:
            return "is not UTF-8"
        if categories & {"Cc", "Zl", "Zp"}:
            return "contains a control character"
    if any(part in ("", ".", "..") for part in relpath.split("/")):
        return "is not a plain relative path"
    return None


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: PurePosixPath(name).parts)


def directory_digests(files: dict[str, FileDigest], empty_folders: Iterable[str] = ()) -> Digests:
    """The digests of a directory.

    Args:
        files: Each regular file's digest, by its path relative to the directory, with ``/``.
        empty_folders: Paths of the folders without anything in them.

    Raises:
        ValueError: A name makes the digest ambiguous.
    """
    empty = set(empty_folders)
    for name in (*files, *empty):
        if problem := name_problem(name):
            raise ValueError(f"{name!r} {problem}")
    names = _ordered(files)
    sha1_text = "\n".join(f"{name}={files[name].sha1}" for name in names)
    manifest = "\n".join(
        f"{name}/" if name in empty else f"{name}={files[name].size}:{files[name].blake3}"
        for name in _ordered({*files, *empty})
    )
    return Digests(
        kind="directory",
        size=sum(digest.size for digest in files.values()),
        files=len(files),
        sha1=hashlib.sha1(sha1_text.encode(), usedforsecurity=False).hexdigest(),
        blake3=blake3(manifest.encode()).hexdigest(),
    )
