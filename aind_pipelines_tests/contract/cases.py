"""The DocDB queries that this project and its users rely on, as data: what is stored, what is asked, what comes back.

The expected answers are those that MongoDB documents. Reading cases can be put to anything that understands MongoDB's
query language; writing cases need a server.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        name: What it is about; unique.
        operation: ``{"find": filter, "projection", "sort", "skip", "limit"}``, ``{"count": filter}``,
            ``{"distinct": field, "filter"}``, ``{"aggregate": stages}``, or
            ``{"write": [[method, arguments...]...]}``.
        expected: The answer; of a write, all documents afterwards in ``_id`` order; or ``{"error": code}``.
        documents: What is stored before.
        ordered: Whether the order of the answer matters.
        indexes: Arguments of ``create_index`` before anything is stored.
    """

    name: str
    operation: dict[str, Any]
    expected: Any
    documents: list[Document] = field(default_factory=list)
    ordered: bool = True
    indexes: tuple[dict[str, Any], ...] = ()


def at(day: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2025, 3, day, hour)


ASSETS: list[Document] = [
    {
        "_id": "a", "name": "ecephys_1_2025-03-01_10-00-00", "location": "s3://aind-open-data/a",
        "subject": {"subject_id": "1", "genotype": None}, "last_modified": "2025-03-01T10:00:00Z",
        "data_description": {"modality": [{"abbreviation": "ecephys"}, {"abbreviation": "behavior"}]},
        "n": 1, "when": at(1),
    },
    {
        "_id": "b", "name": "behavior_1_2025-03-02_10-00-00", "location": "s3://aind-open-data/b",
        "subject": {"subject_id": "1"}, "last_modified": "2025-03-02T10:00:00.5Z",
        "data_description": {"modality": [{"abbreviation": "behavior"}]}, "n": 2.5, "when": at(2),
    },
    {
        "_id": "c", "name": "SmartSPIM_2_2025-03-03_10-00-00", "location": "s3://aind-private/c",
        "subject": {"subject_id": "2"}, "last_modified": at(3),
        "data_description": {"modality": []}, "n": "3", "when": at(3),
    },
    {"_id": "d", "name": None, "subject": None, "last_modified": None, "n": None},
    {"_id": "e", "name": "Behavior-Old", "subject": {"subject_id": 2}, "n": [1, 5, 9], "when": "2025-03-02"},
]  # fmt: skip


def _found(name: str, query: Document, ids: str) -> list[Case]:
    """One filter, asked by find and by count."""
    expected = [{"_id": each} for each in ids]
    return [
        Case(f"find {name}", {"find": query, "projection": {"_id": 1}}, expected, ASSETS, ordered=False),
        Case(f"count {name}", {"count": query}, len(ids), ASSETS),
    ]


