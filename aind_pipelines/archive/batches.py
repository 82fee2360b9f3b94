"""One batch of deposits: taken through every step together, with one journal line, one sync and one registration each.

A refusal concerns its own item and leaves the others untouched. What concerns the archive or the registry as a whole
ends the batch, and takes out what of it is not registered.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aind_pipelines.archive import steps
from aind_pipelines.archive.digests import Kind, name_problem
from aind_pipelines.archive.errors import ArchiveWriteFailed
from aind_pipelines.archive.ids import InvalidId, check_id
from aind_pipelines.archive.intake import Listing, Sink, Source, SourceRefused, local_source
from aind_pipelines.archive.journal import Entry, Fact, FactIndex, Journal
from aind_pipelines.archive.layout import Archive, entry_name, id_stub
from aind_pipelines.clients.errors import AccessRefused, ServiceError
from aind_pipelines.clients.registry import RegistryClient, Resource
from aind_pipelines.clients.registry.records import BATCH_FIND

log = logging.getLogger(__name__)

Status = Literal["deposited", "restored", "already_there", "refused"]
WERE_LOST = "the archive had lost its bytes: it is registered here, and nothing of it was there"
_MAX_NAME = 255
_WAIT_FOR_OTHERS = 60.0
_PAUSE = 0.02
_ROLL = 2_000
"""Deposits after which a new journal file is begun: what is kept of them in memory goes with the old one."""


@dataclass(frozen=True, slots=True)
class DepositItem:
    """One thing to deposit.

    Attributes:
        id: Identifier to give it.
        source: Where its content is.
        dtype: Name of a registered data type.
        metadata: JSON values for the registry.
        keep_source: Whether the source stays; otherwise it is removed once the deposit is durable and registered.
    """

    id: str
    source: Source
    dtype: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keep_source: bool = True


@dataclass(frozen=True, slots=True)
class DepositResult:
    """What became of one item.

    Attributes:
        id: Identifier.
        status: ``deposited``; ``restored``, which is a deposit of what was registered here and whose bytes were lost;
            ``already_there``, in which case nothing was read or changed; or ``refused``, in which case nothing of it
            is in the archive.
        reason: Why it was refused; or what else a person should know, e.g. that bytes were lost or a source was kept.
        kind: File or directory; None when refused before it was known.
        path: Path below the archive's ``resources``.
        size: Bytes of content.
        files: Regular files.
        sha1: neurobank's digest, hex.
        blake3: Second digest, hex; None for what another program deposited.
        source: Where the item said it comes from.
        fingerprint: State of the source when it was deposited (see `Listing`); empty when it is not known.
        may_succeed_later: Whether the refusal was about this moment: a source that changed or vanished, a deposit of
            the same identifier under way, a full disk.
    """

    id: str
    status: Status
    reason: str
    kind: Kind | None
    path: str | None
    size: int | None
    files: int | None
    sha1: str | None
    blake3: str | None
    source: str
    fingerprint: str = ""
    may_succeed_later: bool = False


_OF_THIS_MOMENT = frozenset({"changed", "missing"})


def refused(item: DepositItem, reason: str, *, later: bool = False) -> DepositResult:
    """The result of an item that cannot be deposited; `later`: not now."""
    return DepositResult(
        id=item.id,
        status="refused",
        reason=reason,
        kind=item.source.kind,
        path=None,
        size=None,
        files=None,
        sha1=None,
        blake3=None,
        source=item.source.uri,
        may_succeed_later=later,
    )


def _result(item: DepositItem, status: Status, reason: str, fact: Fact) -> DepositResult:
    return DepositResult(
        id=item.id,
        status=status,
        reason=reason,
        kind=fact.kind,
        path=fact.path,
        size=fact.size,
        files=fact.files,
        sha1=fact.sha1,
        blake3=fact.blake3,
        source=item.source.uri,
        fingerprint=fact.fingerprint if fact.source == item.source.uri else "",
    )


class _Journals:
    """The journal of one depositing call: one file after the other, each made when it is needed."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._mutex = threading.Lock()
        self._users: dict[Journal, int] = {}
        self._current: Journal | None = None

    @contextmanager
    def use(self) -> Iterator[Journal]:
        """A journal for one batch. A full one is put away by the last batch that uses it."""
        with self._mutex:
            if self._current is None:
                self._current = Journal.create(self._archive)
                self._users[self._current] = 0
            journal = self._current
            self._users[journal] += 1
        try:
            yield journal
        finally:
            with self._mutex:
                self._users[journal] -= 1
                if len(journal.entries) >= _ROLL and self._current is journal:
                    self._current = None
                unused = self._current is not journal and not self._users[journal]
                if unused:
                    del self._users[journal]
            if unused:
                journal.close()

    def close(self) -> None:
        """Put the current file away; no batch may be under way."""
        for journal in self._users:
            journal.close()
        self._users.clear()


