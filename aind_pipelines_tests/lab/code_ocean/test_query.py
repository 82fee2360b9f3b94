"""The search language is understood as Code Ocean's users write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.lab.code_ocean.query import Query, Term, parse


@pytest.mark.parametrize(
    ("text", "fields", "words"),
    [
        (None, {}, []),
        ("  ", {}, []),
        ("name:ECEPHYS_676909", {"name": [Term("ecephys_676909")]}, []),
        ("tag:raw tag:ecephys", {"tag": [Term("raw"), Term("ecephys")]}, []),
        ('name:"Two Words" tag:raw', {"name": [Term("two words", phrase=True)], "tag": [Term("raw")]}, []),
        ("subject id:676909", {"subject id": [Term("676909")]}, []),
        ("mouse subject id:676909", {"subject id": [Term("676909")]}, [Term("mouse")]),
        ("name:a_2023-12-13_13:43:40", {"name": [Term("a_2023-12-13_13:43:40")]}, []),
        ('synergy "two words"', {}, [Term("synergy"), Term("two words", phrase=True)]),
        ("unknown:1", {"unknown": [Term("1")]}, []),
        ('"subject" id:1', {"id": [Term("1")]}, [Term("subject", phrase=True)]),
    ],
)
def test_expressions_are_split_into_fields_and_words(
    text: str | None, fields: dict[str, list[Term]], words: list[Term]
) -> None:
    assert parse(text, custom_fields={"subject id"}) == Query(fields, words)


@given(st.text())
def test_any_text_is_an_expression_and_loses_no_word(text: str) -> None:
    query = parse(text)
    known = "".join([*query.fields, *(t.text for terms in query.fields.values() for t in terms)])
    known += "".join(term.text for term in query.words)
    for character in text.lower():
        assert character.isspace() or character in '":' or character in known
