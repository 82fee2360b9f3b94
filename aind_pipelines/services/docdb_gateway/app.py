"""Assembly of the gateway: its ASGI app, and its settings from command line and environment."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping

from pymongo.errors import PyMongoError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from aind_pipelines.services.docdb_gateway.routes import DEFAULT_MAX_PAGE_BYTES, Gateway, message, routes
from aind_pipelines.services.docdb_gateway.store import connect
from aind_pipelines.services.serving import CannotStart, serve

URI_VARIABLE = "DOCDB_GATEWAY_MONGO_URI"
KEYS_VARIABLE = "DOCDB_GATEWAY_KEYS"


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return message(error.status_code, str(error.detail))


def create_app(gateway: Gateway) -> Starlette:
    """The gateway as an ASGI app."""
    return Starlette(routes=routes(gateway), exception_handlers={HTTPException: _http_error})


def keys_from(text: str) -> dict[str, str]:
    """Secret key by access key, from a JSON object.

    Raises:
        CannotStart: It is none. The text itself is never shown.
    """
    try:
        keys = json.loads(text)
    except ValueError:
        keys = None
    if not isinstance(keys, dict) or not all(isinstance(secret, str) and secret for secret in keys.values()):
        raise CannotStart(f"{KEYS_VARIABLE} must be a JSON object of access keys and their secret keys.")
    return keys


def gateway_from(environment: Mapping[str, str], max_page_bytes: int) -> Gateway:
    """The gateway that the environment describes. DocDB need not be up yet.

    Raises:
        CannotStart: A variable is missing or cannot be used.
    """
    for name in (URI_VARIABLE, KEYS_VARIABLE):
        if not environment.get(name):
            raise CannotStart(f"{name} is not set.")
    try:
        client = connect(environment[URI_VARIABLE])
    except (PyMongoError, ValueError, TypeError) as error:
        raise CannotStart(f"{URI_VARIABLE} is no MongoDB URI ({type(error).__name__}).") from None
    return Gateway(client, keys_from(environment[KEYS_VARIABLE]), max_page_bytes)


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m aind_pipelines.services.docdb_gateway",
        description=f"DocDB REST gateway. {URI_VARIABLE} says where DocDB is, {KEYS_VARIABLE} who may write.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--max-page-bytes",
        type=int,
        default=DEFAULT_MAX_PAGE_BYTES,
        help="bytes that one answer may have (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    serve(create_app(gateway_from(os.environ, given.max_page_bytes)), given.host, given.port)
