"""Generation 2: paths under ``/api/v2``, the body is the model or the list itself.

200 valid, 400 with ``X-Error-Message`` data that fails validation, 404 none, 406 a key that cannot be one, 503 the
source cannot be reached, 500 the rest, several models where one is meant included.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from aind_pipelines.services.metadata_service.generations import TO_V2, investigators
from aind_pipelines.services.metadata_service.source import Found, Source, SourceUnreachable

PREFIX = "/api/v2"
SERVICE_VERSION = "2.9.6"
"""The version of the published service whose answers are followed."""

_log = logging.getLogger(__name__)
_LONGEST_HEADER = 3800
_TOO_LONG = "Validation errors were found, too many to list here."


def detail(status: int, text: str) -> JSONResponse:
    """An answer without data."""
    return JSONResponse({"detail": text}, status)


def internal_error() -> JSONResponse:
    """What a failure of ours looks like."""
    return detail(500, "Internal Server Error")


def _reached(ask: Callable[[], JSONResponse]) -> JSONResponse:
    try:
        return ask()
    except SourceUnreachable as error:
        _log.warning("answered 503: %s", error)
        return detail(503, "Connection Error")


def _problem_header(problem: str) -> dict[str, str]:
    text = json.dumps([{"type": "value_error", "loc": [], "msg": problem}])  # ASCII, on one line
    return {"X-Error-Message": text if len(text) < _LONGEST_HEADER else _TOO_LONG}


def _with_problem(body: Any, problem: str | None) -> JSONResponse:
    return JSONResponse(body, 400, _problem_header(problem)) if problem else JSONResponse(body)


def _one(table: str, found: Found) -> JSONResponse:
    if not found.models:
        return detail(404, "Not found")
    if len(found.models) > 1:
        return internal_error()
    return _with_problem(_rewritten(table, found.models)[0], found.problem)


def _all(table: str, found: Found) -> JSONResponse:
    if not found.models:
        return detail(404, "Not found")
    return _with_problem(_rewritten(table, found.models), found.problem)


def _rewritten(table: str, models: list[Any]) -> list[Any]:
    rewrite = TO_V2.get(table)
    return [rewrite(model) for model in models] if rewrite else models


def _subject(source: Source, subject_id: str) -> JSONResponse:
    if not (subject_id.isascii() and subject_id.isdigit()):
        return detail(406, f"Subject ID {subject_id} is not valid. Please specify a numeric subject ID.")
    return _one("subjects", source.find("subjects", subject_id))


def _of_project(source: Source, project: str, answer: Callable[[Found], JSONResponse]) -> JSONResponse:
    found = source.find("funding", project)
    if not found.models and any(name.startswith(f"{project} - ") for name in source.keys("funding")):
        return detail(
            406,
            f"Project '{project}' has subprojects. "
            f"Please specify a subproject in the format: '{project} - Subproject Name'",
        )
    return answer(found)


def _investigators(found: Found) -> JSONResponse:
    named = {person["name"]: person for model in found.models for person in investigators(model)}
    return JSONResponse(list(named.values())) if named else detail(404, "Not found")


def _instrument(source: Source, key: str, *, partial: bool) -> JSONResponse:
    if not partial:
        return _all("instruments", source.find("instruments", key))
    found = [source.find("instruments", name) for name in source.keys("instruments") if key in name]
    return _all("instruments", Found([model for each in found for model in each.models]))


def router(source: Source) -> APIRouter:
    """The paths of generation 2."""
    routes = APIRouter(prefix=PREFIX, tags=["v2"])

    def keyed(path: str, table: str, answer: Callable[[str, Found], JSONResponse]) -> None:
        def ask(key: str) -> JSONResponse:
            return _reached(lambda: answer(table, source.find(table, key)))

        routes.add_api_route(f"/{path}/{{key:path}}", ask, name=f"{path}_v2")

    @routes.get("/healthcheck")
    def healthcheck() -> dict[str, str]:
        return {"status": "OK", "service_version": SERVICE_VERSION}

    @routes.get("/subject/{subject_id}")
    def subject(subject_id: str) -> JSONResponse:
        return _reached(lambda: _subject(source, subject_id))

    @routes.get("/project_names")
    def project_names() -> JSONResponse:
        return _reached(lambda: JSONResponse(source.rows("project_names")))

    @routes.get("/funding/{project_name:path}")
    def funding(project_name: str) -> JSONResponse:
        return _reached(lambda: _of_project(source, project_name, lambda found: _all("funding", found)))

    @routes.get("/investigators/{project_name:path}")
    def investigators_of(project_name: str) -> JSONResponse:
        return _reached(lambda: _of_project(source, project_name, _investigators))

    @routes.get("/instrument/{instrument_id:path}")
    def instrument(instrument_id: str, partial_match: bool = False) -> JSONResponse:
        return _reached(lambda: _instrument(source, instrument_id, partial=partial_match))

    keyed("intended_measurements", "intended_measurements", _all)
    for path, table in (
        ("procedures", "procedures"),
        ("tars_injection_materials", "injection_materials"),
        ("protocols", "protocols"),
        ("mgi_allele", "mgi_alleles"),
        ("perfusions", "perfusions"),
    ):
        keyed(path, table, _one)
    return routes
