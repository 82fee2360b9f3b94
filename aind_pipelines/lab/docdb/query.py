"""Questions to the store: finds, counts and distinct values, each along its plan."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from aind_pipelines.lab.docdb import fields, paths
from aind_pipelines.lab.docdb.limits import Limits
from aind_pipelines.lab.docdb.matching import compile_filter
from aind_pipelines.lab.docdb.planning import Access, Plan, Sort, plan
from aind_pipelines.lab.docdb.store import CHUNK_ROWS, FIRST_CHUNK, Collection, Span, Store, Stored
from aind_pipelines.lab.docdb.values import MISSING, key


class Questions:
    """Answers questions about collections of a store.

    Args:
        store: Where the documents are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(
        self,
        collection: Collection | None,
        query: Mapping[str, Any],
        sort: Sort = (),
        skip: int = 0,
        limit: int = 0,
        *,
        limits: Limits | None = None,
    ) -> Iterator[Stored]:
        """The documents that match, each read when it is asked for.

        Args:
            collection: Which; None answers as an empty one.
            query: The filter.
            sort: Paths with 1 or -1.
            skip: Matches to leave out first.
            limit: Matches wanted; 0 means all.
            limits: What may end it early.

        Raises:
            CommandError: The filter is malformed or not supported; raised at once, even for an empty collection.
        """
        matches = compile_filter(query)
        if collection is None:
            return iter(())
        needed = fields.of_filter(query)
        chosen = self.plan(collection, query, sort, skip + limit if limit else 0)
        found = self._along(collection, chosen, skip if chosen.exact else 0, limits or Limits())
        if not chosen.exact:
            found = (stored for stored in found if matches(fields.trimmed(stored.document, needed)))
        if not chosen.ordered:
            found = self._sorted(found, sort, skip + limit if limit else 0)
            if not chosen.exact:
                found = (stored for stored in found if matches(fields.trimmed(stored.document, needed)))
        start = 0 if chosen.exact and chosen.ordered else skip
        return islice(found, start, start + limit if limit else None)

    def plan(self, collection: Collection, query: Mapping[str, Any], sort: Sort = (), limit: int = 0) -> Plan:
        """How a question would be answered."""
        return plan(query, sort, limit, collection.indexes, self._store.count_entries)

    def count(
        self,
        collection: Collection | None,
        query: Mapping[str, Any],
        skip: int = 0,
        limit: int = 0,
        *,
        limits: Limits | None = None,
    ) -> int:
        """How many documents match, after leaving out `skip` and at most `limit` (0 means all)."""
        compile_filter(query)
        if collection is None:
            return 0
        if not query:
            amount = collection.documents
        else:
            chosen = self.plan(collection, query)
            if chosen.exact and chosen.accesses is not None:
                access = chosen.accesses[0]
                amount = self._store.count_entries(access.index, access.spans)
            else:
                return sum(1 for _ in self.find(collection, query, (), skip, limit, limits=limits))
        amount = max(0, amount - skip)
        return min(amount, limit) if limit else amount

    def _along(self, collection: Collection, chosen: Plan, skip: int, limits: Limits) -> Iterator[Stored]:
        if not chosen.ordered:
            skip = 0
        if chosen.accesses is None:
            for chunk in self._store.scan(collection, skip=skip):
                limits.check()
                yield from chunk
            return
        if chosen.ids is not None:
            for seqs in self._seqs_by_id(chosen.accesses, chosen.ids, chosen.descending, skip):
                limits.check()
                yield from self._store.read(seqs)
            return
        seen: set[int] | None = None
        if len(chosen.accesses) > 1 or any(access.index.multikey for access in chosen.accesses):
            seen = set()
        for access in chosen.accesses:
            for seqs in self._seqs(access, chosen.descending, skip, seen):
                limits.check()
                yield from self._store.read(seqs)

    def _seqs(self, access: Access, descending: bool, skip: int, seen: set[int] | None) -> Iterator[list[int]]:
        for chunk in self._store.entries(access.index, access.spans, descending=descending, skip=skip):
            seqs = [seq for _, seq in chunk]
            if seen is not None:
                seqs = [seq for seq in dict.fromkeys(seqs) if seq not in seen]
                seen.update(seqs)
            yield seqs

    def _seqs_by_id(
        self, accesses: Sequence[Access], ids: Sequence[Span], descending: bool, skip: int
    ) -> Iterator[list[int]]:
        """What some accesses hold with an ``_id`` in the ranges, in the order of ``_id``, few at first."""
        among = {
            id_key: seq
            for access in accesses
            for chunk in self._store.entries(access.index, access.spans)
            for id_key, seq in chunk
            if any(span.low <= id_key < span.high for span in ids)
        }
        ranked = [among[id_key] for id_key in sorted(among, reverse=descending)]
        size = FIRST_CHUNK
        while skip < len(ranked):
            yield ranked[skip : skip + size]
            skip += size
            size = min(size * 4, CHUNK_ROWS)

    def _sorted(self, found: Iterator[Stored], sort: Sort, limit: int) -> Iterator[Stored]:
        """Sort by keys alone, which are small, and read the documents again in that order."""
        order = [(tuple(path.split(".")), direction) for path, direction in sort]
        needed = fields.of_paths([path for path, _ in sort])
        keyed = ((paths.sort_key(fields.trimmed(stored.document, needed), order), stored.seq) for stored in found)
        ranked = heapq.nsmallest(limit, keyed) if limit else sorted(keyed)
        for start in range(0, len(ranked), 32):
            yield from self._store.read([seq for _, seq in ranked[start : start + 32]])

    def distinct(
        self, collection: Collection | None, path: str, query: Mapping[str, Any], *, limits: Limits | None = None
    ) -> list[Any]:
        """The different values at a path, elements of arrays taken one by one."""
        parts = path.split(".")
        needed = fields.of_paths([path])
        values: dict[bytes, Any] = {}
        for stored in self.find(collection, query, limits=limits):
            for leaf in paths.leaves(fields.trimmed(stored.document, needed), parts):
                for value in leaf if isinstance(leaf, list) else [leaf]:
                    if value is not MISSING:
                        values.setdefault(key(value), value)
        return [values[encoded] for encoded in sorted(values)]
