"""How a filter and a sort are answered: by which index and which ranges of its keys, or by reading everything.

A plan names documents that include every match; the filter is applied to them again unless the plan is exact.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bson import MaxKey, MinKey, Regex

from aind_pipelines.lab.docdb.matching import conjuncts, is_operators
from aind_pipelines.lab.docdb.regexes import Expression
from aind_pipelines.lab.docdb.store import Index, Span
from aind_pipelines.lab.docdb.values import NULL, NUMBER, REGEX, bracket, key, string_prefix, successor

EVERYTHING = Span(b"", b"\xff")
_RANGES = ("$gt", "$gte", "$lt", "$lte")
_REGEX_SPECIAL = frozenset(".^$*+?{}[]\\|()")
_MAX_BRANCHES = 100
_FIRST_COUNT = 256

Sort = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Access:
    """Ranges of one index that hold every match.

    Attributes:
        index: The index.
        spans: Ascending, without overlap; empty when nothing can match.
        exact: Whether every document in the ranges matches, so that the filter need not be applied.
        entries: How many entries the ranges hold, as far as they were counted.
    """

    index: Index
    spans: tuple[Span, ...]
    exact: bool
    entries: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How to find the documents.

    Attributes:
        accesses: None: read the collection in natural order. One: walk it. Several: the union of them.
        ordered: Whether this gives the order asked for (`descending`: from the end).
        exact: Whether everything found matches.
        ids: The ranges of ``_id`` keys that hold every match, when the order is that of ``_id`` and the accesses have
            another: their entries, few, are put in order before any document is read. Else None.
    """

    accesses: tuple[Access, ...] | None
    ordered: bool
    descending: bool = False
    exact: bool = False
    ids: tuple[Span, ...] | None = None


Sizer = Callable[[Index, Sequence[Span]], int]
Counter = Callable[[Index, Sequence[Span], int], int]
"""Counts the entries of an index in some ranges, and stops at a number."""


def plan(query: Mapping[str, Any], sort: Sort, limit: int, indexes: Sequence[Index], count: Counter) -> Plan:
    """Choose a plan; what it costs to choose grows with the cheapest way to answer, not with the collection.

    Args:
        query: The filter.
        sort: Paths with 1 or -1; empty for natural order.
        limit: Matches needed, the skipped ones included; 0 means all.
        indexes: What the collection has.
        count: Counts the entries of an index in some ranges.
    """
    found = _cheapest(query, indexes, count)
    cheapest = math.inf if found is None else _cost(found)
    exact = found is not None and len(found) == 1 and found[0].exact
    if found is not None and not cheapest:
        return Plan(found, ordered=True, exact=exact)
    if sort:
        walk = _sorted_walk(query, sort, indexes)
        if walk is not None and (found is None or _is_short(walk, limit, cheapest, count)):
            return Plan((walk,), ordered=True, descending=sort[0][1] < 0, exact=walk.exact)
    if found is None:
        return Plan(None, ordered=not sort, exact=not query)
    if sort and sort[0][0] == "_id":
        return Plan(found, ordered=True, descending=sort[0][1] < 0, exact=exact, ids=_ids(query, indexes))
    return Plan(found, ordered=not sort, exact=exact)


def _is_short(walk: Access, limit: int, cheapest: float, count: Counter) -> bool:
    """Whether a walk in the order asked for ends no later than reading all matches and sorting them.

    Matches are taken to be spread evenly over the walk, so that it ends after ``limit * length / matches`` entries.
    """
    longest = max(cheapest, cheapest**2 / limit if limit else 0)
    return count(walk.index, walk.spans, math.floor(longest) + 1) <= longest


def _ids(query: Mapping[str, Any], indexes: Sequence[Index]) -> tuple[Span, ...]:
    own = (access.spans for access in _options(query, indexes, lambda *_: 0) if access.index.name == "_id_")
    return next(own, (EVERYTHING,))


def _cost(accesses: tuple[Access, ...]) -> int:
    return sum(access.entries for access in accesses)


def _cheapest(query: Mapping[str, Any], indexes: Sequence[Index], count: Counter) -> tuple[Access, ...] | None:
    """The accesses with the fewest entries, or None when no index helps."""
    enough = _FIRST_COUNT
    while True:  # no range is counted much further than the smallest one is long
        candidates = _candidates(query, indexes, partial(_count_to, count, enough))
        best = min(candidates, key=lambda found: (_cost(found), len(found), not found[0].exact), default=None)
        if best is None or _cost(best) < enough:
            return best
        enough *= 8


def _count_to(count: Counter, enough: int, index: Index, spans: Sequence[Span]) -> int:
    return count(index, spans, enough)


def _candidates(query: Mapping[str, Any], indexes: Sequence[Index], size: Sizer) -> list[tuple[Access, ...]]:
    """Every way to find all matches: an index for one condition, or for every branch of an ``$or`` one of its own."""
    found: list[tuple[Access, ...]] = [(access,) for access in _options(query, indexes, size)]
    for path, operator, branches in conjuncts(query):
        if path or operator != "$or" or len(branches) > _MAX_BRANCHES:
            continue
        union: tuple[Access, ...] = ()
        for branch in branches:
            ways = _candidates(branch, indexes, size)
            if not ways:
                break
            union += min(ways, key=_cost)
        else:
            # What matches a branch need not match the rest of the filter.
            found.append(tuple(replace(access, exact=False) for access in union))
    return found


