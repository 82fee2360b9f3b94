"""Assembly of the metadata-service, and its command line."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from aind_pipelines.services.metadata_service import v1, v2
from aind_pipelines.services.metadata_service.source import JsonTables, Source
from aind_pipelines.services.serving import serve

_log = logging.getLogger(__name__)


def _failure(request: Request, error: Exception) -> Response:
    _log.error("%s failed", request.url.path, exc_info=error)
    return v2.internal_error() if request.url.path.startswith(v2.PREFIX) else v1.internal_error()


def create_app(source: Source) -> FastAPI:
    """The service over a source of models, as an ASGI app; its documentation is at ``/docs``."""
    app = FastAPI(title="metadata-service", version=v2.SERVICE_VERSION)
    app.include_router(v2.router(source))
    app.include_router(v1.router(source))
    app.add_exception_handler(Exception, _failure)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m aind_pipelines.services.metadata_service", description="metadata-service, v1 and v2"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--tables", type=Path, required=True, help="JSON file of tables; read again when it changes, may be missing"
    )
    given = parser.parse_args(arguments)
    serve(create_app(JsonTables(given.tables)), given.host, given.port)
