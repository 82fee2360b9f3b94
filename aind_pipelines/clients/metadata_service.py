"""The metadata-service: what the institute's own databases say about subjects, procedures, materials and projects.

`AindMetadataServiceClient` has the methods of the published client, which give plain responses, and `ask`, which
understands what both generations of the service mean by their status codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import requests

from aind_pipelines.clients.errors import UnexpectedAnswer
from aind_pipelines.clients.http import build_session, place, request, server_words

SERVICE = "metadata-service"
TIMEOUT: tuple[float, float] = (5.0, 120.0)
"""Seconds for (a connection, the next byte); procedures alone cost the real service nine calls of its own."""

_BY_KEY = frozenset(
    {
        "subject",
        "procedures",
        "intended_measurements",
        "tars_injection_materials",
        "protocols",
        "mgi_allele",
        "perfusions",
        "funding",
        "instrument",
    }
)
_BY_KEY_V1 = _BY_KEY | {"rig"}
_BY_KEY_V2 = _BY_KEY | {"investigators"}
_SLIMS = frozenset({"ecephys_sessions", "smartspim_imaging", "histology", "water_restriction", "viral_injections"})
_ALIASES = {"injection_materials": "tars_injection_materials", "mgi_alleles": "mgi_allele"}
_PATH_UNKNOWN = "Not Found"
"""FastAPI's own words for a path that does not exist; the service says "Not found" of data."""


@dataclass(frozen=True)
class Answer:
    """What the service said.

    Attributes:
        status: HTTP status code, as it was sent.
        message: The service's words; for v2 those of ``X-Error-Message`` or of the detail, else empty.
        data: A model, a list, or None when there is none.
    """

    status: int
    message: str
    data: Any

    @property
    def found(self) -> bool:
        """Whether there is data, valid or not."""
        return self.data is not None

    @property
    def valid(self) -> bool:
        """Whether there is data that the service vouches for."""
        if self.status == 300:  # "All Models Valid.", or the errors of some
            return self.found and "valid" in self.message.lower() and "error" not in self.message.lower()
        return self.found and self.status == 200


