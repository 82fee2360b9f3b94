"""The steps of a deposit, shared by depositing and recovering: each can be repeated after a crash.

Order: intent in the journal, staged copy durable, published without overwriting, folder durable, registered with its
location in one write, source removed. So there is never a location without bytes, and what lies in the archive without
a location is always in a journal.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

from aind_pipelines.archive import fsops
from aind_pipelines.archive.digests import FileDigest
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.intake import (
    Listing,
    LocalDirectory,
    LocalFile,
    Member,
    Source,
    SourceRefused,
    combine,
    read_member,
)
from aind_pipelines.archive.journal import Entry, Fact, Journal, Staged
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.registry import RegistryClient, RegistryRefused, Resource


class Refused(Exception):
    """A deposit cannot be; the message says why. Nothing of it stays in the archive."""


def staging_path(archive: Archive, entry: Entry) -> Path:
    """Where the staged copy is."""
    return archive.path / entry.intent.staging


def final_path(archive: Archive, entry: Entry) -> Path:
    """Where the published copy is."""
    return archive.resources / entry.intent.path


def write_failed(id_: str, step: str, error: OSError) -> ArchiveWriteFailed:
    """The error to raise when `step` of depositing `id_` could not write into the archive."""
    hint = "Make room." if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check the file system and its rights."
    return ArchiveWriteFailed(
        f"{id_}: {step} failed at {error.filename or 'the archive'}: {error.strerror}. "
        f"The source is as it was. {hint} Then deposit again."
    )


def is_ours(path: Path, staged: Staged) -> bool:
    """Whether `path` is the very file or folder that was staged: same inode, on the archive's one file system."""
    try:
        here = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return here.st_ino == staged.ino


def stage(archive: Archive, journal: Journal, entry: Entry, source: Source, listing: Listing) -> Staged:
    """Copy `source` into the staging folder, digesting it in the same pass, and make the copy durable.

    Raises:
        SourceRefused: The source cannot be read, or changed meanwhile.
        OSError: The copy cannot be written.
    """
    target = staging_path(archive, entry)
    if source.kind == "file":
        member = listing.members[0]
        files = {member.relpath: _copy(archive, source, member, target)}
    else:
        files = _copy_tree(archive, source, listing, target)
    if source.scan().fingerprint != listing.fingerprint:
        raise SourceRefused("changed", f"{source.uri} changed while it was read. Deposit it when it is complete.")
    fsops.fsync_dir(archive.staging)
    here = target.lstat()
    staged = Staged(here.st_ino, combine(source.kind, listing, files))
    journal.staged(entry, staged)
    return staged


def _copy(archive: Archive, source: Source, member: Member, target: Path) -> FileDigest:
    fd = fsops.open_excl(target)
    try:
        digest = read_member(member, source, lambda piece: fsops.write_all(fd, piece, target))
        archive.give(target)
        fsops.set_mode(fd, archive.file_mode, target)
        fsops.fsync(fd, target)
    except BaseException:
        os.close(fd)
        raise
    fsops.close(fd, target)
    return digest


def _copy_tree(archive: Archive, source: Source, listing: Listing, target: Path) -> dict[str, FileDigest]:
    fsops.mkdir(target, 0o700)
    folders = {PurePosixPath(name) for name in listing.empty_folders}
    for name in [*listing.empty_folders, *(member.relpath for member in listing.members)]:
        folders.update(PurePosixPath(name).parents)
    ordered = sorted((folder for folder in folders if folder.parts), key=lambda folder: len(folder.parts))
    for folder in ordered:
        fsops.mkdir(target / folder, 0o700)
    files = {member.relpath: _copy(archive, source, member, target / member.relpath) for member in listing.members}
    for folder in reversed(ordered):
        archive.give(target / folder)
        fsops.chmod(target / folder, archive.folder_mode)
        fsops.fsync_dir(target / folder)
    # The top folder stays writable until it is published: moving a read-only folder is not allowed.
    archive.give(target)
    fsops.fsync_dir(target)
    return files


def publish(archive: Archive, entry: Entry) -> None:
    """Give the staged copy its final name, durably. Does nothing where that is done.

    Raises:
        Refused: Something else has the name.
        OSError: The archive cannot be written.
    """
    assert entry.staged is not None
    staging, final = staging_path(archive, entry), final_path(archive, entry)
    archive.make_layout_folder(final.parent)
    if not is_ours(final, entry.staged):
        try:
            if entry.intent.kind == "file":
                _publish_file(staging, final)
            else:
                fsops.rename_new(staging, final)
        except FileExistsError:
            raise Refused(
                f"{final} exists, although the registry has no such copy here. Run an archive check to see what it is."
            ) from None
    if entry.intent.kind == "file":
        fsops.unlink(staging, missing_ok=True)
    else:
        fsops.chmod(final, archive.folder_mode)
        fsops.fsync_dir(final)
    fsops.fsync_dir(final.parent)


