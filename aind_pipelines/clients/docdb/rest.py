"""DocDB through its REST gateway.

Reads need no login; writes are signed with AWS Signature Version 4 (service ``execute-api``). The wire contract is
that of the institute's gateway as the published client uses it, with its convention that ``/v1/metadata_index_v2``
and ``/v2/metadata_index`` both name the records of the second generation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit
from uuid import UUID

from aind_pipelines.clients.docdb.errors import BulkWriteFailed, RecordTooLarge
from aind_pipelines.clients.docdb.pages import (
    NOT_TEXT,
    SERVICE,
    OversizedRecord,
    Query,
    Record,
    id_of,
    walk,
    with_id,
    with_id_shown,
)
from aind_pipelines.clients.errors import AccessRefused, ServiceError, UnexpectedAnswer

if TYPE_CHECKING:
    from types import TracebackType

    import boto3
    import requests

    from aind_pipelines.clients.docdb.texts import RecordText

DEFAULT_PAGE_SIZE = 500
MAX_PAYLOAD_BYTES = 5_000_000
"""Half of what the gateway takes in one request, headers and all."""

_VALUES_PER_REQUEST = 1000

_Item = TypeVar("_Item")

Sort = Mapping[str, int] | Sequence[tuple[str, int]]


def base_address(host: str) -> str:
    """The gateway's address: a host without scheme means https, with scheme it is taken as it is."""
    address = host.strip()
    if "://" not in address:
        address = f"https://{address.strip('/')}"
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise ValueError(f"{host!r} is no host name and no http(s) address of a DocDB gateway.")
    return address.rstrip("/")