class AindMetadataServiceClient:
    """Asks a metadata-service.

    The ``get_`` methods are those of the published client: they return the response whatever its status, and raise
    only requests' exceptions. Requests are repeated with backoff where the service failed or could not be reached.

    Args:
        domain: e.g. ``http://aind-metadata-service``.
        session: To send with; default: one with retries.
        timeout: Seconds, or seconds for (a connection, the next byte).
        version: ``v1`` (unprefixed paths, envelope) or ``v2`` (``/api/v2``, no envelope). What v2 does not offer is
            asked of the unprefixed paths.
    """

    def __init__(
        self,
        domain: str,
        session: requests.Session | None = None,
        timeout: float | tuple[float, float] = TIMEOUT,
        version: Literal["v1", "v2"] = "v1",
    ) -> None:
        if version not in ("v1", "v2"):
            raise ValueError(f"The metadata-service has generations v1 and v2, not {version!r}.")
        self.domain = domain.rstrip("/")
        self.version = version
        self._session = session or build_session()
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(self, endpoint: str, key: str = "") -> Answer:
        """Ask for what the service has under `key`.

        "Not there" is an answer (status 404, or 406 of v2 for a key that cannot be one), and so is data that fails
        validation (406 of v1, 400 of v2, 300 for several models, 207 for data of which a part could not be fetched).
        An outage is never an answer.

        Args:
            endpoint: e.g. ``subject``, ``procedures``, ``funding``, ``project_names``, ``smartspim_imaging``.
            key: Subject id, lot number, name ...; for SLIMS endpoints a subject id, or empty for all.

        Raises:
            ServiceUnavailable: The service, or what it asks itself, cannot be reached or fails, after retries.
            AccessRefused: The service demands other credentials.
            UnexpectedAnswer: It answered something else than its contract allows, or does not offer the endpoint.
        """
        url, parameters, generation = self._address(endpoint, key)
        response = request(self._session, SERVICE, "GET", url, params=parameters, timeout=self._timeout)
        return _understand_v2(response) if generation == "v2" else _understand_v1(response)

    def _address(self, endpoint: str, key: str) -> tuple[str, dict[str, str] | None, Literal["v1", "v2"]]:
        name = _ALIASES.get(endpoint, endpoint)
        if name in _SLIMS:
            return f"{self.domain}/slims/{name}", {"subject_id": key} if key else None, "v1"
        by_key = _BY_KEY_V2 if self.version == "v2" else _BY_KEY_V1
        if name == "project_names":
            path = name
        elif name in by_key or name in _BY_KEY_V1:
            if not key:
                raise ValueError(f"The endpoint {endpoint} needs a key to ask for.")
            path = f"{name}/{quote(key, safe='')}"
        else:
            raise ValueError(f"The metadata-service {self.version} has no endpoint {endpoint!r}.")
        if self.version == "v2" and (name in _BY_KEY_V2 or name == "project_names"):
            return f"{self.domain}/api/v2/{path}", None, "v2"
        return f"{self.domain}/{path}", None, "v1"

    def _get(
        self, endpoint: str, key: str = "", parameters: Mapping[str, str | None] | None = None
    ) -> requests.Response:
        url, _, _ = self._address(endpoint, key)
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return self._session.get(url, params=given or None, timeout=self._timeout)

    def get_subject(self, subject_id: str) -> requests.Response:
        """Subject, by its id."""
        return self._get("subject", subject_id)

    def get_procedures(self, subject_id: str) -> requests.Response:
        """Procedures done on a subject."""
        return self._get("procedures", subject_id)

    def get_intended_measurements(self, subject_id: str) -> requests.Response:
        """What is meant to be measured on a subject."""
        return self._get("intended_measurements", subject_id)

    def get_injection_materials(self, prep_lot_number: str) -> requests.Response:
        """Material of a preparation lot."""
        return self._get("tars_injection_materials", prep_lot_number)

    def get_ecephys_sessions(
        self,
        subject_id: str | None = None,
        session_name: str | None = None,
        start_date_gte: str | None = None,
        end_date_lte: str | None = None,
    ) -> requests.Response:
        """Electrophysiology sessions of a subject (the published client asks a path that no server has)."""
        return self._slims("ecephys_sessions", subject_id, start_date_gte, end_date_lte, session_name)

    def get_protocols(self, protocol_name: str) -> requests.Response:
        """Protocol, by its name."""
        return self._get("protocols", protocol_name)

    def get_mgi_allele(self, allele_name: str) -> requests.Response:
        """Allele, by its name."""
        return self._get("mgi_allele", allele_name)

    def get_perfusions(self, subject_id: str) -> requests.Response:
        """Perfusion of a subject."""
        return self._get("perfusions", subject_id)

    def get_funding(self, project_name: str) -> requests.Response:
        """Funding of a project."""
        return self._get("funding", project_name)

    def get_project_names(self) -> requests.Response:
        """Names of all projects."""
        return self._get("project_names")

    def get_instrument(self, instrument_id: str, partial_match: bool = False) -> requests.Response:
        """Instrument, by its id or a part of it."""
        return self._get("instrument", instrument_id, {"partial_match": "true" if partial_match else None})

    def get_rig(self, rig_id: str, partial_match: bool = False) -> requests.Response:
        """Rig, by its id or a part of it."""
        return self._get("rig", rig_id, {"partial_match": "true" if partial_match else None})

    def get_smartspim_imaging(
        self, subject_id: str | None = None, start_date_gte: str | None = None, end_date_lte: str | None = None
    ) -> requests.Response:
        """SmartSPIM imaging runs of a subject, created between two ISO dates."""
        return self._slims("smartspim_imaging", subject_id, start_date_gte, end_date_lte)

    def get_histology(
        self, subject_id: str | None = None, start_date_gte: str | None = None, end_date_lte: str | None = None
    ) -> requests.Response:
        """Histology runs of a subject, created between two ISO dates."""
        return self._slims("histology", subject_id, start_date_gte, end_date_lte)

    def get_water_restriction(
        self, subject_id: str | None = None, start_date_gte: str | None = None, end_date_lte: str | None = None
    ) -> requests.Response:
        """Water restrictions of a subject, created between two ISO dates."""
        return self._slims("water_restriction", subject_id, start_date_gte, end_date_lte)

    def get_viral_injections(
        self, subject_id: str | None = None, start_date_gte: str | None = None, end_date_lte: str | None = None
    ) -> requests.Response:
        """Viral injections of a subject, created between two ISO dates."""
        return self._slims("viral_injections", subject_id, start_date_gte, end_date_lte)

    def _slims(
        self, endpoint: str, subject_id: str | None, start: str | None, end: str | None, session: str | None = None
    ) -> requests.Response:
        wanted = {"subject_id": subject_id, "session_name": session, "start_date_gte": start, "end_date_lte": end}
        return self._get(endpoint, parameters=wanted)


def _unexpected(response: requests.Response, why: str) -> UnexpectedAnswer:
    words = server_words(response)
    said = f" ({words})" if words else ""
    return UnexpectedAnswer(SERVICE, f"GET {place(response.url)} answered {response.status_code}{said}: {why}")


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise _unexpected(response, "no JSON. Is this address a metadata-service?") from None


def _understand_v1(response: requests.Response) -> Answer:
    """200 valid, 300 several, 406 (and 422 of instruments and rigs) not validated but there, 207 partly, 404 none."""
    body, status = _json(response), response.status_code
    if not isinstance(body, dict) or not {"message", "data"} <= set(body):
        raise _unexpected(response, "no envelope of message and data. Does the server offer this path, in v1?")
    message, data = str(body["message"]), body["data"]
    if status == 404:
        return Answer(status, message, None)
    if status in (200, 207, 300, 406, 422) and data is not None:
        return Answer(status, message, data)
    raise _unexpected(response, "not a status that the contract of v1 allows with this body.")


def _understand_v2(response: requests.Response) -> Answer:
    """200 the body is the data, 400 with ``X-Error-Message`` there but invalid, 404 none, 406 no possible key."""
    body, status = _json(response), response.status_code
    problem = response.headers.get("X-Error-Message")
    detail = body.get("detail") if isinstance(body, dict) and set(body) == {"detail"} else None
    if status == 200 and body is not None and detail is None:
        return Answer(status, "", body)
    if status == 400 and problem is not None:
        return Answer(status, problem, body)
    if status in (404, 406) and isinstance(detail, str) and detail != _PATH_UNKNOWN:
        return Answer(status, detail, None)
    raise _unexpected(response, "not what the contract of v2 allows. Does the server offer this path, in v2?")
