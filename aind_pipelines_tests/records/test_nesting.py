"""Depth told from text is the depth of what the text holds, or more, never less."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.records.nesting import DEEPEST, too_deep
from aind_pipelines_tests.records.strategies import JSON_VALUES


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}"), ('[0,{"a":', "}]")])
def test_the_deepest_that_may_be_is_not_too_deep(left: str, right: str) -> None:
    levels = DEEPEST // (left.count("{") + left.count("["))
    assert not too_deep((left * levels + "1" + right * levels).encode())
    assert too_deep((left * (levels + 1) + "1" + right * (levels + 1)).encode())
    assert too_deep((left * 5_000 + "1" + right * 5_000).encode())


@given(JSON_VALUES, st.integers(0, DEEPEST + 5))
def test_a_value_below_so_many_lists(value: Any, levels: int) -> None:
    depth = levels + _depth(value)
    for _ in range(levels):
        value = [value]
    text = json.dumps(value)
    if depth > DEEPEST:
        assert too_deep(text.encode())
    elif not any(bracket in part for part in text.split('"')[1::2] for bracket in "[]{}"):
        assert not too_deep(text.encode())


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def test_brackets_in_texts_may_only_make_it_look_deeper() -> None:
    assert not too_deep(b'{"a":"]][[}{","b":["[["]}')
    assert too_deep(b'["' + b"[" * 300 + b'"]')