class Client:
    """A client of one collection.

    Args:
        host: Host name, or address with scheme, of the gateway.
        database: Database in the path.
        collection: Collection in the path.
        version: API version in the path, ``v1`` or ``v2``.
        boto: boto3 session whose credentials and region sign writes; None finds them as boto3 does.
        session: HTTP session to use as it is; None makes one that repeats what is safe to repeat.
    """

    def __init__(
        self,
        host: str,
        database: str,
        collection: str,
        version: str = "v1",
        boto: boto3.session.Session | None = None,
        session: requests.Session | None = None,
    ) -> None:
        self.host = base_address(host)
        self.database = database
        self.collection = collection
        self.version = version
        self._boto = boto
        self._given = session
        self._own: requests.Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"

    def close(self) -> None:
        """Close the connections; a session that was given stays open."""
        if self._own is not None:
            self._own.close()
            self._own = None

    # --- reading --------------------------------------------------------------------------------------------------

    def iter_records(
        self,
        filter: Query | None = None,  # noqa: A002 - MongoDB's word
        projection: Query | None = None,
        page_size: int = DEFAULT_PAGE_SIZE,
        after_id: str | None = None,
    ) -> Iterator[Record]:
        """Every matching record once, by ``_id`` keyset, in constant memory.

        Args:
            filter: MongoDB filter; None for all.
            projection: MongoDB projection; None for whole records.
            page_size: Records asked for per request; the gateway may give fewer.
            after_id: Go on after this ``_id``.

        Raises:
            RecordTooLarge: The gateway cannot hand a record over.
            UnexpectedAnswer: Pages are repeated or end too early.
            ServiceError: The gateway refused or cannot be reached: never an empty answer.
        """
        if page_size < 1:
            raise ValueError("page_size must be 1 or more.")
        shown, strip = with_id_shown(projection)
        for record in walk(_Pages(self, filter, shown, page_size, self._read), after_id):
            if isinstance(record, OversizedRecord):
                raise RecordTooLarge(record["_id"])
            if strip:
                del record["_id"]
            yield record

    def iter_texts(
        self,
        filter: Query | None = None,  # noqa: A002 - MongoDB's word
        page_size: int = DEFAULT_PAGE_SIZE,
    ) -> Iterator[RecordText | Record]:
        """Whole records as `iter_records` gives them, but as the gateway wrote them, unread.

        A page that is no strict JSON (``NaN``) is read all the same; its records come as `iter_records` has them.
        A record too large for the gateway comes as an `OversizedRecord`.

        Raises:
            ServiceError: As `iter_records`.
        """
        if page_size < 1:
            raise ValueError("page_size must be 1 or more.")
        return walk(_Pages(self, filter, None, page_size, self._texts), identify=_id_of_either)

    def retrieve_docdb_records(
        self,
        filter_query: Query | None = None,
        projection: Query | None = None,
        sort: Sort | None = None,
        limit: int = 0,
        paginate: bool | None = None,  # noqa: ARG002 - published callers still pass these three
        paginate_batch_size: int | None = None,  # noqa: ARG002
        paginate_max_iterations: int | None = None,  # noqa: ARG002
    ) -> list[Record]:
        """Matching records as a list.

        Args:
            filter_query: MongoDB filter; None for all.
            projection: MongoDB projection; None for whole records.
            sort: Fields with 1 or -1; None for ``_id`` order.
            limit: At most so many; 0 for all.
            paginate: Accepted and not used; pages are always fetched as needed.
            paginate_batch_size: As `paginate`.
            paginate_max_iterations: As `paginate`.

        Raises:
            ServiceError: As `iter_records`.
        """
        order = dict(sort or {})
        if next(iter(order.items()), ("_id", 1)) == ("_id", 1):
            page_size = min(limit, DEFAULT_PAGE_SIZE) if limit else DEFAULT_PAGE_SIZE
            records: list[Record] = []
            for record in self.iter_records(filter_query, projection, page_size):
                records.append(record)
                if len(records) == limit:
                    break
            return records
        return self._sorted(filter_query, projection, order, limit)

    def _sorted(
        self, query: Query | None, projection: Query | None, order: Mapping[str, int], limit: int
    ) -> list[Record]:
        """In another order than ``_id``: one page if it holds everything, else the order first, then the records.

        The order is one consistent answer of identities; skipping through a sorted result would lose and repeat
        records while others are written.
        """
        shown, strip = with_id_shown(projection)
        records = self._find(query, shown, order, limit) if limit else []
        if not limit or len(records) < limit:
            stages: list[dict[str, Any]] = [{"$match": dict(query or {})}, {"$sort": dict(order)}]
            stages += [{"$limit": limit}] if limit else []
            ranked = self.aggregate_docdb_records([*stages, {"$project": {"_id": 1}}])
            wanted = [record["_id"] for record in ranked]
            if wanted != [record.get("_id") for record in records]:
                found = {record["_id"]: record for record in self.fetch_records_by_filter_list("_id", wanted, shown)}
                records = [found[identity] for identity in wanted if identity in found]
        if strip:
            records = [{name: value for name, value in record.items() if name != "_id"} for record in records]
        return records

    def count(self, filter: Query | None = None) -> int:  # noqa: A002 - MongoDB's word
        """How many records match.

        Raises:
            ServiceError: As `iter_records`.
        """
        answer = self._get(f"{self._base}/count_documents", {} if filter is None else {"filter": to_json(filter)})
        count = answer.get("filtered_record_count") if isinstance(answer, dict) else None
        if not isinstance(count, int) or isinstance(count, bool):
            raise UnexpectedAnswer(SERVICE, f"GET {self._base}/count_documents gave no count.")
        return count

    def aggregate_docdb_records(self, pipeline: Sequence[Query]) -> list[Record]:
        """The whole result of an aggregation pipeline; it must fit into one answer of the gateway.

        Raises:
            ServiceError: As `iter_records`; also when the result is too large.
        """
        return self._read(self._aggregated(pipeline))

    def fetch_records_by_filter_list(
        self, filter_key: str, filter_values: Sequence[Any], projection: Query | None = None
    ) -> list[Record]:
        """The records where `filter_key` is one of `filter_values`, in no particular order.

        Raises:
            ServiceError: As `iter_records`.
        """

        def pages(query: Query, page_size: int) -> Iterator[Record]:
            return self.iter_records(query, projection, page_size)

        return list(self._by_values(filter_key, filter_values, projection, self._read, pages))

    def fetch_texts_by_ids(self, ids: Sequence[Any]) -> Iterator[RecordText | Record]:
        """The records with these ``_id``, in no particular order, as `iter_texts` gives them.

        Raises:
            ServiceError: As `iter_texts`.
        """
        return self._by_values("_id", ids, None, self._texts, self.iter_texts)

    def _by_values(
        self,
        key: str,
        values: Sequence[Any],
        projection: Query | None,
        read: Callable[[requests.Response], Sequence[_Item]],
        pages: Callable[[Query, int], Iterator[_Item]],
    ) -> Iterator[_Item]:
        start, size = 0, _VALUES_PER_REQUEST
        while start < len(values):
            part = list(values[start : start + size])
            query = {key: {"$in": part}}
            stages: list[Query] = [{"$match": query}]
            stages += [{"$project": dict(projection)}] if projection else []
            try:
                answer = self._aggregated(stages)
            except _TooLarge:
                if len(part) > 1:
                    size = len(part) // 2
                    continue
                # Pages may hold what one answer does not.
                yield from pages(query, 1 if key == "_id" else DEFAULT_PAGE_SIZE)
                start, size = start + 1, _VALUES_PER_REQUEST
            else:
                yield from read(answer)
                start += size

    # --- writing --------------------------------------------------------------------------------------------------

    def insert_one_docdb_record(self, record: Query) -> Record:
        """Insert one record; one with its ``_id`` must not exist yet. Never repeated by itself.

        Raises:
            ServiceError: The gateway refused (409: the ``_id`` exists) or cannot be reached.
        """
        return self._signed("POST", f"{self._base}/insert_one", record)

    def upsert_one_docdb_record(self, record: Query) -> Record:
        """Merge one record into the one with its ``_id``: fields given are set, all others stay; or insert it.

        Raises:
            ValueError: The record has no ``_id``, or a value that JSON cannot hold.
            ServiceError: The gateway refused or cannot be reached.
        """
        return self._signed("POST", f"{self._base}/update_one", _upsert(record))

    def upsert_list_of_docdb_records(
        self, records: Sequence[Query], max_payload_size: int = MAX_PAYLOAD_BYTES
    ) -> list[Record]:
        """Merge many records, as `upsert_one_docdb_record` does, in as few requests as fit.

        A record that is refused does not keep the others from being written. Upserting the same list again is safe.

        Args:
            records: Records with ``_id``.
            max_payload_size: Bytes that a request's body may have, envelope included. A record larger than that is
                sent alone.

        Returns:
            The gateway's answers, one per request that succeeded.

        Raises:
            ValueError: A record has no ``_id``, or a value that JSON cannot hold; nothing was sent.
            BulkWriteFailed: Some records were not written; it names them.
        """
        operations = [(str(_identity(record)), to_json({"UpdateOne": _upsert(record)})) for record in records]
        answers: list[Record] = []
        failed: dict[str, str] = {}
        pending = _chunks(operations, max_payload_size)
        while pending:
            chunk = pending.pop(0)
            try:
                answers.append(self._bulk_write(chunk))
            except ServiceError as error:
                if error.retryable or isinstance(error, AccessRefused):
                    failed |= dict.fromkeys((name for name, _ in chunk), str(error))
                    unsent = [name for rest in pending for name, _ in rest]
                    raise BulkWriteFailed(failed, unsent, retryable=error.retryable) from error
                if len(chunk) > 1:  # which of them? Upserts can be repeated, so the halves are tried
                    pending[:0] = [chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]]
                else:
                    failed[chunk[0][0]] = str(error)
        if failed:
            raise BulkWriteFailed(failed, [], retryable=False)
        return answers

    def _bulk_write(self, chunk: Sequence[tuple[str, str]]) -> Record:
        url = f"{self._base}/bulk_write"
        body = f"[{', '.join(operation for _, operation in chunk)}]"
        answer = self._parsed(self._send("POST", url, body=body, signed=True))
        if isinstance(answer, dict):
            counts = [answer.get("n_matched"), answer.get("n_upserted")]
            written = sum(count for count in counts if isinstance(count, int))
            if answer.get("writeErrors") or (None not in counts and written != len(chunk)):
                raise ServiceError(SERVICE, f"POST {url} wrote {written} of {len(chunk)} record(s).")
            return answer
        return {"answer": answer}

    def delete_one_record(self, data_asset_record_id: str) -> Record:
        """Delete the record with this ``_id``; deleting what is not there is no error.

        Raises:
            ServiceError: The gateway refused or cannot be reached.
        """
        return self._signed("DELETE", f"{self._base}/delete_one", {"filter": {"_id": data_asset_record_id}})

    def delete_many_records(self, data_asset_record_ids: Sequence[str]) -> Record:
        """Delete the records with these ``_id`` values.

        Raises:
            ServiceError: The gateway refused or cannot be reached.
        """
        body = {"filter": {"_id": {"$in": list(data_asset_record_ids)}}}
        return self._signed("DELETE", f"{self._base}/delete_many", body)

    # --- transport ------------------------------------------------------------------------------------------------

    @property
    def _base(self) -> str:
        return f"{self.host}/{self.version}/{self.database}/{self.collection}"

    @property
    def _session(self) -> requests.Session:
        if self._given is not None:
            return self._given
        if self._own is None:
            from aind_pipelines.clients.http import SAFE_METHODS, RetryingAdapter, build_session

            session = build_session()
            repeatable = RetryingAdapter(retry_methods=SAFE_METHODS | {"POST"})
            # An aggregation only reads, and an upsert by _id does the same when done twice.
            for operation in ("aggregate", "update_one", "bulk_write"):
                session.mount(f"{self._base}/{operation}", repeatable)
            self._own = session
        return self._own

    def _find(
        self, query: Query | None, projection: Query | None, sort: Mapping[str, int] | None, limit: int
    ) -> list[Record]:
        return self._read(self._found(query, projection, sort, limit))

    def _found(
        self, query: Query | None, projection: Query | None, sort: Mapping[str, int] | None, limit: int
    ) -> requests.Response:
        return self._send("GET", f"{self._base}/find", parameters=_parameters(query, projection, sort, limit))

    def _aggregated(self, pipeline: Sequence[Query]) -> requests.Response:
        return self._send("POST", f"{self._base}/aggregate", body=to_json([dict(stage) for stage in pipeline]))

    def _read(self, response: requests.Response) -> list[Record]:
        from aind_pipelines.clients.http import place

        return _records(self._parsed(response), f"{response.request.method} {place(response.url)}")

    def _texts(self, response: requests.Response) -> Sequence[RecordText | Record]:
        from aind_pipelines.clients.docdb.texts import records_in

        texts = records_in(response.content)
        return texts if texts is not None else self._read(response)

    def _get(self, url: str, parameters: Mapping[str, str]) -> Any:
        return self._parsed(self._send("GET", url, parameters=parameters))

    def _signed(self, method: str, url: str, body: Query | None = None) -> Record:
        text = None if body is None else to_json(body)
        answer = self._parsed(self._send(method, url, body=text, signed=True))
        return answer if isinstance(answer, dict) else {"answer": answer}

    def _send(
        self,
        method: str,
        url: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: str | None = None,
        signed: bool = False,
    ) -> requests.Response:
        from aind_pipelines.clients.http import place, request, server_words

        headers: dict[str, str] = {}
        if signed or body is not None:
            headers["Content-Type"] = "application/json"
        if signed:
            headers = self._signature(method, url, body, headers)
        data = None if body is None else body.encode()
        response = request(self._session, SERVICE, method, url, params=parameters, data=data, headers=headers)
        status = response.status_code
        if status == 413:
            raise _TooLarge(
                SERVICE, f"{method} {place(url)} answered 413: too large. Ask for, or send, fewer or smaller records."
            )
        if status >= 400:
            said = server_words(response)
            raise ServiceError(SERVICE, f"{method} {place(url)} answered {status}" + (f": {said}" if said else "."))
        return response

    def _signature(self, method: str, url: str, body: str | None, headers: Mapping[str, str]) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        if self._boto is None:
            import boto3

            self._boto = boto3.session.Session()
        credentials = self._boto.get_credentials()
        if credentials is None:
            raise AccessRefused(
                SERVICE,
                "writing needs AWS credentials, and boto3 finds none. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY.",
            )
        if not self._boto.region_name:
            raise ServiceError(SERVICE, "writing needs an AWS region. Set AWS_REGION (e.g. us-west-2).")
        signed = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(credentials, "execute-api", self._boto.region_name).add_auth(signed)
        return dict(signed.headers.items())

    @staticmethod
    def _parsed(response: requests.Response) -> Any:
        from aind_pipelines.clients.http import place

        try:
            # A byte that is no UTF-8 stays what it is, as half of a surrogate pair, and hides nothing around it.
            return json.loads(response.content.decode("utf-8", "surrogateescape"))
        except ValueError:
            raise UnexpectedAnswer(
                SERVICE,
                f"{place(response.url)} answered {response.status_code} with something that is no JSON "
                f"({response.headers.get('Content-Type', 'no content type')}). Check DOC_DB_API_HOST.",
            ) from None