def _options(query: Mapping[str, Any], indexes: Sequence[Index], size: Sizer) -> list[Access]:
    conditions = conjuncts(query)
    options = []
    for index in indexes:
        path = ".".join(index.fields[0])
        converted = (
            _bounds(operator, argument, sparse=index.sparse) for at, operator, argument in conditions if at == path
        )
        bounds = [(spans, exact) for spans, exact in converted if spans is not None]
        if not bounds:
            continue
        if index.multikey:
            # Different elements of an array may satisfy different conditions: one of them has to do.
            options += [Access(index, spans, exact=False, entries=size(index, spans)) for spans, _ in bounds]
            continue
        spans = bounds[0][0]
        for bound, _ in bounds[1:]:
            spans = _intersection(spans, bound)
        exact = len(bounds) == len(conditions) and all(exact for _, exact in bounds)
        options.append(Access(index, spans, exact, size(index, spans)))
    return options


def _sorted_walk(query: Mapping[str, Any], sort: Sort, indexes: Sequence[Index]) -> Access | None:
    """An index whose order is the one asked for, narrowed by the filter; its entries are not counted."""
    path, direction = sort[0]
    # Entries of one key are in the order of _id: a sort by a field and then by _id is an index's own order too.
    if len(sort) > 1 and path != "_id" and (len(sort) > 2 or sort[1] != ("_id", direction)):
        return None
    for index in indexes:
        if index.sparse or index.multikey or len(index.fields) > 1 or ".".join(index.fields[0]) != path:
            continue
        known = _options(query, [index], lambda *_: 0)
        return known[0] if known else Access(index, _hull(query, index), exact=not query, entries=0)
    return None


def _hull(query: Mapping[str, Any], index: Index) -> tuple[Span, ...]:
    """The one range that covers all branches of an ``$or`` on an index, such as a keyset page's condition."""
    for path, operator, branches in conjuncts(query):
        if path or operator != "$or":
            continue
        covered: list[Span] = []
        for branch in branches:
            options = _options(branch, [index], lambda *_: 0)
            if not options:
                break
            covered.extend(options[0].spans)
        else:
            if not covered:
                return ()
            return (Span(min(span.low for span in covered), max(span.high for span in covered)),)
    return (EVERYTHING,)


def _bounds(operator: str, argument: Any, *, sparse: bool) -> tuple[tuple[Span, ...] | None, bool]:
    """The key ranges of one condition, or None when it has none; and whether they are exactly its matches."""
    if operator == "$eq":
        if isinstance(argument, Regex) or (argument is None and sparse):
            return None, False
        return (_point(argument),), argument is not None
    if operator == "$in":
        return _in_bounds(argument, sparse=sparse)
    if operator in _RANGES:
        return _range_bounds(operator, argument)
    if operator == "$regex" and isinstance(argument, Expression):
        prefix = _literal_prefix(argument)
        if prefix:
            low = string_prefix(prefix)
            # A stored regular expression that is the same matches too.
            return (Span(low, successor(low)), Span(bytes([REGEX]), bytes([REGEX + 1]))), False
    return None, False


def _point(value: Any) -> Span:
    encoded = key(value)
    return Span(encoded, successor(encoded))


def _in_bounds(argument: Any, *, sparse: bool) -> tuple[tuple[Span, ...] | None, bool]:
    if not isinstance(argument, list) or any(isinstance(item, Regex) or is_operators(item) for item in argument):
        return None, False
    if sparse and None in argument:
        return None, False
    points = {span.low: span for span in map(_point, argument)}
    return tuple(points[low] for low in sorted(points)), not any(item is None for item in argument)


def _range_bounds(operator: str, argument: Any) -> tuple[tuple[Span, ...] | None, bool]:
    if isinstance(argument, Regex | MinKey | MaxKey):
        return None, False
    kind = bracket(argument)
    if kind == NULL or (isinstance(argument, float) and math.isnan(argument)):
        return None, False
    low, high = bytes([kind]), bytes([kind + 1])
    if kind == NUMBER:
        low = key(-math.inf)  # NaN is below it and in no range
    encoded = key(argument)
    if operator == "$gt":
        low = successor(encoded)
    elif operator == "$gte":
        low = encoded
    elif operator == "$lt":
        high = encoded
    else:
        high = successor(encoded)
    return ((Span(low, high),) if low < high else ()), True


def _literal_prefix(pattern: Expression) -> str:
    """The text that every string found by the expression starts with; empty when there is none to be sure of."""
    text = pattern.pattern
    if not text.startswith("^") or pattern.flags & (re.IGNORECASE | re.MULTILINE | re.VERBOSE) or "|" in text:
        return ""
    literal: list[str] = []
    position = 1
    while position < len(text):
        letter = text[position]
        if letter == "\\" and position + 1 < len(text) and not text[position + 1].isalnum():
            letter = text[position + 1]
            position += 1
        elif letter in _REGEX_SPECIAL:
            if letter in "*?{" and literal:
                literal.pop()
            break
        literal.append(letter)
        position += 1
    return "".join(literal)


def _intersection(one: Sequence[Span], other: Sequence[Span]) -> tuple[Span, ...]:
    found = []
    for a in one:
        for b in other:
            low, high = max(a.low, b.low), min(a.high, b.high)
            if low < high:
                found.append(Span(low, high))
    return tuple(sorted(found, key=lambda span: span.low))
