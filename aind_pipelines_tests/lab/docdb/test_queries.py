"""Filters, projections, sorts and cursors, as MongoDB documents them."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import bson
import pymongo
import pytest
from bson import Int64, ObjectId
from pymongo.errors import CursorNotFound, ExecutionTimeout, OperationFailure

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": 1, "n": 1, "flag": True, "s": "one", "a": [1, 2], "sub": {"x": 1, "y": 2}},
    {"_id": 2, "n": 2.0, "flag": 1, "s": "Two", "a": [], "sub": {"y": 2, "x": 1}},
    {"_id": 3, "n": None, "s": "three", "a": [{"k": 1, "v": 5}, {"k": 2, "v": 9}], "sub": []},
    {"_id": 4, "s": "four\n", "a": 7, "sub": {"x": [1, 5]}},
    {"_id": 5, "n": "5", "flag": False, "a": [[1, 2]], "d": dt.datetime.fromisoformat("2024-01-01")},
]


@pytest.fixture
def five(collection: Any) -> Any:
    collection.insert_many(DOCUMENTS)
    return collection


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5]),
    ({"n": 1}, [1]),
    ({"n": 1.0}, [1]),
    ({"n": Int64(2)}, [2]),
    ({"flag": True}, [1]),
    ({"flag": 1}, [2]),
    ({"flag": {"$in": [1]}}, [2]),
    ({"n": None}, [3, 4]),
    ({"n": {"$exists": False}}, [4]),
    ({"n": {"$ne": None}}, [1, 2, 5]),
    ({"n": {"$gt": 0}}, [1, 2]),
    ({"n": {"$gte": "0"}}, [5]),
    ({"n": {"$not": {"$gt": 0}}}, [3, 4, 5]),
    ({"n": {"$type": "number"}}, [1, 2]),
    ({"n": {"$type": ["null", 2]}}, [3, 5]),
    ({"flag": {"$type": "bool"}}, [1, 5]),
    ({"a": 1}, [1]),
    ({"a": [1, 2]}, [1, 5]),
    ({"a": []}, [2]),
    ({"a": {"$size": 1}}, [5]),
    ({"a": {"$size": 0}}, [2]),
    ({"a": {"$all": [1, 2]}}, [1]),
    ({"a": {"$gt": 1, "$lt": 2}}, [1]),  # by one element each
    ({"a": {"$gt": 1, "$lt": 8}}, [1, 4]),
    ({"a": {"$elemMatch": {"k": 1, "v": 9}}}, []),
    ({"a": {"$elemMatch": {"k": 2, "v": 9}}}, [3]),
    ({"a.k": 1, "a.v": 9}, [3]),
    ({"a": {"$elemMatch": {"$gte": 2, "$lt": 3}}}, [1]),
    ({"a.0": 1}, [1, 5]),
    ({"a.1.v": {"$gt": 8}}, [3]),
    ({"a.k": {"$exists": True}}, [3]),
    ({"sub": {"x": 1, "y": 2}}, [1]),
    ({"sub.x": 1}, [1, 2, 4]),
    ({"sub.x": {"$mod": [4, 1]}}, [1, 2, 4]),
    ({"s": {"$regex": "^t"}}, [3]),
    ({"s": {"$regex": "^t", "$options": "i"}}, [2, 3]),
    ({"s": re.compile("O")}, []),
    ({"s": re.compile("O", re.IGNORECASE)}, [1, 2, 4]),
    ({"s": {"$in": ["one", re.compile("^f")]}}, [1, 4]),
    ({"s": {"$not": re.compile("o")}}, [3, 5]),
    ({"s": {"$nin": ["one", None]}}, [2, 3, 4]),
    ({"$or": [{"n": 1}, {"s": "four\n"}]}, [1, 4]),
    ({"$nor": [{"n": 1}, {"a": 7}]}, [2, 3, 5]),
    ({"$and": [{"n": {"$gte": 1}}, {"n": {"$lt": 2}}]}, [1]),
    ({"d": {"$lt": dt.datetime.fromisoformat("2025-01-01")}}, [5]),
    ({"d": {"$lt": 2025}}, []),
    ({"_id": {"$in": [5, 1, 99]}}, [1, 5]),
    ({"$expr": {"$gt": [{"$size": {"$ifNull": ["$sub.x", []]}}, 1]}, "_id": 4}, [4]),
    ({"$comment": "why", "n": 1}, [1]),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS, ids=[str(query) for query, _ in FILTERS])
def test_a_filter_finds_what_mongodb_finds(five: Any, query: dict[str, Any], expected: list[int]) -> None:
    assert sorted(document["_id"] for document in five.find(query)) == expected
    assert five.count_documents(query) == len(expected)


@pytest.mark.parametrize("path", ["n", "flag", "a", "a.k", "a.0", "sub", "sub.x", "s", "d"])
def test_filters_find_the_same_with_an_index_on_any_field(five: Any, path: str) -> None:
    five.create_index(path)
    for query, expected in FILTERS:
        assert sorted(document["_id"] for document in five.find(query)) == expected, query
        assert five.count_documents(query) == len(expected), query


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"$where": "true"}, 238),
    ({"$text": {"$search": "x"}}, 238),
    ({"a": {"$near": [0, 0]}}, 238),
    ({"a": {"$invented": 1}}, 2),
    ({"$invented": 1}, 2),
    ({"a": {"$in": 1}}, 2),
    ({"$or": []}, 2),
    ({"s": {"$regex": "("}}, 51091),
    ({"n": {"$gt": bson.Decimal128("1")}}, 238),
]


@pytest.mark.parametrize(("query", "code"), REFUSED, ids=[str(query) for query, _ in REFUSED])
def test_a_filter_that_is_not_supported_is_refused_even_on_an_empty_collection(
    collection: Any, query: dict[str, Any], code: int
) -> None:
    for question in (collection.find_one, collection.count_documents, collection.delete_many):
        with pytest.raises(OperationFailure) as refused:
            question(query)
        assert refused.value.code == code


PROJECTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"s": 1}, {"_id": 3, "s": "three"}),
    ({"s": 1, "_id": 0}, {"s": "three"}),
    ({"_id": 1}, {"_id": 3}),
    ({"a": 0, "sub": 0, "s": 0}, {"_id": 3, "n": None}),
    ({"a.k": 1}, {"_id": 3, "a": [{"k": 1}, {"k": 2}]}),
    ({"a": {"k": 1}}, {"_id": 3, "a": [{"k": 1}, {"k": 2}]}),
    ({"a.k": 0, "n": 0, "s": 0}, {"_id": 3, "a": [{"v": 5}, {"v": 9}], "sub": []}),
    ({"a": {"$slice": 1}}, {"_id": 3, "n": None, "s": "three", "a": [{"k": 1, "v": 5}], "sub": []}),
    ({"a": {"$slice": -1}, "s": 1}, {"_id": 3, "s": "three", "a": [{"k": 2, "v": 9}]}),
    ({"a": {"$elemMatch": {"k": 2}}}, {"_id": 3, "a": [{"k": 2, "v": 9}]}),
    ({"missing.deep": 1}, {"_id": 3}),
]


@pytest.mark.parametrize(("projection", "expected"), PROJECTIONS, ids=[str(each) for each, _ in PROJECTIONS])
def test_a_projection_returns_the_fields_asked_for(
    five: Any, projection: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = five.find_one({"_id": 3}, projection)
    assert found == expected


def test_projections_keep_the_order_of_the_stored_document(five: Any) -> None:
    assert list(five.find_one({"_id": 1}, {"sub": 1, "n": 1})) == ["_id", "n", "sub"]


@pytest.mark.parametrize("projection", [{"a": 1, "b": 0}, {"a.$": 1}, {"a": 1, "a.b": 1}, {"a": {"$meta": "x"}}])
def test_a_projection_that_is_contradictory_or_not_supported_is_refused(five: Any, projection: dict[str, Any]) -> None:
    with pytest.raises(OperationFailure):
        five.find_one({}, projection)


def test_mixed_types_sort_in_bson_order_and_arrays_by_their_extremes(collection: Any) -> None:
    values: list[Any] = [
        True,
        "b",
        2,
        None,
        [9, 1],
        dt.datetime.fromisoformat("2024-01-01"),
        {"x": 1},
        [],
        1.5,
        ObjectId("1" * 24),
    ]
    collection.insert_many([{"_id": n, "v": value} for n, value in enumerate(values)])
    collection.insert_one({"_id": 10})
    ascending = [7, 3, 10, 4, 8, 2, 1, 6, 9, 0, 5]
    descending = [5, 0, 9, 6, 1, 4, 2, 8, 3, 10, 7]
    for _ in range(2):
        assert [d["_id"] for d in collection.find().sort([("v", 1), ("_id", 1)])] == ascending
        assert [d["_id"] for d in collection.find().sort([("v", -1), ("_id", 1)])] == descending
        collection.create_index("v")


def test_a_cursor_returns_every_document_in_batches_of_the_size_asked_for(server: Any, collection: Any) -> None:
    collection.insert_many([{"_id": n} for n in range(1000)])
    assert [d["_id"] for d in collection.find(batch_size=7)] == list(range(1000))
    reply = collection.database.command("find", collection.name, batchSize=10)
    assert [d["_id"] for d in reply["cursor"]["firstBatch"]] == list(range(10))
    more = {"getMore": reply["cursor"]["id"], "collection": collection.name, "batchSize": 5}
    assert [d["_id"] for d in collection.database.command(more)["cursor"]["nextBatch"]] == list(range(10, 15))
    killed = collection.database.command("killCursors", collection.name, cursors=[reply["cursor"]["id"]])
    assert killed["cursorsKilled"] == [reply["cursor"]["id"]]
    with pytest.raises(CursorNotFound):
        collection.database.command(more)


def test_a_cursor_goes_on_while_documents_come_go_and_change(collection: Any) -> None:
    collection.insert_many([{"_id": n, "last_modified": f"{n:05}"} for n in range(1000)])
    seen = []
    for document in collection.find({"last_modified": {"$gte": "00000"}}, batch_size=50).sort("last_modified"):
        seen.append(document["_id"])
        if document["_id"] == 100:
            collection.delete_many({"_id": {"$gte": 500, "$lt": 600}})
            collection.insert_one({"_id": 5000, "last_modified": "99999"})
    assert seen == [*range(500), *range(600, 1000), 5000]


def test_limits_skips_and_single_batches_leave_no_cursor_open(server: Any, collection: Any) -> None:
    collection.insert_many([{"_id": n, "half": n % 2} for n in range(300)])
    status = server.client().admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"]
    assert len(list(collection.find({"half": 1}).skip(10).limit(101))) == 101
    assert collection.find_one({"half": 1}, sort=[("_id", -1)])["_id"] == 299
    assert len(list(collection.find({"half": 0}).limit(-5))) == 5
    assert collection.count_documents({"half": 1}, skip=100, limit=20) == 20
    assert server.client().admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"] == status


def test_distinct_keeps_types_and_looks_into_arrays(five: Any) -> None:
    assert five.distinct("a") == [1, 2, 7, {"k": 1, "v": 5}, {"k": 2, "v": 9}, [1, 2]]
    assert five.distinct("n", {"_id": {"$lte": 2}}) == [1, 2.0]
    assert five.distinct("a.k") == [1, 2]


def test_a_question_past_its_time_is_ended(collection: Any) -> None:
    collection.insert_many([{"_id": n, "text": "x" * 2000} for n in range(4000)])
    with pytest.raises(ExecutionTimeout):
        list(collection.find({"text": {"$regex": "x*y"}}).max_time_ms(1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"collation": {"locale": "en"}},
        {"tailable": True},
        {"min": {"a": 1}},
        {"returnKey": True},
        {"readConcern": {"level": "snapshot"}},
        {"startTransaction": True, "autocommit": False},
    ],
    ids=str,
)
def test_arguments_that_would_have_to_be_ignored_are_refused(five: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(OperationFailure) as refused:
        five.database.command({"find": five.name, "filter": {}, **arguments})
    assert refused.value.code == 238


PIPELINES: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    ([{"$match": {"n": {"$gte": 1}}}, {"$count": "n"}], [{"n": 2}]),
    ([{"$match": {"n": 77}}, {"$count": "n"}], []),
    (
        [{"$match": {"n": {"$type": "number"}}}, {"$group": {"_id": None, "n": {"$sum": "$n"}}}],
        [{"_id": None, "n": 3.0}],
    ),
    (
        [{"$group": {"_id": "$flag", "ids": {"$push": "$_id"}}}, {"$sort": {"_id": 1}}],
        [
            {"_id": None, "ids": [3, 4]},
            {"_id": 1, "ids": [2]},
            {"_id": False, "ids": [5]},
            {"_id": True, "ids": [1]},
        ],
    ),
    ([{"$match": {"_id": 3}}, {"$unwind": "$a"}, {"$project": {"k": "$a.k", "_id": 0}}], [{"k": 1}, {"k": 2}]),
    (
        [{"$match": {"_id": {"$gte": 4}}}, {"$project": {"text": {"$concat": ["<", {"$ifNull": ["$s", "-"]}, ">"]}}}],
        [{"_id": 4, "text": "<four\n>"}, {"_id": 5, "text": "<->"}],
    ),
    ([{"$sort": {"_id": -1}}, {"$skip": 1}, {"$limit": 2}, {"$project": {"_id": 1}}], [{"_id": 4}, {"_id": 3}]),
    ([{"$limit": 3}, {"$match": {"_id": {"$gt": 1}}}, {"$project": {"_id": 1}}], [{"_id": 2}, {"_id": 3}]),
    (
        [
            {"$match": {"_id": 1}},
            {"$addFields": {"sub.z": {"$add": ["$sub.x", "$sub.y"]}}},
            {"$replaceRoot": {"newRoot": "$sub"}},
        ],
        [{"x": 1, "y": 2, "z": 3}],
    ),
    (
        [
            {"$match": {"_id": 1}},
            {"$project": {"big": {"$filter": {"input": "$a", "as": "i", "cond": {"$gt": ["$$i", 1]}}}}},
        ],
        [{"_id": 1, "big": [2]}],
    ),
    ([{"$sortByCount": {"$type": "$flag"}}, {"$limit": 1}], [{"_id": "bool", "count": 2}]),
    ([{"$match": {"_id": 1}}, {"$project": {"same": {"$eq": ["$flag", 1]}}}], [{"_id": 1, "same": False}]),
    ([{"$match": {"_id": 4}}, {"$unset": ["a", "sub"]}], [{"_id": 4, "s": "four\n"}]),
    (
        [
            {"$match": {"_id": 2}},
            {"$unwind": {"path": "$a", "preserveNullAndEmptyArrays": True}},
            {"$project": {"a": 1}},
        ],
        [{"_id": 2}],
    ),
]


@pytest.mark.parametrize(("pipeline", "expected"), PIPELINES, ids=[str(each) for each, _ in PIPELINES])
def test_a_pipeline_gives_what_mongodb_gives(
    five: Any, pipeline: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    assert list(five.aggregate(pipeline)) == expected


def test_lookup_joins_by_equality_through_arrays_too(five: Any) -> None:
    other = five.database[f"{five.name}_other"]
    other.insert_many([{"_id": "a", "of": 1}, {"_id": "b", "of": [1, 2]}, {"_id": "c", "of": 9}])
    joined = five.aggregate(
        [
            {"$match": {"_id": {"$lte": 2}}},
            {"$lookup": {"from": other.name, "localField": "_id", "foreignField": "of", "as": "found"}},
            {"$project": {"found._id": 1}},
        ]
    )
    assert list(joined) == [{"_id": 1, "found": [{"_id": "a"}, {"_id": "b"}]}, {"_id": 2, "found": [{"_id": "b"}]}]


@pytest.mark.parametrize(
    ("pipeline", "code"),
    [
        ([{"$facet": {}}], 238),
        ([{"$merge": "x"}], 238),
        ([{"$out": "x"}], 238),
        ([{"$lookup": {"from": "x", "let": {}, "pipeline": [], "as": "y"}}], 238),
        ([{"$project": {"x": {"$dateToString": {"date": "$d"}}}}], 238),
        ([{"$group": {"_id": 1, "x": {"$stdDevPop": "$n"}}}], 238),
        ([{"$invented": 1}], 40324),
        ([{"$match": {}, "$limit": 1}], 40323),
    ],
    ids=str,
)
def test_a_stage_or_expression_that_is_not_supported_is_refused(
    collection: Any, pipeline: list[dict[str, Any]], code: int
) -> None:
    with pytest.raises(OperationFailure) as refused:
        list(collection.aggregate(pipeline))
    assert refused.value.code == code


def test_explain_is_refused_rather_than_invented(five: Any) -> None:
    with pytest.raises(OperationFailure) as refused:
        five.find({}).explain()
    assert refused.value.code == 238


def test_collections_and_databases_are_listed_and_dropped(server: Any) -> None:
    database = server.client().listed
    database.create_collection("empty")
    database.things.insert_one({"_id": 1})
    assert sorted(database.list_collection_names()) == ["empty", "things"]
    assert database.list_collection_names(filter={"name": "things"}) == ["things"]
    assert "listed" in database.client.list_database_names()
    assert [entry["name"] for entry in database.client.list_databases()].count("listed") == 1
    with pytest.raises(pymongo.errors.CollectionInvalid):
        database.create_collection("empty")
    for name in ("a$b", "", ".x", "system.users"):
        with pytest.raises((OperationFailure, pymongo.errors.InvalidName)):
            database.command("create", name)
    database.drop_collection("things")
    database.drop_collection("never")
    assert database.things.count_documents({}) == 0
    database.client.drop_database("listed")
    assert "listed" not in database.client.list_database_names()