class MetadataDbClient(Client):
    """Metadata records, and what the gateway does with assets beside them."""

    def __init__(
        self,
        host: str,
        database: str = "metadata_index",
        collection: str = "data_assets",
        version: str = "v1",
        boto: boto3.session.Session | None = None,
        session: requests.Session | None = None,
    ) -> None:
        super().__init__(host, database, collection, version, boto, session)

    def generate_data_summary(self, record_id: str) -> Record:
        """A summary of one record, as the gateway words it.

        Raises:
            ServiceError: No such record, or the gateway refused or cannot be reached.
        """
        return self._signed("GET", f"{self.host}/{self.version}/data_summary/{quote(record_id, safe='')}")

    def register_asset(self, s3_location: str) -> Record:
        """Make the asset at an S3 location known.

        Raises:
            ServiceError: The gateway refused or cannot be reached.
        """
        return self._signed("POST", f"{self.host}/{self.version}/assets/register", {"s3_location": s3_location})

    def register_co_result(self, s3_location: str, name: str, co_asset_id: str, co_computation_id: str) -> Record:
        """Make an asset that a Code Ocean computation wrote known.

        Raises:
            ServiceError: The gateway refused or cannot be reached.
        """
        body = {
            "s3_location": s3_location,
            "name": name,
            "co_asset_id": co_asset_id,
            "co_computation_id": co_computation_id,
        }
        return self._signed("POST", f"{self.host}/{self.version}/assets/register", body)

    def deregister_asset(self, s3_location: str) -> Record:
        """Take the records of the asset at an S3 location out of DocDB.

        Raises:
            ServiceError: The gateway refused or cannot be reached.
        """
        return self._signed("DELETE", f"{self.host}/{self.version}/assets/deregister", {"s3_location": s3_location})

    def add_qc_evaluation(self, data_asset_id: str, qc_contents: Query) -> Record:
        """Append quality control to a record. Never repeated by itself: twice would be twice.

        Args:
            data_asset_id: ``_id`` of the record.
            qc_contents: ``{"qc_evaluation": ...}``.

        Raises:
            ServiceError: The gateway refused or cannot be reached.
        """
        body = {**qc_contents, "data_asset_id": data_asset_id}
        return self._signed("POST", f"{self.host}/{self.version}/add_qc_evaluation", body)


