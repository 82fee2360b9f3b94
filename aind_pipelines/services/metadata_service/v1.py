"""Generation 1: unprefixed paths, every answer in an envelope ``{"message", "data"}``.

200 one valid model, 300 several, 404 none, 406 data that fails validation, 503 the source cannot be reached, 500 the
rest, 400 a date or subject that cannot be one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from aind_pipelines.services.metadata_service.source import Found, Source, SourceUnreachable

_log = logging.getLogger(__name__)
_SLIMS = ("ecephys_sessions", "smartspim_imaging", "histology", "water_restriction", "viral_injections")
_CREATED = ("experiment_run_created_on", "date_performed", "start_date")
"""Where the tables of SLIMS keep the date that they are searched by, the first that there is."""


def envelope(status: int, message: str, data: Any = None) -> JSONResponse:
    """An answer of generation 1."""
    return JSONResponse({"message": message, "data": data}, status)


def internal_error() -> JSONResponse:
    """What a failure of ours looks like."""
    return envelope(500, "Internal Server Error.")


def _answer(found: Found) -> JSONResponse:
    models, problem = found.models, found.problem
    if not models:
        return envelope(404, "No Data Found.")
    if len(models) > 1:
        verdict = f"Validation Errors: {problem}" if problem else "All Models Valid."
        return envelope(300, f"Multiple Items Found. {verdict}", models)
    if problem:
        return envelope(406, f"Validation Errors: {problem}", models[0])
    return envelope(200, "Valid Model.", models[0])


def _reached(ask: Callable[[], JSONResponse]) -> JSONResponse:
    try:
        return ask()
    except SourceUnreachable as error:
        _log.warning("answered 503: %s", error)
        return envelope(503, "Connection Error.")


class _BadDate(ValueError):
    pass


def _moment(value: str, *, end_of_day: bool) -> datetime:
    """A date or time in ISO form; without a zone it is taken as UTC, and a date means its whole day."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _BadDate(f"{value} is not valid ISOFormat!") from None
    if len(value) <= len("2023-01-01") and end_of_day:
        moment = datetime.combine(moment.date(), time.max)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _created(row: Any) -> datetime | None:
    text = next((row[name] for name in _CREATED if row.get(name)), None)
    try:
        return _moment(str(text), end_of_day=False)
    except _BadDate:
        return None


def _rows(
    source: Source, table: str, subject_id: str | None, session_name: str | None, start: str | None, end: str | None
) -> JSONResponse:
    if subject_id == "":
        return envelope(400, "subject_id cannot be an empty string!")
    try:
        earliest = _moment(start, end_of_day=False) if start else None
        latest = _moment(end, end_of_day=True) if end else None
    except _BadDate as error:
        return envelope(400, str(error))

    def wanted(row: Any) -> bool:
        if subject_id is not None and row.get("subject_id") != subject_id:
            return False
        if session_name is not None and row.get("session_name") != session_name:
            return False
        if earliest is None and latest is None:
            return True
        created = _created(row)
        return created is not None and (earliest is None or created >= earliest) and (not latest or created <= latest)

    rows = [row for row in source.rows(table) if wanted(row)]
    return envelope(200, "Data from SLIMS", rows) if rows else envelope(404, "No Data Found.")


def _matching(source: Source, table: str, key: str, *, partial: bool) -> Found:
    if not partial:
        return source.find(table, key)
    found = [source.find(table, name) for name in source.keys(table) if key in name]
    problems = [each.problem for each in found if each.problem]
    return Found([model for each in found for model in each.models], "; ".join(problems) or None)


def router(source: Source) -> APIRouter:
    """The paths of generation 1."""
    routes = APIRouter(tags=["v1"])

    def keyed(path: str, table: str) -> None:
        def ask(key: str) -> JSONResponse:
            return _reached(lambda: _answer(source.find(table, key)))

        routes.add_api_route(f"/{path}/{{key:path}}", ask, name=path)

    def keyed_by_part(path: str, table: str) -> None:
        def ask(key: str, partial_match: bool = False) -> JSONResponse:
            return _reached(lambda: _answer(_matching(source, table, key, partial=partial_match)))

        routes.add_api_route(f"/{path}/{{key:path}}", ask, name=path)

    def listed(table: str) -> None:
        def ask(
            subject_id: str | None = None,
            session_name: str | None = None,
            start_date_gte: Annotated[str | None, Query(description="created on or after, ISO")] = None,
            end_date_lte: Annotated[str | None, Query(description="created on or before, ISO")] = None,
        ) -> JSONResponse:
            return _reached(lambda: _rows(source, table, subject_id, session_name, start_date_gte, end_date_lte))

        routes.add_api_route(f"/slims/{table}", ask, name=table)

    @routes.get("/project_names", name="project_names")
    def project_names() -> JSONResponse:
        return _reached(lambda: envelope(200, "Success", source.rows("project_names")))

    for path, table in (
        ("subject", "subjects"),
        ("procedures", "procedures"),
        ("intended_measurements", "intended_measurements"),
        ("tars_injection_materials", "injection_materials"),
        ("protocols", "protocols"),
        ("mgi_allele", "mgi_alleles"),
        ("perfusions", "perfusions"),
        ("funding", "funding"),
    ):
        keyed(path, table)
    keyed_by_part("instrument", "instruments")
    keyed_by_part("rig", "rigs")
    for table in _SLIMS:
        listed(table)
    return routes
