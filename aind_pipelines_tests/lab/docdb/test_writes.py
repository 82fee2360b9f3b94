"""Inserts, updates, deletes, find-and-modify and unique indexes, as MongoDB documents them."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pymongo
import pytest
from bson import Decimal128, Int64
from bson.int64 import Int64 as Long
from pymongo import DeleteMany, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

UPDATES: list[tuple[dict[str, Any], Any, dict[str, Any]]] = [
    ({"a": 1}, {"$set": {"b.c": 2}}, {"a": 1, "b": {"c": 2}}),
    ({"a": 1}, {"$set": {"z": 1, "b": 2}}, {"a": 1, "b": 2, "z": 1}),
    ({"a": [1, 2]}, {"$set": {"a.3": 5}}, {"a": [1, 2, None, 5]}),
    ({"a": [{"b": 1}]}, {"$set": {"a.0.b": 2}}, {"a": [{"b": 2}]}),
    ({"a": 1, "b": 2}, {"$unset": {"a": ""}}, {"b": 2}),
    ({"a": 1}, {"$inc": {"a": 2, "n": 5}}, {"a": 3, "n": 5}),
    ({"a": 1}, {"$inc": {"a": 0.5}}, {"a": 1.5}),
    ({"a": 2**31 - 1}, {"$inc": {"a": 1}}, {"a": 2**31}),
    ({"a": 3}, {"$mul": {"a": 2, "b": 2}}, {"a": 6, "b": 0}),
    ({"a": 3}, {"$min": {"a": 2, "b": 2}}, {"a": 2, "b": 2}),
    ({"a": 3}, {"$max": {"a": "text"}}, {"a": "text"}),
    ({"a": {"b": 1}}, {"$rename": {"a.b": "c.d"}}, {"a": {}, "c": {"d": 1}}),
    ({"a": [1]}, {"$push": {"a": [2]}}, {"a": [1, [2]]}),
    ({"a": [5, 1]}, {"$push": {"a": {"$each": [3, 4], "$sort": 1, "$slice": -3}}}, {"a": [3, 4, 5]}),
    ({"a": [1]}, {"$push": {"a": {"$each": [0], "$position": 0}, "b": 1}}, {"a": [0, 1], "b": [1]}),
    ({"a": [1]}, {"$addToSet": {"a": {"$each": [1, True, 2, 2]}}}, {"a": [1, True, 2]}),
    ({"a": [1, 2, 3]}, {"$pop": {"a": -1}}, {"a": [2, 3]}),
    ({"a": [1, 5, 9]}, {"$pull": {"a": {"$gte": 5}}}, {"a": [1]}),
    ({"a": [{"k": 1, "v": 1}, {"k": 2}]}, {"$pull": {"a": {"k": 1}}}, {"a": [{"k": 2}]}),
    ({"a": [1, 2, 1]}, {"$pullAll": {"a": [1, 7]}}, {"a": [2]}),
    ({"a": 1}, {"b": 2}, {"b": 2}),
    ({"a": 1, "c": 1}, [{"$set": {"b": {"$add": ["$a", 1]}}}, {"$unset": "c"}], {"a": 1, "b": 2}),
    ({"a": 1}, {"$setOnInsert": {"b": 1}, "$set": {"a": 2}}, {"a": 2}),
]


@pytest.mark.parametrize(("before", "update", "after"), UPDATES, ids=[str(update) for _, update, _ in UPDATES])
def test_an_update_changes_what_mongodb_changes(
    collection: Any, before: dict[str, Any], update: Any, after: dict[str, Any]
) -> None:
    collection.insert_one({"_id": 1, **before})
    if isinstance(update, dict) and not next(iter(update)).startswith("$"):
        result = collection.replace_one({"_id": 1}, update)
    else:
        result = collection.update_one({"_id": 1}, update)
    assert (result.matched_count, result.modified_count) == (1, 1)
    found = collection.find_one()
    assert found == {"_id": 1, **after}
    assert list(found) == ["_id", *after]


BAD_UPDATES: list[tuple[Any, int]] = [
    ({"$set": {"_id": 2}}, 66),
    ({"$set": {"a": 1, "a.b": 2}}, 40),
    ({"$set": {"a": 1}, "$inc": {"a": 1}}, 40),
    ({"$inc": {"s": 1}}, 14),
    ({"$inc": {"a": "x"}}, 14),
    ({"$set": {"s.deep": 1}}, 28),
    ({"$push": {"s": 1}}, 2),
    ({"$invented": {"a": 1}}, 9),
    ({"$bit": {"a": {"and": 1}}}, 238),
    ({"$set": {"list.$": 1}}, 238),
    ({"$set": {"list.$[]": 1}}, 238),
    ([{"$group": {"_id": 1}}], 72),
]


@pytest.mark.parametrize(("update", "code"), BAD_UPDATES, ids=[str(update) for update, _ in BAD_UPDATES])
def test_an_update_that_is_wrong_or_not_supported_changes_nothing(collection: Any, update: Any, code: int) -> None:
    original = {"_id": 1, "a": 1, "s": "text", "list": [1]}
    collection.insert_one(original)
    with pytest.raises(OperationFailure) as refused:
        collection.update_one({"_id": 1}, update)
    assert refused.value.code == code
    assert collection.find_one() == original


def test_array_filters_are_refused_rather_than_ignored(collection: Any) -> None:
    with pytest.raises(OperationFailure) as refused:
        collection.update_one({}, {"$set": {"a.$[x]": 1}}, array_filters=[{"x": 1}])
    assert refused.value.code == 238


def test_an_upsert_begins_with_what_the_filter_says(collection: Any) -> None:
    result = collection.update_one(
        {"_id": "x", "a.b": 1, "n": {"$gt": 5}, "$and": [{"c": {"$eq": 2}}]},
        {"$set": {"s": 1}, "$setOnInsert": {"new": True}},
        upsert=True,
    )
    assert result.upserted_id == "x"
    assert collection.find_one() == {"_id": "x", "a": {"b": 1}, "c": 2, "new": True, "s": 1}
    again = collection.update_one({"_id": "x"}, {"$set": {"s": 1}, "$setOnInsert": {"new": False}}, upsert=True)
    assert (again.matched_count, again.modified_count, again.upserted_id) == (1, 0, None)
    assert collection.replace_one({"_id": "y"}, {"z": 1}, upsert=True).upserted_id == "y"
    assert collection.find_one({"z": 1}) == {"_id": "y", "z": 1}


def test_the_gateway_s_upsert_with_the_id_in_set_works(collection: Any) -> None:
    record = {"_id": "id-1", "name": "a", "_last_modified": "2024-01-01T00:00:00.000Z"}
    requests = [UpdateOne({"_id": "id-1"}, {"$set": record}, upsert=True)]
    assert collection.bulk_write(requests).upserted_count == 1
    assert collection.bulk_write(requests).matched_count == 1
    assert collection.find_one() == record


def test_bulk_writes_report_each_operation(collection: Any) -> None:
    result = collection.bulk_write(
        [
            InsertOne({"_id": 1, "n": 1}),
            InsertOne({"_id": 2, "n": 1}),
            UpdateMany({"n": 1}, {"$inc": {"n": 1}}),
            ReplaceOne({"_id": 3}, {"n": 5}, upsert=True),
            DeleteMany({"n": 2}),
        ]
    )
    assert (result.inserted_count, result.modified_count, result.deleted_count) == (2, 2, 2)
    assert result.upserted_ids == {3: 3}
    assert list(collection.find()) == [{"_id": 3, "n": 5}]


@pytest.mark.parametrize(("ordered", "kept"), [(True, [1, 2]), (False, [1, 2, 3, 4])])
def test_a_failed_insert_ends_an_ordered_batch_and_only_itself_otherwise(
    collection: Any, ordered: bool, kept: list[int]
) -> None:
    documents = [{"_id": 1}, {"_id": 2}, {"_id": 1}, {"_id": 3}, {"_id": [1]}, {"_id": 4}]
    with pytest.raises(BulkWriteError) as failed:
        collection.insert_many(documents, ordered=ordered)
    assert [error["code"] for error in failed.value.details["writeErrors"]] == ([11000] if ordered else [11000, 53])
    assert failed.value.details["writeErrors"][0]["index"] == 2
    assert sorted(document["_id"] for document in collection.find()) == kept


def test_unique_indexes_are_enforced_for_every_kind_of_write(collection: Any) -> None:
    collection.create_index("name", unique=True)
    collection.insert_many([{"_id": 1, "name": "a"}, {"_id": 2, "name": "b"}])
    with pytest.raises(DuplicateKeyError) as failed:
        collection.insert_one({"name": "a"})
    assert failed.value.details["keyValue"] == {"name": "a"}
    with pytest.raises(DuplicateKeyError):
        collection.update_one({"_id": 2}, {"$set": {"name": "a"}})
    with pytest.raises(DuplicateKeyError):
        collection.replace_one({"_id": 3}, {"name": "b"}, upsert=True)
    assert collection.update_one({"_id": 2}, {"$set": {"name": "b", "x": 1}}).modified_count == 1
    collection.insert_one({"_id": 4})
    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"_id": 5})
    collection.delete_one({"_id": 1})
    collection.insert_one({"_id": 6, "name": "a"})
    assert collection.count_documents({}) == 3


def test_a_unique_index_on_several_fields_and_a_sparse_one(collection: Any) -> None:
    collection.create_index([("a", 1), ("b", -1)], unique=True)
    collection.create_index("c", unique=True, sparse=True)
    collection.insert_many([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1, "c": 1}])
    for duplicate in ({"a": 1, "b": 2}, {"a": 9, "c": 1}):
        with pytest.raises(DuplicateKeyError):
            collection.insert_one(duplicate)
    assert collection.count_documents({"a": 1}) == 2
    assert collection.count_documents({"c": None}) == 2
    assert [document["b"] for document in collection.find({"a": 1}).sort([("a", 1), ("b", -1)])] == [2, 1]


def test_a_unique_index_over_duplicates_is_not_created(collection: Any) -> None:
    collection.insert_many([{"n": 1}, {"n": 1}])
    with pytest.raises(DuplicateKeyError):
        collection.create_index("n", unique=True)
    assert list(collection.index_information()) == ["_id_"]
    assert collection.count_documents({"n": 1}) == 2


def test_indexes_are_listed_dropped_and_kept_from_contradiction(collection: Any) -> None:
    for _ in range(2):
        assert collection.create_index([("subject.subject_id", 1)]) == "subject.subject_id_1"
    collection.create_index("_last_modified", name="modified")
    with pytest.raises(OperationFailure) as refused:
        collection.create_index("other", name="modified")
    assert refused.value.code == 86
    with pytest.raises(OperationFailure) as refused:
        collection.create_index("_last_modified", name="again")
    assert refused.value.code == 85
    assert list(collection.index_information()) == ["_id_", "modified", "subject.subject_id_1"]
    for options in ({"expireAfterSeconds": 5}, {"partialFilterExpression": {"a": 1}}):
        with pytest.raises(OperationFailure) as refused:
            collection.create_index("x", **options)
        assert refused.value.code == 238
    with pytest.raises(OperationFailure):
        collection.create_index([("x", "text")])
    collection.drop_index("modified")
    with pytest.raises(OperationFailure):
        collection.drop_index("modified")
    with pytest.raises(OperationFailure):
        collection.drop_index("_id_")
    collection.drop_indexes()
    assert list(collection.index_information()) == ["_id_"]


def test_a_dropped_index_on_a_modified_time_answers_no_more(server: Any, collection: Any) -> None:
    collection.insert_many([{"_id": n, "last_modified": f"2024-01-{n:02}"} for n in range(1, 29)])
    collection.create_index("last_modified")

    def read() -> int:
        before = server.client().admin.command("serverStatus")["metrics"]["queryExecutor"]["scannedObjects"]
        assert collection.find_one({"last_modified": "2024-01-07"})["_id"] == 7
        after = server.client().admin.command("serverStatus")["metrics"]["queryExecutor"]["scannedObjects"]
        return int(after - before)

    assert read() == 1
    collection.drop_index("last_modified_1")
    assert read() > 1
    collection.create_index("last_modified")
    assert read() == 1


def test_find_and_modify_returns_the_document_before_or_after(collection: Any) -> None:
    collection.insert_many([{"_id": n, "n": n} for n in range(3)])
    assert collection.find_one_and_update({}, {"$inc": {"n": 10}}, sort=[("n", -1)]) == {"_id": 2, "n": 2}
    after = collection.find_one_and_update(
        {"_id": 2}, {"$inc": {"n": 1}}, projection={"_id": 0}, return_document=ReturnDocument.AFTER
    )
    assert after == {"n": 13}
    assert collection.find_one_and_delete({"n": 13}) == {"_id": 2, "n": 13}
    assert collection.find_one_and_replace({"_id": 1}, {"m": 1}) == {"_id": 1, "n": 1}
    assert collection.find_one_and_update({"_id": 7}, {"$set": {"x": 1}}, upsert=True) is None
    assert collection.find_one_and_update({"_id": 8}, {"$set": {"x": 1}}) is None
    assert list(collection.find()) == [{"_id": 0, "n": 0}, {"_id": 1, "m": 1}, {"_id": 7, "x": 1}]


def test_types_survive_an_update_of_another_field(collection: Any) -> None:
    document = {
        "_id": 1,
        "long": Int64(5),
        "double": 2.0,
        "date": dt.datetime.fromisoformat("2024-01-01"),
        "dec": Decimal128("1.10"),
    }
    collection.insert_one(document)
    collection.update_one({}, {"$set": {"x": 1}})
    found = collection.find_one()
    assert {**document, "x": 1} == found
    assert isinstance(found["long"], Long)
    assert isinstance(found["double"], float)


def test_a_field_name_that_looks_like_an_operator_is_refused(collection: Any) -> None:
    with pytest.raises(OperationFailure) as refused:
        collection.insert_one({"$set": 1})
    assert refused.value.code == 52


def test_increments_of_eight_threads_are_all_kept(server: Any, collection: Any) -> None:
    collection.insert_one({"_id": 1, "n": 0})
    clients = [server.client() for _ in range(8)]

    def work(client: pymongo.MongoClient[Any]) -> None:
        mine = client[collection.database.name][collection.name]
        for _ in range(50):
            mine.update_one({"_id": 1}, {"$inc": {"n": 1}})
            mine.update_one({"key": "shared"}, {"$inc": {"n": 1}}, upsert=False)
            mine.find_one_and_update({"_id": "upserted"}, {"$inc": {"n": 1}}, upsert=True)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert collection.find_one({"_id": 1})["n"] == 400
    assert collection.find_one({"_id": "upserted"})["n"] == 400
    assert collection.count_documents({}) == 2