class AnalysisDbClient(Client):
    """Results of analyses, one collection per project."""

    def __init__(
        self,
        host: str,
        collection: str,
        database: str = "analysis",
        version: str = "v1",
        boto: boto3.session.Session | None = None,
        session: requests.Session | None = None,
    ) -> None:
        super().__init__(host, database, collection, version, boto, session)


class SchemaDbClient(Client):
    """JSON schemas, one collection per model, ``_id`` is the schema version."""

    def __init__(
        self,
        host: str,
        collection: str,
        database: str = "schemas",
        version: str = "v1",
        boto: boto3.session.Session | None = None,
        session: requests.Session | None = None,
    ) -> None:
        super().__init__(host, database, collection, version, boto, session)

    def retrieve_schema_records(
        self,
        schema_version: str | None = None,
        projection: Query | None = None,
        sort: Sort | None = None,
        limit: int = 0,
    ) -> list[Record]:
        """Schemas of this collection's model.

        Args:
            schema_version: Only this version; None for all.
            projection: MongoDB projection.
            sort: Fields with 1 or -1.
            limit: At most so many; 0 for all.

        Raises:
            ServiceError: The gateway refused, cannot be reached, or the answer is too large.
        """
        query = None if schema_version is None else {"_id": schema_version}
        parameters = _parameters(query, projection, dict(sort) if sort else None, limit)
        return self._read(self._send("GET", self._base, parameters=parameters))


