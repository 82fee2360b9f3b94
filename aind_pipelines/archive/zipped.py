"""A directory as one file: a canonical zip, the same bytes for the same names and contents.

Members are stored, not compressed, so that each can be read where it lies; they are in the order of their paths as
text, dated 1980-01-01, mode 0644. That is the zip that neurobank 0.13 makes with ``--zip-directories``, byte for byte,
except that a folder which holds nothing is kept here, as an entry ``folder/``. ZIP64 records are written where sizes
or numbers need them. Format: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.

The zip is never written to disk before its deposit: it is a stream whose length is known beforehand. A member's CRC
comes before its bytes, so each member is read twice, and refused should the two readings differ.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from aind_pipelines.archive.digests import CHUNK, Kind, chunks
from aind_pipelines.archive.intake import Listing, LocalDirectory, LocalFile, Member, Source, SourceRefused

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64, _LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
_UNIX, _VERSION, _VERSION64, _UTF8 = 3 << 8, 20, 45, 0x800
_DATE = (0 << 9) | (1 << 5) | 1  # 1980-01-01
_FILE, _FOLDER = 0o100644 << 16, (0o040755 << 16) | 0x10
_ELSEWHERE, _ELSEWHERE_MEMBERS = 0xFFFFFFFF, 0xFFFF
"""In a field of the old format: the value is in the ZIP64 record."""
_LARGE, _MANY = _ELSEWHERE, _ELSEWHERE_MEMBERS
"""Values from which that is so."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry: a member of the directory, or a folder that holds nothing."""

    name: str
    member: Member | None

    @property
    def size(self) -> int:
        return self.member.size if self.member else 0

    def local(self, crc: int) -> bytes:
        """The header before its bytes."""
        name = self.name.encode()
        big = self.size >= _LARGE
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.size) if big else b""
        return self._head(_LOCAL, crc, big=big) + struct.pack("<HH", len(name), len(extra)) + name + extra

    def central(self, crc: int, offset: int) -> bytes:
        """Its line in the directory at the end."""
        name = self.name.encode()
        big = self.size >= _LARGE
        far = offset >= _LARGE
        values = [*([self.size, self.size] if big else []), *([offset] if far else [])]
        extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        version = _UNIX | (_VERSION64 if values else _VERSION)
        return (
            self._head(_CENTRAL + struct.pack("<H", version), crc, big=big or far, sizes_big=big)
            + struct.pack("<HHHHH", len(name), len(extra), 0, 0, 0)
            + struct.pack("<II", _FILE if self.member else _FOLDER, _ELSEWHERE if far else offset)
            + name
            + extra
        )

    def _head(self, start: bytes, crc: int, *, big: bool, sizes_big: bool | None = None) -> bytes:
        size = _ELSEWHERE if (big if sizes_big is None else sizes_big) else self.size
        flags = 0 if self.name.isascii() else _UTF8
        version = _VERSION64 if big else _VERSION
        return start + struct.pack("<HHHHHIII", version, flags, 0, 0, _DATE, crc, size, size)


def _entries(listing: Listing) -> list[_Entry]:
    members = [_Entry(member.relpath, member) for member in listing.members]
    folders = [_Entry(f"{name}/", None) for name in listing.empty_folders]
    return sorted([*members, *folders], key=lambda entry: entry.name)


def _end(number: int, size: int, offset: int) -> bytes:
    """The records at the end, for a directory of `number` lines and `size` bytes at `offset`."""
    big = number >= _MANY or size >= _LARGE or offset >= _LARGE
    records = b""
    if big:
        version = struct.pack("<HH", _UNIX | _VERSION64, _VERSION64)
        records = _END64 + struct.pack("<Q", 44) + version + struct.pack("<IIQQQQ", 0, 0, number, number, size, offset)
        records += _LOCATOR64 + struct.pack("<IQI", 0, offset + size, 1)
    few = _ELSEWHERE_MEMBERS if big else number
    size, offset = (_ELSEWHERE, _ELSEWHERE) if big else (size, offset)
    return records + _END + struct.pack("<HHHHIIH", 0, 0, few, few, size, offset, 0)


def zip_size(listing: Listing) -> int:
    """Bytes of the zip of a directory."""
    entries = _entries(listing)
    offset = directory = 0
    for entry in entries:
        directory += len(entry.central(0, offset))
        offset += len(entry.local(0)) + entry.size
    return offset + directory + len(_end(len(entries), directory, offset))


