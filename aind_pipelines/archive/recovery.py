"""Finishing or rolling back deposits whose process was killed. Repeating it changes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from aind_pipelines.archive import fsops, steps
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.intake import SourceRefused, local_source, read_digests
from aind_pipelines.archive.journal import Entry, Journal, journal_files
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.registry import RegistryClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one interrupted deposit.

    Attributes:
        id: Identifier.
        status: ``finished`` or ``rolled_back``.
        reason: What was rolled back for, or why a source that was to be moved stayed.
    """

    id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery did, and the journal files that it may not write (another user's), by name."""

    recovered: tuple[Recovered, ...] = ()
    blocked: tuple[str, ...] = ()


def recover(archive: Archive, registry: RegistryClient) -> Recovery:
    """Settle every deposit into `archive` whose process is gone; those under way are left alone.

    A complete staged copy is published and registered, an incomplete one removed; what the registry refuses is taken
    out again.

    Raises:
        ServiceError: The registry cannot be asked. What was not settled is settled next time.
        ArchiveWriteFailed: The archive cannot be written.
        JournalDamaged: A journal file cannot be understood.
    """
    recovered: list[Recovered] = []
    blocked: list[str] = []
    for path in journal_files(archive):
        try:
            journal = Journal.take_over(archive, path)
        except PermissionError:
            log.warning("%s belongs to another user; its owner or an administrator has to recover it", path)
            blocked.append(path.name)
            continue
        if journal is None:
            continue
        try:
            archive.ensure_folders()
            recovered += [
                _settle(archive, registry, journal, entry) for entry in journal.entries.values() if not entry.finished
            ]
        finally:
            journal.close()
    return Recovery(tuple(recovered), tuple(blocked))


def _settle(archive: Archive, registry: RegistryClient, journal: Journal, entry: Entry) -> Recovered:
    log.info("recovering the deposit of %s", entry.intent.id)
    try:
        with archive.locks.hold(entry.intent.id, wait=60.0) as held:
            if not held:
                raise ArchiveWriteFailed(
                    f"{entry.intent.id} is being deposited by another process. Recover again when it has ended."
                )
            return _settle_locked(archive, registry, journal, entry)
    except OSError as error:
        raise steps.write_failed(entry.intent.id, "the recovery", error) from error


def _settle_locked(archive: Archive, registry: RegistryClient, journal: Journal, entry: Entry) -> Recovered:
    id_ = entry.intent.id
    if entry.withdrawing is not None:
        steps.withdraw(archive, journal, entry, entry.withdrawing)
        return Recovered(id_, "rolled_back", entry.withdrawing)
    if entry.staged is None:
        fsops.rmtree(steps.staging_path(archive, entry))
        reason = "it was interrupted while it was copied"
        journal.dropped(entry, reason)
        return Recovered(id_, "rolled_back", reason)
    name = archive.name_in(registry)
    known = registry.get_resource(id_)
    if not entry.registered:
        try:
            if known is not None and name in known.locations and not steps.conflict(known, entry.staged.digests.sha1):
                # Our registration arrived before we were killed, unless another copy was registered meanwhile.
                _complete_publication(archive, entry)
            else:
                _verify(archive, entry)
                steps.publish(archive, entry)
                steps.register(registry, name, entry, known)
        except steps.Refused as refusal:
            steps.withdraw(archive, journal, entry, str(refusal))
            return Recovered(id_, "rolled_back", str(refusal))
    _fact, kept = steps.finish(archive, journal, entry)
    return Recovered(id_, "finished", kept)


def _complete_publication(archive: Archive, entry: Entry) -> None:
    assert entry.staged is not None
    if steps.is_ours(steps.final_path(archive, entry), entry.staged) or not archive.entries(entry.intent.id):
        _verify(archive, entry)
        steps.publish(archive, entry)
    else:
        raise steps.Refused("another copy of it was deposited meanwhile")


def _verify(archive: Archive, entry: Entry) -> None:
    """Read the copy again before it is registered: a crash of the machine may have hurt it."""
    assert entry.staged is not None
    final = steps.final_path(archive, entry)
    place = final if steps.is_ours(final, entry.staged) else steps.staging_path(archive, entry)
    try:
        found = read_digests(local_source(place))
    except SourceRefused as problem:
        raise steps.Refused(f"the interrupted copy cannot be read again: {problem}") from problem
    if found != entry.staged.digests:
        raise steps.Refused(f"the interrupted copy at {place} is not what was deposited")
