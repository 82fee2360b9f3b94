"""Canonical JSON and the content hash."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.records.canonical import UNSTORABLE_TEXT, canonicalise
from aind_pipelines_tests.records.strategies import JSON_VALUES, RECORDS


def _text(record: object) -> str:
    return canonicalise(record).text


def test_the_order_of_keys_does_not_matter_and_the_order_of_lists_does() -> None:
    assert _text({"a": 1, "b": {"c": 2, "d": 3}}) == _text({"b": {"d": 3, "c": 2}, "a": 1})
    assert _text({"a": [1, 2]}) != _text({"a": [2, 1]})
    assert _text({"b": ["é", None, True, 1.5], "a": 1}) == '{"a":1,"b":["é",null,true,1.5]}'


@given(st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=3), st.text(max_size=3), JSON_VALUES)
def test_another_value_is_another_text(record: dict[str, object], key: str, value: object) -> None:
    other = {**record, key: value}
    same = json.dumps(record, sort_keys=True) == json.dumps(other, sort_keys=True)
    if not same and canonicalise(record).body is record and canonicalise(other).body is other:
        assert _text(record) != _text(other)


def test_bson_types_are_written_stably() -> None:
    record = {
        "date": datetime.fromisoformat("2025-03-06T15:46:55.436"),
        "aware": datetime(2025, 3, 6, 7, 46, 55, tzinfo=timezone(timedelta(hours=-8))),
        "microseconds": datetime(2025, 3, 6, 7, 46, 55, 1, tzinfo=UTC),
        "id": ObjectId("65f000000000000000000001"),
        "long": Int64(2**62),
        "decimal": Decimal128("1.50"),
        "bytes": b"\x00\xff",
    }
    assert json.loads(canonicalise(record).text) == {
        "date": "2025-03-06T15:46:55.436Z",
        "aware": "2025-03-06T15:46:55.000Z",
        "microseconds": "2025-03-06T07:46:55.000001Z",
        "id": "65f000000000000000000001",
        "long": 2**62,
        "decimal": "1.50",
        "bytes": "AP8=",
    }


@pytest.mark.parametrize(
    ("record", "stored", "code", "path"),
    [
        ({"a": {"b": ["x\x00y"]}}, {"a": {"b": ["x\ufffdy"]}}, "nul_character", "a.b.0"),
        ({"a": "\ud800"}, {"a": "\ufffd"}, "nul_character", "a"),
        ({"a": float("nan")}, {"a": "NaN"}, "number_not_finite", "a"),
        ({"a": [float("-inf")]}, {"a": ["-Infinity"]}, "number_not_finite", "a.0"),
        ({"a": 16**5000}, {"a": hex(16**5000)}, "number_too_large", "a"),
        ({"a\x00": 1}, {"a\ufffd": 1}, "key_replaced", ""),
        ({"a\x00": 1, "a\ufffd": 2}, {"a\ufffd\ufffd": 1, "a\ufffd": 2}, "key_replaced", ""),
        ({1: "a", "b": 2}, {"1": "a", "b": 2}, "key_replaced", ""),
        ({"a": 1j}, {"a": "builtins.complex: 1j"}, "type_unknown", "a"),
    ],
)
def test_what_postgres_cannot_store_is_replaced_and_told(record: object, stored: object, code: str, path: str) -> None:
    found = canonicalise(record)
    assert json.loads(found.text) == found.body == stored
    assert found.oddities == ((code, path),)
    (finding,) = found.findings("v1/x")
    assert (finding.code, finding.key, finding.field) == (code, "v1/x", path)
    assert finding.message


def test_a_text_that_only_looks_like_an_escape_is_kept() -> None:
    record = {"a": "\\u0000", "b": "1e+20 and -0.0"}
    found = canonicalise(record)
    assert json.loads(found.text) == record
    assert found.oddities == ()


@pytest.mark.parametrize("make", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_what_is_nested_too_deeply_is_cut_and_told(make: object) -> None:
    value: object = "bottom"
    for _ in range(5_000):
        value = make(value)  # type: ignore[operator]
    found = canonicalise(value)
    assert [code for code, _ in found.oddities] == ["nested_too_deeply"]
    assert "bottom" not in found.text


@given(RECORDS)
def test_anything_becomes_json_that_utf8_can_hold(record: object) -> None:
    found = canonicalise(record)
    assert not UNSTORABLE_TEXT.search(found.text)
    again = canonicalise(json.loads(found.text.encode()))
    assert again.text == found.text
    assert again.oddities == ()
