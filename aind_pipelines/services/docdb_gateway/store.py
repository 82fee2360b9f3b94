"""What the gateway asks of DocDB, in the gateway's own words; answers are plain JSON text or values.

Every function takes the collection it works on. DocDB that cannot be reached raises pymongo's errors: an outage never
looks like an empty answer.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from bson import decode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateMany, UpdateOne
from pymongo.collection import Collection

Document = dict[str, Any]
Records = Collection[Document]

_V2_SUFFIX = "_v2"
_METADATA_DATABASE = "metadata_index"
_SYSTEM_DATABASES = frozenset({"admin", "config", "local"})
_WRITING_STAGES = frozenset({"$out", "$merge"})
_CURSOR_BATCH = 200
_UNREAD: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_READING: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="surrogateescape"
)


class BadRequest(Exception):
    """The request cannot be carried out as it is; the message is what the caller is told."""


class Forbidden(Exception):
    """The request asks for what this route does not give, whoever asks."""


class NotFound(Exception):
    """The request names something that does not exist."""


class TooLarge(Exception):
    """The answer exceeds what one response may hold."""


def connect(uri: str) -> MongoClient[Document]:
    """A client that gives up on a silent DocDB within seconds. Connects on first use.

    Amazon DocumentDB has no retryable writes, so they are off.
    """
    return MongoClient(
        uri,
        serverSelectionTimeoutMS=2_000,
        connectTimeoutMS=2_000,
        socketTimeoutMS=25_000,
        retryWrites=False,
        appname="docdb_gateway",
    )


def records_of(client: MongoClient[Document], version: str, database: str, collection: str) -> Records:
    """The collection that a path names.

    Both conventions of the published clients work: ``/v2/metadata_index/...`` and ``/v1/metadata_index_v2/...``. A
    byte that is no UTF-8, or a date outside of the years 1 to 9999, does not keep the records around it from being
    handed over.

    Raises:
        NotFound: The path names a system database or collection.
    """
    if database in _SYSTEM_DATABASES or collection.startswith("system."):
        raise NotFound("Not Found")
    if version == "v2" and database == _METADATA_DATABASE:
        database += _V2_SUFFIX
    return client[database].get_collection(collection, codec_options=_READING)


def assets_of(client: MongoClient[Document], version: str) -> Records:
    """The metadata records of one generation."""
    return records_of(client, version, _METADATA_DATABASE, "data_assets")


def to_json(value: Any) -> str:
    """JSON as the gateway writes it: dates and other types of BSON as their `str`, e.g. ``2026-01-02 00:00:00``."""
    return json.dumps(value, default=str)


def page(
    records: Records,
    *,
    query: Document,
    projection: Document | None,
    sort: Sequence[tuple[str, int]],
    limit: int,
    skip: int,
    max_bytes: int,
    whole: bool,
) -> str:
    """One answer of records as a JSON list.

    Args:
        records: Where to look.
        query: MongoDB filter.
        projection: Fields, or None for all.
        sort: (field, 1 or -1) pairs; may be empty.
        limit: At most so many records; 0 for no limit.
        skip: How many matching records to pass over.
        max_bytes: Bytes that the answer may have.
        whole: Whether a longer answer is an error, rather than cut to the records that fit. A cut answer holds at
            least one record, so that a caller who pages by ``skip`` always gets on.

    Raises:
        TooLarge: Only if `whole`.
    """
    batch = min(limit, _CURSOR_BATCH) if limit else _CURSOR_BATCH
    # Of a batch, only what the answer has room for is read.
    raw = records.with_options(codec_options=_UNREAD)
    cursor = raw.find(query, projection, skip=skip, limit=limit, sort=list(sort) or None, batch_size=batch)
    with closing(cursor):
        return _json_list((decode(found.raw, _READING) for found in cursor), max_bytes, whole=whole)


def aggregate(records: Records, pipeline: list[Document], max_bytes: int) -> str:
    """The whole result of a pipeline as a JSON list.

    Raises:
        Forbidden: A stage writes; this route takes no signature.
        TooLarge: The result exceeds `max_bytes`.
    """
    if any(stage in _WRITING_STAGES for step in pipeline for stage in step):
        raise Forbidden("Pipelines that write ($out, $merge) are not allowed here.")
    with closing(records.aggregate(pipeline, batchSize=_CURSOR_BATCH)) as cursor:
        return _json_list(cursor, max_bytes, whole=True)


def _json_list(documents: Iterable[Document], max_bytes: int, *, whole: bool) -> str:
    parts: list[str] = []
    size = 2
    for document in documents:
        part = to_json(document)
        size += len(part) + 2  # the text is ASCII: characters are bytes
        if size > max_bytes and whole:
            raise TooLarge("Request Entity Too Large: ask for fewer records, or use find, which answers in pages.")
        if size > max_bytes and parts:
            break
        parts.append(part)
    return f"[{', '.join(parts)}]"


def count(records: Records, query: Document | None) -> Document:
    """How many records there are, and how many match."""
    total = records.estimated_document_count()
    return {
        "total_record_count": total,
        "filtered_record_count": records.count_documents(query) if query else total,
    }


def insert_one(records: Records, record: Document) -> Document:
    """Insert one record. Without an ``_id`` it gets a UUID, as registered assets have: text can name it later."""
    record = {"_id": str(uuid.uuid4()), **record}
    records.insert_one(record)
    return {"acknowledged": True, "inserted_id": record["_id"]}


def _yes(value: Any) -> bool:
    """Published clients send ``upsert`` as the string "True"."""
    return value is True or str(value).lower() == "true"


def _object(value: Any, name: str) -> Document:
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' must be a JSON object.")
    return value


def _update_parts(body: Document) -> tuple[Document, Document | list[Document], bool]:
    update = body.get("update")
    if not isinstance(update, dict | list) or not update:
        raise BadRequest("'update' must be a JSON object with update operators, or a pipeline.")
    return _object(body.get("filter"), "filter"), update, _yes(body.get("upsert", False))


def update_one(records: Records, body: Document) -> Document:
    """Carry out ``{"filter", "update", "upsert"}``; answers as DocDB's own update command does."""
    query, update, upsert = _update_parts(body)
    result = records.update_one(query, update, upsert=upsert)
    answer: Document = {
        "n": result.matched_count + (result.upserted_id is not None),
        "nModified": result.modified_count,
        "ok": 1.0,
        "updatedExisting": result.matched_count > 0,
    }
    if result.upserted_id is not None:
        answer["upserted"] = result.upserted_id
    return answer


