"""Random questions, answered by the server and by a few lines of Python over the same documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines_tests.counts import examples

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.5]) | st.sampled_from("abc")
field_values = scalars | st.lists(scalars, max_size=3)
documents = st.lists(
    st.fixed_dictionaries({}, optional={"v": field_values, "last_modified": scalars, "w": st.integers(0, 2)}),
    max_size=25,
)
operators = st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"])
conditions = st.dictionaries(operators, scalars.filter(lambda value: value is not None), min_size=1, max_size=2)
paths = st.sampled_from(["_id", "v", "last_modified", "w"])
ranks = {bool: 3, int: 1, float: 1, str: 2}


def satisfies(value: Any, operator: str, wanted: Any) -> bool:
    if type(value) not in ranks or ranks[type(value)] != ranks[type(wanted)]:
        return False
    return {
        "$gt": value > wanted,
        "$gte": value >= wanted,
        "$lt": value < wanted,
        "$lte": value <= wanted,
        "$eq": value == wanted,
    }[operator]


def matches(document: dict[str, Any], path: str, operator: str, wanted: Any) -> bool:
    value = document.get(path)
    among = value if isinstance(value, list) else [value]
    if operator == "$ne":
        return not any(satisfies(item, "$eq", wanted) for item in among)
    return any(satisfies(item, operator, wanted) for item in among)


def rank(value: Any) -> tuple[int, Any]:
    return (0, 0) if value is None else (ranks[type(value)], value)


def sort_rank(document: dict[str, Any], path: str, direction: int) -> tuple[int, Any]:
    value = document.get(path)
    if not isinstance(value, list):
        return rank(value)
    if not value:
        return (-1, 0)
    return (min if direction > 0 else max)(map(rank, value))


def expected(stored: list[dict[str, Any]], query: Any, path: str, direction: int, skip: int, limit: int) -> list[int]:
    found = [
        document
        for document in stored
        if all(
            matches(document, field, operator, wanted)
            for field, condition in query.items()
            for operator, wanted in condition.items()
        )
    ]
    # Ties are broken by _id in the same direction, which the question asks for too.
    found.sort(key=lambda document: (*sort_rank(document, path, direction), document["_id"]), reverse=direction < 0)
    return [document["_id"] for document in found][skip : skip + limit if limit else None]


@pytest.mark.slow
@pytest.mark.parametrize("indexes", [(), ("v", "w"), ("v", "last_modified", "w")])
@given(
    stored=documents,
    query=st.dictionaries(paths, conditions, max_size=2),
    path=paths,
    direction=st.sampled_from([1, -1]),
    skip=st.integers(0, 5),
    limit=st.integers(0, 8),
)
@settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_ranges_sorts_skips_and_limits_agree_with_plain_python(
    collection: Any,
    indexes: tuple[str, ...],
    stored: list[dict[str, Any]],
    query: dict[str, Any],
    path: str,
    direction: int,
    skip: int,
    limit: int,
) -> None:
    stored = [{"_id": n, **document} for n, document in enumerate(stored)]
    collection.drop()
    for index in indexes:
        collection.create_index(index)
    if stored:
        collection.insert_many(stored)
    order = [(path, direction)] if path == "_id" else [(path, direction), ("_id", direction)]
    found = collection.find(query).sort(order).skip(skip).limit(limit)
    assert [document["_id"] for document in found] == expected(stored, query, path, direction, skip, limit)
    matching = expected(stored, query, "_id", 1, 0, 0)
    assert collection.count_documents(query) == len(matching)
    assert sorted(document["_id"] for document in collection.find(query)) == matching
    natural = [document["_id"] for document in collection.find().skip(skip).limit(limit)]
    assert natural == expected(stored, {}, "_id", 1, skip, limit)


@pytest.mark.slow
@given(
    first=documents,
    changes=st.lists(
        st.tuples(st.integers(0, 24), st.sampled_from(["v", "last_modified"]), field_values), max_size=15
    ),
    deleted=st.sets(st.integers(0, 24), max_size=8),
    wanted=st.sampled_from(["a", "b", 1, True, 0.5]),
)
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_indexes_follow_every_change(
    collection: Any,
    first: list[dict[str, Any]],
    changes: list[tuple[int, str, Any]],
    deleted: set[int],
    wanted: Any,
) -> None:
    collection.drop()
    collection.create_index("v")
    model = {n: {"_id": n, **document} for n, document in enumerate(first)}
    if model:
        collection.insert_many([dict(document) for document in model.values()])
    for n, path, value in changes:
        collection.update_one({"_id": n}, {"$set": {path: value}})
        if n in model:
            model[n][path] = value
    for n in deleted:
        collection.delete_one({"_id": n})
        model.pop(n, None)
    for path in ("v", "last_modified"):
        for operator in ("$eq", "$gte", "$lt"):
            found = sorted(document["_id"] for document in collection.find({path: {operator: wanted}}))
            assert found == [n for n, document in sorted(model.items()) if matches(document, path, operator, wanted)]
    assert collection.count_documents({}) == len(model)


spread = st.lists(
    st.fixed_dictionaries({"w": st.integers(0, 12)}, optional={"v": field_values, "last_modified": scalars}),
    min_size=10,
    max_size=30,
)
"""Documents of which a narrow range of `w` holds a few."""
bounds = st.tuples(operators, st.integers(0, 29)).map(lambda bound: {"_id": {bound[0]: bound[1]}})
narrow = st.integers(0, 12).map(lambda low: {"w": {"$gte": low, "$lt": low + 2}})


@pytest.mark.slow
@given(
    stored=spread,
    branches=st.lists(narrow | st.dictionaries(paths, conditions, min_size=1, max_size=2), min_size=1, max_size=4),
    also=bounds | st.dictionaries(st.just("v"), conditions, max_size=1),
    path=st.sampled_from(["_id", "_id", "v"]),
    direction=st.sampled_from([1, -1]),
    skip=st.integers(0, 2),
    limit=st.sampled_from([0, 5, 50]),
)
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_either_of_some_conditions_bounded_and_sorted_agrees_with_plain_python(
    collection: Any,
    stored: list[dict[str, Any]],
    branches: list[dict[str, dict[str, Any]]],
    also: dict[str, dict[str, Any]],
    path: str,
    direction: int,
    skip: int,
    limit: int,
) -> None:
    stored = [{"_id": n, **document} for n, document in enumerate(stored)]
    collection.drop()
    for path_of_index in ("v", "w"):
        collection.create_index(path_of_index)
    if stored:
        collection.insert_many(stored)
    chosen = {n for branch in branches for n in expected(stored, branch, "_id", 1, 0, 0)}
    among = [document for document in stored if document["_id"] in chosen]
    query = {"$or": branches, **also}
    order = [(path, direction)] if path == "_id" else [(path, direction), ("_id", direction)]
    found = collection.find(query).sort(order).skip(skip).limit(limit)
    assert [document["_id"] for document in found] == expected(among, also, path, direction, skip, limit)
    assert collection.count_documents(query) == len(expected(among, also, "_id", 1, 0, 0))
