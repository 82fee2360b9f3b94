"""Looking records up by id, name or place: the helpers that users of the published client know.

Names and parameters are those of ``aind_data_access_api.utils`` and ``aind_data_access_api.helpers.docdb``; they take
either client, the REST gateway's or the direct one. A record that is not there is None, or a `LookupError` where an
answer is promised; an outage is always an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol
from urllib.parse import urlsplit

from aind_pipelines.clients.docdb.pages import Query, Record
from aind_pipelines.clients.docdb.rest import DEFAULT_PAGE_SIZE, Client

_VALUES_PER_QUERY = 1000

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """What the helpers need of a client."""

    def iter_records(
        self,
        filter: Query | None = None,  # noqa: A002 - MongoDB's word
        projection: Query | None = None,
        page_size: int = DEFAULT_PAGE_SIZE,
    ) -> Iterator[Record]:
        """Every matching record once, in ``_id`` order."""


class RecordNotFound(LookupError, ValueError):
    """No record has this id or name; a ValueError too, because that is what the published helpers raise."""


def get_record_by_id(client: Reader, _id: str) -> Record | None:
    """The record with this ``_id``, or None.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    return get_projection_by_id(client, _id, {})


def get_record_by_name(client: Reader, name: str) -> Record | None:
    """The record with this name, or None; of several, the one with the lowest ``_id``, with a warning.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    return get_projection_by_name(client, name, {})


def get_projection_by_id(client: Reader, _id: str, projection: Query) -> Record | None:
    """Some fields of the record with this ``_id``, or None.

    Args:
        client: Where to look.
        _id: Identity of the record.
        projection: MongoDB projection, e.g. ``{"subject.subject_id": 1}``.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    return next(client.iter_records({"_id": _id}, projection, 1), None)


def get_projection_by_name(client: Reader, name: str, projection: Query) -> Record | None:
    """Some fields of the record with this name, or None; of several, as `get_record_by_name`.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    ids = _ids_of(client, name)
    return get_projection_by_id(client, ids[0], projection) if ids else None


def get_field_by_id(client: Reader, _id: str, field: str) -> Record | None:
    """One field of the record with this ``_id``, as ``{"_id": ..., field: ...}``, or None.

    A record without the field comes with its ``_id`` alone.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    return get_projection_by_id(client, _id, {field: 1})


def get_field_by_name(client: Reader, name: str, field: str) -> Record | None:
    """One field of the record with this name, as `get_field_by_id`; of several, as `get_record_by_name`.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    return get_projection_by_name(client, name, {field: 1})


def get_id_from_name(client: Reader, name: str) -> Any:
    """The ``_id`` of the record with this name; of several, the lowest, with a warning.

    Raises:
        RecordNotFound: No record has this name.
        ServiceError: DocDB refused or cannot be reached.
    """
    ids = _ids_of(client, name)
    if not ids:
        raise RecordNotFound(f"No record found with name {name}")
    return ids[0]


def get_name_from_id(client: Reader, _id: str) -> Any:
    """The name of the record with this ``_id``.

    Raises:
        RecordNotFound: No record has this ``_id``, or it has no name.
        ServiceError: DocDB refused or cannot be reached.
    """
    record = get_projection_by_id(client, _id, {"name": 1})
    if record is None:
        raise RecordNotFound(f"No record found with _id {_id}")
    if record.get("name") is None:
        raise RecordNotFound(f"The record with _id {_id} has no name")
    return record["name"]


def get_record_from_docdb(docdb_api_client: Reader, record_id: str) -> Record | None:
    """The record with this ``_id``, or None: `get_record_by_id` under its other name.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    return get_record_by_id(docdb_api_client, record_id)


def does_metadata_record_exist_in_docdb(docdb_api_client: Reader, bucket: str, prefix: str) -> bool:
    """Whether a record's location is this S3 prefix.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    here = {"location": get_s3_location(bucket, prefix)}
    return next(docdb_api_client.iter_records(here, {"_id": 1}, 1), None) is not None


def fetch_records_by_filter_list(
    docdb_api_client: Reader,
    filter_key: str,
    filter_values: Sequence[Any],
    projection: Query | None = None,
) -> list[Record]:
    """The records where a field is one of many values, in no particular order.

    Args:
        docdb_api_client: Where to look.
        filter_key: Field, e.g. ``"name"``. A record whose field is a list may come once per batch of 1,000 values.
        filter_values: The values, any number.
        projection: MongoDB projection; None for whole records.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    values = list(dict.fromkeys(filter_values))
    if isinstance(docdb_api_client, Client):
        return docdb_api_client.fetch_records_by_filter_list(filter_key, values, projection)
    return [
        record
        for start in range(0, len(values), _VALUES_PER_QUERY)
        for record in docdb_api_client.iter_records(
            {filter_key: {"$in": values[start : start + _VALUES_PER_QUERY]}}, projection
        )
    ]


def paginate_docdb(
    docdb_api_client: Reader,
    page_size: int = DEFAULT_PAGE_SIZE,
    filter_query: Query | None = None,
    projection: Query | None = None,
) -> Iterator[list[Record]]:
    """Matching records in pages, by ``_id`` keyset: none is repeated or left out while others are written.

    Args:
        docdb_api_client: Where to look.
        page_size: Records per page; only the last may have fewer.
        filter_query: MongoDB filter; None for all.
        projection: MongoDB projection; None for whole records.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    records = docdb_api_client.iter_records(filter_query, projection, page_size)
    while page := list(islice(records, page_size)):
        yield page


def build_docdb_location_to_id_map(docdb_api_client: Reader, bucket: str, prefixes: Sequence[str]) -> dict[str, Any]:
    """``{"s3://bucket/prefix": _id}`` of those prefixes that have a record.

    Of several records at one location, the one with the lowest ``_id``, with a warning.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    locations = [get_s3_location(bucket, prefix) for prefix in prefixes]
    found: dict[str, Any] = {}
    projection = {"_id": 1, "location": 1}
    records = fetch_records_by_filter_list(docdb_api_client, "location", locations, projection)
    for record in sorted(records, key=_in_id_order):
        if record["location"] in found:
            _log.warning(
                "The location %s has more than one record: %s is kept, %s is not.",
                record["location"], found[record["location"]], record["_id"],
            )  # fmt: skip
        found.setdefault(record["location"], record["_id"])
    return found


def get_s3_location(bucket: str, prefix: str) -> str:
    """``s3://bucket/prefix``, without slashes around the prefix."""
    return f"s3://{bucket}/{prefix.strip('/')}"


def get_s3_bucket_and_prefix(s3_location: str) -> dict[str, str]:
    """``{"bucket": ..., "prefix": ...}`` of an ``s3://bucket/prefix``, without slashes around the prefix."""
    parts = urlsplit(s3_location, allow_fragments=False)
    return {"bucket": parts.netloc, "prefix": parts.path.strip("/")}


def _ids_of(client: Reader, name: str) -> list[Any]:
    """Every ``_id`` with this name, lowest first; warns of more than one."""
    records = sorted(fetch_records_by_filter_list(client, "name", [name], {"_id": 1}), key=_in_id_order)
    if len(records) > 1:
        _log.warning("Multiple records share the name %s, only the first record will be returned.", name)
    return [record["_id"] for record in records]


def _in_id_order(record: Record) -> tuple[bool, str]:
    """Text first, as the institute's ``_id`` values are; what is no text by its words."""
    return not isinstance(record["_id"], str), str(record["_id"])
