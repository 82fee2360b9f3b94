"""What can become a resource: a file, a directory, or the objects below a prefix in S3.

A source is first scanned, without opening anything: a symbolic link, a pipe, socket or device, and a name that would
make the directory's digest ambiguous are refused there. Reading then notices whether a member changed since the scan,
and a second scan whether one came or went.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from aind_pipelines.archive import fsops
from aind_pipelines.archive.digests import (
    Digests,
    FileDigest,
    FileHasher,
    Kind,
    chunks,
    directory_digests,
    name_problem,
)
from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Reason = Literal["missing", "special", "name", "unreadable", "changed", "empty"]


class SourceRefused(Exception):
    """A source cannot become a resource.

    Attributes:
        reason: What kind of problem it is.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a source.

    Attributes:
        relpath: Path within a directory, with ``/``; the file's name for a file.
        size: Bytes.
        version: Changes whenever the content may have changed.
        open: Gives a binary reader for a ``with`` block; leaving it checks that the member did not change.
    """

    relpath: str
    size: int
    version: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class Listing:
    """A source's members and the folders that hold nothing, as scanned."""

    members: tuple[Member, ...]
    empty_folders: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes over all members."""
        return sum(member.size for member in self.members)

    @property
    def folders(self) -> list[PurePosixPath]:
        """Every folder within it, outer ones first."""
        found = {PurePosixPath(name) for name in self.empty_folders}
        for name in [*self.empty_folders, *(member.relpath for member in self.members)]:
            found.update(PurePosixPath(name).parents)
        return sorted(found - {PurePosixPath()}, key=lambda folder: len(folder.parts))

    def same_as(self, other: Listing) -> bool:
        """Whether nothing changed between the two; cheaper than comparing fingerprints."""
        return self.empty_folders == other.empty_folders and [
            (member.relpath, member.size, member.version) for member in self.members
        ] == [(member.relpath, member.size, member.version) for member in other.members]

    @property
    def fingerprint(self) -> str:
        """A digest over names, sizes and versions: equal as long as nothing changed."""
        from blake3 import blake3

        lines = [f"{member.relpath}\0{member.size}\0{member.version}" for member in self.members]
        text = "\n".join(sorted([*lines, *self.empty_folders]))
        return str(blake3(text.encode(errors="surrogatepass")).hexdigest())  # a file's name need not be UTF-8


class Source(Protocol):
    """A place that a resource is made from."""

    @property
    def kind(self) -> Kind:
        """What it becomes."""
        ...

    @property
    def name(self) -> str:
        """Last part of its path; its suffix may be kept."""
        ...

    @property
    def uri(self) -> str:
        """Where it is, for people and for finding it again."""
        ...

    @property
    def source_kind(self) -> str:
        """``file``, ``directory`` or ``s3``."""
        ...

    @property
    def removable(self) -> bool:
        """Whether it can be removed once it is deposited."""
        ...

    def scan(self) -> Listing:
        """Look at everything without opening it; raises `SourceRefused`."""
        ...


def _version(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}"


@contextlib.contextmanager
def _open_local(path: Path, size: int, version: str, *, cold: bool) -> Iterator[BinaryIO]:
    """Read a file that must be, and stay, what the scan saw."""

    def unchanged(fd: int) -> None:
        now = os.fstat(fd)
        if (now.st_size, _version(now)) != (size, version):
            raise SourceRefused("changed", f"{path} changed while it was read. Deposit it when it is complete.")

    try:
        # O_NONBLOCK: should a pipe have taken the file's place, opening it must not hang.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason: Reason = "changed" if isinstance(error, FileNotFoundError) else "unreadable"
        raise SourceRefused(reason, f"{path} cannot be opened: {error.strerror}.") from error
    with os.fdopen(fd, "rb", buffering=0) as raw:
        unchanged(fd)
        if cold and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        yield raw
        unchanged(fd)


def _local_member(path: Path, relpath: str, status: os.stat_result, *, cold: bool) -> Member:
    if stat.S_ISLNK(status.st_mode):
        raise SourceRefused("special", f"{path} is a symbolic link. Deposit what it points to instead.")
    if not stat.S_ISREG(status.st_mode):
        raise SourceRefused("special", f"{path} is no regular file (a pipe, socket or device).")
    version = _version(status)
    return Member(relpath, status.st_size, version, lambda: _open_local(path, status.st_size, version, cold=cold))


def _status(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise SourceRefused("missing", f"{path} does not exist.") from None
    except OSError as error:
        raise SourceRefused("unreadable", f"{path} cannot be looked at: {error.strerror}.") from error


@dataclass(frozen=True)
class LocalFile:
    """A regular file on this machine; `cold` reads it from the medium instead of the page cache."""

    path: Path
    cold: bool = False
    kind: Kind = "file"
    source_kind: str = "file"
    removable: bool = True

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def uri(self) -> str:
        """The file's absolute path."""
        return str(self.path.absolute())

    def scan(self) -> Listing:
        """The file, as its only member."""
        return Listing((_local_member(self.path, self.path.name, _status(self.path), cold=self.cold),))

    def remove(self, fingerprint: str) -> bool:
        """Remove the file, unless it is another one than `fingerprint` was taken of; whether it was removed."""
        unchanged = self.scan().fingerprint == fingerprint
        if unchanged:
            fsops.unlink(self.path)
        return unchanged


