"""A collection of DocDB as the passes ask it: whole, by modified time, as a light list, and by ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from aind_pipelines.clients.docdb.pages import NOT_TEXT, SERVICE, OversizedRecord
from aind_pipelines.clients.docdb.texts import RecordText
from aind_pipelines.clients.errors import UnexpectedAnswer
from aind_pipelines.mirror.docdb.errors import CollectionEmpty
from aind_pipelines.mirror.docdb.oversized import TooLarge
from aind_pipelines.mirror.docdb.prepare import Record
from aind_pipelines.records.normalise import record_id, record_version
from aind_pipelines.records.times import read_time

if TYPE_CHECKING:
    from aind_pipelines.clients.docdb import DocumentDbSSHClient, MetadataDbClient

MODIFIED_FIELDS = ("last_modified", "_last_modified")
"""Both spellings of the modified time; records of either version may have either."""

LISTED = {"_id": 1, **dict.fromkeys(MODIFIED_FIELDS, 1)}
"""Projection of a light list."""

_IDENTIFYING = LISTED | {"object_type": 1, "schema_version": 1, "data_description.schema_version": 1}

_AFTER_DIGITS = ":"
_IDS_AT_ONCE = 100
_LISTED_AT_ONCE = 5_000
_IDS_IN_AN_ADDRESS = 20


class Source(Protocol):
    """One collection. Every answer is complete or an error; what cannot be handed over whole comes as `TooLarge`."""

    @property
    def name(self) -> str:
        """``database.collection``."""

    def everything(self) -> Iterator[Record | TooLarge]:
        """Every record, whole."""

    def modified_since(self, since: datetime) -> Iterator[Record | TooLarge]:
        """At least the records whose modified time is at or after `since`, as far as the server can compare it."""

    def listing(self, since: datetime | None = None) -> Iterator[Mapping[str, Any]]:
        """Every record, or those that `modified_since` gives, with their ``_id`` and modified times only."""

    def by_ids(self, ids: Sequence[Any]) -> Iterator[Record | TooLarge]:
        """The records with these ``_id`` that are still there, whole; raises as `confirm_gone` about the others."""

    def confirm_gone(self, ids: Sequence[str]) -> None:
        """Make sure, by another question, that records which did not come are not there.

        Raises:
            UnexpectedAnswer: Some are.
            CollectionEmpty: The whole collection is gone of a sudden.
        """


class CollectionSource:
    """A collection behind one of the two transports.

    Args:
        client: An open client of the collection.
        name: ``database.collection``.
        page_size: Records asked for per page.
    """

    def __init__(self, client: MetadataDbClient | DocumentDbSSHClient, name: str, *, page_size: int = 500) -> None:
        from aind_pipelines.clients.docdb import DocumentDbSSHClient

        self._client = client
        self._name = name
        self._page_size = page_size
        self._direct = isinstance(client, DocumentDbSSHClient)

    @property
    def name(self) -> str:
        """``database.collection``."""
        return self._name

    def everything(self) -> Iterator[Record | TooLarge]:
        """Every record, whole; raises ServiceError, as all of these do."""
        return self._whole(None)

    def modified_since(self, since: datetime) -> Iterator[Record | TooLarge]:
        """See `Source` and `modified_filter`."""
        return self._whole(modified_filter(since, bson_dates=self._direct))

    def listing(self, since: datetime | None = None) -> Iterator[Mapping[str, Any]]:
        """See `Source`."""
        query = None if since is None else modified_filter(since, bson_dates=self._direct)
        return self._client.iter_records(query, LISTED, page_size=max(self._page_size, _LISTED_AT_ONCE))

    def by_ids(self, ids: Sequence[Any]) -> Iterator[Record | TooLarge]:
        """See `Source`."""
        missing = {str(identity) for identity in ids}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            for record in self._with_ids(list(ids[start : start + _IDS_AT_ONCE])):
                missing.discard(_id_of(record))
                yield record
        if missing:
            # Deleted meanwhile; or the gateway has told an _id of another type as text, which a query does not find.
            for record in self._whole(NOT_TEXT):
                if _id_of(record) in missing:
                    yield record
            self.confirm_gone(sorted(missing))

    def confirm_gone(self, ids: Sequence[str]) -> None:
        """See `Source`."""
        for start in range(0, len(ids), _IDS_IN_AN_ADDRESS):
            there = self._client.count({"_id": {"$in": list(ids[start : start + _IDS_IN_AN_ADDRESS])}})
            if there:
                raise UnexpectedAnswer(
                    SERVICE,
                    f"{self._name} did not hand over {there} of the records {', '.join(ids[:3])} ..., although it has "
                    "them. Run this again; if it fails again, look at what is between here and DocDB.",
                )
        if ids and not self._client.count():
            raise CollectionEmpty(SERVICE, f"{self._name} had records a moment ago, and now says that it has none.")

    def _whole(self, query: Mapping[str, Any] | None) -> Iterator[Record | TooLarge]:
        from aind_pipelines.clients.docdb import MetadataDbClient

        if isinstance(self._client, MetadataDbClient):
            return self._identified(self._client.iter_texts(query, page_size=self._page_size))
        return self._client.iter_records(query, page_size=self._page_size)

    def _with_ids(self, ids: list[Any]) -> Iterator[Record | TooLarge]:
        from aind_pipelines.clients.docdb import MetadataDbClient

        if isinstance(self._client, MetadataDbClient):  # ids do not fit into the address of a GET request
            return self._identified(self._client.fetch_texts_by_ids(ids))
        return self._client.iter_records({"_id": {"$in": ids}}, page_size=self._page_size)

    def _identified(self, records: Iterable[Record]) -> Iterator[Record | TooLarge]:
        """Records, with those that cannot be handed over told by what their light form says."""
        for record in records:
            if not isinstance(record, OversizedRecord):
                yield record
                continue
            for light in self._client.iter_records({"_id": record["_id"]}, _IDENTIFYING, page_size=1):
                yield TooLarge(record_version(light), record_id(light), modified_time(light))


def _id_of(record: Record | TooLarge) -> str:
    return str(record.id if isinstance(record, RecordText | TooLarge) else record["_id"])


def modified_filter(since: datetime, *, bson_dates: bool) -> dict[str, Any]:
    """MongoDB filter of the records modified at or after `since`.

    Times are mostly ISO 8601 text, which the server compares character by character. In UTC or without a zone, and
    with ``T`` or a blank before the time of day, that order is right; with an offset east of Greenwich more is found
    than asked for. What this cannot find (an offset west of Greenwich, other notations, and BSON dates through the
    gateway, whose queries are JSON) is left to the manifest pass.

    Args:
        since: Aware time; fractions of its second are left out.
        bson_dates: Whether the transport can compare BSON dates.
    """
    utc = since.astimezone(UTC)
    day, time = utc.strftime("%Y-%m-%d"), utc.strftime("%H:%M:%S")
    branches: list[dict[str, Any]] = []
    for name in MODIFIED_FIELDS:
        # Text that does not begin with a digit is no time in this order, and would be read by every tick.
        branches.append({name: {"$gte": f"{day}T{time}", "$lt": _AFTER_DIGITS}})
        branches.append({name: {"$gte": f"{day} {time}", "$lt": f"{day}T"}})
        if bson_dates:
            branches.append({name: {"$gte": utc.replace(microsecond=0)}})
    return {"$or": branches}


def modified_time(record: Mapping[str, Any]) -> datetime | None:
    """The later of a record's modified times that can be read, as the mirror has it."""
    moments = [read_time(record.get(name)) for name in MODIFIED_FIELDS]
    return max((moment.value for moment in moments if moment is not None), default=None)