def _publish_file(staging: Path, final: Path) -> None:
    try:
        fsops.link(staging, final)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        fsops.rename_new(staging, final)  # a file system without hard links


def conflict(known: Resource, sha1: str) -> str | None:
    """Why content with `sha1` cannot be a copy of `known`, or None when it can."""
    if known.sha1 is None:
        return f"{known.id} is registered without a sha1, so that nothing shows whether this is the same content"
    if known.sha1 != sha1:
        return f"{known.id} is registered with other content (sha1 {known.sha1}, this has {sha1})"
    return None


def check_agrees(known: Resource | None, staged: Staged) -> None:
    """Refuse a staged copy that cannot be one of `known`, the identifier's record, if it has one."""
    if known is not None and (problem := conflict(known, staged.digests.sha1)):
        raise Refused(problem)


def register(registry: RegistryClient, archive_name: str, entry: Entry, known: Resource | None) -> None:
    """Register the published copy, in one write when the identifier is new.

    Args:
        registry: The registry.
        archive_name: The archive's name there.
        entry: The deposit.
        known: The identifier's record, when it has one.

    Raises:
        Refused: The registry does not accept it.
    """
    assert entry.staged is not None
    intent, sha1 = entry.intent, entry.staged.digests.sha1
    try:
        if known is None:
            try:
                registry.register(intent.id, sha1, intent.dtype, archive_name, intent.metadata)
            except RegistryRefused as refusal:
                known = registry.get_resource(intent.id)
                if known is None:
                    raise Refused(_why(registry, refusal, sha1)) from refusal
            else:
                return
        check_agrees(known, entry.staged)
        if archive_name not in known.locations:
            registry.add_location(intent.id, archive_name)
    except RegistryRefused as refusal:
        raise Refused(str(refusal)) from refusal


def _why(registry: RegistryClient, refusal: RegistryRefused, sha1: str) -> str:
    if "sha1" in refusal.fields:
        for other in registry.find_by_sha1(sha1):
            places = ", ".join(other.locations) or "no archive"
            return f"the same content is already registered as {other.id} (in {places})"
    return str(refusal)


def withdraw(archive: Archive, journal: Journal, entry: Entry, reason: str) -> None:
    """Take the unregistered copy out of the archive again, and nothing that is not ours."""
    if entry.withdrawing is None:
        journal.withdraw(entry, reason)
    final, staging = final_path(archive, entry), staging_path(archive, entry)
    if entry.staged is not None and is_ours(final, entry.staged):
        if stat.S_ISDIR(final.lstat().st_mode):
            fsops.chmod(final, 0o700)
            fsops.rename_new(final, staging)
        else:
            fsops.unlink(final)
        fsops.fsync_dir(final.parent)
    fsops.rmtree(staging)
    journal.dropped(entry, reason)


def finish(archive: Archive, journal: Journal, entry: Entry) -> tuple[Fact, str]:
    """Remove the source where it is to be moved, and close the deposit.

    Returns:
        The deposit's fact, and why the source is still there although it was to be moved (else empty).
    """
    kept = ""
    if not entry.intent.keep_source:
        if not entry.registered:
            journal.registered(entry)
        kept = _remove_source(archive, entry)
    return journal.done(entry), kept


def _remove_source(archive: Archive, entry: Entry) -> str:
    intent = entry.intent
    path = Path(intent.source)
    source = LocalDirectory(path) if intent.source_kind == "directory" else LocalFile(path)
    try:
        listing = source.scan()
        if listing.fingerprint == intent.fingerprint or (
            isinstance(source, LocalDirectory) and _is_remainder(archive, entry, source, listing)
        ):
            source.remove(listing)
            fsops.fsync_dir(path.parent)
            return ""
    except SourceRefused as problem:
        return "" if problem.reason == "missing" else f"the source was kept: {problem}"
    except OSError as error:
        return f"the source was kept: {error.filename or path} cannot be removed: {error.strerror}"
    return f"the source was kept: {path} changed after it was deposited"


def _is_remainder(archive: Archive, entry: Entry, source: LocalDirectory, listing: Listing) -> bool:
    """Whether `source` is what an interrupted removal left: fewer files than archived, each equal to its copy."""
    copy = LocalDirectory(final_path(archive, entry))
    copies = {member.relpath: member for member in copy.scan().members}
    names = {member.relpath for member in listing.members}
    if not names < copies.keys():
        return False
    return all(read_member(member, source) == read_member(copies[member.relpath], copy) for member in listing.members)
