"""The routes: who may ask, what a body must look like, and which work answers it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, NoReturn

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from nbank_registry.models import Archive, Location, Resource
from rest_framework.decorators import api_view
from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType, ValidationError
from rest_framework.permissions import AllowAny, DjangoModelPermissionsOrAnonReadOnly
from rest_framework.response import Response
from rest_framework.views import APIView

from aind_pipelines.clients.registry.records import FEATURES
from aind_pipelines.services.registry.batch import contents, writing
from aind_pipelines.services.registry.batch.idempotency import answer_once
from aind_pipelines.services.registry.batch.records import read_by

MOST_ITEMS = 2000
MOST_BYTES = 16 * 2**20


class TooLarge(APIException):  # type: ignore[misc] # rest_framework has no types
    """The body is larger than `MOST_BYTES`."""

    status_code = 413
    default_detail = f"A batch may have {MOST_BYTES} bytes. Send smaller ones."


@api_view(["GET"])  # type: ignore[untyped-decorator] # rest_framework has no types
def capabilities(_request: Any) -> Any:
    """What is offered beside the plain API, and the largest batch."""
    return Response({"features": sorted(FEATURES), "items": MOST_ITEMS, "bytes": MOST_BYTES})


@api_view(["GET"])  # type: ignore[untyped-decorator] # rest_framework has no types
def archive_contents(request: Any, name: str) -> Any:
    """The resources of an archive in the order of their ids, after the one named by ``after``, as JSON lines."""
    archive = get_object_or_404(Archive, name=name)
    rows = contents.lines(archive, request.GET.get("after", ""))
    return StreamingHttpResponse(rows, content_type="application/x-ndjson")


class _Batch(APIView):  # type: ignore[misc] # rest_framework has no types
    """A POST of JSON that is read here, once, for its digest and its content."""

    permission_classes = (DjangoModelPermissionsOrAnonReadOnly,)

    def read(self, request: Any) -> tuple[bytes, dict[str, Any]]:
        """The body of `request` and the JSON object in it."""
        if not str(request.content_type).startswith("application/json"):
            raise UnsupportedMediaType(request.content_type)
        body = request._request.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise TooLarge
        try:
            document = json.loads(body, parse_constant=_no_json)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"JSON parse error - {error}") from None
        if not isinstance(document, dict):
            raise ParseError("The body must be an object.")
        return body, document

    def listed(self, document: dict[str, Any], name: str) -> list[Any]:
        """The list called `name` of `document`, of at most `MOST_ITEMS`."""
        values = document.get(name, [])
        if not isinstance(values, list):
            raise ValidationError({"detail": f"'{name}' must be a list"})
        if len(values) > MOST_ITEMS:
            raise ValidationError({"detail": f"'{name}' may have {MOST_ITEMS} entries, not {len(values)}"})
        return values


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Register(_Batch):
    """Register many resources: ``{"items": [...]}``, each as for ``resources/``."""

    queryset = Resource.objects.none()

    def post(self, request: Any) -> Any:
        """A result per item, in order."""
        body, document = self.read(request)
        items = self.listed(document, "items")
        return Response(answer_once(request, body, lambda: {"results": writing.register(items, request.user)}))


class Locate(_Batch):
    """Add many locations: ``{"items": [{"resource_name", "archive_name", "key"?}, ...]}``."""

    queryset = Location.objects.none()

    def post(self, request: Any) -> Any:
        """A result per item, in order, and scheme and root of the archives."""
        body, document = self.read(request)
        items = self.listed(document, "items")
        return Response(answer_once(request, body, lambda: asdict(writing.locate(items))))


class Find(_Batch):
    """Look up records: ``{"names": [...], "sha1s": [...]}``. Changes nothing, and needs no login, as reading does."""

    permission_classes = (AllowAny,)

    def post(self, request: Any) -> Any:
        """The records found, each once, in no order."""
        _, document = self.read(request)
        found: dict[str, Any] = {}
        for name, field in (("names", "name"), ("sha1s", "sha1")):
            values = {value for value in self.listed(document, name) if isinstance(value, str) and "\0" not in value}
            wanted = values if field == "name" else {value.lower() for value in values}
            found |= {known.record["name"]: known.record for known in read_by(field, wanted)}
        return Response({"resources": list(found.values())})
