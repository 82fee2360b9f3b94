"""Depositing: many items, each of them durable, resumable and never half visible.

Running the same deposit again costs one bulk question to the registry and a look at each entry on disk: no byte of a
source is read again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aind_pipelines.archive import steps
from aind_pipelines.archive.digests import Kind, name_problem
from aind_pipelines.archive.errors import ArchiveError, ArchiveWriteFailed
from aind_pipelines.archive.ids import InvalidId, check_id
from aind_pipelines.archive.intake import Listing, Source, SourceRefused, local_source
from aind_pipelines.archive.journal import Entry, Fact, Journal, read_facts
from aind_pipelines.archive.layout import Archive, entry_name
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.errors import AccessRefused, ServiceError
from aind_pipelines.clients.registry import BULK_CHUNK, RegistryClient, Resource

log = logging.getLogger(__name__)

Status = Literal["deposited", "already_there", "refused"]
_MAX_NAME = 255
_WAIT_FOR_OTHERS = 10.0


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
        status: ``deposited``; ``already_there``, in which case nothing was read or changed; or ``refused``, in which
            case nothing of it is in the archive.
        reason: Why it was refused; or what else a person should know, e.g. that a source was kept.
        kind: File or directory; None when refused before it was known.
        path: Path below the archive's ``resources``.
        size: Bytes of content.
        files: Regular files.
        sha1: neurobank's digest, hex.
        blake3: Second digest, hex; None for what another program deposited.
        source: Where the item said it comes from.
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


class _Names:
    """What lies on disk under each identifier, with one listing per stub folder instead of one per deposit.

    A folder is listed again when something else changed it. What slips through is met again when publishing, which
    never overwrites, and by the registry, which gives an identifier once.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._mutex = threading.Lock()
        self._changed: dict[Path, int] = {}
        self._stems: dict[Path, dict[str, list[str]]] = {}

    def entries(self, id_: str) -> list[Path]:
        folder = self._archive.stub_path(id_)
        with self._mutex:
            try:
                changed = folder.stat().st_mtime_ns
            except FileNotFoundError:
                return []
            if self._changed.get(folder) != changed:
                stems: dict[str, list[str]] = {}
                for path in folder.iterdir():
                    stems.setdefault(path.stem, []).append(path.name)
                self._stems[folder], self._changed[folder] = stems, changed
            return [folder / name for name in self._stems[folder].get(id_, [])]

    def published(self, path: Path) -> None:
        with self._mutex:
            if path.parent in self._stems:
                self._stems[path.parent].setdefault(path.stem, []).append(path.name)
                self._changed[path.parent] = path.parent.stat().st_mtime_ns


