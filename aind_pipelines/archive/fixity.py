"""Comparing an archive's disk with its registry.

Tiers: ``exists`` looks at names, kinds and sizes; ``full`` also reads every byte and compares digests. Nothing is
changed or removed by either.

What is found, by code:

============== ==============================================================================================
missing        registered here, but there are no bytes: lost
dark           bytes that are not registered here
corrupt        the digest differs from the registered one
size_mismatch  the size differs from that of the deposit
unreadable     the disk or its rights do not let it be read
wrong_kind     a link or special file, or a directory where a file was deposited or the reverse
misplaced      in the wrong folder below ``resources``
ambiguous      several entries for one identifier
unverifiable   registered without a sha1, or its names make the digest ambiguous
in_flight      deposited, moved or changed while the check ran
interrupted    deposits that a journal has had unfinished for a day: most likely their process is gone
============== ==============================================================================================

``in_flight``, ``interrupted`` and ``unverifiable`` are warnings; every other code fails the check.
"""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Literal

from aind_pipelines.archive.digests import Digests
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.intake import LocalDirectory, LocalFile, SourceRefused, read_digests
from aind_pipelines.archive.journal import Fact, read_entries, read_facts, read_journals
from aind_pipelines.archive.layout import Archive, id_stub
from aind_pipelines.clients.registry import RegistryClient, Resource
from aind_pipelines.records.findings import Finding

Tier = Literal["full", "exists"]
WARNINGS = frozenset({"in_flight", "interrupted", "unverifiable"})
_REFUSALS = {"changed": "in_flight", "missing": "in_flight", "special": "wrong_kind", "name": "unverifiable"}
_YOUNG = 86_400.0
"""Seconds: what another program is still moving in, and a journal that is being written, is younger."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A copy that was read in full and found good: its digests, and its path below ``resources``."""

    digests: Digests
    path: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        archive: The archive's registered name.
        tier: What was compared.
        started_at: When it began, UTC.
        ended_at: When it ended, UTC.
        resources: Registered resources looked at.
        bytes: Bytes read.
        findings: Everything that is not as it should be; keys are ``archive/identifier``.
        verified: Copies that were read in full and found good, by identifier; empty for ``exists``.
    """

    archive: str
    tier: Tier
    started_at: datetime
    ended_at: datetime
    resources: int
    bytes: int
    findings: list[Finding]
    verified: dict[str, Verified] = field(repr=False)

    @property
    def failures(self) -> list[Finding]:
        """The findings that fail the check."""
        return [finding for finding in self.findings if finding.code not in WARNINGS]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that fails the check."""
        return not self.failures

    @property
    def digests(self) -> dict[str, Digests]:
        """The digests of every copy that was read in full and found good, by identifier."""
        return {id_: verified.digests for id_, verified in self.verified.items()}


OnProgress = Callable[[int, int, int], None]
"""Is called with (resources done, resources in all, bytes read)."""


class _Progress:
    def __init__(self, callback: OnProgress | None, total: int) -> None:
        self._callback = callback
        self._mutex = threading.Lock()
        self.total = total
        self.done = 0
        self.bytes = 0

    def read(self, piece: bytes | memoryview) -> None:
        with self._mutex:
            self.bytes += len(piece)

    def finished_one(self) -> None:
        self.done += 1
        if self._callback is not None:
            self._callback(self.done, self.total, self.bytes)