FILTERS: list[tuple[str, Document, str]] = [
    ("everything", {}, "abcde"),
    ("by equality", {"name": "Behavior-Old"}, "e"),
    ("by _id", {"_id": "c"}, "c"),
    ("by a nested field", {"subject.subject_id": "1"}, "ab"),
    ("text, not the number", {"subject.subject_id": 2}, "e"),
    ("by a whole subdocument", {"subject": {"subject_id": "2"}}, "c"),
    ("inside an array of documents", {"data_description.modality.abbreviation": "behavior"}, "ab"),
    ("by an empty array", {"data_description.modality": []}, "c"),
    ("by a place in an array", {"data_description.modality.0.abbreviation": "ecephys"}, "a"),
    ("by array size", {"data_description.modality": {"$size": 2}}, "a"),
    ("by one element of an array", {"data_description.modality": {"$elemMatch": {"abbreviation": "ecephys"}}}, "a"),
    ("by a member of an array of numbers", {"n": 5}, "e"),
    ("among values", {"_id": {"$in": ["e", "a", "nothing"]}}, "ae"),
    ("among no values", {"_id": {"$in": []}}, ""),
    ("among values with null", {"name": {"$in": [None, "Behavior-Old"]}}, "de"),
    ("among other values", {"_id": {"$nin": ["a", "b"]}}, "cde"),
    ("above a text", {"last_modified": {"$gte": "2025-03-02"}}, "b"),
    ("above a date", {"last_modified": {"$gte": at(1)}}, "c"),
    ("between dates", {"when": {"$gt": at(1), "$lte": at(3)}}, "bc"),
    ("above either a text or a date", {"$or": [{"when": {"$gte": at(3)}}, {"when": {"$gte": "2025"}}]}, "ce"),
    ("above a number, by type", {"n": {"$gt": 1}}, "be"),
    ("between numbers of an array, each by any element", {"n": {"$gt": 1, "$lt": 5}}, "be"),
    ("above the empty text", {"_id": {"$gte": ""}}, "abcde"),
    ("after an _id", {"_id": {"$gt": "b"}}, "cde"),
    ("_id that is no text", {"_id": {"$not": {"$gte": ""}}}, ""),
    ("by regular expression", {"location": {"$regex": "^s3://aind-open-data/"}}, "ab"),
    ("by regular expression, letter case aside", {"name": {"$regex": "^behavior", "$options": "i"}}, "be"),
    ("by a regular expression that does not match", {"location": {"$not": {"$regex": "^s3://aind-open"}}}, "cde"),
    ("by what is not above", {"n": {"$not": {"$gt": 1}}}, "acd"),
    ("field there", {"when": {"$exists": True}}, "abce"),
    ("field missing", {"location": {"$exists": False}}, "de"),
    ("null there", {"subject.genotype": {"$type": "null"}}, "a"),
    ("null or missing", {"last_modified": None}, "de"),
    ("null or missing below null", {"subject.subject_id": None}, "d"),
    ("neither null nor missing", {"last_modified": {"$ne": None}}, "abc"),
    ("null there, not missing", {"last_modified": None, "location": None, "when": {"$exists": False}}, "d"),
    ("not equal", {"subject.subject_id": {"$ne": "1"}}, "cde"),
    ("by type", {"last_modified": {"$type": "date"}}, "c"),
    ("both", {"$and": [{"subject.subject_id": "1"}, {"n": {"$gte": 2}}]}, "b"),
    ("neither", {"$nor": [{"_id": "a"}, {"_id": "b"}]}, "cde"),
]

MIXED: list[Document] = [
    {"_id": "t2", "v": "b"}, {"_id": 10, "v": 3}, {"_id": at(1), "v": at(2)}, {"_id": "t1"}, {"_id": 2.5, "v": None},
    {"_id": True, "v": True}, {"_id": "t3", "v": {"x": 1}}, {"_id": "T", "v": [7, 1]}, {"_id": "", "v": -1},
]  # fmt: skip


def _ids(*values: Any) -> list[Document]:
    return [{"_id": value} for value in values]


