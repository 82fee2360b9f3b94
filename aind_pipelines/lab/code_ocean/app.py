"""The stand-in's HTTP face under ``/api/v1``, token check included."""

from __future__ import annotations

import argparse
import base64
import binascii
import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aind_pipelines.lab.code_ocean.changes import (
    BadRequest,
    attachments,
    new_computation,
    new_data_asset,
    updated_data_asset,
)
from aind_pipelines.lab.code_ocean.search import BadSearch, Item
from aind_pipelines.lab.code_ocean.state import State, StateUnreadable, visible
from aind_pipelines.services.serving import CannotStart, serve

TOKEN_VARIABLE = "CODE_OCEAN_API_TOKEN"  # noqa: S105 - the name of a variable
_NO_CONTENT = 204
_RUNNABLE = frozenset({"capsules", "pipelines"})


@dataclass(frozen=True)
class StandIn:
    """What the routes need.

    Attributes:
        state: What is known.
        token: The one access token.
        step_seconds: How long a new asset stays a draft, and a computation in each of its first two states.
        clock: Seconds since the epoch.
    """

    state: State
    token: str = field(repr=False)
    step_seconds: float = 1.0
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class _Call:
    """One request with a good token, read whole, against the present state."""

    lab: StandIn
    request: Request
    raw: bytes

    @property
    def state(self) -> State:
        return self.lab.state

    @property
    def key(self) -> str:
        return str(self.request.path_params["key"])

    def body(self) -> Any:
        try:
            return json.loads(self.raw)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from None

    def json_object(self) -> Item:
        body = self.body()
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        return body

    def kind_of(self, kind: str) -> str:
        """Where the item of the path is kept. Code Ocean serves pipelines as capsules and the other way round."""
        alike = (kind, *(_RUNNABLE - {kind})) if kind in _RUNNABLE else (kind,)
        for each in alike:
            if self.key in self.state.items[each]:
                return each
        raise HTTPException(404, f"{kind[:-1].replace('_', ' ')} {self.key} not found")

    def item(self, kind: str) -> Item:
        return self.state.items[self.kind_of(kind)][self.key]

    def replace(self, kind: str, **changes: Any) -> None:
        """Change the item of the path."""
        at = self.kind_of(kind)
        self.state.put(at, self.state.items[at][self.key] | changes)


_Answer = Callable[[_Call], Response]


def _text(text: str) -> Response:
    return Response(text, media_type="application/json")


def _done() -> Response:
    return Response(status_code=_NO_CONTENT)


