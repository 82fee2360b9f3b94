"""Copying resources from one archive into another, with proof: each copy is read from one and verified on the way.

A copy goes through the very steps of a deposit, of content that the registry knows already: staged and digested in
one pass, compared with the registered sha1, published without overwriting, and its location added last. So it can be
killed at any step and run again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aind_pipelines.archive.deposit import DepositItem, DepositResult, deposit
from aind_pipelines.archive.intake import Sink, SourceRefused, local_source, read_digests
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.places import LocalCopy, Places, find_copies
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.registry import BULK_CHUNK, RegistryClient, Resource

Status = Literal["copied", "restored", "already_there", "to_copy", "failed"]


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of one identifier.

    Attributes:
        id: Identifier.
        status: ``copied``; ``restored``, a copy in place of one whose bytes were lost; ``already_there``; ``to_copy``,
            of a dry run; or ``failed``: nothing was added.
        verified: Whether this call compared the copy's content with the registered sha1: always when it made the copy.
        source: The copy that was read, or would be.
        path: Path below the other archive's ``resources``.
        size: Bytes of content.
        sha1: The registered sha1, hex.
        reason: Why not, or what else a person should know, e.g. of a bad copy that was passed over.
    """

    id: str
    status: Status
    verified: bool = False
    source: Path | None = None
    path: str | None = None
    size: int | None = None
    sha1: str | None = None
    reason: str = ""


def copy(
    registry: RegistryClient,
    ids: Iterable[str],
    target: Archive,
    *,
    only_from: str | None = None,
    reread: bool = False,
    dry_run: bool = False,
    threads: int = 4,
    sink: Sink | None = None,
) -> Iterator[Copied]:
    """Copy the resources `ids` into `target`, and yield what became of each, in their order.

    What was interrupted there earlier is settled first.

    Args:
        registry: The registry of both archives, with credentials that may write.
        ids: Identifiers.
        target: The archive to copy into.
        only_from: Name of the only archive to read from; None takes any that this machine reaches.
        reread: Whether copies that are there already are read and verified too.
        dry_run: Whether to only look.
        threads: How many are copied at the same time.
        sink: Is handed each piece that is copied, from several threads, e.g. to count bytes.

    Raises:
        ArchiveError: The registry does not have `target`, or it cannot be written.
        ServiceError: The registry fails. What was begun is settled by the next call.
    """
    if not dry_run:
        recover(target, registry)
    work = _Copy(registry, target, only_from, reread, dry_run, threads, sink)
    remaining = iter(dict.fromkeys(ids))
    while chunk := list(itertools.islice(remaining, BULK_CHUNK)):
        yield from work.chunk(chunk)


@dataclass
class _Task:
    """A resource to be copied: its sources, best first, and what was wrong with those before."""

    record: Resource
    sources: list[LocalCopy]
    problems: list[str]