READING: list[Case] = [
    *(case for name, query, ids in FILTERS for case in _found(name, query, ids)),
    # --- projections
    Case("project some", {"find": {"_id": "b"}, "projection": {"n": 1}}, [{"_id": "b", "n": 2.5}], ASSETS),
    Case("project without _id", {"find": {"_id": "b"}, "projection": {"n": 1, "_id": 0}}, [{"n": 2.5}], ASSETS),
    Case(
        "project nested", {"find": {"_id": "a"}, "projection": {"subject.subject_id": 1}},
        [{"_id": "a", "subject": {"subject_id": "1"}}], ASSETS,
    ),
    Case(
        "project inside an array", {"find": {"_id": "b"}, "projection": {"data_description.modality.abbreviation": 1}},
        [{"_id": "b", "data_description": {"modality": [{"abbreviation": "behavior"}]}}], ASSETS,
    ),
    Case(
        "project nested below null", {"find": {"_id": "d"}, "projection": {"subject.subject_id": 1}},
        [{"_id": "d"}], [{"_id": "d", "subject": None}],
    ),
    Case("project what is missing", {"find": {"_id": "d"}, "projection": {"nowhere.x": 1}}, _ids("d"), ASSETS),
    Case(
        "project by exclusion", {"find": {}, "projection": {"b": 0}}, [{"_id": 1, "a": 1, "c": 3}],
        [{"_id": 1, "a": 1, "b": 2, "c": 3}],
    ),
    Case(
        "project by nested exclusion", {"find": {}, "projection": {"a.x": 0, "_id": 0}}, [{"a": {"y": 2}}],
        [{"_id": 1, "a": {"x": 1, "y": 2}}],
    ),
    # --- order
    Case(
        "sort mixed types",
        {"find": {}, "projection": {"_id": 1}, "sort": [["v", 1], ["_id", 1]]},
        _ids(2.5, "t1", "", "T", 10, "t2", "t3", True, at(1)), MIXED,
    ),
    Case(
        "sort mixed types downwards",
        {"find": {}, "projection": {"_id": 1}, "sort": [["v", -1], ["_id", -1]]},
        _ids(at(1), True, "t3", "t2", "T", 10, "", "t1", 2.5), MIXED,
    ),
    Case("sort mixed _id", {"find": {}, "projection": {"_id": 1}, "sort": [["_id", 1]]},
         _ids(2.5, 10, "", "T", "t1", "t2", "t3", True, at(1)), MIXED),
    Case("sort by a nested field", {"find": {"_id": {"$in": ["a", "c", "d"]}}, "projection": {"_id": 1},
         "sort": [["subject.subject_id", -1]]}, _ids("c", "a", "d"), ASSETS),
    Case("skip and limit", {"find": {}, "projection": {"_id": 1}, "sort": [["_id", 1]], "skip": 1, "limit": 2},
         _ids("b", "c"), ASSETS),
    Case("skip past the end", {"find": {}, "sort": [["_id", 1]], "skip": 9}, [], ASSETS),
    # --- keyset
    Case("keyset first page of text", {"find": {"_id": {"$gte": ""}}, "projection": {"_id": 1},
         "sort": [["_id", 1]], "limit": 2}, _ids("", "T"), MIXED),
    Case("keyset next page of text", {"find": {"_id": {"$gt": "T"}}, "projection": {"_id": 1},
         "sort": [["_id", 1]], "limit": 2}, _ids("t1", "t2"), MIXED),
    Case("keyset end of text", {"find": {"_id": {"$gt": "t3"}}, "projection": {"_id": 1},
         "sort": [["_id", 1]], "limit": 2}, [], MIXED),
    Case("keyset what is no text", {"find": {"_id": {"$not": {"$gte": ""}}}, "projection": {"_id": 1}},
         _ids(10, at(1), 2.5, True), MIXED, ordered=False),
    Case("keyset highest", {"find": {}, "projection": {"_id": 1}, "sort": [["_id", -1]], "limit": 1},
         _ids(at(1)), MIXED),
    # --- distinct and aggregate
    Case("distinct", {"distinct": "subject.subject_id"}, ["1", "2", 2], ASSETS, ordered=False),
    Case("distinct inside arrays", {"distinct": "data_description.modality.abbreviation", "filter": {}},
         ["ecephys", "behavior"], ASSETS, ordered=False),
    Case("distinct of digits stays text", {"distinct": "v"}, ["0", "1"], [{"_id": 1, "v": "0"}, {"_id": 2, "v": "1"}],
         ordered=False),
    Case("aggregate match and project", {"aggregate": [{"$match": {"name": {"$in": ["Behavior-Old", "x"]}}},
         {"$project": {"name": 1}}]}, [{"_id": "e", "name": "Behavior-Old"}], ASSETS),
    Case("aggregate sort, skip and limit", {"aggregate": [{"$sort": {"_id": -1}}, {"$skip": 1}, {"$limit": 2},
         {"$project": {"_id": 1}}]}, _ids("d", "c"), ASSETS),
    Case("aggregate group and sum", {"aggregate": [{"$group": {"_id": "$subject.subject_id", "count": {"$sum": 1}}}]},
         [{"_id": "1", "count": 2}, {"_id": "2", "count": 1}, {"_id": None, "count": 1}, {"_id": 2, "count": 1}],
         ASSETS, ordered=False),
    Case("aggregate unwind and group", {"aggregate": [{"$unwind": "$data_description.modality"},
         {"$group": {"_id": "$data_description.modality.abbreviation", "count": {"$sum": 1}}}]},
         [{"_id": "behavior", "count": 2}, {"_id": "ecephys", "count": 1}], ASSETS, ordered=False),
    Case("aggregate count", {"aggregate": [{"$match": {"subject.subject_id": "1"}}, {"$count": "n"}]}, [{"n": 2}],
         ASSETS),
    Case("aggregate count of nothing", {"aggregate": [{"$match": {"_id": "x"}}, {"$count": "n"}]}, [], ASSETS),
    Case("aggregate max and min", {"aggregate": [{"$match": {"_id": {"$in": ["a", "b"]}}},
         {"$group": {"_id": None, "high": {"$max": "$n"}, "low": {"$min": "$last_modified"}}}]},
         [{"_id": None, "high": 2.5, "low": "2025-03-01T10:00:00Z"}], ASSETS),
    Case("aggregate add to set", {"aggregate": [{"$match": {"_id": {"$in": ["a", "b"]}}},
         {"$group": {"_id": None, "subjects": {"$addToSet": "$subject.subject_id"}}}]},
         [{"_id": None, "subjects": ["1"]}], ASSETS),
    Case("aggregate a computed field", {"aggregate": [{"$match": {"_id": "c"}},
         {"$project": {"subject": "$subject.subject_id", "_id": 0}}]}, [{"subject": "2"}], ASSETS),
    Case("aggregate a size", {"aggregate": [{"$match": {"_id": "a"}},
         {"$project": {"n": {"$size": "$data_description.modality"}}}]}, [{"_id": "a", "n": 2}], ASSETS),
]  # fmt: skip

