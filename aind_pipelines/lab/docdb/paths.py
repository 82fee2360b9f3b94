"""Where a dotted path leads in a document, as MongoDB's queries, indexes and sorts see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aind_pipelines.lab.docdb.values import (
    DOCUMENT_TYPES,
    EMPTY_ARRAY_SORT_KEY,
    MISSING,
    NULL_KEY,
    Document,
    inverted,
    key,
)

_MAX_DIGITS = 9


def position(part: str) -> int | None:
    """The place in an array that a part of a path names, or None when it can only be a field's name."""
    if not (part.isascii() and part.isdigit()) or len(part) > _MAX_DIGITS or (part[0] == "0" and part != "0"):
        return None
    return int(part)


def leaves(value: Any, parts: Sequence[str]) -> Iterator[Any]:
    """The values at the end of a path; `MISSING` where a document on the way lacks a field.

    An array on the way is entered: each of its documents, and the element that a number in the path names. An array at
    the end is one leaf.
    """
    if not parts:
        yield value
    elif isinstance(value, DOCUMENT_TYPES):
        try:
            inner = value[parts[0]]
        except KeyError:
            yield MISSING
        else:
            yield from leaves(inner, parts[1:])
    elif isinstance(value, list):
        place = position(parts[0])
        if place is not None and place < len(value):
            yield from leaves(value[place], parts[1:])
        for item in value:
            if isinstance(item, DOCUMENT_TYPES):
                yield from leaves(item, parts)
    else:
        yield MISSING


def candidates(document: Document, parts: Sequence[str]) -> Iterator[Any]:
    """The values that a condition on the path is tried on: every leaf, and each element of a leaf that is an array."""
    for leaf in leaves(document, parts):
        if isinstance(leaf, list):
            yield from leaf
        yield leaf


def index_keys(document: Document, parts: Sequence[str]) -> set[bytes]:
    """The keys under which an index on the path finds the document: one, or several when arrays are involved.

    They cover `candidates`, so whatever a condition can match is found through the index.
    """
    return {key(value) for value in candidates(document, parts)} or {NULL_KEY}


def exists(document: Document, parts: Sequence[str]) -> bool:
    """Whether the path leads to anything."""
    return any(leaf is not MISSING for leaf in leaves(document, parts))


def sort_key(document: Document, order: Sequence[tuple[Sequence[str], int]]) -> bytes:
    """A byte string that sorts documents by several paths.

    Args:
        document: The document.
        order: Paths with 1 (ascending: an array counts by its smallest element) or -1 (by its largest).
    """
    encoded = []
    for parts, direction in order:
        keys: list[bytes] = []
        for leaf in leaves(document, parts):
            if isinstance(leaf, list):
                keys.extend(key(item) for item in leaf)
                if not leaf:
                    keys.append(EMPTY_ARRAY_SORT_KEY)
            else:
                keys.append(key(leaf))
        if direction > 0:
            encoded.append(min(keys, default=NULL_KEY))
        else:
            encoded.append(inverted(max(keys, default=NULL_KEY)))
    return b"".join(encoded)
