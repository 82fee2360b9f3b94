"""Hypothesis strategies for records: anything JSON can hold and more, and real shapes with damage."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from bson import Decimal128, Int64, ObjectId
from hypothesis import strategies as st

from aind_pipelines_tests.records.shapes import SHAPES

TEXTS = st.text(alphabet=st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        "\x00",
        "a\x00b",
        "\ud800",
        "2024-01-01T00:00:00",
        "name='A' abbreviation='b'",
        "SmartSPIM",
        "2.0.0",
        "x" * 900,
    ]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**4000, -(2**63), 2**53 + 1]) | st.floats() | TEXTS
)
BSON = (
    st.datetimes()
    | st.dates(date(1, 1, 1))
    | st.binary(max_size=8)
    | st.builds(ObjectId)
    | st.builds(Int64, st.integers(-(2**60), 2**60))
    | st.just(Decimal128("1.50"))
    | st.just(datetime.fromisoformat("9999-12-31T23:59:59-12:00"))
)
VALUES = st.recursive(
    SCALARS | BSON,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
_PLAIN_TEXTS = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=10)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _PLAIN_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_PLAIN_TEXTS, inner, max_size=4),
    max_leaves=20,
)


def places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every place in a value down to a depth: what holds it, and its key or index there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        if depth < 4:
            yield from places(inner, depth + 1)


@st.composite
def damaged_records(draw: st.DrawFn) -> Any:
    """A record of a real shape in which up to three values are replaced or removed."""
    record = copy.deepcopy(SHAPES[draw(st.sampled_from(sorted(SHAPES)))])
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(record))
        if not found:
            break
        holder, key = found[draw(st.integers(0, len(found) - 1))]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = draw(VALUES)
    return record


RECORDS = damaged_records() | st.dictionaries(TEXTS, VALUES, max_size=5) | VALUES