class _TooLarge(ServiceError):
    """The gateway's limit on requests or answers (413)."""


class _Pages(Generic[_Item]):
    """One filtered collection, as the keyset walk asks for it; `read` takes the records out of an answer."""

    def __init__(
        self,
        client: Client,
        query: Query | None,
        projection: Query | None,
        size: int,
        read: Callable[[requests.Response], Sequence[_Item]],
    ) -> None:
        self._client = client
        self._query = query
        self._projection = projection
        self._size = self._now = size
        self._read = read

    def page(self, bound: Query) -> Sequence[_Item | OversizedRecord]:
        try:
            records: Sequence[_Item | OversizedRecord] = self._ask(bound, self._now)
        except _TooLarge:
            # The gateway cuts pages that hold more than it may give, so most likely the first record alone does.
            records = self._first(bound)
        else:
            self._now = min(self._now * 2, self._size)
        return records

    def _ask(self, bound: Query, limit: int) -> Sequence[_Item]:
        return self._read(self._client._found(with_id(self._query, bound), self._projection, {"_id": 1}, limit))

    def _first(self, bound: Query) -> Sequence[_Item | OversizedRecord]:
        """The first record alone, or what stands for it; then the walk goes on with pages that grow again."""
        for found in self._client._find(with_id(self._query, bound), {"_id": 1}, {"_id": 1}, 1):
            try:
                # By its _id: another one may have become the first meanwhile.
                records = self._ask({"$eq": id_of(found)}, 1)
            except _TooLarge:
                return [OversizedRecord(found)]
            self._now = 1
            return records
        return []

    def end(self, direction: int) -> list[Any]:
        number = 0
        for _ in range(2):  # one may come between the two requests
            found = self._client._find(self._query, {"_id": 1}, {"_id": direction}, 1)
            number = 0 if found else self._client.count(self._query)
            if not number:
                return [record.get("_id") for record in found]
        raise UnexpectedAnswer(SERVICE, f"GET find gave no record, although {number:,} match. Repeat the read.")

    def others(self) -> Iterator[_Item]:
        stages: list[Query] = [{"$match": {"$and": [dict(self._query or {}), dict(NOT_TEXT)]}}]
        stages += [{"$project": dict(self._projection)}] if self._projection else []
        yield from self._read(self._client._aggregated(stages))


