"""Finishing or rolling back deposits whose process was killed. Repeating it changes nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from aind_pipelines.archive import fsops, steps
from aind_pipelines.archive.errors import ArchiveWriteFailed, OfAnotherMachine
from aind_pipelines.archive.intake import SourceRefused
from aind_pipelines.archive.journal import Entry, Journal, journal_files
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.registry import BULK_CHUNK, RegistryClient, Resource

log = logging.getLogger(__name__)
_WAIT_FOR_OTHERS = 60.0
_OF_ANOTHER_USER = "it belongs to another user, who has to recover it"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one interrupted deposit.

    Attributes:
        id: Identifier.
        status: ``finished``; ``rolled_back``; or ``damaged``: registered, but its bytes are not what was deposited.
        reason: What was rolled back for, what is damaged, or why a source that was to be moved stayed.
    """

    id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """A journal file that was left alone: its name, and why."""

    journal: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery did, and what it had to leave alone."""

    recovered: tuple[Recovered, ...] = ()
    blocked: tuple[Blocked, ...] = ()


def recover(archive: Archive, registry: RegistryClient, *, hosts: Collection[str] = ()) -> Recovery:
    """Settle every deposit into `archive` whose process is gone; those under way are left alone.

    A complete staged copy is read again, published and registered, an incomplete one removed; what the registry
    refuses is taken out again.

    Args:
        archive: Whose deposits.
        registry: Its registry, with credentials that may write.
        hosts: Machines that are known to be gone, or to deposit nothing now: where their locks cannot be seen from
            here, what they left unfinished is settled too.

    Raises:
        ServiceError: The registry cannot be asked. What was not settled is settled next time.
        ArchiveWriteFailed: The archive cannot be written.
        JournalDamaged: A journal file cannot be understood.
    """
    recovered: list[Recovered] = []
    blocked: list[Blocked] = []
    for path in journal_files(archive):
        try:
            journal = Journal.take_over(archive, path, hosts=hosts)
        except (PermissionError, OfAnotherMachine) as error:
            reason = str(error) if isinstance(error, OfAnotherMachine) else _OF_ANOTHER_USER
            log.warning("%s is left alone: %s", path, reason)
            blocked.append(Blocked(path.name, reason))
            continue
        if journal is None:
            continue
        try:
            archive.ensure_folders()
            left = iter([entry for entry in journal.entries.values() if not entry.finished])
            while chunk := list(islice(left, BULK_CHUNK)):
                recovered += _settle(archive, registry, journal, chunk)
        finally:
            journal.close()
    return Recovery(tuple(recovered), tuple(blocked))


def _settle(archive: Archive, registry: RegistryClient, journal: Journal, entries: Sequence[Entry]) -> list[Recovered]:
    names = ", ".join(entry.intent.id for entry in entries[:3]) + (" ..." if len(entries) > 3 else "")
    log.info("recovering %d deposits: %s", len(entries), names)
    try:
        with _locked(archive, entries):
            outcome = _Settlement(archive, registry, journal).run(entries)
    except OSError as error:
        raise steps.write_failed(f"The recovery of {names}", error) from error
    return [outcome[entry] for entry in entries]


@contextlib.contextmanager
def _locked(archive: Archive, entries: Sequence[Entry]) -> Iterator[None]:
    """Hold the identifiers' locks; in one order, so that two recoveries cannot wait for each other."""
    with contextlib.ExitStack() as stack:
        for id_ in sorted({entry.intent.id for entry in entries}):
            if not stack.enter_context(archive.locks.hold(id_, wait=_WAIT_FOR_OTHERS)):
                raise ArchiveWriteFailed(
                    f"{id_} is being deposited by another process. Recover again when it has ended."
                )
        yield