@dataclass(frozen=True)
class LocalDirectory:
    """A directory on this machine, with everything below it; `cold` as for `LocalFile`."""

    path: Path
    cold: bool = False
    kind: Kind = "directory"
    source_kind: str = "directory"
    removable: bool = True

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def uri(self) -> str:
        """The directory's absolute path."""
        return str(self.path.absolute())

    def scan(self) -> Listing:
        """Every regular file below it, and every folder that holds nothing."""
        if not stat.S_ISDIR(_status(self.path).st_mode):
            raise SourceRefused("special", f"{self.path} is no directory.")
        members: list[Member] = []
        empty: list[str] = []
        self._walk("", members, empty)
        return Listing(tuple(members), tuple(empty))

    def _walk(self, prefix: str, members: list[Member], empty: list[str]) -> None:
        folder = self.path / prefix
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise SourceRefused("unreadable", f"{folder} cannot be listed: {error.strerror}.") from error
        if not entries and prefix:
            empty.append(prefix)
        for entry in entries:
            relpath = f"{prefix}/{entry.name}" if prefix else entry.name
            if problem := name_problem(relpath):
                raise SourceRefused("name", f"{str(folder)!r} holds {entry.name!r}, whose name {problem}.")
            status = _status(Path(entry.path))
            if stat.S_ISDIR(status.st_mode):
                self._walk(relpath, members, empty)
            else:
                members.append(_local_member(Path(entry.path), relpath, status, cold=self.cold))

    def remove(self, fingerprint: str) -> bool:
        """Remove the directory, unless anything in it changed since `fingerprint`; whether it was removed."""
        unchanged = self.scan().fingerprint == fingerprint
        if unchanged:
            fsops.rmtree(self.path)
        return unchanged


_GONE = frozenset({"NoSuchBucket", "NoSuchKey", "404", "NotFound"})
_DENIED = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})
_CHANGED = frozenset({"PreconditionFailed", "412"})


@contextlib.contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    """Tell what is wrong with the source from an outage of S3."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _GONE:
            raise SourceRefused("missing", f"{uri} does not exist ({code}).") from error
        if code in _CHANGED:
            raise SourceRefused(
                "changed", f"{uri} changed while it was read. Deposit it when it is complete."
            ) from error
        if code in _DENIED:
            raise AccessRefused("S3", f"reading {uri} was refused ({code}). Check the AWS credentials.") from error
        raise ServiceUnavailable("S3", f"reading {uri} failed ({code}). Try again later.") from error
    except (BotoCoreError, HTTPError, ConnectionError) as error:
        cause = type(error).__name__
        raise ServiceUnavailable("S3", f"reading {uri} failed ({cause}). Check that S3 can be reached.") from error


class _S3Reader:
    """A response's body as a reader whose failures say what they are about."""

    def __init__(self, body: Any, uri: str) -> None:
        self._body = body
        self._uri = uri

    def read(self, size: int = -1) -> bytes:
        with _s3_errors(self._uri):
            data: bytes = self._body.read(None if size < 0 else size)
            return data


