"""The gateway's HTTP face: which path asks for what, who must sign, and which status a failure gets.

Errors are JSON ``{"message": ...}``: 400 a request that cannot be carried out, 403 unsigned or wrongly signed, 404,
409 a duplicate, 413 too large, 503 DocDB cannot be reached.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aind_pipelines.services.docdb_gateway import store
from aind_pipelines.services.docdb_gateway.sigv4 import SignatureRefused, SignedRequest, verify
from aind_pipelines.services.docdb_gateway.store import BadRequest, Document, Forbidden, NotFound, TooLarge

DEFAULT_MAX_PAGE_BYTES = 5_000_000
MAX_REQUEST_BYTES = 10_000_000
"""API Gateway's own limit on a request's body."""

_DUPLICATE_KEY = 11000
_NOT_AUTHENTICATED = frozenset({13, 18})
_TEMPORARY = frozenset({43, 89, 91, 189, 262, 10107, 11600, 11602, 13435, 13436})
"""Server codes of a DocDB that is starting, stopping, changing its primary, that lost a cursor or ran out of time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gateway:
    """What the routes need.

    Attributes:
        client: DocDB.
        keys: Secret key by access key, of those who may write.
        max_page_bytes: Bytes that one answer may have.
    """

    client: MongoClient[Document]
    keys: Mapping[str, str] = field(repr=False)
    max_page_bytes: int = DEFAULT_MAX_PAGE_BYTES


@dataclass(frozen=True)
class _Call:
    """One request, read whole."""

    gateway: Gateway
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    @property
    def version(self) -> str:
        return self.path["version"]

    @property
    def records(self) -> store.Records:
        return store.records_of(self.gateway.client, self.version, self.path["database"], self.path["collection"])

    @property
    def assets(self) -> store.Records:
        return store.assets_of(self.gateway.client, self.version)

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"The body is not JSON: {error}") from None

    def json_object(self) -> Document:
        body = self.json()
        if not isinstance(body, dict):
            raise BadRequest("The body must be a JSON object.")
        return body

    def parameter(self, name: str) -> Any:
        """A query parameter that holds JSON; None when absent or empty."""
        text = self.query.get(name)
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"'{name}' is not JSON: {error}") from None

    def mapping(self, name: str) -> Document | None:
        value = self.parameter(name)
        if value is not None and not isinstance(value, dict):
            raise BadRequest(f"'{name}' must be a JSON object.")
        return value

    def number(self, name: str) -> int:
        text = self.query.get(name) or "0"
        if not text.isascii() or not text.isdecimal() or len(text) > 10:
            raise BadRequest(f"'{name}' must be a whole number, 0 or more.")
        return int(text)


_Answer = Callable[[_Call], "Response | Document"]


def _sort(call: _Call) -> list[tuple[str, int]]:
    value = call.parameter("sort")
    pairs = list(value.items()) if isinstance(value, dict) else value or []
    if not isinstance(pairs, list):
        raise BadRequest("'sort' must be a JSON object of fields and 1 or -1.")
    order = []
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and pair[1] in (1, -1)):
            raise BadRequest("'sort' must be a JSON object of fields and 1 or -1.")
        order.append((pair[0], int(pair[1])))
    return order


def _page(call: _Call, *, whole: bool) -> Response:
    text = store.page(
        call.records,
        query=call.mapping("filter") or {},
        projection=call.mapping("projection") or None,
        sort=_sort(call),
        limit=call.number("limit"),
        skip=call.number("skip"),
        max_bytes=call.gateway.max_page_bytes,
        whole=whole,
    )
    return Response(text, media_type="application/json")


def _find(call: _Call) -> Response:
    return _page(call, whole=False)


def _whole_collection(call: _Call) -> Response:
    return _page(call, whole=True)


def _count(call: _Call) -> Document:
    return store.count(call.records, call.mapping("filter"))


def _aggregate(call: _Call) -> Response:
    pipeline = call.json()
    if not isinstance(pipeline, list) or not all(isinstance(stage, dict) for stage in pipeline):
        raise BadRequest("The body must be a JSON list of pipeline stages.")
    text = store.aggregate(call.records, pipeline, call.gateway.max_page_bytes)
    return Response(text, media_type="application/json")


def _deregister(call: _Call) -> Document:
    generations = [store.assets_of(call.gateway.client, version) for version in ("v1", "v2")]
    return store.deregister(generations, call.json_object())


