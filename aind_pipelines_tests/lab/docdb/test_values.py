"""Byte keys have BSON's comparison order."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.lab.docdb.errors import CommandError
from aind_pipelines.lab.docdb.values import equal, inverted, key, string_prefix, successor

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.binary(max_size=4) | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts.filter(lambda t: "\0" not in t), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(numbers, numbers)
def test_keys_of_numbers_order_them_exactly_whatever_their_types(one: float, other: float) -> None:
    assert (key(one) < key(other)) == (one < other)
    assert (key(one) == key(other)) == (one == other)


@given(texts, texts)
def test_keys_of_strings_order_them_by_their_utf8_bytes(one: str, other: str) -> None:
    assert (key(one) < key(other)) == (one.encode() < other.encode())


@given(st.lists(numbers | texts, max_size=4), st.lists(numbers | texts, max_size=4))
def test_keys_of_arrays_compare_element_by_element(one: list[Any], other: list[Any]) -> None:
    assert (key(one) < key(other)) == ([key(item) for item in one] < [key(item) for item in other])


@given(values, values)
def test_no_key_is_the_beginning_of_another_value_s_key(one: Any, other: Any) -> None:
    a, b = key(one), key(other)
    assert a == b or not (a.startswith(b) or b.startswith(a))
    assert (inverted(a) < inverted(b)) == (b < a)
    assert (successor(a) <= b) == (a < b)


@given(values)
def test_a_value_keeps_its_key_on_its_way_through_bson(value: Any) -> None:
    stored = bson.decode(bson.encode({"value": value}))["value"]
    # BSON keeps milliseconds; everything else comes back equal.
    if not _has_microseconds(value):
        assert key(stored) == key(value)
        assert equal(stored, value)


def _has_microseconds(value: Any) -> bool:
    if isinstance(value, dt.datetime):
        return value.microsecond % 1000 != 0
    if isinstance(value, dict):
        return any(map(_has_microseconds, value.values()))
    return isinstance(value, list) and any(map(_has_microseconds, value))


def test_types_sort_in_the_documented_order() -> None:
    ascending = [
        MinKey(),
        None,
        math.nan,
        -math.inf,
        -1,
        0.5,
        Int64(2**53 + 1),
        math.inf,
        "",
        "a",
        {},
        {"a": 1},
        [],
        [1],
        b"\x00",
        Binary(b"\x00\x00", 4),
        ObjectId("0" * 24),
        False,
        True,
        dt.datetime.fromisoformat("1960-01-01"),
        dt.datetime.fromisoformat("2024-01-01"),
        Timestamp(1, 1),
        Regex("a"),
        MaxKey(),
    ]
    keys = [key(value) for value in ascending]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_true_is_not_one_and_zero_has_no_sign() -> None:
    assert not equal(True, 1)
    assert equal(1, 1.0)
    assert equal(Int64(1), 1.0)
    assert equal(0.0, -0.0)
    assert not equal({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert key("ab").startswith(string_prefix("a"))


def test_the_order_of_decimals_is_refused_rather_than_guessed() -> None:
    with pytest.raises(CommandError, match="Decimal128"):
        key(Decimal128("1.1"))