def _operation(step: Any) -> UpdateOne | UpdateMany | InsertOne[Document] | DeleteOne:
    if not isinstance(step, dict) or len(step) != 1:
        raise BadRequest('Each operation must be an object with one key, e.g. {"UpdateOne": {...}}.')
    name, value = next(iter(step.items()))
    body = _object(value, name)
    match name:
        case "UpdateOne":
            query, update, upsert = _update_parts(body)
            return UpdateOne(query, update, upsert=upsert)
        case "UpdateMany":
            query, update, upsert = _update_parts(body)
            return UpdateMany(query, update, upsert=upsert)
        case "InsertOne":
            return InsertOne({"_id": str(uuid.uuid4()), **_object(body.get("document", body), "document")})
        case "DeleteOne":
            return DeleteOne(_object(body.get("filter"), "filter"))
        case _:
            raise BadRequest(f"Unknown operation {name!r}: use UpdateOne, UpdateMany, InsertOne or DeleteOne.")


def bulk_write(records: Records, operations: Any) -> Document:
    """Carry out a list of ``{"UpdateOne": {...}}`` and the like, in order, and count what happened."""
    if not isinstance(operations, list):
        raise BadRequest("The body must be a JSON list of operations.")
    prepared = [_operation(step) for step in operations]
    if not prepared:
        raise BadRequest("The list of operations is empty.")
    result = records.bulk_write(prepared)
    return {
        "acknowledged": True,
        "n_inserted": result.inserted_count,
        "n_matched": result.matched_count,
        "n_modified": result.modified_count,
        "n_removed": result.deleted_count,
        "n_upserted": result.upserted_count,
        "upserted_ids": {str(index): key for index, key in (result.upserted_ids or {}).items()},
    }