class _Run:
    """One depositing call: its journal, made with the first intent, and what its threads share."""

    def __init__(self, archive: Archive, registry: RegistryClient) -> None:
        self.archive = archive
        self.registry = registry
        self.archive_name = archive.name_in(registry)
        self.names = _Names(archive)
        self._mutex = threading.Lock()
        self._journal: Journal | None = None
        self._facts: dict[str, Fact] | None = None

    @property
    def journal(self) -> Journal:
        with self._mutex:
            if self._journal is None:
                self._journal = Journal.create(self.archive)
            return self._journal

    @property
    def facts(self) -> dict[str, Fact]:
        with self._mutex:
            if self._facts is None:
                self._facts = read_facts(self.archive)
            return self._facts

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def one(self, item: DepositItem, known: Resource | None) -> DepositResult:
        """Deposit one item; only what concerns the archive or the registry as a whole is raised."""
        try:
            check_id(item.id)
            if (there := self._already_there(item, known)) is not None:
                return there
            self.archive.ensure_folders()
            with self.archive.locks.hold(item.id, wait=_WAIT_FOR_OTHERS) as held:
                if held:
                    return self._locked(item, known)
            return _refused(item, f"another process is depositing {item.id} now; deposit again when it has ended")
        except (InvalidId, SourceRefused, steps.Refused) as problem:
            return _refused(item, str(problem))
        except OSError as error:
            raise steps.write_failed(item.id, "the deposit", error) from error

    def _already_there(self, item: DepositItem, known: Resource | None) -> DepositResult | None:
        if known is None or self.archive_name not in known.locations:
            return None
        entries = self.names.entries(item.id)
        if not entries:
            return None  # its bytes are lost: this deposit can bring them back
        if len(entries) > 1:
            listed = ", ".join(self.archive.relative(entry) for entry in entries)
            raise steps.Refused(f"{item.id} is registered here, but ambiguous: {listed}")
        path = self.archive.relative(entries[0])
        reason = "" if item.keep_source or not os.path.lexists(item.source.uri) else "the source was kept"
        fact = self.facts.get(item.id)
        if fact is not None and fact.sha1 == known.sha1 and fact.path == path:
            return _result(item, "already_there", reason, fact)
        copy = local_source(entries[0])
        listing = copy.scan()
        return DepositResult(
            id=item.id,
            status="already_there",
            reason=reason,
            kind=copy.kind,
            path=path,
            size=listing.size,
            files=len(listing.members),
            sha1=known.sha1,
            blake3=None,
            source=item.source.uri,
        )

    def _locked(self, item: DepositItem, known: Resource | None) -> DepositResult:
        entries = self.names.entries(item.id)
        if entries:
            # Deposited since the registry was asked, perhaps by this very call; or not registered at all.
            known = self.registry.get_resource(item.id)
            if (there := self._already_there(item, known)) is not None:
                return there
            raise steps.Refused(
                f"{self.archive.relative(entries[0])} lies in the archive without being registered there; "
                "run an archive check"
            )
        listing = self._look(item)
        entry = self.journal.intend(
            id=item.id,
            dtype=item.dtype,
            metadata=dict(item.metadata),
            kind=item.source.kind,
            source=item.source.uri,
            source_kind=item.source.source_kind,
            keep_source=item.keep_source,
            fingerprint=listing.fingerprint,
            path=self._final_name(item),
        )
        try:
            staged = steps.stage(self.archive, self.journal, entry, item.source, listing)
            steps.check_agrees(known, staged)
            steps.publish(self.archive, entry)
            self.names.published(steps.final_path(self.archive, entry))
            steps.register(self.registry, self.archive_name, entry, known)
            fact, kept = steps.finish(self.archive, self.journal, entry)
        except (SourceRefused, steps.Refused, AccessRefused) as refusal:
            self._take_back(entry, str(refusal))
            raise
        except OSError as error:
            self._take_back(entry, "the archive could not be written")
            raise steps.write_failed(item.id, "the deposit", error) from error
        except ServiceError:
            if entry.staged is None:
                self._take_back(entry, "the source's service failed")
            raise
        return _result(item, "deposited", kept, fact)

    def _take_back(self, entry: Entry, reason: str) -> None:
        """Take out what there is; where that fails too, the next recovery does it."""
        try:
            steps.withdraw(self.archive, self.journal, entry, reason)
        except (OSError, ArchiveWriteFailed) as error:
            log.warning("%s: what was begun stays until the next recovery: %s", entry.intent.id, error)

    def _look(self, item: DepositItem) -> Listing:
        source, policy = item.source, self.archive.config.policy
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
        free = os.statvfs(self.archive.path)
        if listing.size > free.f_bavail * free.f_frsize:
            raise steps.Refused(f"{source.uri} has {listing.size} bytes, more than the archive's file system has free")
        return listing

    def _final_name(self, item: DepositItem) -> str:
        keep = self.archive.config.policy.keep_extensions and item.source.kind == "file"
        name = entry_name(item.id, item.source.name, keep_extensions=keep)
        if problem := name_problem(name):
            raise steps.Refused(f"{item.source.uri}: the name {name!r} {problem}")
        if len(os.fsencode(name)) > _MAX_NAME:
            raise steps.Refused(f"{item.source.uri}: its name in the archive would be longer than {_MAX_NAME} bytes")
        return self.archive.relative(self.archive.stub_path(item.id) / name)


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
    )


def _refused(item: DepositItem, reason: str) -> DepositResult:
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
    )


def deposit(
    archive: Archive,
    registry: RegistryClient,
    items: Iterable[DepositItem],
    *,
    threads: int = 4,
) -> Iterator[DepositResult]:
    """Deposit `items` and yield what became of each, in their order.

    Deposits that were interrupted earlier are settled first. Ending the iteration early ends the deposits that have
    begun and begins no more.

    Args:
        archive: Where to.
        registry: Its registry, with credentials that may write.
        items: What to deposit; taken in groups as they are worked on.
        threads: How many items are copied at the same time.

    Raises:
        ArchiveError: The registry does not have this archive, or the archive cannot be written.
        ServiceError: The registry or the source's service fails. What was begun is settled by the next call.
    """
    if Archive.open(archive.path).path != archive.path:
        raise ArchiveError(f"{archive.path} is not the archive that was opened.")
    recover(archive, registry)
    run = _Run(archive, registry)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="deposit")
    with contextlib.closing(run):
        try:
            remaining = iter(items)
            while group := list(itertools.islice(remaining, BULK_CHUNK)):
                known = registry.get_resources(item.id for item in group)
                futures = [pool.submit(run.one, item, known.get(item.id)) for item in group]
                for future in futures:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