@dataclass(frozen=True)
class S3Prefix:
    """All objects of `bucket` below the folder `prefix`, as a directory."""

    bucket: str
    prefix: str
    client: S3Client
    kind: Kind = "directory"
    source_kind: str = "s3"
    removable: bool = False

    @property
    def name(self) -> str:
        """The folder's name."""
        return PurePosixPath(self.prefix).name

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix.strip('/')}"

    def scan(self) -> Listing:
        """Every object below the folder; a folder's own marker object counts when nothing else is in it."""
        start = self.prefix.strip("/") + "/"
        members: dict[str, Member] = {}
        markers: set[str] = set()
        with _s3_errors(self.uri):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start):
                for item in page.get("Contents", []):
                    relpath = item["Key"].removeprefix(start)
                    if not relpath:
                        continue
                    if problem := name_problem(relpath.removesuffix("/")):
                        raise SourceRefused("name", f"{self.uri} holds {item['Key']!r}, whose name {problem}.")
                    if relpath.endswith("/"):
                        if item["Size"]:
                            raise SourceRefused("name", f"{self.uri} holds {item['Key']!r}, a folder with content.")
                        markers.add(relpath.removesuffix("/"))
                    else:
                        members[relpath] = self._member(item["Key"], relpath, item["Size"], item["ETag"])
        if not members and not markers:
            raise SourceRefused("missing", f"{self.uri} holds no objects.")
        folders = {parent.as_posix() for name in (*members, *markers) for parent in PurePosixPath(name).parents}
        if clash := sorted((folders | markers) & members.keys()):
            raise SourceRefused("name", f"{self.uri} has {clash[0]!r} both as an object and as a folder.")
        return Listing(tuple(members.values()), tuple(sorted(markers - folders)))

    def _member(self, key: str, relpath: str, size: int, etag: str) -> Member:
        uri = f"s3://{self.bucket}/{key}"

        @contextlib.contextmanager
        def reader() -> Iterator[BinaryIO]:
            with _s3_errors(uri):
                answer = self.client.get_object(Bucket=self.bucket, Key=key, IfMatch=etag)
            with contextlib.closing(answer["Body"]) as body:
                yield _S3Reader(body, uri)  # type: ignore[misc]  # only read() is used

        return Member(relpath, size, etag, reader)


def local_source(path: Path) -> LocalFile | LocalDirectory:
    """The source at `path`, by what is there now."""
    status = _status(path)
    return LocalDirectory(path) if stat.S_ISDIR(status.st_mode) else LocalFile(path)


Sink = Callable[[bytes | memoryview], None]


def read_member(member: Member, source: Source, *sinks: Sink) -> FileDigest:
    """Read a member once: digest it, and hand each piece to `sinks`.

    Raises:
        SourceRefused: It cannot be read, or is not as long as the scan said.
    """
    hasher = FileHasher()
    where = source.uri if source.kind == "file" else f"{source.uri}/{member.relpath}"
    with member.open() as reader:
        pieces = chunks(reader)
        while True:
            try:
                piece = next(pieces, None)
            except OSError as error:
                raise SourceRefused(
                    "unreadable", f"{where} cannot be read at byte {hasher.size}: {error.strerror}."
                ) from error
            if piece is None:
                break
            hasher.update(piece)
            for sink in sinks:
                sink(piece)
    if hasher.size != member.size:
        raise SourceRefused("changed", f"{where} gave {hasher.size} bytes instead of {member.size}.")
    return hasher.result()


def combine(source_kind: Kind, listing: Listing, files: dict[str, FileDigest]) -> Digests:
    """The resource's digests from those of its files."""
    if source_kind == "file":
        only = next(iter(files.values()))
        return Digests("file", only.size, 1, only.sha1, only.blake3)
    return directory_digests(files, listing.empty_folders)


def read_digests(source: Source, sink: Sink | None = None) -> Digests:
    """Read a source whole and give its digests.

    Args:
        source: What to read.
        sink: Is handed each piece, e.g. to count bytes.

    Raises:
        SourceRefused: It cannot be read, or changed meanwhile.
    """
    listing = source.scan()
    sinks = (sink,) if sink is not None else ()
    files = {member.relpath: read_member(member, source, *sinks) for member in listing.members}
    if source.scan().fingerprint != listing.fingerprint:
        raise SourceRefused("changed", f"{source.uri} changed while it was read.")
    return combine(source.kind, listing, files)
