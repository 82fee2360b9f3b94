"""Where an engine that nobody here wrote answers otherwise than MongoDB documents: case by case, with the reason.

Each gap says what the engine answers instead. It is asked like every case: an answer that is another one, or the right
one because the gap was closed, fails the test, so that this list stays true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aind_pipelines_tests.contract.cases import at


@dataclass(frozen=True)
class Gap:
    """One case that an engine answers otherwise.

    Attributes:
        reason: What it does, in words.
        answer: Its answer; ``{"error": code}`` of a refusal.
    """

    reason: str
    answer: Any


_NOT_IMPLEMENTED = {"error": 238}
_BAD_VALUE = {"error": 2}
_ELEMENTS = "FerretDB 1.24 finds nothing with $elemMatch over documents in an array below another field"

FERRETDB: dict[str, Gap] = {
    "find by one element of an array": Gap(_ELEMENTS, []),
    "count by one element of an array": Gap(_ELEMENTS, 0),
    "aggregate unwind and group": Gap(
        "FerretDB 1.24 groups by null when the field grouped by was inside an array", [{"_id": None, "count": 3}]
    ),
    "aggregate max and min": Gap("FerretDB 1.24 has no accumulator $max", _NOT_IMPLEMENTED),
    "aggregate add to set": Gap("FerretDB 1.24 has no accumulator $addToSet", _NOT_IMPLEMENTED),
    "aggregate a computed field": Gap(
        "FerretDB 1.24 takes the path of another field in $project for a text", [{"subject": "$subject.subject_id"}]
    ),
    "aggregate a size": Gap("FerretDB 1.24 has no expression $size", _NOT_IMPLEMENTED),
    "arrays in arrays are kept": Gap("FerretDB 1.24 refuses arrays in arrays", _BAD_VALUE),
    "keys with dots are kept when whole documents are written": Gap(
        "FerretDB 1.24 refuses keys with dots", _BAD_VALUE
    ),
}
"""Of version 1.24.2 with the SQLite backend, by the name of the case."""

MINGO: dict[str, Gap] = {
    "sort mixed types downwards": Gap(
        "mingo sorts downwards by the lowest element of an array, MongoDB by the highest",
        [{"_id": identity} for identity in (at(1), True, "t3", "t2", 10, "T", "", "t1", 2.5)],
    ),
    "aggregate count of nothing": Gap(
        "mingo's $count of nothing is one document with 0, MongoDB's is no document", [{"n": 0}]
    ),
}
"""Of version 7.2.6, by the name of the case."""