class Batches:
    """What the batches of one depositing call share. The arguments are those of `deposit`."""

    def __init__(self, archive: Archive, registry: RegistryClient, sink: Sink | None = None) -> None:
        self.archive = archive
        self.registry = registry
        self.sink = sink
        self.archive_name = archive.name_in(registry)
        self.registering = threading.Lock()  # on SQLite, writers that meet wait for each other by polling
        self.turn = threading.Lock()  # of the batches of small files: see `steps.Turn`
        self._journals = _Journals(archive)
        self._mutex = threading.Lock()
        self._facts: FactIndex | None = None

    def close(self) -> None:
        """Put the journal away."""
        self._journals.close()

    def find_deposited(
        self, items: Sequence[DepositItem], known: Mapping[str, Resource]
    ) -> tuple[dict[int, DepositResult], list[str]]:
        """The results of those of `items` that are in the archive, or whose identifiers cannot be, by number.

        Nothing is read of them but folders, and nothing written.

        Returns:
            Those results, and the identifiers of those whose bytes the archive has lost, which have none.
        """
        batch = _Batch(self, items)
        results = batch.find(known)
        return results, [items[number].id for number in batch.lost]

    def run(self, items: Sequence[DepositItem], known: Mapping[str, Resource]) -> list[DepositResult]:
        """Deposit a batch.

        Args:
            items: What to deposit, without what `find_deposited` found.
            known: What the registry has of their identifiers.

        Returns:
            What became of each, in order.

        Raises:
            ArchiveWriteFailed: The archive cannot be written.
            ServiceError: The registry or a source's service fails.
        """
        batch = _Batch(self, items)
        try:
            batch.run(known)
        except OSError as error:
            raise steps.write_failed(_named(items), error) from error
        return batch.results

    def fact(self, id_: str) -> Fact | None:
        """What is known of the finished deposit of an identifier."""
        with self._mutex:
            if self._facts is None:
                self._facts = FactIndex(self.archive)
            return self._facts.get(id_)

    def journal(self) -> AbstractContextManager[Journal]:
        """A journal for one batch, in a ``with`` block."""
        return self._journals.use()


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _named(items: Sequence[DepositItem]) -> str:
    others = len(items) - 1
    return f"The deposit of {items[0].id}" + (f" and {others} others" if others else "")


