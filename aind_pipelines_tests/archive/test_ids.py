"""Identifiers: what is one, what a file's name gives, and full identifiers."""

import re
from pathlib import PurePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aind_pipelines.archive.ids import InvalidId, check_id, id_from_name, split_url

good_ids = st.from_regex(r"[_0-9a-zA-Z][-_0-9a-zA-Z]{0,254}", fullmatch=True)


@given(st.text(max_size=300))
@example("")
@example("..")
@example("a\n")
@example("a/b")
@example("a~b")
@example("-rf")
@example("é")
@example("x" * 256)
def test_only_the_registrys_grammar_passes(text):
    allowed = re.fullmatch(r"[_0-9a-zA-Z][-_0-9a-zA-Z]{0,254}", text) is not None
    try:
        assert check_id(text) == text
    except InvalidId:
        assert not allowed
    else:
        assert allowed


@given(good_ids, st.sampled_from(["", ".wav", ".json", ".h5"]))
def test_a_name_without_its_suffix_is_the_identifier(id_, suffix):
    assert id_from_name(id_ + suffix) == id_
    assert PurePath(id_ + suffix).stem == id_


@pytest.mark.parametrize("name", ["x.nii.gz", "a b.wav", ".hidden.x", "å.wav", ".."])
def test_a_name_that_gives_no_identifier_is_refused_and_named(name):
    with pytest.raises(InvalidId, match=re.escape(repr(name))):
        id_from_name(name)


@given(good_ids)
def test_full_and_short_identifiers_are_told_apart(id_):
    assert split_url(id_) == (None, id_)
    assert split_url(f"https://host:1/a/neurobank/resources/{id_}/") == ("https://host:1/a/neurobank/", id_)
    assert split_url(f"http://host/neurobank/resources/{id_}") == ("http://host/neurobank/", id_)


@pytest.mark.parametrize(
    "text", ["http://host/x", "ftp://host/resources/a/", "http:///resources/a/", "http://h/resources/a.b/"]
)
def test_other_addresses_are_refused(text):
    with pytest.raises(InvalidId):
        split_url(text)