class _Copy:
    def __init__(
        self,
        registry: RegistryClient,
        target: Archive,
        only_from: str | None,
        reread: bool,
        dry_run: bool,
        threads: int,
        sink: Sink | None,
    ) -> None:
        self.registry = registry
        self.target = target
        self.name = target.name_in(registry)
        self.only_from = only_from
        self.reread = reread
        self.dry_run = dry_run
        self.threads = threads
        self.sink = sink

    def chunk(self, ids: list[str]) -> Iterator[Copied]:
        records = self.registry.get_resources(ids)
        places = find_copies(self.registry.locate(records))
        results: dict[str, Copied] = {}
        tasks: dict[str, _Task] = {}
        for id_ in ids:
            outcome = self._look(id_, records.get(id_), places.get(id_, Places()))
            if isinstance(outcome, Copied):
                results[id_] = outcome
            else:
                tasks[id_] = outcome
        following = 0
        for one in itertools.chain([None], self._run(tasks)):
            if one is not None:
                results[one.id] = one
            while following < len(ids) and ids[following] in results:
                yield results.pop(ids[following])
                following += 1

    def _look(self, id_: str, record: Resource | None, places: Places) -> Copied | _Task:
        """What is to be done, or what there is to say at once."""
        if record is None:
            return Copied(id_, "failed", reason="not registered")
        if record.sha1 is None:
            return Copied(id_, "failed", reason="it is registered without a sha1: no copy of it can be verified")
        here = [copy for copy in places.local if copy.archive == self.name]
        if here and self.name in record.locations:
            return self._already_there(record, here)
        allowed = [copy for copy in places.local if copy.archive != self.name]
        sources = [copy for copy in allowed if self.only_from in (None, copy.archive)]
        if sources:
            return _Task(record, sources, [])
        if allowed:
            return Copied(id_, "failed", sha1=record.sha1, reason=f"no copy of it is in {self.only_from}")
        lost = f"registered in {self.name}, where there are no bytes; " if self.name in record.locations else ""
        return Copied(id_, "failed", sha1=record.sha1, reason=lost + places.out_of_reach)

    def _already_there(self, record: Resource, here: list[LocalCopy]) -> Copied:
        paths = [self.target.relative(self.target.stub_path(record.id) / copy.path.name) for copy in here]
        if len(paths) > 1:
            return Copied(record.id, "failed", reason=f"registered there, but ambiguous: {', '.join(paths)}")
        try:
            source = local_source(here[0].path)
            if not self.reread:
                size = source.scan().size
                return Copied(record.id, "already_there", path=paths[0], size=size, sha1=record.sha1)
            digests = read_digests(source)
        except SourceRefused as problem:
            return Copied(
                record.id, "failed", path=paths[0], reason=f"the copy that is there cannot be read: {problem}"
            )
        if digests.sha1 != record.sha1:
            reason = f"the copy that is there is corrupt: it has sha1 {digests.sha1}, registered is {record.sha1}"
            return Copied(record.id, "failed", path=paths[0], size=digests.size, reason=reason)
        return Copied(record.id, "already_there", verified=True, path=paths[0], size=digests.size, sha1=record.sha1)

    def _run(self, tasks: Mapping[str, _Task]) -> Iterator[Copied]:
        """Copy; what cannot be copied from one source is tried from the next."""
        left = dict(tasks)
        while left:
            again: dict[str, _Task] = {}
            items: list[DepositItem] = []
            for id_, task in left.items():
                item = self._item(task)
                if isinstance(item, Copied):
                    yield item
                elif self.dry_run:
                    source = task.sources[0].path
                    size = item.source.scan().size
                    yield Copied(id_, "to_copy", source=source, size=size, sha1=task.record.sha1)
                else:
                    items.append(item)
            for result in self._deposit(items):
                task = left[result.id]
                if result.status == "refused" and len(task.sources) > 1:
                    task.problems.append(f"{task.sources.pop(0).path}: {result.reason}")
                    again[result.id] = task
                else:
                    yield self._outcome(task, result)
            left = again

    def _deposit(self, items: list[DepositItem]) -> Iterator[DepositResult]:
        if items:
            yield from deposit(self.target, self.registry, items, threads=self.threads, sink=self.sink)

    def _item(self, task: _Task) -> DepositItem | Copied:
        """The deposit from the first source that is still there."""
        record = task.record
        while task.sources:
            try:
                source = local_source(task.sources[0].path)
                source.scan()
            except SourceRefused as problem:
                task.problems.append(str(problem))
                del task.sources[0]
            else:
                return DepositItem(record.id, source, record.dtype, record.metadata)
        return Copied(record.id, "failed", sha1=record.sha1, reason="; ".join(task.problems))

    def _outcome(self, task: _Task, result: DepositResult) -> Copied:
        source = task.sources[0].path
        said = [*task.problems, f"{source}: {result.reason}"] if result.reason else task.problems
        if result.status == "refused":
            return Copied(result.id, "failed", source=source, sha1=task.record.sha1, reason="; ".join(said))
        copied = result.status in ("deposited", "restored")
        return Copied(
            id=result.id,
            status="copied" if result.status == "deposited" else result.status,
            verified=copied,
            source=source if copied else None,
            path=result.path,
            size=result.size,
            sha1=result.sha1,
            reason="; ".join(said),
        )