def _get(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        return _text(call.state.text(call.kind_of(kind), call.key))

    return answer


def _delete(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        call.state.remove(call.kind_of(kind), call.key)
        return _done()

    return answer


def _search(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        page = call.state.searcher(kind).search(call.json_object() if call.raw else {})
        results = ", ".join(call.state.text(kind, key) for key in page.ids)
        more = f', "next_token": {json.dumps(page.next_token)}' if page.next_token else ""
        return _text(f'{{"has_more": {json.dumps(page.next_token is not None)}, "results": [{results}]{more}}}')

    return answer


def _archive(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        wish = call.request.query_params.get("archive", "").lower()
        if wish not in ("true", "false"):
            raise BadRequest("archive must be true or false")
        call.replace(kind, archived=wish == "true")
        return _done()

    return answer


def _permissions(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        item = call.item(kind)
        if call.request.method == "GET":
            return JSONResponse(item.get("permissions") or {"users": [], "groups": [], "everyone": "none"})
        call.replace(kind, permissions=call.json_object())
        return _done()

    return answer


def _create_data_asset(call: _Call) -> Response:
    items = call.state.items
    asset = new_data_asset(
        call.json_object(), items["data_assets"], items["computations"], call.lab.clock(), call.lab.step_seconds
    )
    call.state.put("data_assets", asset)
    return JSONResponse(visible(asset))


def _update_data_asset(call: _Call) -> Response:
    call.state.put("data_assets", updated_data_asset(call.item("data_assets"), call.json_object()))
    return _text(call.state.text("data_assets", call.key))


def _transfer(call: _Call) -> Response:
    target = (call.json_object().get("target") or {}).get("aws") or {}
    if not target.get("bucket"):
        raise BadRequest("target.aws.bucket is required")
    place = {"origin": "aws", "bucket": target["bucket"], "prefix": target.get("prefix") or "", "external": True}
    moved = {"source_bucket": place, "last_transferred": int(call.lab.clock())}
    call.replace("data_assets", **moved)
    return _done()


def _no_files(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        call.item(kind)
        return JSONResponse({"items": []})

    return answer


def _no_such_file(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        call.item(kind)
        raise HTTPException(404, f"file {call.request.query_params.get('path', '')!r} not found")

    return answer


def _run(call: _Call) -> Response:
    items = call.state.items
    computation = new_computation(
        call.json_object(), items, items["data_assets"], call.lab.clock(), call.lab.step_seconds
    )
    call.state.put("computations", computation)
    return JSONResponse(visible(computation))


def _rename(call: _Call) -> Response:
    name = call.request.query_params.get("name")
    if not name:
        raise BadRequest("name is required")
    call.replace("computations", name=name)
    return _done()


def _computations_of(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        call.item(kind)
        made = [asset.get("provenance") or {} for asset in call.state.items["data_assets"].values()]
        ran = {each.get("computation") for each in made if each.get("capsule") == call.key}
        listed = call.state.items["computations"].items()
        keys = [
            key for key, item in listed if key in ran or call.key in (item.get("capsule_id"), item.get("pipeline_id"))
        ]
        return _text(f"[{', '.join(call.state.text('computations', key) for key in keys)}]")

    return answer


def _attach(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        item = call.item(kind)
        results = attachments(call.body(), call.state.items["data_assets"])
        new = {each["id"]: each["mount"] for each in results}
        call.replace(kind, _attached=item.get("_attached", {}) | new)
        return JSONResponse(results)

    return answer


def _detach(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        item, ids = call.item(kind), call.body()
        if not isinstance(ids, list):
            raise BadRequest("the body must be a list of data asset ids")
        kept = {key: mount for key, mount in item.get("_attached", {}).items() if key not in ids}
        call.replace(kind, _attached=kept)
        return _done()

    return answer


def _app_panel(kind: str) -> _Answer:
    def answer(call: _Call) -> Response:
        item = call.item(kind)
        return JSONResponse({"general": {"title": item.get("name")}, "parameters": [], "data_assets": []})

    return answer


def _custom_metadata(_: _Call) -> Response:
    return JSONResponse({"fields": [], "categories": []})


def _table() -> list[tuple[str, str, _Answer]]:
    asset, computation = "data_assets/{key}", "computations/{key}"
    table: list[tuple[str, str, _Answer]] = [
        ("GET", "custom_metadata", _custom_metadata),
        ("POST", "data_assets/search", _search("data_assets")),
        ("POST", "data_assets", _create_data_asset),
        ("GET", asset, _get("data_assets")),
        ("PUT", asset, _update_data_asset),
        ("DELETE", asset, _delete("data_assets")),
        ("PATCH", f"{asset}/archive", _archive("data_assets")),
        ("GET", f"{asset}/permissions", _permissions("data_assets")),
        ("POST", f"{asset}/permissions", _permissions("data_assets")),
        ("POST", f"{asset}/files", _no_files("data_assets")),
        ("GET", f"{asset}/files/urls", _no_such_file("data_assets")),
        ("GET", f"{asset}/files/download_url", _no_such_file("data_assets")),
        ("POST", f"{asset}/transfer", _transfer),
        ("POST", "computations", _run),
        ("GET", computation, _get("computations")),
        ("PATCH", computation, _rename),
        ("DELETE", computation, _delete("computations")),
        ("POST", f"{computation}/results", _no_files("computations")),
        ("GET", f"{computation}/results/urls", _no_such_file("computations")),
        ("GET", f"{computation}/results/download_url", _no_such_file("computations")),
        ("POST", f"{computation}/data_assets", _attach("computations")),
        ("DELETE", f"{computation}/data_assets", _detach("computations")),
    ]
    for kind in ("capsules", "pipelines"):
        one = f"{kind}/{{key}}"
        table += [
            ("POST", f"{kind}/search", _search(kind)),
            ("GET", one, _get(kind)),
            ("DELETE", one, _delete(kind)),
            ("GET", f"{one}/app_panel", _app_panel(kind)),
            ("GET", f"{one}/computations", _computations_of(kind)),
            ("PATCH", f"{one}/archive", _archive(kind)),
            ("GET", f"{one}/permissions", _permissions(kind)),
            ("POST", f"{one}/permissions", _permissions(kind)),
            ("POST", f"{one}/data_assets", _attach(kind)),
            ("DELETE", f"{one}/data_assets", _detach(kind)),
        ]
    return table


def _message(status: int, text: str) -> Response:
    return JSONResponse({"message": text}, status)


def _knows_token(request: Request, token: str) -> bool:
    """HTTP Basic: the token is the user name, the password is empty."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given.encode(), f"{token}:".encode())


def _endpoint(lab: StandIn, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        raw = await request.body()
        if not _knows_token(request, lab.token):
            return _message(401, "Unauthorized: the access token is missing or wrong")
        try:
            lab.state.refresh()
            lab.state.advance(lab.clock())
            return answer(_Call(lab, request, raw))
        except (BadRequest, BadSearch) as error:
            return _message(400, str(error))
        except StateUnreadable as error:
            return _message(503, str(error))

    return endpoint


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _message(error.status_code, str(error.detail))


def create_app(lab: StandIn) -> Starlette:
    """The stand-in as an ASGI app."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "OK"})

    routes = [Route("/healthcheck", health)]
    for method, path, answer in _table():
        endpoint = _endpoint(lab, answer)
        routes.append(Route(f"/api/v1/{path}", endpoint, methods=[method]))
        if method == "DELETE" and path.endswith("/data_assets"):  # the SDK writes a slash at the end
            routes.append(Route(f"/api/v1/{path}/", endpoint, methods=[method]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m aind_pipelines.lab.code_ocean",
        description=f"Code Ocean stand-in. {TOKEN_VARIABLE} holds the access token that callers must send.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="JSON file of data assets, capsules, computations")
    parser.add_argument(
        "--step-seconds",
        type=float,
        default=1.0,
        help="how long drafts and runs take per state (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise CannotStart(f"{TOKEN_VARIABLE} is not set.")
    try:
        state = State(given.state)
    except StateUnreadable as error:
        raise CannotStart(f"{error}. Mend or remove the file.") from error
    serve(create_app(StandIn(state, token, given.step_seconds)), given.host, given.port)