def zip_stream(listing: Listing) -> Generator[bytes, None, None]:
    """The bytes of the zip of a directory, in pieces.

    Raises:
        SourceRefused: A member cannot be read, or changed meanwhile.
    """
    entries = _entries(listing)
    offset = 0
    directory: list[bytes] = []
    for entry in entries:
        crc = _crc(entry.member) if entry.member else 0
        directory.append(entry.central(crc, offset))
        header = entry.local(crc)
        yield header
        offset += len(header) + entry.size
        if entry.member:
            yield from _again(entry.member, crc)
    lines = b"".join(directory)
    yield lines
    yield _end(len(entries), len(lines), offset)


def _same(member: Member, archived: IO[bytes]) -> bool:
    with archived, member.open() as reader:
        return all(piece == archived.read(len(piece)) for piece in chunks(reader)) and not archived.read(1)


def _crc(member: Member) -> int:
    crc = 0
    with member.open() as reader:
        for piece in chunks(reader):
            crc = zlib.crc32(piece, crc)
    return crc


def _again(member: Member, expected: int) -> Iterator[bytes]:
    crc = size = 0
    with member.open() as reader:
        for piece in chunks(reader):
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            if size > member.size:
                break
            yield piece
    if (crc, size) != (expected, member.size):
        raise SourceRefused("changed", f"{member.relpath} changed while it was read. Deposit it when it is complete.")


class _Reader(io.RawIOBase):
    """A stream of pieces as a reader."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none at the end."""
        wanted = CHUNK if size is None or size < 0 else size
        parts: list[memoryview] = []
        while wanted:
            if not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._left = memoryview(piece)
            part, self._left = self._left[:wanted], self._left[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


@dataclass(frozen=True)
class Zipped:
    """The canonical zip of `directory`, a source of kind ``directory``, as a file."""

    directory: Source
    kind: Kind = "file"

    @property
    def name(self) -> str:
        """The directory's name with ``.zip``."""
        return f"{self.directory.name}.zip"

    @property
    def uri(self) -> str:
        """Where the directory is."""
        return self.directory.uri

    @property
    def source_kind(self) -> str:
        """``zipped directory``, or ``zipped s3``."""
        return f"zipped {self.directory.source_kind}"

    @property
    def removable(self) -> bool:
        """Whether the directory can be removed."""
        return self.directory.removable

    def scan(self) -> Listing:
        """One member, the zip; empty when the directory holds no files."""
        inside = self.directory.scan()
        if not inside.members:
            return Listing(())
        version = inside.fingerprint
        return Listing((Member(self.name, zip_size(inside), version, self._opener(inside)),))

    def _opener(self, inside: Listing) -> Callable[[], contextlib.AbstractContextManager[BinaryIO]]:
        @contextlib.contextmanager
        def reader() -> Iterator[BinaryIO]:
            with contextlib.closing(zip_stream(inside)) as pieces:
                yield _Reader(pieces)  # type: ignore[misc]  # only read() is used

        return reader

    def remove(self, fingerprint: str) -> bool:
        """Remove the directory, unless anything in it changed since `fingerprint`; whether it was removed."""
        source = self.directory
        return (
            isinstance(source, LocalDirectory)
            and self.scan().fingerprint == fingerprint
            and source.remove(source.scan().fingerprint)
        )

    def is_remainder_of(self, archived: Path) -> bool:
        """Whether the directory is what an interrupted removal left: fewer files than `archived`, each equal to it."""
        left = self.directory.scan().members
        try:
            with zipfile.ZipFile(archived) as archive:
                names = {name for name in archive.namelist() if not name.endswith("/")}
                return {member.relpath for member in left} < names and all(
                    _same(member, archive.open(member.relpath)) for member in left
                )
        except (OSError, zipfile.BadZipFile):
            return False


_ZIPPED_DIRECTORY = "zipped directory"


def local_source_of(path: Path, source_kind: str) -> LocalFile | LocalDirectory | Zipped:
    """The source that a journal says a deposit came from, by its kind."""
    if source_kind == _ZIPPED_DIRECTORY:
        return Zipped(LocalDirectory(path))
    return LocalDirectory(path) if source_kind == "directory" else LocalFile(path)