def _id_of_either(record: RecordText | Record) -> Any:
    return id_of(record) if isinstance(record, dict) else record.id


def _parameters(
    query: Query | None, projection: Query | None, sort: Mapping[str, int] | None, limit: int
) -> dict[str, str]:
    parameters = {"limit": str(limit), "skip": "0"}
    for name, value in (("filter", query), ("projection", projection), ("sort", sort)):
        if value:
            parameters[name] = to_json(value)
    return parameters


def _records(answer: Any, asked: str) -> list[Record]:
    if not isinstance(answer, list) or not all(isinstance(record, dict) for record in answer):
        raise UnexpectedAnswer(SERVICE, f"{asked} gave no list of records. Check DOC_DB_API_HOST.")
    return answer


def to_json(value: Any) -> str:
    """JSON as the gateway gets it: dates and times as Python's `str` writes them, like the published client.

    Raises:
        ValueError: A value that JSON cannot hold: NaN, an infinity, an object of another kind.
    """
    try:
        return json.dumps(value, default=_as_text, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"The record or query cannot be written as JSON: {error}.") from None
    except ValueError as error:
        raise ValueError(f"The record or query holds what JSON has not: {error}.") from None


def _as_text(value: Any) -> str:
    if isinstance(value, date | datetime | time | UUID | Decimal) or type(value).__name__ == "ObjectId":
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def _identity(record: Query) -> Any:
    if record.get("_id") is None:
        raise ValueError("Record does not have an _id field.")
    return record["_id"]


def _upsert(record: Query) -> dict[str, Any]:
    # The gateway expects the text "True" here.
    return {"filter": {"_id": _identity(record)}, "update": {"$set": dict(record)}, "upsert": "True"}


def _chunks(operations: Sequence[tuple[str, str]], max_bytes: int) -> list[list[tuple[str, str]]]:
    """Operations in requests of at most `max_bytes`: two brackets around, and a comma and space between them."""
    chunks: list[list[tuple[str, str]]] = []
    size = 0
    for operation in operations:
        length = len(operation[1]) + 2  # the text is ASCII: characters are bytes
        if not chunks or size + length > max_bytes:
            chunks.append([])
            size = 0
        chunks[-1].append(operation)
        size += length
    return chunks