_COLLECTION = "/{version}/{database}/{collection}"
_READS: list[tuple[str, str, _Answer]] = [
    ("GET", f"{_COLLECTION}/find", _find),
    ("GET", f"{_COLLECTION}/count_documents", _count),
    ("POST", f"{_COLLECTION}/aggregate", _aggregate),
    ("GET", _COLLECTION, _whole_collection),
]
_WRITES: list[tuple[str, str, _Answer]] = [
    ("GET", "/{version}/data_summary/{record_id}", lambda call: store.summary(call.assets, call.path["record_id"])),
    (
        "POST",
        "/{version}/assets/register",
        lambda call: store.register(call.assets, call.version, call.json_object()),
    ),
    ("DELETE", "/{version}/assets/deregister", _deregister),
    (
        "POST",
        "/{version}/add_qc_evaluation",
        lambda call: store.add_qc_evaluation(call.assets, call.version, call.json_object()),
    ),
    ("POST", f"{_COLLECTION}/insert_one", lambda call: store.insert_one(call.records, call.json_object())),
    ("POST", f"{_COLLECTION}/update_one", lambda call: store.update_one(call.records, call.json_object())),
    ("POST", f"{_COLLECTION}/bulk_write", lambda call: store.bulk_write(call.records, call.json())),
    (
        "DELETE",
        f"{_COLLECTION}/delete_one",
        lambda call: store.delete(call.records, call.json_object(), many=False),
    ),
    (
        "DELETE",
        f"{_COLLECTION}/delete_many",
        lambda call: store.delete(call.records, call.json_object(), many=True),
    ),
]


def message(status: int, text: str) -> JSONResponse:
    """An error as the gateway writes it."""
    return JSONResponse({"message": text}, status)


def _docdb_says(error: PyMongoError) -> JSONResponse:
    if isinstance(error, DuplicateKeyError):
        return message(409, "A record with this _id or unique field exists already.")
    if isinstance(error, BulkWriteError):
        first: Document = next(iter(error.details.get("writeErrors", [])), {})
        status = 409 if first.get("code") == _DUPLICATE_KEY else 400
        text = f"Operation {first.get('index')} failed: {first.get('errmsg')}. Those before it were carried out."
        return message(status, text)
    if isinstance(error, OperationFailure):
        if error.code in _NOT_AUTHENTICATED:
            _log.error("DocDB refuses the gateway's own login (code %s)", error.code)
            return message(503, "DocDB refuses the gateway's login. Check DOCDB_GATEWAY_MONGO_URI.")
        if isinstance(error, ExecutionTimeout) or error.code in _TEMPORARY:
            return message(503, "DocDB did not answer in time. Try again.")
        return message(400, f"DocDB refused the request: {(error.details or {}).get('errmsg', error)}")
    if isinstance(error, ConnectionFailure):  # includes no server found, and timeouts of the network
        _log.warning("DocDB cannot be reached: %s", type(error).__name__)
        return message(503, "DocDB cannot be reached. Try again when it is up.")
    if isinstance(error, DocumentTooLarge):
        return message(413, "The record is too large for DocDB.")
    return message(400, f"DocDB cannot take this request: {error}")


def _carry_out(answer: _Answer, call: _Call) -> Response:
    try:
        result = answer(call)
    except BadRequest as error:
        return message(400, str(error))
    except Forbidden as error:
        return message(403, str(error))
    except NotFound as error:
        return message(404, str(error))
    except TooLarge as error:
        return message(413, str(error))
    except PyMongoError as error:
        return _docdb_says(error)
    except (BSONError, TypeError, ValueError, OverflowError) as error:
        # pymongo checks what it is given before it sends it: the caller's filter, update or record
        return message(400, f"DocDB cannot take this request: {error}")
    return result if isinstance(result, Response) else Response(store.to_json(result), media_type="application/json")


def _signed(request: Request, body: bytes) -> SignedRequest:
    scope = request.scope
    return SignedRequest(
        method=request.method,
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        body=body,
    )


async def _body_of(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_REQUEST_BYTES:
            raise TooLarge(f"Request Entity Too Large: the body exceeds {MAX_REQUEST_BYTES} bytes.")
    return bytes(parts)


def _endpoint(gateway: Gateway, answer: _Answer, *, signed: bool) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body_of(request)
        except TooLarge as error:
            return message(413, str(error))
        if signed:
            try:
                verify(_signed(request, body), gateway.keys, datetime.now(UTC))
            except SignatureRefused as error:
                return message(403, str(error))
        if request.path_params["version"] not in ("v1", "v2"):
            return message(404, "Not Found")
        call = _Call(gateway, request.path_params, request.query_params, body)
        return await run_in_threadpool(_carry_out, answer, call)

    return endpoint


def routes(gateway: Gateway) -> list[Route]:
    """Every route; the ones with fixed words come before those where any database and collection fit."""

    def ping(_: Request) -> Response:
        try:
            gateway.client.admin.command("ping")
        except PyMongoError as error:
            return _docdb_says(error)
        return JSONResponse({"status": "OK"})

    return [
        Route("/healthcheck", ping),
        *(Route(p, _endpoint(gateway, a, signed=True), methods=[m]) for m, p, a in _WRITES),
        *(Route(p, _endpoint(gateway, a, signed=False), methods=[m]) for m, p, a in _READS),
    ]