class _Settlement:
    def __init__(self, archive: Archive, registry: RegistryClient, journal: Journal) -> None:
        self.archive = archive
        self.registry = registry
        self.journal = journal
        self.outcome: dict[Entry, Recovered] = {}

    def run(self, entries: Sequence[Entry]) -> dict[Entry, Recovered]:
        """Finish or roll back each."""
        self._keep_registered([entry for entry in entries if entry.withdrawing is not None])
        entries = [entry for entry in entries if not entry.finished]
        self._roll_back(
            {entry: entry.withdrawing for entry in entries if entry.withdrawing is not None}
            | {
                entry: "it was interrupted while it was copied"
                for entry in entries
                if entry.withdrawing is None and entry.staged is None
            }
        )
        copies = [entry for entry in entries if not entry.finished]
        if copies:
            self._complete([entry for entry in copies if not entry.registered])
            copies = [entry for entry in copies if not entry.finished]
            notes = steps.finish(self.archive, self.journal, copies)
            for entry in copies:
                self.outcome[entry] = Recovered(entry.intent.id, "finished", notes.get(entry, ""))
        return self.outcome

    def _keep_registered(self, withdrawn: Sequence[Entry]) -> None:
        """See that no copy goes that has a location: it was deposited since, and its inode was ours before."""
        left = [entry for entry in withdrawn if steps.is_ours(self.archive, entry)]
        if left:
            known = self.registry.get_resources(entry.intent.id for entry in left)
            name = self.archive.name_in(self.registry)
            self._leave(
                {
                    entry: "another copy of it was deposited since"
                    for entry in left
                    if entry.intent.id in known and name in known[entry.intent.id].locations
                }
            )

    def _roll_back(self, reasons: Mapping[Entry, str]) -> None:
        if reasons:
            steps.withdraw(self.archive, self.journal, reasons)
            for entry, reason in reasons.items():
                self.outcome[entry] = Recovered(entry.intent.id, "rolled_back", reason)

    def _complete(self, entries: Sequence[Entry]) -> None:
        """Publish and register complete copies."""
        if not entries:
            return
        name = self.archive.name_in(self.registry)
        known = self.registry.get_resources(entry.intent.id for entry in entries)
        steps.make_durable(self.archive, entries)
        reasons: dict[Entry, str] = {}
        damaged: dict[Entry, str] = {}
        for entry in entries:
            record = known.get(entry.intent.id)
            if (problem := self._replaced(entry, record, name)) is not None:
                reasons[entry] = problem
            elif (problem := self._damage(entry)) is not None:
                if self._is_location(entry, record, name):
                    damaged[entry] = f"it is registered, but {problem}; the source was kept. Run an archive check."
                else:
                    reasons[entry] = problem
        self._roll_back(reasons)
        self._leave(damaged, "damaged")
        good = [entry for entry in entries if not entry.finished]
        self._roll_back(steps.publish(self.archive, good))
        good = [entry for entry in good if not entry.finished]
        self._roll_back(steps.register(self.registry, name, good, known))

    def _is_location(self, entry: Entry, record: Resource | None, name: str) -> bool:
        """Whether our copy has its location: then it is not taken out, whatever it holds."""
        return record is not None and name in record.locations and steps.is_published(self.archive, entry)

    def _leave(self, reasons: Mapping[Entry, str], status: str = "rolled_back") -> None:
        """Leave copies that have a location to the check and to a person; the sources are there."""
        for entry in reasons:
            fsops.rmtree(steps.staging_path(self.archive, entry))
        self.journal.dropped(reasons)
        for entry, reason in reasons.items():
            self.outcome[entry] = Recovered(entry.intent.id, status, reason)

    def _replaced(self, entry: Entry, record: Resource | None, name: str) -> str | None:
        """Why a copy that is registered here need not be ours: another one was deposited meanwhile."""
        if record is None or name not in record.locations or steps.conflict(record, steps.sha1_of(entry)):
            return None
        ours = steps.is_published(self.archive, entry)
        return (
            None if ours or not self.archive.entries(entry.intent.id) else "another copy of it was deposited meanwhile"
        )

    def _damage(self, entry: Entry) -> str | None:
        """Read the copy again, from the medium, before it is registered: a crash of the machine may have hurt it."""
        assert entry.staged is not None
        final = steps.final_path(self.archive, entry)
        place = final if steps.is_published(self.archive, entry) else steps.staging_path(self.archive, entry)
        try:
            found = steps.read_copy(place, entry.intent.kind)
        except SourceRefused as problem:
            return f"the interrupted copy cannot be read again: {problem}"
        return None if found == entry.staged.digests else f"the interrupted copy at {place} is not what was deposited"
