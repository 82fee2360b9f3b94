"""The fields that a question needs are cut out of a document as decoding would give them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.lab.docdb import fields
from aind_pipelines.lab.docdb.values import RAW, decode

EVERY_TYPE: list[Any] = [
    1.5,
    "text\0ü",
    {"a": {"b": [1]}},
    [1, [2], {"c": 3}],
    b"bytes",
    Binary(b"old", 2),
    Binary(b"other", 128),
    ObjectId(),
    True,
    dt.datetime.fromisoformat("2024-01-01"),
    None,
    Regex("a/b", "im"),
    Code("f()"),
    Code("f()", {"x": 1}),
    7,
    Timestamp(1, 2),
    Int64(8),
    Decimal128("1.10"),
    MinKey(),
    MaxKey(),
]
names = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=4)


def _told(value: object) -> str:
    """A test's name must be the same in every process, and the order of a set is not."""
    return str(sorted(value) if isinstance(value, set) else value)


@given(st.dictionaries(names, st.sampled_from(EVERY_TYPE), max_size=8), st.frozensets(names, max_size=5))
def test_a_trimmed_document_has_the_wanted_fields_as_they_are(
    document: dict[str, Any], wanted: frozenset[str]
) -> None:
    wanted |= frozenset(list(document)[::2])
    raw = RawBSONDocument(bson.encode(document), RAW)
    kept = decode(fields.trimmed(raw, wanted))
    assert bson.encode(kept) == bson.encode({name: value for name, value in document.items() if name in wanted})
    assert fields.trimmed(raw, None) is raw


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ({}, set()),
        ({"a.b": 1, "c": {"$gt": 1}}, {"a", "c"}),
        ({"$or": [{"a": 1}, {"$and": [{"b.c": 1}]}], "$comment": "x"}, {"a", "b"}),
        ({"$expr": {"$eq": ["$a.b", {"$size": "$c"}]}}, {"a", "c"}),
        ({"$expr": {"$eq": ["$$ROOT.a", 1]}}, None),
    ],
    ids=_told,
)
def test_a_filter_needs_the_fields_that_it_names(query: dict[str, Any], needed: set[str] | None) -> None:
    assert fields.of_filter(query) == needed


@pytest.mark.parametrize(
    ("projection", "needed"),
    [
        ({"a": 1, "b.c": True}, {"_id", "a", "b"}),
        ({"_id": 1}, {"_id"}),
        ({"_id": 0}, None),
        ({"a": 0}, None),
        ({"a": {"b": 1}}, None),
        ({"a": {"$slice": 1}}, None),
        ({"a": {"$elemMatch": {"k": 1}}, "_id": 0}, {"_id", "a"}),
        ({"a": "$b.c"}, {"_id", "a", "b"}),
        ({"a": {"$let": {"vars": {"x": "$b"}, "in": "$$x.c"}}}, {"_id", "a", "b"}),
    ],
    ids=_told,
)
def test_a_projection_needs_what_it_keeps_or_everything(projection: dict[str, Any], needed: set[str] | None) -> None:
    assert fields.of_projection(projection) == needed


@pytest.mark.parametrize(
    ("stages", "needed"),
    [
        ([], None),
        (
            [{"$unwind": "$a.b"}, {"$match": {"a.b.c": 1}}, {"$group": {"_id": "$d", "n": {"$sum": "$e.f"}}}],
            {"a", "d", "e"},
        ),
        ([{"$group": {"_id": None, "all": {"$push": "$$ROOT"}}}], None),
        ([{"$addFields": {"x": "$a"}}, {"$count": "n"}], None),
        ([{"$sort": {"a": 1}}, {"$project": {"b": 1}}, {"$replaceRoot": {"newRoot": "$c"}}], {"a", "b", "_id"}),
        ([{"$match": {"a": 1}}, {"$count": "n"}], {"a"}),
        ([{"$match": {"a": 1}}], None),
        ([{"$project": {"a": {"b": 0}}}], None),
    ],
    ids=_told,
)
def test_stages_need_what_they_use_up_to_the_first_that_makes_new_documents(
    stages: list[dict[str, Any]], needed: set[str] | None
) -> None:
    assert fields.of_stages(stages) == needed
