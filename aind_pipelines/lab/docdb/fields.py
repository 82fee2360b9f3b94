"""The top-level fields that a question needs, cut out of a stored document without decoding the rest.

Metadata records are large and most questions look at a few fields of them. Walking over the element headers of BSON
(format: bsonspec.org) costs a fraction of decoding what lies between them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument

from aind_pipelines.lab.docdb.errors import INVALID_BSON, CommandError
from aind_pipelines.lab.docdb.values import RAW

Fields = frozenset[str] | None
"""Names of top-level fields; None means all of them."""

_FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}
_EXTRA = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}
"""Bytes that an element's value has beyond what its leading int32 says."""

_INT32 = struct.Struct("<i").unpack_from


def trimmed(document: RawBSONDocument, fields: Fields) -> RawBSONDocument:
    """A document with only the named top-level fields, in their order; with None, the document itself."""
    if fields is None:
        return document
    body = bytes(document.raw)
    wanted = {name.encode() for name in fields}
    parts = []
    position = 4
    end = len(body) - 1
    while position < end:
        start = position
        kind = body[position]
        stop = body.index(0, position + 1)
        name = body[position + 1 : stop]
        position = stop + 1
        size = _FIXED.get(kind)
        if size is not None:
            position += size
        elif kind in _EXTRA:
            position += _INT32(body, position)[0] + _EXTRA[kind]
        elif kind == 0x0B:
            position = body.index(0, body.index(0, position) + 1) + 1
        else:
            raise CommandError(INVALID_BSON, f"a stored document has an element of the unknown kind {kind:#x}")
        if name in wanted:
            parts.append(body[start:position])
    inner = b"".join(parts)
    return RawBSONDocument(struct.pack("<i", len(inner) + 5) + inner + b"\0", RAW)


def of_paths(paths: Sequence[str]) -> frozenset[str]:
    """The top-level fields that some paths begin with."""
    return frozenset(path.partition(".")[0] for path in paths)


def of_filter(query: Mapping[str, Any]) -> Fields:
    """The top-level fields that a filter looks at."""
    found: frozenset[str] = frozenset()
    for name, condition in query.items():
        needed: Fields
        if name in ("$and", "$or", "$nor"):
            needed = union(*(of_filter(part) for part in condition))
        elif name == "$expr":
            needed = of_expression(condition)
        elif name.startswith("$"):
            needed = frozenset()
        else:
            needed = of_paths([name])
        if needed is None:
            return None
        found |= needed
    return found


def of_expression(expression: Any) -> Fields:
    """The top-level fields that an aggregation expression may look at."""
    if isinstance(expression, str):
        if expression.startswith(("$$ROOT", "$$CURRENT")):
            return None
        if expression.startswith("$") and not expression.startswith("$$"):
            return of_paths([expression[1:]])
        return frozenset()
    if isinstance(expression, Mapping):
        return union(*map(of_expression, expression.values()))
    if isinstance(expression, list):
        return union(*map(of_expression, expression))
    return frozenset()


def of_stages(stages: Sequence[Mapping[str, Any]]) -> Fields:
    """The top-level fields of the documents that enter some pipeline stages which the stages look at or hand on."""
    found: frozenset[str] = frozenset()
    for stage in stages:
        name, argument = next(iter(stage.items()))
        needed: Fields
        if name == "$match":
            needed = of_filter(argument)
        elif name == "$sort":
            needed = of_paths(list(argument))
        elif name in ("$group", "$sortByCount", "$unwind"):
            needed = of_expression(argument)
        elif name == "$project" and _includes(argument):
            needed = of_projection(argument)
        elif name in ("$skip", "$limit", "$count"):
            needed = frozenset()
        else:
            return None
        if needed is None:
            return None
        found |= needed
        if name in ("$group", "$sortByCount", "$project", "$count"):
            return found
    return None


def of_projection(projection: Mapping[str, Any]) -> Fields:
    """The top-level fields that a projection looks at or keeps."""
    if not _includes(projection):
        return None
    return union(of_paths(["_id", *projection]), of_expression(projection))


def _includes(projection: Mapping[str, Any]) -> bool:
    """Whether a projection surely names what it keeps; one with a document in it may name what it leaves out."""
    others = [value for name, value in projection.items() if name != "_id"]
    if not others:
        return bool(projection.get("_id"))
    return all(
        isinstance(value, str) or (isinstance(value, bool | int | float) and bool(value)) or _is_operator(value)
        for value in others
    )


def _is_operator(value: Any) -> bool:
    # The $slice of find keeps the other fields.
    return (
        isinstance(value, Mapping) and len(value) == 1 and next(iter(value)).startswith("$") and "$slice" not in value
    )


def union(*parts: Fields) -> Fields:
    """All fields of several parts."""
    known = [part for part in parts if part is not None]
    return frozenset().union(*known) if len(known) == len(parts) else None
