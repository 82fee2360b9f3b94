"""Depositing: any number of items, each of them durable, resumable and never half visible.

Small files go through their steps in batches, everything else by itself. Running the same deposit again costs one bulk
question to the registry and a look at each folder on disk: no byte of a source is read again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from aind_pipelines.archive.batches import Batches, DepositItem, DepositResult
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.intake import Sink
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.recovery import recover
from aind_pipelines.clients.registry import BULK_CHUNK, RegistryClient
from aind_pipelines.clients.registry.records import BATCH_REGISTER

__all__ = ["DepositItem", "DepositResult", "OnLost", "deposit"]

OnLost = Callable[[Sequence[str]], None]
"""Is called with identifiers that are registered in the archive, and of which there are no bytes."""

_SMALL = 1 << 20
_BATCH_ITEMS = BULK_CHUNK
_BATCH_ITEMS_PLAIN = 200
"""Where each registration is a request of its own, another depositor of the same items waits less long for these."""
_BATCH_BYTES = 64 << 20
_GROUPS = 2
"""Groups under way: one is copied while the other is registered."""


def deposit(
    archive: Archive,
    registry: RegistryClient,
    items: Iterable[DepositItem],
    *,
    threads: int = 4,
    sink: Sink | None = None,
    on_lost: OnLost | None = None,
) -> Iterator[DepositResult]:
    """Deposit `items` and yield what became of each, in their order.

    Deposits that were interrupted earlier are settled first. Ending the iteration early ends the deposits that have
    begun and begins no more.

    Args:
        archive: Where to.
        registry: Its registry, with credentials that may write.
        items: What to deposit; taken in groups as they are worked on.
        threads: How many items, or batches of small ones, are worked on at the same time.
        sink: Is handed each piece that is read, from several threads, e.g. to count bytes.
        on_lost: Is told of what the archive has lost before any of it is brought back, so that it is known even when
            that is interrupted.

    Raises:
        ArchiveError: The registry does not have this archive, or the archive cannot be written.
        ServiceError: The registry or the source's service fails. What was begun is settled by the next call.
    """
    if Archive.open(archive.path).path != archive.path:
        raise ArchiveError(f"{archive.path} is not the archive that was opened.")
    recover(archive, registry)
    batches = Batches(archive, registry, sink)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="deposit")
    with contextlib.closing(batches):
        try:
            remaining = iter(items)
            under_way: deque[_Group] = deque()
            while group := list(itertools.islice(remaining, BULK_CHUNK)):
                under_way.append(_Group(batches, pool, group, on_lost))
                if len(under_way) == _GROUPS:
                    yield from under_way.popleft().results()
            for last in under_way:
                yield from last.results()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Group:
    """Items that the registry was asked about together, cut into batches and handed to the pool."""

    def __init__(
        self, batches: Batches, pool: ThreadPoolExecutor, items: Sequence[DepositItem], on_lost: OnLost | None
    ) -> None:
        known = batches.registry.get_resources(item.id for item in items)
        most = _BATCH_ITEMS if BATCH_REGISTER in batches.registry.capabilities() else _BATCH_ITEMS_PLAIN
        self._found, lost = batches.find_deposited(items, known)
        if lost and on_lost is not None:
            on_lost(lost)
        left = [number for number in range(len(items)) if number not in self._found]
        self._running: list[tuple[list[int], Future[list[DepositResult]]]] = []
        for numbers in _cut(items, left, most):
            future = pool.submit(batches.run, [items[number] for number in numbers], known)
            self._running.append((numbers, future))

    def results(self) -> Iterator[DepositResult]:
        """What became of each item, in order, as far as all before it are done."""
        following = 0
        for numbers, future in [([], None), *self._running]:
            if future is not None:
                self._found.update(zip(numbers, future.result(), strict=True))
            while following in self._found:
                yield self._found.pop(following)
                following += 1


def _cut(items: Sequence[DepositItem], numbers: Iterable[int], most: int) -> Iterator[list[int]]:
    """The items' numbers in batches: small files together, the rest one by one."""
    batch: list[int] = []
    total = 0
    for number in numbers:
        size = _small_size(items[number])
        if size is None:
            yield [number]
            continue
        if batch and (len(batch) == most or total + size > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(number)
        total += size
    if batch:
        yield batch


def _small_size(item: DepositItem) -> int | None:
    """The size of a file that can go with others, or None."""
    if item.source.source_kind != "file":
        return None
    try:
        size = os.lstat(item.source.uri).st_size
    except (OSError, ValueError):
        return 0  # refused by itself, with the reason
    return size if size <= _SMALL else None