class _Batch:
    """Items by number; each has a result in the end."""

    def __init__(self, shared: Batches, items: Sequence[DepositItem]) -> None:
        self.shared = shared
        self.archive = shared.archive
        self.registry = shared.registry
        self.items = items
        self._results: dict[int, DepositResult] = {}
        self.paths: dict[int, str] = {}
        self.lost: set[int] = set()
        """Those that are registered here without any bytes: their deposit brings these back."""

    @property
    def results(self) -> list[DepositResult]:
        return [self._results[number] for number in range(len(self.items))]

    def run(self, known: Mapping[str, Resource]) -> None:
        self.archive.ensure_folders()
        deadline = time.monotonic() + _WAIT_FOR_OTHERS
        left = self._locked(range(len(self.items)), known)
        while left:
            # Held by another process, or by another batch of this one. Nothing is locked while waiting.
            before = len(left)
            time.sleep(_PAUSE)
            left = self._locked(left, None)
            if len(left) < before:
                deadline = time.monotonic() + _WAIT_FOR_OTHERS
            elif time.monotonic() > deadline:
                for number in left:
                    id_ = self.items[number].id
                    self.refuse(
                        number, f"another process is depositing {id_} now; deposit again when it has ended", later=True
                    )
                return

    def find(self, known: Mapping[str, Resource]) -> dict[int, DepositResult]:
        """The results of items that need no work, by number; `lost` then has those whose bytes are lost."""
        for number, item in enumerate(self.items):
            try:
                check_id(item.id)
            except InvalidId as problem:
                self.refuse(number, str(problem))
        self._find_deposited(range(len(self.items)), known)
        return self._results

    def refuse(self, number: int, reason: str, *, later: bool = False) -> None:
        """The item is refused, and nothing of it is left."""
        self._results[number] = refused(self.items[number], reason, later=later)

    # --- what is there ---

    def _entries(self, ids: Collection[str]) -> dict[str, list[str]]:
        """What lies on disk under each identifier: names, whatever their suffix."""
        folded = not self.archive.filesystem().case_sensitive if ids else False
        wanted = {id_.casefold() if folded else id_: id_ for id_ in ids}
        found: dict[str, list[str]] = {}
        for stub in {id_stub(id_) for id_ in ids}:
            for name in _names(self.archive.resources / stub):
                exact = name.casefold() if folded else name
                id_ = wanted.get(exact) or wanted.get(exact.rpartition(".")[0])
                if id_ is not None and id_stub(id_) == stub:
                    found.setdefault(id_, []).append(name)
        return found

    def _registered_here(self, number: int, known: Mapping[str, Resource]) -> Resource | None:
        record = known.get(self.items[number].id)
        return record if record is not None and self.shared.archive_name in record.locations else None

    def _find_deposited(self, numbers: Iterable[int], known: Mapping[str, Resource]) -> None:
        """Give their results to items that are in the archive already, and to those that are there twice."""
        here = {number: record for number in numbers if (record := self._registered_here(number, known)) is not None}
        entries = self._entries({record.id for record in here.values()})
        for number, record in here.items():
            names = entries.get(record.id)
            if names is None:
                self.lost.add(number)
                continue
            item = self.items[number]
            paths = [self.archive.relative(self.archive.stub_path(item.id) / name) for name in sorted(names)]
            if len(paths) > 1:
                self.refuse(number, f"{item.id} is registered here, but ambiguous: {', '.join(paths)}")
            else:
                self._results[number] = self._already_there(item, record, paths[0])

    def _already_there(self, item: DepositItem, record: Resource, path: str) -> DepositResult:
        reason = "" if item.keep_source or not os.path.lexists(item.source.uri) else "the source was kept"
        fact = self.shared.fact(item.id)
        if fact is not None and fact.sha1 == record.sha1 and fact.path == path:
            return _result(item, "already_there", reason, fact)
        try:
            copy = local_source(self.archive.resources / path)
            listing = copy.scan()
        except SourceRefused as problem:
            return refused(item, f"{item.id} is registered here, but its copy cannot be looked at: {problem}")
        return DepositResult(
            id=item.id,
            status="already_there",
            reason=reason,
            kind=copy.kind,
            path=path,
            size=listing.size,
            files=len(listing.members),
            sha1=record.sha1,
            blake3=None,
            source=item.source.uri,
        )

    # --- depositing ---

    def _locked(self, numbers: Sequence[int], known: Mapping[str, Resource] | None) -> list[int]:
        """Deposit those whose locks are free; returns the others. Without `known` the registry is asked first."""
        locks = self.archive.locks
        held: list[int] = []
        try:
            taken = locks.try_acquire_each([self.items[number].id for number in numbers])
            held.extend(itertools.compress(numbers, taken))
            again: list[int] = []
            if held:
                if known is None:
                    known = self.registry.get_resources(self.items[number].id for number in held)
                    self._find_deposited(held, known)
                again = self._deposit([number for number in held if number not in self._results], known)
        finally:
            locks.release_each(self.items[number].id for number in held)
        mine = set(held)
        return [number for number in numbers if number not in mine] + again

    def _deposit(self, numbers: Sequence[int], known: Mapping[str, Resource]) -> list[int]:
        """Deposit items whose locks are held; returns those to be tried again."""
        entries = self._entries({self.items[number].id for number in numbers})
        if entries:
            # Deposited since the registry was asked, or not registered at all.
            now = self.registry.get_resources(entries)
            known = {id_: record for id_, record in known.items() if id_ not in entries} | now
            self._find_deposited(numbers, now)
        listings: dict[int, Listing] = {}
        for number in numbers:
            if number in self._results:
                continue
            item = self.items[number]
            if names := entries.get(item.id):
                path = self.archive.relative(self.archive.stub_path(item.id) / names[0])
                self.refuse(number, f"{path} lies in the archive without being registered there; run an archive check")
                continue
            if self._registered_here(number, known) is not None:
                self.lost.add(number)
            try:
                self.paths[number] = self._final_path(item)
                listings[number] = self._look(item)
            except SourceRefused as problem:
                self.refuse(number, str(problem), later=problem.reason in _OF_THIS_MOMENT)
            except steps.Refused as problem:
                self.refuse(number, str(problem))
        self._refuse_what_has_no_room(listings)
        if not listings:
            return []
        with self.shared.journal() as journal:
            return _Deposits(self, journal, listings, known).run()

    def _refuse_what_has_no_room(self, listings: dict[int, Listing]) -> None:
        disk = os.statvfs(self.archive.path)
        free = disk.f_bavail * disk.f_frsize
        for number, listing in list(listings.items()):
            if listing.size > free:
                uri = self.items[number].source.uri
                self.refuse(
                    number, f"{uri} has {listing.size} bytes, more than the archive's file system has free", later=True
                )
                del listings[number]

    def _look(self, item: DepositItem) -> Listing:
        source, policy = item.source, self.archive.config.policy
        if item.metadata:
            try:
                json.dumps(dict(item.metadata), allow_nan=False)
            except (TypeError, ValueError) as error:
                raise steps.Refused(f"the metadata of {item.id} is not JSON: {error}") from None
        if not item.keep_source and not source.removable:
            raise steps.Refused(f"{source.uri} cannot be removed after its deposit; deposit it as a copy")
        if source.kind == "directory" and not policy.allow_directories:
            raise steps.Refused(f"{source.uri} is a directory, and this archive's policy does not allow directories")
        listing = source.scan()
        if not listing.members:
            raise SourceRefused(
                "empty", f"{source.uri} holds no files: its digest would be that of every empty file and directory"
            )
        return listing

    def _final_path(self, item: DepositItem) -> str:
        """Path below ``resources`` that an item is to have."""
        keep = self.archive.config.policy.keep_extensions and item.source.kind == "file"
        name = entry_name(item.id, item.source.name, keep_extensions=keep)
        if problem := name_problem(name):
            raise steps.Refused(f"{item.source.uri}: the name {name!r} {problem}")
        if len(os.fsencode(name)) > _MAX_NAME:
            raise steps.Refused(f"{item.source.uri}: its name in the archive would be longer than {_MAX_NAME} bytes")
        return f"{id_stub(item.id)}/{name}"

    def finished(self, number: int, entry: Entry, note: str) -> None:
        """The item is deposited."""
        assert entry.fact is not None
        if number in self.lost:
            note = "; ".join(filter(None, (WERE_LOST, note)))
        status: Status = "restored" if number in self.lost else "deposited"
        self._results[number] = _result(self.items[number], status, note, entry.fact)


