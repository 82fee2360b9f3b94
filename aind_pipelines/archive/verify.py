"""Comparing files, wherever they are, with what a registry knows of their contents.

A file whose name is no registered identifier, or the wrong one, is looked for by its sha1: so a renamed file is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aind_pipelines.archive.ids import InvalidId, id_from_name
from aind_pipelines.archive.intake import Sink, SourceRefused, local_source, read_digests
from aind_pipelines.clients.registry import RegistryClient, Resource

Outcome = Literal["ok", "renamed", "differs", "unknown", "unverifiable", "missing", "unreadable"]
GOOD: frozenset[Outcome] = frozenset({"ok", "renamed"})
_CHUNK = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """What a file is.

    Attributes:
        path: The file or directory, as it was given.
        outcome: ``ok``: its name is an identifier, registered with this content. ``renamed``: the content is
            registered as `id`, which its name is not. ``differs``: its name is an identifier that is registered with
            other content. ``unknown``: neither is registered. ``unverifiable``: its identifier is registered without
            a sha1. ``missing`` and ``unreadable``: there is nothing to compare.
        id: The identifier that its name gives, or, when ``renamed``, that its content has; None when there is none.
        same_as: When its content is not that of its name: the identifier that has this content, or None.
        sha1: neurobank's digest of it, hex; None when it was not read.
        size: Bytes of content; None when it was not read.
        reason: Why it could not be read; else empty.
    """

    path: Path
    outcome: Outcome
    id: str | None = None
    same_as: str | None = None
    sha1: str | None = None
    size: int | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the registry knows this content, and not under another name that this file's name claims."""
        return self.outcome in GOOD


@dataclass(frozen=True, slots=True)
class _Read:
    path: Path
    sha1: str
    size: int


def verify(
    registry: RegistryClient, paths: Iterable[Path], *, threads: int = 2, sink: Sink | None = None
) -> Iterator[Verification]:
    """Digest each of `paths`, and yield what the registry says of it, in their order.

    Args:
        registry: Is asked about a hundred files at a time; no credentials are needed.
        paths: Files and directories; a symbolic link stands for what it points to, under the link's own name.
        threads: How many are read at the same time.
        sink: Is handed each piece that was read, e.g. to count bytes.

    Raises:
        ServiceError: The registry cannot be asked.
    """
    remaining = iter(paths)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        try:
            while chunk := list(itertools.islice(remaining, _CHUNK)):
                yield from _compare(registry, list(pool.map(lambda path: _read(path, sink), chunk)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(path: Path, sink: Sink | None) -> _Read | Verification:
    try:
        digests = read_digests(local_source(path.resolve(strict=True)), sink)
    except FileNotFoundError:
        return Verification(path, "missing", reason="no such file or directory")
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        return Verification(path, "unreadable", reason=getattr(error, "strerror", None) or str(error))
    except SourceRefused as problem:
        return Verification(path, "missing" if problem.reason == "missing" else "unreadable", reason=str(problem))
    return _Read(path, digests.sha1, digests.size)


def _compare(registry: RegistryClient, read: Sequence[_Read | Verification]) -> Iterator[Verification]:
    names = {one.path: _name(one.path) for one in read if isinstance(one, _Read)}
    by_id = registry.get_resources(name for name in names.values() if name is not None)

    def claimed(one: _Read) -> Resource | None:
        name = names[one.path]
        return None if name is None else by_id.get(name)

    strange = [one.sha1 for one in read if isinstance(one, _Read) and not _agrees(claimed(one), one)]
    by_sha1 = registry.find_by_sha1s(strange)
    for one in read:
        yield one if isinstance(one, Verification) else _verdict(one, claimed(one), by_sha1.get(one.sha1))


def _name(path: Path) -> str | None:
    try:
        return id_from_name(path.name)
    except InvalidId:
        return None


def _agrees(record: Resource | None, one: _Read) -> bool:
    return record is not None and record.sha1 == one.sha1


def _verdict(one: _Read, record: Resource | None, same: Resource | None) -> Verification:
    twin = None if same is None else same.id
    if record is None:
        outcome: Outcome = "unknown" if twin is None else "renamed"
        return Verification(one.path, outcome, twin, twin, one.sha1, one.size)
    if _agrees(record, one):
        return Verification(one.path, "ok", record.id, None, one.sha1, one.size)
    outcome = "unverifiable" if record.sha1 is None else "differs"
    return Verification(one.path, outcome, record.id, twin, one.sha1, one.size)
