"""Fetching copies out of archives: whole and verified under their name, or not there at all.

A copy is written under a hidden temporary name, digested while it is written, compared with the registry's sha1 and
made durable; only then it gets its name. What has that name already is never touched before, and without `replace` not
at all. A copy that turns out bad is dropped, and the next one is tried.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path, PurePath
from typing import Literal

from aind_pipelines.archive import fsops
from aind_pipelines.archive.digests import Digests, FileDigest, FileHasher
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.intake import (
    Listing,
    LocalDirectory,
    LocalFile,
    Member,
    Sink,
    SourceRefused,
    combine,
    local_source,
    read_member,
)
from aind_pipelines.archive.places import LocalCopy, Places, find_copies
from aind_pipelines.clients.errors import AnswerBrokenOff, ServiceError
from aind_pipelines.clients.registry import BULK_CHUNK, Located, Location, RegistryClient

Status = Literal["fetched", "exists", "failed"]
_UNFINISHED = ".fetching"
_ATTEMPTS = 3
"""Times that a download is begun when its connection breaks on the way."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one identifier.

    Attributes:
        id: Identifier.
        status: ``fetched``; ``exists``: something has the name already, which was left as it is; or ``failed``, in
            which case nothing is left of it.
        path: Where it is, or would be; None when there is no copy to name it after.
        source: Path or address of the copy that was read; None when none was.
        size: Bytes of content, when fetched.
        sha1: neurobank's digest of what was written, when fetched.
        verified: Whether that is the registered one. It is not only where the registry has none to compare with.
        reason: Why not, or what else a person should know, e.g. of a bad copy that was passed over.
    """

    id: str
    status: Status
    path: Path | None = None
    source: str | None = None
    size: int | None = None
    sha1: str | None = None
    verified: bool = False
    reason: str = ""


class _Bad(Exception):
    """A copy cannot be used; the message says why."""


def fetch(
    registry: RegistryClient,
    ids: Iterable[str],
    folder: Path,
    *,
    replace: bool = False,
    extension: str | None = None,
    threads: int = 4,
    sink: Sink | None = None,
) -> Iterator[Fetched]:
    """Fetch the resources `ids` into `folder`, and yield what became of each, in their order.

    A file is called by its identifier and the extension of its data type, or, where that has none, the suffix of its
    copy in the archive; a directory by its identifier.

    Args:
        registry: The registry; its login is used only for its own downloads.
        ids: Identifiers.
        folder: Where to.
        replace: Whether something of the same name is replaced, once the new copy is verified.
        extension: Another extension for files, with or without a dot; empty for none.
        threads: How many are fetched at the same time.
        sink: Is handed each piece, e.g. to count bytes.

    Raises:
        ArchiveError: `folder` is no folder that can be written.
        ServiceError: The registry cannot be asked.
    """
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ArchiveError(f"{folder} is no folder that can be written. Make it, or name another one.")
    _remove_abandoned(folder)
    remaining = iter(dict.fromkeys(ids))
    work = _Fetch(registry, folder, replace, extension, sink)
    with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as pool:
        try:
            while chunk := list(itertools.islice(remaining, BULK_CHUNK)):
                located = registry.locate(chunk)
                known = registry.get_resources(id_ for id_ in chunk if id_ not in located)
                places = find_copies(located)
                futures = {id_: pool.submit(work.one, located[id_], places[id_]) for id_ in located}
                for id_ in chunk:
                    if id_ in futures:
                        yield work.made_durable(futures[id_].result())
                    else:
                        reason = "no locations" if id_ in known else "not registered"
                        yield Fetched(id_, "failed", reason=reason)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Fetch:
    def __init__(
        self, registry: RegistryClient, folder: Path, replace: bool, extension: str | None, sink: Sink | None
    ) -> None:
        self.registry = registry
        self.folder = folder
        self.replace = replace
        self.extension = extension
        self.sink: Sink = sink or (lambda _piece: None)
        self.folder_mode = 0o777 & ~_umask()
        self._named: set[str] = set()  # identifiers whose name in the folder may not be durable yet
        self._lost: dict[str, str] = {}  # why it never will be known to be

    def one(self, located: Located, places: Places) -> Fetched:
        sources: list[LocalCopy | Location] = [*places.local, *places.web]
        if not sources:
            return Fetched(located.id, "failed", reason=places.out_of_reach)
        problems: list[str] = []
        target: Path | None = None
        for source in sources:
            try:
                target = self._target(located, source)
                return self._from(located, source, target, problems)
            except (_Bad, SourceRefused, ServiceError) as problem:
                problems.append(str(problem))
            except OSError as error:
                problems.append(f"{error.filename or self.folder} cannot be written: {error.strerror}")
        return Fetched(located.id, "failed", target, reason="; ".join(problems))

    def _target(self, located: Located, source: LocalCopy | Location) -> Path:
        directory = isinstance(source, LocalCopy) and source.path.is_dir()
        if directory:
            name = located.id
        elif self.extension is not None:
            name = located.id + (f".{self.extension.lstrip('.')}" if self.extension.lstrip(".") else "")
        elif PurePath(located.filename).suffix or not isinstance(source, LocalCopy):
            name = located.filename
        else:
            name = source.path.name
        if PurePath(name).name != name:
            raise _Bad(f"{name!r} is no file name")
        return self.folder / name

    def _from(self, located: Located, source: LocalCopy | Location, target: Path, problems: list[str]) -> Fetched:
        origin = str(source.path) if isinstance(source, LocalCopy) else source.url(self.registry.url)
        if os.path.lexists(target) and not self.replace:
            return Fetched(located.id, "exists", target, reason="something has this name; it was left as it is")
        with _draft(target, self.folder_mode) as draft:
            digests = self._write(source, draft)
            if located.sha1 is None and self.replace and os.path.lexists(target):
                raise _Bad(f"{target} is not replaced: {located.id} is registered without a sha1 to verify it by")
            if located.sha1 not in (None, digests.sha1):
                raise _Bad(f"{origin} is corrupt: it has sha1 {digests.sha1}, registered is {located.sha1}")
            try:
                self._publish(draft, target)
            except FileExistsError:
                return Fetched(located.id, "exists", target, reason="something has this name; it was left as it is")
        self._named.add(located.id)
        if located.sha1 is None:
            problems = [*problems, "not verified: it is registered without a sha1"]
        return Fetched(
            id=located.id,
            status="fetched",
            path=target,
            source=origin,
            size=digests.size,
            sha1=digests.sha1,
            verified=located.sha1 is not None,
            reason="; ".join(problems),
        )

    # --- writing ---

    def _write(self, source: LocalCopy | Location, draft: _Draft) -> Digests:
        if isinstance(source, LocalCopy):
            local = local_source(source.path)
            listing = local.scan()
            return draft.copy_from(local, listing, self.sink)
        for attempt in itertools.count(1):
            try:
                return draft.download(self.registry.download(source), self.sink)
            except AnswerBrokenOff:  # where there was no answer at all, the client has asked again already
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _publish(self, draft: _Draft, target: Path) -> None:
        if self.replace and os.path.lexists(target):
            draft.put_over(target)
        else:
            fsops.move_new(draft.path, target)

    def made_durable(self, result: Fetched) -> Fetched:
        """`result`, once the name of what was fetched is durable: one sync serves all that have theirs by then."""
        if result.id in self._named:
            named = frozenset(self._named)
            self._named -= named
            try:
                fsops.fsync_dir(self.folder)
            except OSError as error:  # of all of them: the next sync would not tell of these any more
                self._lost |= dict.fromkeys(named, f"{self.folder} cannot be made durable: {error.strerror}")
        if reason := self._lost.get(result.id):
            return replaced(result, status="failed", verified=False, reason=reason)
        return result


class _Draft:
    """A temporary name beside the target; what has it goes when the block ends."""

    def __init__(self, path: Path, folder_mode: int) -> None:
        self.path = path
        self._folder_mode = folder_mode
        self._lock: int | None = None

    def copy_from(self, source: LocalFile | LocalDirectory, listing: Listing, sink: Sink) -> Digests:
        """Copy a local resource."""
        if source.kind == "file":
            [member] = listing.members
            files = {member.relpath: self._member(member, source, sink)}
        else:
            files = self._tree(source, listing, sink)
        if not source.scan().same_as(listing):
            raise SourceRefused("changed", f"{source.uri} changed while it was read.")
        return combine(source.kind, listing, files)

    def download(self, pieces: Iterator[bytes], sink: Sink) -> Digests:
        """Write what a server sends; begins again when it is called again."""
        self._let_go()
        fsops.rmtree(self.path)
        hasher = FileHasher()

        def write(to: Sink) -> FileDigest:
            for piece in pieces:
                hasher.update(piece)
                to(piece)
                sink(piece)
            return hasher.result()

        digest = self._file(self.path, write)
        return Digests("file", digest.size, 1, digest.sha1, digest.blake3)

    def _file(self, path: Path, write: Callable[[Sink], FileDigest]) -> FileDigest:
        fd = fsops.open_excl(path, 0o666)
        try:
            self._hold(fd)
            digest = write(lambda piece: fsops.write_all(fd, piece, path))
            fsops.fsync(fd, path)
        except BaseException:
            os.close(fd)
            raise
        fsops.close(fd, path)
        return digest

    def _tree(self, source: LocalDirectory | LocalFile, listing: Listing, sink: Sink) -> dict[str, FileDigest]:
        folders = [self.path, *(self.path / folder for folder in listing.folders)]
        for folder in folders:
            fsops.mkdir(folder, self._folder_mode)
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._hold(fd)
        finally:
            os.close(fd)
        files = {member.relpath: self._member(member, source, sink) for member in listing.members}
        for folder in reversed(folders):
            fsops.fsync_dir(folder)
        return files

    def _member(self, member: Member, source: LocalDirectory | LocalFile, sink: Sink) -> FileDigest:
        path = self.path / member.relpath if source.kind == "directory" else self.path
        return self._file(path, lambda write: read_member(member, source, write, sink))

    def _hold(self, fd: int) -> None:
        """Show other calls that this draft is in use until `end`; where there are no locks, none removes it either."""
        if self._lock is None:
            self._lock = os.dup(fd)
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def put_over(self, target: Path) -> None:
        """Take the place of what is at `target`."""
        if not stat.S_ISDIR(self.path.lstat().st_mode) and not stat.S_ISDIR(target.lstat().st_mode):
            fsops.replace(self.path, target)
            return
        try:
            fsops.exchange(self.path, target)
        except OSError as error:
            if error.errno not in fsops.UNSUPPORTED:
                raise
            raise _Bad(
                f"{target} cannot be replaced at one stroke on this file system. Move it away, and fetch again"
            ) from error

    def end(self) -> None:
        """Remove what is left under the temporary name."""
        self._let_go()
        fsops.rmtree(self.path)

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def _draft(target: Path, folder_mode: int) -> Iterator[_Draft]:
    draft = _Draft(target.parent / f".{target.name[:200]}.{secrets.token_hex(4)}{_UNFINISHED}", folder_mode)
    try:
        yield draft
    finally:
        draft.end()


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed calls left: nobody holds its lock."""
    for left in folder.iterdir():
        if left.name.startswith(".") and left.name.endswith(_UNFINISHED):
            with contextlib.suppress(OSError):
                fd = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    fsops.rmtree(left)
                finally:
                    os.close(fd)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
