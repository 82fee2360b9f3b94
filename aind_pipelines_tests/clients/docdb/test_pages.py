"""The keyset walk: every record once, whatever else happens to the collection, and no silent end."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.clients.docdb.pages import Query, Record, walk, with_id, with_id_shown
from aind_pipelines.clients.errors import UnexpectedAnswer


class Collection:
    """Answers as MongoDB does: comparisons find one type only, numbers sort before text, booleans after."""

    def __init__(self, ids: list[Any], size: int = 3, meanwhile: Callable[["Collection"], None] | None = None) -> None:
        self.ids = set(ids)
        self.size = size
        self.meanwhile = meanwhile
        self.requests = 0

    def _ordered(self) -> list[Any]:
        return sorted(
            self.ids,
            key=lambda i: (isinstance(i, str) + 2 * isinstance(i, tuple), str(i) if isinstance(i, tuple) else i),
        )

    def page(self, bound: Query) -> list[Record]:
        self.requests += 1
        if self.meanwhile:
            self.meanwhile(self)
        ((operator, value),) = bound.items()
        after = [
            i for i in self._ordered() if isinstance(i, str) and (i > value or (operator == "$gte" and i == value))
        ]
        return [{"_id": i} for i in after[: self.size]]

    def end(self, direction: int) -> list[Any]:
        return self._ordered()[::direction][:1]

    def others(self) -> Iterator[Record]:
        return iter([{"_id": i} for i in self._ordered() if not isinstance(i, str)])


@given(
    ids=st.sets(st.text("abc", max_size=3) | st.integers(0, 5) | st.tuples(st.text("ab", max_size=2)), max_size=30),
    size=st.integers(1, 5),
)  # fmt: skip
def test_every_record_is_read_once_whatever_its_id_is(ids: set[Any], size: int) -> None:
    read = [record["_id"] for record in walk(Collection(list(ids), size))]
    assert sorted(map(repr, read)) == sorted(map(repr, ids))


@given(ids=st.sets(st.text("abcd", min_size=1, max_size=3), max_size=40), size=st.integers(1, 5), seed=st.integers())
def test_records_that_stay_are_read_once_while_others_come_and_go(ids: set[str], size: int, seed: int) -> None:
    dice = random.Random(seed)
    stays = {name for name in ids if dice.random() < 0.6}

    def meanwhile(collection: Collection) -> None:
        if collection.requests > 60:
            return
        for name in ids - stays:
            (collection.ids.add if dice.random() < 0.5 else collection.ids.discard)(name)

    read = [record["_id"] for record in walk(Collection(list(ids), size, meanwhile))]
    assert len(read) == len(set(read))
    assert stays <= set(read) <= ids
    assert read == sorted(read)


@given(ids=st.sets(st.text("abcd", min_size=1, max_size=3), max_size=20), cut=st.text("abcd", max_size=3))
def test_a_walk_goes_on_where_an_earlier_one_stopped(ids: set[str], cut: str) -> None:
    assert [record["_id"] for record in walk(Collection(list(ids)), cut)] == sorted(i for i in ids if i > cut)


def test_a_page_that_is_empty_too_early_is_asked_for_again() -> None:
    def meanwhile(collection: Collection) -> None:
        collection.size = 0 if collection.requests == 2 else 2

    assert [r["_id"] for r in walk(Collection(["a", "b", "c"], 2, meanwhile))] == ["a", "b", "c"]


def test_a_read_that_ends_before_the_last_record_is_an_error() -> None:
    def meanwhile(collection: Collection) -> None:
        collection.size = 2 if collection.requests == 1 else 0

    with pytest.raises(UnexpectedAnswer, match="after _id 'b', although 'c' exists"):
        list(walk(Collection(["a", "b", "c"], 2, meanwhile)))


@pytest.mark.parametrize("page", [[{"_id": "a"}], [{"_id": "c"}, {"_id": "b"}], [{"_id": 1}], [{"name": "x"}]])
def test_a_page_that_repeats_reorders_or_hides_ids_is_an_error(page: list[Record]) -> None:
    class Repeating(Collection):
        def page(self, bound: Query) -> list[Record]:
            return [{"_id": "a"}] if "$gte" in bound else page

    with pytest.raises(UnexpectedAnswer):
        list(walk(Repeating(["a", "z"])))


def test_a_condition_on_the_id_joins_the_filter_without_replacing_one() -> None:
    assert with_id(None, {"$gt": "a"}) == {"_id": {"$gt": "a"}}
    assert with_id({"n": 1}, {"$gt": "a"}) == {"n": 1, "_id": {"$gt": "a"}}
    assert with_id({"_id": {"$in": ["b"]}}, {"$gt": "a"}) == {"$and": [{"_id": {"$in": ["b"]}}, {"_id": {"$gt": "a"}}]}


@pytest.mark.parametrize(
    ("given", "asked", "strip"),
    [
        (None, None, False),
        ({"name": 1}, {"name": 1}, False),
        ({"name": 1, "_id": 0}, {"name": 1}, True),
        ({"_id": 0}, None, True),
        ({"_id": 1}, {"_id": 1}, False),
    ],
)  # fmt: skip
def test_the_id_is_always_asked_for(given: Query | None, asked: Query | None, strip: bool) -> None:
    assert with_id_shown(given) == (asked, strip)