def delete(records: Records, body: Document, *, many: bool) -> Document:
    """Delete what ``{"filter": {...}}`` matches, or the first of it.

    Raises:
        BadRequest: No filter, or an empty one: nobody means that.
    """
    query = _object(body.get("filter"), "filter")
    if not query:
        raise BadRequest("'filter' is empty and would match every record.")
    result = records.delete_many(query) if many else records.delete_one(query)
    return {"acknowledged": True, "deleted_count": result.deleted_count}


def summary(records: Records, record_id: str) -> Document:
    """A sentence about one record, from its own fields.

    Raises:
        NotFound: There is no such record.
    """
    record = records.find_one({"_id": record_id}, {"name": 1, "location": 1, "subject": 1, "data_description": 1})
    if record is None:
        raise NotFound(f"No record with _id {record_id}.")
    description = record.get("data_description") or {}
    subject = (record.get("subject") or {}).get("subject_id") or description.get("subject_id") or "unknown"
    level = description.get("data_level") or "data"
    text = f"{record.get('name')}: {level} asset of subject {subject} at {record.get('location')}."
    return {"_id": record_id, "summary": text}


def register(records: Records, version: str, body: Document) -> Document:
    """Make the record of an asset known by its location, unless there is one.

    The record holds only what the request says; its metadata comes with later upserts.

    Args:
        records: Metadata records of this version.
        version: ``v1`` or ``v2``; decides the shape of the record.
        body: ``s3_location`` and, optionally, ``name`` and ``co_asset_id``.
    """
    location = _location(body)
    known = records.find_one({"location": location}, {"_id": 1})
    if known is not None:
        return {"message": "Already registered", "_id": known["_id"], "location": location}
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    links = {"Code Ocean": [body["co_asset_id"]]} if body.get("co_asset_id") else {}
    record: Document = {
        "_id": str(uuid.uuid4()),
        "name": body.get("name") or location.rstrip("/").rpartition("/")[2],
    }
    if version == "v2":
        record |= {"object_type": "Metadata", "other_identifiers": links or None}
        record |= {"_created": now, "_last_modified": now}
    else:
        record |= {"external_links": links, "created": now, "last_modified": now}
    records.update_one({"location": location}, {"$setOnInsert": record}, upsert=True)
    return {"message": "Registered", "_id": record["_id"], "location": location}


def deregister(generations: Iterable[Records], body: Document) -> Document:
    """Remove the records of an asset's location from every generation."""
    location = _location(body)
    removed = sum(records.delete_many({"location": location}).deleted_count for records in generations)
    return {"message": f"Deregistered {removed} record(s)", "location": location, "deleted_count": removed}


def _location(body: Mapping[str, Any]) -> str:
    location = body.get("s3_location")
    bucket, _, prefix = str(location).removeprefix("s3://").partition("/")
    if not isinstance(location, str) or not location.startswith("s3://") or not bucket or not prefix:
        raise BadRequest("'s3_location' must have the form s3://bucket/prefix.")
    return location


def add_qc_evaluation(records: Records, version: str, body: Document) -> Document:
    """Append quality-control entries to a record: ``evaluations`` in v1, ``metrics`` in v2.

    Raises:
        NotFound: There is no such record.
    """
    record_id, entries = body.get("data_asset_id"), body.get("qc_evaluation")
    if not isinstance(record_id, str) or not isinstance(entries, list | dict) or not entries:
        raise BadRequest("'data_asset_id' and 'qc_evaluation' (an object or a list) are needed.")
    entries = entries if isinstance(entries, list) else [entries]
    field = "metrics" if version == "v2" else "evaluations"
    records.update_one({"_id": record_id, "quality_control": None}, {"$set": {"quality_control": {field: []}}})
    result = records.update_one({"_id": record_id}, {"$push": {f"quality_control.{field}": {"$each": entries}}})
    if not result.matched_count:
        raise NotFound(f"No record with _id {record_id}.")
    return {"n": result.matched_count, "nModified": result.modified_count, "ok": 1.0, "updatedExisting": True}