@dataclass
class _Scan:
    """What lies on disk: entries by identifier, and what has no place there."""

    entries: dict[str, list[Path]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


class _Check:
    def __init__(self, archive: Archive, registry: RegistryClient, tier: Tier) -> None:
        self.archive = archive
        self.registry = registry
        self.tier = tier
        self.name = archive.name_in(registry)
        self.facts = read_facts(archive)
        self.findings: list[Finding] = []
        self.verified: dict[str, Verified] = {}

    def finding(self, code: str, id_: str, message: str, part: str = "") -> Finding:
        return Finding(code, f"{self.name}/{id_}", part, message)

    # --- the disk ---

    def scan(self) -> _Scan:
        scan = _Scan()
        for stub in self._list(self.archive.resources, scan):
            if not stat.S_ISDIR(stub.lstat().st_mode):
                scan.findings.append(
                    self.finding("dark", stub.name, f"{stub} lies outside the folders of the resources.")
                )
                continue
            for entry in self._list(stub, scan):
                if entry.name.startswith("."):
                    self._leftover(entry, scan)
                else:
                    scan.entries.setdefault(PurePath(entry.name).stem, []).append(entry)
        if self.archive.staging.is_dir():
            mine = {self.archive.path / entry.intent.staging for entry in read_entries(self.archive)}
            for entry in self._list(self.archive.staging, scan):
                if entry not in mine:
                    self._leftover(entry, scan)
        return scan

    def interrupted(self) -> Iterator[Finding]:
        """Journals that nobody has written to for long: of another user, they are settled by no deposit of ours."""
        for path, status, entries in read_journals(self.archive):
            left = [entry.intent.id for entry in entries if not entry.finished]
            if left and time.time() - status.st_mtime > _YOUNG:
                named = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
                written = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
                yield self.finding(
                    "interrupted",
                    path.name,
                    f"{len(left)} deposits ({named}) are unfinished since {written}. When nothing deposits here now, "
                    f"the journal's owner (user id {status.st_uid}) or root settles them: archive recover.",
                )

    def _list(self, folder: Path, scan: _Scan) -> list[Path]:
        try:
            return sorted(folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            if folder == self.archive.resources:
                raise ArchiveError(f"{folder} cannot be listed: {error.strerror}. Nothing was checked.") from error
            scan.unreadable.add(folder.name)
            scan.findings.append(
                self.finding("unreadable", folder.name, f"{folder} cannot be listed: {error.strerror}.", "listing")
            )
            return []

    def _leftover(self, entry: Path, scan: _Scan) -> None:
        """What other programs leave for a while: hidden names of transfers and of NFS, and staged files."""
        try:
            young = time.time() - entry.lstat().st_mtime < _YOUNG
        except FileNotFoundError:
            return
        code = "in_flight" if young or entry.name.startswith(".nfs") else "dark"
        scan.findings.append(self.finding(code, entry.name, f"{entry} is left of an unfinished transfer.", "staging"))

    # --- one resource ---

    def look(self, resource: Resource, entries: list[Path], progress: _Progress) -> list[Finding]:
        """Check one registered resource that has entries on disk."""
        id_ = resource.id
        if len(entries) > 1:
            listed = ", ".join(self.archive.relative(entry) for entry in entries)
            return [self.finding("ambiguous", id_, f"Several entries for one identifier: {listed}.")]
        path = entries[0]
        relative = self.archive.relative(path)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return [self.finding("in_flight", id_, f"{relative} went away during the check.")]
        except OSError as error:
            return [self.finding("unreadable", id_, f"{relative}: {error.strerror}.", "listing")]
        if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            return [self.finding("wrong_kind", id_, f"{relative} is a link or special file.")]
        source = LocalDirectory(path, cold=True) if stat.S_ISDIR(status.st_mode) else LocalFile(path, cold=True)
        found: list[Finding] = []
        if path.parent.name != id_stub(id_):
            found.append(self.finding("misplaced", id_, f"{relative} belongs below {id_stub(id_)}/."))
        fact = self._fact(resource)
        if fact is not None and fact.kind != source.kind:
            return [*found, self.finding("wrong_kind", id_, f"{relative} is a {source.kind}, not a {fact.kind}.")]
        part = "listing"
        try:
            size = source.scan().size
            if fact is not None and size != fact.size:
                found.append(
                    self.finding("size_mismatch", id_, f"{relative} has {size} bytes instead of {fact.size}.")
                )
            elif self.tier == "full":
                part = ""
                found += self._read(resource, source, fact, progress)
        except SourceRefused as problem:
            found.append(self.finding(_REFUSALS.get(problem.reason, "unreadable"), id_, str(problem), part))
        return found

    def _fact(self, resource: Resource) -> Fact | None:
        fact = self.facts.get(resource.id)
        return fact if fact is not None and fact.sha1 == resource.sha1 else None

    def _read(
        self, resource: Resource, source: LocalFile | LocalDirectory, fact: Fact | None, progress: _Progress
    ) -> list[Finding]:
        digests = read_digests(source, progress.read)
        relative = self.archive.relative(source.path)
        if resource.sha1 is None:
            return [self.finding("unverifiable", resource.id, "It is registered without a sha1.")]
        if digests.sha1 != resource.sha1:
            return [
                self.finding(
                    "corrupt", resource.id, f"{relative} has sha1 {digests.sha1}, registered is {resource.sha1}."
                )
            ]
        if fact is not None and digests.blake3 != fact.blake3:
            return [
                self.finding(
                    "corrupt",
                    resource.id,
                    f"{relative} has the registered sha1, but blake3 {digests.blake3} instead of {fact.blake3}.",
                )
            ]
        self.verified[resource.id] = Verified(digests, relative)
        return []

    # --- what does not agree ---

    def resolve_absent(self, absent: Iterable[str]) -> list[Finding]:
        """Tell what is lost from what was moved away while the check ran."""
        wanted = list(absent)
        now = self.registry.get_resources(wanted)
        found = []
        for id_ in wanted:
            record = now.get(id_)
            if record is None or self.name not in record.locations:
                found.append(self.finding("in_flight", id_, "Its location here was removed during the check."))
            elif self.archive.entries(id_):
                found.append(self.finding("in_flight", id_, "It arrived during the check."))
            else:
                found.append(self.finding("missing", id_, f"Registered in {self.name}, but there are no bytes."))
        return found

    def dark(self, id_: str, entries: list[Path], flying: set[str], record: Resource | None) -> Finding:
        where = ", ".join(self.archive.relative(entry) for entry in entries)
        if id_ in flying:
            return self.finding("in_flight", id_, f"{where} is being deposited.")
        known = (
            "not registered at all"
            if record is None
            else f"registered in {', '.join(record.locations) or 'no archive'}"
        )
        return self.finding("dark", id_, f"{where} is not registered here: {id_} is {known}.")


def check(
    archive: Archive,
    registry: RegistryClient,
    tier: Tier = "full",
    on_progress: OnProgress | None = None,
    *,
    threads: int = 2,
) -> CheckReport:
    """Compare the archive's disk with its registry.

    The registry is asked before and, for whatever does not agree, after the disk was looked at, so that deposits and
    removals during the check are not taken for losses.

    Args:
        archive: What to check.
        registry: Its registry; no credentials are needed.
        tier: ``full`` reads every byte, ``exists`` looks at names, kinds and sizes.
        on_progress: Is called after each resource with (done, all, bytes read).
        threads: How many resources are read at the same time.

    Raises:
        NotAnArchive: Its marker is absent, before or after: the file system is not mounted. Nothing counts as missing.
        ArchiveError: The registry does not have this archive, or its folder cannot be listed.
        ServiceError: The registry cannot be asked.
    """
    started = datetime.now(UTC)
    Archive.open(archive.path)
    work = _Check(archive, registry, tier)
    registered: dict[str, Resource] = {
        resource.id: resource for resource in registry.iter_archive_resources(work.name)
    }
    scan = work.scan()
    # Rows that a page by page listing missed, or that came since, are asked for by name.
    extra = [id_ for id_ in scan.entries if id_ not in registered]
    late = registry.get_resources(extra)
    registered.update({id_: resource for id_, resource in late.items() if work.name in resource.locations})
    work.findings += scan.findings
    work.findings += work.interrupted()
    flying = {entry.intent.id for entry in read_entries(archive) if not entry.finished}
    for id_ in extra:
        if id_ not in registered:
            work.findings.append(work.dark(id_, scan.entries[id_], flying, late.get(id_)))
    present = {id_: scan.entries[id_] for id_ in registered if id_ in scan.entries}
    absent = [id_ for id_ in registered if id_ not in scan.entries and id_stub(id_) not in scan.unreadable]
    progress = _Progress(on_progress, len(registered))
    _look_at_all(work, registered, present, progress, threads)
    work.findings += work.resolve_absent(absent)
    Archive.open(archive.path)
    return CheckReport(
        archive=work.name,
        tier=tier,
        started_at=started,
        ended_at=datetime.now(UTC),
        resources=len(registered),
        bytes=progress.bytes,
        findings=sorted(work.findings),
        verified=work.verified,
    )


def _look_at_all(
    work: _Check,
    registered: Mapping[str, Resource],
    present: Mapping[str, list[Path]],
    progress: _Progress,
    threads: int,
) -> None:
    """Look at every resource, some at the same time, with few waiting."""
    running: set[Future[list[Finding]]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
        try:
            for id_, entries in present.items():
                running.add(pool.submit(work.look, registered[id_], entries, progress))
                if len(running) >= 4 * threads:
                    running = _collect(work, running, progress)
            while running:
                running = _collect(work, running, progress)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _collect(work: _Check, running: set[Future[list[Finding]]], progress: _Progress) -> set[Future[list[Finding]]]:
    done, rest = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        work.findings += future.result()
        progress.finished_one()
    return rest
