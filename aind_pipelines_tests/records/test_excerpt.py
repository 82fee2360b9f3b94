"""What is read of a record's text says the same as the whole record."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.excerpt import excerpt, read_whole
from aind_pipelines.records.normalise import normalise
from aind_pipelines_tests.records.real import real_records
from aind_pipelines_tests.records.shapes import SHAPES
from aind_pipelines_tests.records.strategies import damaged_records


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_is_read_alike(shape: str) -> None:
    text = json.dumps(SHAPES[shape]).encode()
    read = excerpt(text)
    assert read is not None
    assert normalise(read) == normalise(SHAPES[shape])


def test_real_records_are_read_alike() -> None:
    for record in real_records():
        text = json.dumps(record).encode()
        assert normalise(excerpt(text) or read_whole(text)) == normalise(record)


@given(damaged_records())
def test_damaged_records_are_read_alike(record: Any) -> None:
    try:
        text = json.dumps(record, allow_nan=False).encode()
    except (TypeError, ValueError):
        return
    read = excerpt(text)
    if read is not None:
        assert normalise(read) == normalise(canonicalise(json.loads(text)).body)


@pytest.mark.parametrize("number", ["1e16", "12345678901234567.0", "-1E+20", "-0.0", "-0e5", "1.5"])
def test_numbers_are_read_as_they_are_stored(number: str) -> None:
    text = f'{{"_id":"a","schema_version":{number},"subject":{{"sex":{number}}}}}'.encode()
    read = excerpt(text)
    assert read is not None
    assert repr(normalise(read)) == repr(normalise(canonicalise(json.loads(text)).body))


@pytest.mark.parametrize("record", [{"_id": "a", "object_type": None}, {"_id": "a", "schema_version": None}])
def test_a_name_without_a_value_decides_the_version_alike(record: dict[str, Any]) -> None:
    read = excerpt(json.dumps(record).encode())
    assert normalise(read or {}).record_version == normalise(canonicalise(record).body).record_version
    assert normalise(read or {}).record_version == ("v2" if "object_type" in record else "v1")


def test_what_no_shape_holds_is_not_read() -> None:
    read = excerpt(b'{"_id": "a", "procedures": {"x": [1]}, "session": {"subject_id": "7", "data_streams": [{}]}}')
    assert read == {"_id": "a", "session": {"subject_id": "7"}}


@pytest.mark.parametrize("number", ["1e100", "1E+0100", "-2.5e99999", "1" * 300, "1e100000000 "])
def test_a_number_of_hundreds_of_digits_wants_the_whole_record_read(number: str) -> None:
    for text in (f'{{"_id":"a","x":{number}}}', f'{{"_id":"a","x":[{number}, 2]}}', f'{{"x": {number},"_id":"a"}}'):
        assert excerpt(text.encode()) is None
    assert excerpt(f'{{"_id":"a","x":"7e123-{number.strip()[:20]}","y":1e99,"z":5e-324}}'.encode()) == {"_id": "a"}


@pytest.mark.parametrize("text", ['{"x":"\\u0000"}', '{"x":"\\ud800"}', '{"x":NaN}', '{"x":1', "[]", "7"])
def test_what_cannot_be_stored_or_read_is_left_to_others(text: str) -> None:
    assert excerpt(text.encode()) is None


def test_an_integer_of_any_size_is_read() -> None:
    assert read_whole(b'{"x":-%b}' % (b"7" * 6_000)) == {"x": -7 * (10**6_000 - 1) // 9}