ONE: list[Document] = [{"_id": 1, "a": {"x": 1, "y": 2}, "b": 3}]

WRITING: list[Case] = [
    Case("set a nested field", {"write": [["update_one", {"_id": 1}, {"$set": {"a.x": 9, "c": "new"}}]]},
         [{"_id": 1, "a": {"x": 9, "y": 2}, "b": 3, "c": "new"}], ONE),
    Case("unset", {"write": [["update_one", {"_id": 1}, {"$unset": {"a.x": "", "b": "", "nothing": ""}}]]},
         [{"_id": 1, "a": {"y": 2}}], ONE),
    Case("update nothing", {"write": [["update_one", {"_id": 2}, {"$set": {"b": 1}}]]}, ONE, ONE),
    Case("upsert merges", {"write": [["update_one", {"_id": 1}, {"$set": {"_id": 1, "b": 4}}, True]]},
         [{"_id": 1, "a": {"x": 1, "y": 2}, "b": 4}], ONE),
    Case("upsert inserts", {"write": [["update_one", {"_id": "new"}, {"$set": {"_id": "new", "b": 4}}, True]]},
         [{"_id": "new", "b": 4}]),
    Case("update many", {"write": [["update_many", {"k": {"$gt": 1}}, {"$set": {"seen": True}}]]},
         [{"_id": 1, "k": 1}, {"_id": 2, "k": 2, "seen": True}, {"_id": 3, "k": 3, "seen": True}],
         [{"_id": n, "k": n} for n in (1, 2, 3)]),
    Case("replace", {"write": [["replace_one", {"_id": 1}, {"only": 1}]]}, [{"_id": 1, "only": 1}], ONE),
    Case("replace or insert", {"write": [["replace_one", {"_id": "n"}, {"_id": "n", "x": 1}, True]]},
         [{"_id": "n", "x": 1}]),
    Case("another _id is refused", {"write": [["update_one", {"_id": 1}, {"$set": {"_id": 2}}]]}, {"error": 66}, ONE),
    Case("push", {"write": [["update_one", {"_id": 1}, {"$push": {"q": {"name": "e"}}}]]},
         [{"_id": 1, "q": [{"name": "d"}, {"name": "e"}]}], [{"_id": 1, "q": [{"name": "d"}]}]),
    Case("insert twice is refused", {"write": [["insert_one", {"_id": 1}]]}, {"error": 11000}, ONE),
    Case("delete one", {"write": [["delete_one", {"_id": 1}]]}, [], ONE),
    Case("delete many", {"write": [["delete_many", {"_id": {"$in": [1, 3]}}]]}, [{"_id": 2}],
         [{"_id": n} for n in (1, 2, 3)]),
    Case("a unique index refuses", {"write": [["insert_one", {"_id": 2, "location": "s3://b/x"}]]}, {"error": 11000},
         [{"_id": 1, "location": "s3://b/x"}], indexes=({"keys": "location", "unique": True},)),
    Case("bulk", {"write": [["bulk_write", [["UpdateOne", {"_id": 1}, {"$set": {"b": 0}}, True],
         ["UpdateOne", {"_id": 2}, {"$set": {"b": 1}}, True], ["ReplaceOne", {"_id": 3}, {"c": 1}, True],
         ["DeleteOne", {"_id": 2}]]]]},
         [{"_id": 1, "a": {"x": 1, "y": 2}, "b": 0}, {"_id": 3, "c": 1}], ONE),
    Case("arrays in arrays are kept", {"write": [["insert_one", {"_id": 2, "rows": [[1, 2], []]}]]},
         [{"_id": 2, "rows": [[1, 2], []]}]),
    Case("keys with dots are kept when whole documents are written",
         {"write": [["insert_one", {"_id": 2, "links": {"a.b": 1}}]]}, [{"_id": 2, "links": {"a.b": 1}}]),
]  # fmt: skip

CASES: list[Case] = [*READING, *WRITING]
