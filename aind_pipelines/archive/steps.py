"""The steps of deposits, shared by depositing and recovering: each takes a batch, and can be repeated after a crash.

Order: intents in the journal, staged copies durable, published without overwriting, folders durable, registered with
their locations in one write, sources removed. So there is never a location without bytes, and what lies in the archive
without a location is always in a journal.

What a whole batch writes becomes durable in one call where the file system can do that (``syncfs``), else file by file
in several threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

from aind_pipelines.archive import fsops
from aind_pipelines.archive.copying import copy_file, copy_tree
from aind_pipelines.archive.digests import Digests, Kind
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.intake import (
    Listing,
    LocalDirectory,
    LocalFile,
    Sink,
    Source,
    SourceRefused,
    combine,
    read_digests,
    read_member,
)
from aind_pipelines.archive.journal import Entry, Journal, Staged
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.zipped import Zipped, local_source_of
from aind_pipelines.clients.registry import Registration, RegistryClient, RegistryRefused, Resource

_SYNC_WHOLE = 3
"""Files or folders from which one call for the whole file system is cheaper than one for each."""
_THREADS = 8
Turn = AbstractContextManager[object]
"""What batches of small files that wait for no network hold by turns: such a file costs processor time, of which
Python has that of one processor, and several threads only wait for each other."""
_A = TypeVar("_A")
_B = TypeVar("_B")


class Refused(Exception):
    """A deposit cannot be; the message says why. Nothing of it stays in the archive."""


def staging_path(archive: Archive, entry: Entry) -> Path:
    """Where the staged copy is."""
    return archive.path / entry.intent.staging


def final_path(archive: Archive, entry: Entry) -> Path:
    """Where the published copy is."""
    return archive.resources / entry.intent.path


def write_failed(what: str, error: OSError) -> ArchiveWriteFailed:
    """The error to raise when `what` could not write into the archive."""
    hint = "Make room." if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check the file system and its rights."
    return ArchiveWriteFailed(
        f"{what} failed at {error.filename or 'the archive'}: {error.strerror}. "
        f"The sources are as they were. {hint} Then deposit again."
    )


def _folder_of(path: str) -> str:
    """The folder part of a path; a `Path` for each of ten thousand files takes its time."""
    return path.rpartition("/")[0] or "/"


def is_ours(archive: Archive, entry: Entry) -> bool:
    """Whether the final name has the very file or folder that was staged.

    It is the same inode of the archive's one file system; where inode numbers tell nothing, the same content.
    """
    if entry.staged is None:
        return False
    final = final_path(archive, entry)
    try:
        here = final.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if archive.filesystem().inodes:
        return here.st_ino == entry.staged.ino
    if stat.S_ISREG(here.st_mode) and here.st_size != entry.staged.digests.size:
        return False
    try:
        return read_copy(final, entry.intent.kind) == entry.staged.digests
    except SourceRefused:
        return False


def is_published(archive: Archive, entry: Entry) -> bool:
    """Whether a staged copy has its final name, or had when a crash of the machine damaged it there.

    Unlike `is_ours`, this is nothing to remove it by where inode numbers tell nothing.
    """
    if archive.filesystem().inodes or os.path.lexists(staging_path(archive, entry)):
        return is_ours(archive, entry)
    return os.path.lexists(final_path(archive, entry))


def read_copy(path: Path, kind: Kind) -> Digests:
    """The digests of a copy, read from the medium.

    Raises:
        SourceRefused: It cannot be read, or is of another kind.
    """
    return read_digests(LocalDirectory(path, cold=True) if kind == "directory" else LocalFile(path, cold=True))


def _in_threads(work: Callable[[_A], _B], items: Sequence[_A], threads: int = _THREADS) -> list[_B]:
    """`work` for each item, in order; many at the same time, where each waits for the disk."""
    if threads == 1 or len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="archive") as pool:
        return list(pool.map(work, items))


def sync_folders(archive: Archive, folders: Collection[Path]) -> None:
    """Make the entries of these folders of the archive durable."""
    if len(folders) >= _SYNC_WHOLE and archive.filesystem().syncfs:
        fsops.syncfs(archive.path)
    else:
        _in_threads(fsops.fsync_dir, sorted(folders))


def stage(
    archive: Archive,
    journal: Journal,
    work: Sequence[tuple[Entry, Source, Listing]],
    *,
    sink: Sink | None = None,
    turn: Turn | None = None,
) -> dict[Entry, SourceRefused]:
    """Copy each source into the staging folder, digesting it in the same pass, and make the copies durable.

    Args:
        archive: Where to.
        journal: That of the entries.
        work: The entries, what to copy, and what is known of it.
        sink: Is handed each piece that is read, e.g. to count bytes.
        turn: Is held while files are copied, and not while the disk is waited for.

    Returns:
        The sources that cannot be read or that changed meanwhile, with the reason; the others are staged.

    Raises:
        OSError: A copy cannot be written.
        ServiceError: The source's service fails.
    """
    files = sum(len(listing.members) for _, _, listing in work)
    at_once = files >= _SYNC_WHOLE and archive.filesystem().syncfs

    def one(task: tuple[Entry, Source, Listing]) -> Staged | SourceRefused:
        entry, source, listing = task
        try:
            return _stage_one(archive, entry, source, listing, durable=not at_once, sink=sink)
        except SourceRefused as refusal:
            return refusal

    with turn or nullcontext():
        # With one call for all, few files wait for the disk.
        outcomes = _in_threads(one, work, 1 if at_once else _THREADS)
    tried = {task[0]: outcome for task, outcome in zip(work, outcomes, strict=True)}
    copies = {entry: outcome for entry, outcome in tried.items() if isinstance(outcome, Staged)}
    journal.staged(copies, durable=not at_once)
    if at_once and copies:
        fsops.syncfs(archive.staging)
    return {entry: outcome for entry, outcome in tried.items() if isinstance(outcome, SourceRefused)}


def _stage_one(
    archive: Archive, entry: Entry, source: Source, listing: Listing, *, durable: bool, sink: Sink | None
) -> Staged:
    target = staging_path(archive, entry)
    if source.kind == "file":
        member = listing.members[0]
        copied = copy_file(archive, source, member, target, durable=durable, sink=sink)
        files, ino = {member.relpath: copied.digest}, copied.ino
    else:
        files = copy_tree(archive, source, listing, target, durable=durable, sink=sink)
        ino = target.lstat().st_ino
    if not source.scan().same_as(listing):
        raise SourceRefused("changed", f"{source.uri} changed while it was read. Deposit it when it is complete.")
    return Staged(ino, combine(source.kind, listing, files))


def make_durable(archive: Archive, entries: Iterable[Entry]) -> None:
    """Make copies durable, of which a killed process may have said so too early."""
    if archive.filesystem().syncfs:
        fsops.syncfs(archive.staging)
        return
    for entry in entries:
        for path in (staging_path(archive, entry), final_path(archive, entry)):
            if os.path.lexists(path):
                fsops.fsync_tree(path)


def publish(archive: Archive, entries: Iterable[Entry], *, turn: Turn | None = None) -> dict[Entry, str]:
    """Give each staged copy its final name, durably. Does nothing where that is done.

    Args:
        archive: Where they are.
        entries: The deposits.
        turn: Is held while files are moved, and not while the disk is waited for.

    Returns:
        Those whose name something else has, with the reason.

    Raises:
        OSError: The archive cannot be written.
    """
    touched: set[Path] = set()
    with turn or nullcontext():
        refused = _publish_each(archive, entries, touched)
    sync_folders(archive, touched)
    return refused


def _publish_each(archive: Archive, entries: Iterable[Entry], touched: set[Path]) -> dict[Entry, str]:
    """What `publish` does, without its last step: `touched` gets the folders that are to be made durable."""
    refused: dict[Entry, str] = {}
    stubs: set[str] = set()
    can = archive.filesystem()
    for entry in entries:
        assert entry.staged is not None
        staging, final = staging_path(archive, entry), final_path(archive, entry)
        stub = _folder_of(entry.intent.path)
        if stub not in stubs:
            stubs.add(stub)
            touched.add(final.parent)
            if archive.make_layout_folder(final.parent, durable=False):
                touched.add(archive.resources)
        try:
            fsops.move_new(staging, final, rename=can.rename_new, links=can.links)
        except (FileExistsError, FileNotFoundError) as problem:
            if is_ours(archive, entry):
                fsops.rmtree(staging)  # a link to it, or a second copy where inode numbers tell nothing
            elif isinstance(problem, FileNotFoundError):
                raise
            else:
                refused[entry] = (
                    f"{final} exists, although the registry has no such copy here. "
                    "Run an archive check to see what it is."
                )
                continue
        if entry.intent.kind == "directory":
            fsops.chmod(final, archive.folder_mode)
            touched.add(final)
    return refused


def conflict(known: Resource, sha1: str) -> str | None:
    """Why content with `sha1` cannot be a copy of `known`, or None when it can."""
    if known.sha1 is None:
        return f"{known.id} is registered without a sha1, so that nothing shows whether this is the same content"
    if known.sha1 != sha1:
        return f"{known.id} is registered with other content (sha1 {known.sha1}, this has {sha1})"
    return None


def same_content(other: Resource) -> str:
    """Why content that `other` has cannot have another identifier."""
    places = ", ".join(other.locations) or "no archive"
    return f"the same content is already registered as {other.id} (in {places})"


def sha1_of(entry: Entry) -> str:
    """The sha1 of a staged copy."""
    assert entry.staged is not None
    return entry.staged.digests.sha1


def register(
    registry: RegistryClient, archive_name: str, entries: Sequence[Entry], known: Mapping[str, Resource]
) -> dict[Entry, str]:
    """Register published copies, in one write each: the identifiers that are new, and the locations of the others.

    Args:
        registry: The registry.
        archive_name: The archive's name there.
        entries: The deposits.
        known: The records of those identifiers that have one.

    Returns:
        Those that the registry does not accept, with the reason.
    """
    refused: dict[Entry, str] = {}
    new = [entry for entry in entries if entry.intent.id not in known]
    records = {entry: known[entry.intent.id] for entry in entries if entry.intent.id in known}
    outcomes = registry.register_many(
        [
            Registration(entry.intent.id, sha1_of(entry), entry.intent.dtype, entry.intent.metadata, (archive_name,))
            for entry in new
        ]
    )
    denied = {entry: said for entry, said in zip(new, outcomes, strict=True) if isinstance(said, RegistryRefused)}
    if denied:
        now = registry.get_resources(entry.intent.id for entry in denied)
        records |= {entry: now[entry.intent.id] for entry in denied if entry.intent.id in now}
        refused |= _why(registry, {entry: said for entry, said in denied.items() if entry.intent.id not in now})
    lacking: list[Entry] = []
    for entry, record in records.items():
        if problem := conflict(record, sha1_of(entry)):
            refused[entry] = problem
        elif archive_name not in record.locations:
            lacking.append(entry)
    added = registry.add_locations((entry.intent.id, archive_name) for entry in lacking)
    refused |= {
        entry: str(said) for entry, said in zip(lacking, added, strict=True) if isinstance(said, RegistryRefused)
    }
    return refused


def _why(registry: RegistryClient, denied: Mapping[Entry, RegistryRefused]) -> dict[Entry, str]:
    others = registry.find_by_sha1s([sha1_of(entry) for entry, said in denied.items() if "sha1" in said.fields])
    return {
        entry: same_content(others[sha1_of(entry)]) if sha1_of(entry) in others else str(said)
        for entry, said in denied.items()
    }


def withdraw(archive: Archive, journal: Journal, reasons: Mapping[Entry, str]) -> None:
    """Take unregistered copies out of the archive again, and nothing that is not ours."""
    out = {entry: reason for entry, reason in reasons.items() if is_ours(archive, entry)}
    journal.withdraw({entry: reason for entry, reason in out.items() if entry.withdrawing is None})
    for entry in out:
        final = final_path(archive, entry)
        if stat.S_ISDIR(final.lstat().st_mode):
            fsops.chmod(final, 0o700)
            fsops.move_new(final, staging_path(archive, entry))
        else:
            fsops.unlink(final)
    sync_folders(archive, {final_path(archive, entry).parent for entry in out})
    for entry in reasons:
        # Another's copy of the same content may have the name; of an empty file it could not be told from a claim.
        holds_bytes = entry.staged is not None and entry.staged.digests.size > 0
        if holds_bytes and entry not in out and _claims_names(archive, entry):
            fsops.drop_claim(final_path(archive, entry), folder=entry.intent.kind == "directory")
        fsops.rmtree(staging_path(archive, entry))
    journal.dropped(reasons)


def _claims_names(archive: Archive, entry: Entry) -> bool:
    """Whether publishing here first claims the final name (see `fsops.move_new`)."""
    can = archive.filesystem()
    return not can.rename_new and (entry.intent.kind == "directory" or not can.links)


def finish(
    archive: Archive, journal: Journal, entries: Sequence[Entry], *, turn: Turn | None = None
) -> dict[Entry, str]:
    """Remove the sources that are to be moved, and close the deposits.

    Args:
        archive: Where they are.
        journal: That of the entries.
        entries: The deposits.
        turn: Is held while sources are removed, by one thread; without it by several.

    Returns:
        What a person should know: why a source is still there although it was to be moved.
    """
    moved = [entry for entry in entries if not entry.intent.keep_source]
    journal.registered([entry for entry in moved if not entry.registered])
    with turn or nullcontext():
        # Removing a file waits for a network although nothing of it need be durable.
        threads = _THREADS if turn is None else 1
        kept = _in_threads(lambda entry: _remove_source(archive, entry), moved, threads)
    notes = {entry: note for entry, note in zip(moved, kept, strict=True) if note}
    for folder in {_folder_of(entry.intent.source) for entry in moved if entry not in notes}:
        try:
            fsops.fsync_dir(Path(folder))
        except OSError as error:
            note = f"the source was removed, but {folder} could not be made durable: {error.strerror}"
            notes |= {entry: note for entry in moved if _folder_of(entry.intent.source) == folder}
    journal.done(entries)
    return notes


def _remove_source(archive: Archive, entry: Entry) -> str:
    intent = entry.intent
    path = Path(intent.source)
    source = local_source_of(path, intent.source_kind)
    try:
        if source.remove(intent.fingerprint):
            return ""
        listing = source.scan()
        if _is_remainder(archive, entry, source, listing) and source.remove(listing.fingerprint):
            return ""
    except SourceRefused as problem:
        return "" if problem.reason == "missing" else f"the source was kept: {problem}"
    except OSError as error:
        return f"the source was kept: {error.filename or path} cannot be removed: {error.strerror}"
    return f"the source was kept: {path} changed after it was deposited"


def _is_remainder(archive: Archive, entry: Entry, source: Source, listing: Listing) -> bool:
    """Whether `source` is what an interrupted removal left: fewer files than archived, each equal to its copy."""
    if isinstance(source, Zipped):
        return source.is_remainder_of(final_path(archive, entry))
    if not isinstance(source, LocalDirectory):
        return False
    copy = LocalDirectory(final_path(archive, entry))
    copies = {member.relpath: member for member in copy.scan().members}
    names = {member.relpath for member in listing.members}
    if not names < copies.keys():
        return False
    return all(read_member(member, source) == read_member(copies[member.relpath], copy) for member in listing.members)