class _Deposits:
    """The deposits of a batch that nothing speaks against so far, from intent to end."""

    def __init__(
        self, batch: _Batch, journal: Journal, listings: Mapping[int, Listing], known: Mapping[str, Resource]
    ) -> None:
        self.batch = batch
        self.archive = batch.archive
        self.registry = batch.registry
        self.journal = journal
        self.known = known
        self.listings = listings
        self.numbers: dict[Entry, int] = {}

    def run(self) -> list[int]:
        """Deposit; returns the numbers of items to be tried again."""
        entries = self.journal.intend(self._intent(number, listing) for number, listing in self.listings.items())
        self.numbers = dict(zip(entries, self.listings, strict=True))
        try:
            return self._steps()
        except OSError:
            self._take_back(self._unfinished(), "the archive could not be written")
            raise
        except AccessRefused as refusal:
            self._settle_refused_access(str(refusal))
            raise
        except ServiceError:
            self._take_back([entry for entry in self._unfinished() if entry.staged is None], "a service failed")
            raise

    def _intent(self, number: int, listing: Listing) -> dict[str, Any]:
        item = self.batch.items[number]
        return {
            "id": item.id,
            "dtype": item.dtype,
            "metadata": dict(item.metadata),
            "kind": item.source.kind,
            "source": item.source.uri,
            "source_kind": item.source.source_kind,
            "keep_source": item.keep_source,
            "fingerprint": listing.fingerprint,
            "path": self.batch.paths[number],
        }

    def _turn(self) -> steps.Turn | None:
        """What this batch is to hold while it works on files.

        One file alone may be large, and then has threads of its own. Sources are known to be on no network when they
        are beside the archive; that of one tells enough, since only the speed depends on it.
        """
        if len(self.numbers) > 1 and self.archive.filesystem().syncfs:
            [number, *_] = self.numbers.values()
            with suppress(OSError):
                if Path(self.batch.items[number].source.uri).stat().st_dev == self.archive.path.stat().st_dev:
                    return self.batch.shared.turn
        return None

    def _steps(self) -> list[int]:
        turn = self._turn()
        work = [
            (entry, self.batch.items[number].source, self.listings[number]) for entry, number in self.numbers.items()
        ]
        unread = steps.stage(self.archive, self.journal, work, sink=self.batch.shared.sink, turn=turn)
        self._drop(
            {entry: str(refusal) for entry, refusal in unread.items()},
            later={entry for entry, refusal in unread.items() if refusal.reason in _OF_THIS_MOMENT},
        )
        followers = self._decide()
        entries = [entry for entry in self._unfinished() if entry not in followers]
        self._drop(steps.publish(self.archive, entries, turn=turn))
        entries = [entry for entry in entries if not entry.finished]
        with self.batch.shared.registering:
            denied = steps.register(self.registry, self.batch.shared.archive_name, entries, self.known)
        self._drop(denied)
        entries = [entry for entry in entries if not entry.finished]
        notes = steps.finish(self.archive, self.journal, entries, turn=turn)
        for entry in entries:
            self.batch.finished(self.numbers[entry], entry, notes.get(entry, ""))
        return self._after_leaders(followers)

    def _decide(self) -> dict[Entry, Entry]:
        """Drop what cannot be deposited for its content; returns each repetition within the batch, and of what."""
        reasons: dict[Entry, str] = {}
        leaders: dict[str, Entry] = {}
        followers: dict[Entry, Entry] = {}
        others = self._registered_contents()
        for entry in self._unfinished():
            sha1, record = steps.sha1_of(entry), self.known.get(entry.intent.id)
            if record is not None and (problem := steps.conflict(record, sha1)):
                reasons[entry] = problem
            elif sha1 in others and others[sha1].id != entry.intent.id:
                reasons[entry] = steps.same_content(others[sha1])
            elif (leader := leaders.setdefault(sha1, entry)) is not entry:
                followers[entry] = leader
        self._drop(reasons)
        return followers

    def _registered_contents(self) -> dict[str, Resource]:
        """Who has these contents, where the registry can tell of all at once; else its refusals tell."""
        if BATCH_FIND not in self.registry.capabilities():
            return {}
        new = [entry for entry in self._unfinished() if entry.intent.id not in self.known]
        return self.registry.find_by_sha1s([steps.sha1_of(entry) for entry in new])

    def _after_leaders(self, followers: Mapping[Entry, Entry]) -> list[int]:
        """Repetitions of what was deposited are refused, those of what was not are tried again."""
        place = self.batch.shared.archive_name
        reasons = {
            entry: f"the same content is already registered as {leader.intent.id} (in {place})"
            for entry, leader in followers.items()
            if leader.fact is not None
        }
        self._drop(reasons)
        again = {entry: "to be tried again" for entry in followers if entry not in reasons}
        steps.withdraw(self.archive, self.journal, again)
        return [self.numbers[entry] for entry in again]

    def _unfinished(self) -> list[Entry]:
        return [entry for entry in self.numbers if not entry.finished]

    def _drop(self, reasons: Mapping[Entry, str], *, later: Collection[Entry] = ()) -> None:
        if reasons:
            steps.withdraw(self.archive, self.journal, reasons)
            for entry, reason in reasons.items():
                self.batch.refuse(self.numbers[entry], reason, later=entry in later)

    def _take_back(self, entries: Iterable[Entry], reason: str) -> None:
        """Take out what there is; where that fails too, the next recovery does it."""
        try:
            steps.withdraw(self.archive, self.journal, dict.fromkeys(entries, reason))
        except (OSError, ArchiveWriteFailed) as error:
            log.warning("what was begun stays until the next recovery: %s", error)

    def _settle_refused_access(self, reason: str) -> None:
        """Keep what was registered before the registry refused us, and take out the rest."""
        name = self.batch.shared.archive_name
        try:
            known = self.registry.get_resources(entry.intent.id for entry in self._unfinished())
            here = {id_ for id_, record in known.items() if name in record.locations}
            self._take_back([entry for entry in self._unfinished() if entry.intent.id not in here], reason)
            steps.finish(
                self.archive, self.journal, [entry for entry in self._unfinished() if entry.staged is not None]
            )
        except (ServiceError, ArchiveWriteFailed) as error:
            log.warning("what was begun stays until the next recovery: %s", error)
