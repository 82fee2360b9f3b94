"""How a registry is spoken to: requests, refusals, pages, lines, and writes that are repeated only with care."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from aind_pipelines.clients import http
from aind_pipelines.clients.errors import AccessRefused, AnswerBrokenOff, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.registry.records import SERVICE, RegistryRefused

_WRITE_ATTEMPTS = 4
_PIECE = 1 << 20
_LOG_IN = (
    "Give one by -a USER:PASSWORD, by NBANK_USERNAME and NBANK_PASSWORD (which are sent to NBANK_REGISTRY alone when "
    "that is set), or in your netrc."
)
_T = TypeVar("_T")


class Transport:
    """One registry's address, session and manners. The arguments are those of `RegistryClient`."""

    def __init__(self, url: str, auth: tuple[str, str] | None, session: requests.Session | None, pause: float) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise UnexpectedAnswer(SERVICE, f"{url!r} is no http or https address. Check NBANK_REGISTRY or -r.")
        self.url = url.rstrip("/") + "/"
        self._pause = pause
        if session is None:
            session = http.build_session()
            # These routes are POSTs that only ask, so they may be repeated.
            for route in ("bulk/", "batch/find/"):
                session.mount(self.url + route, http.RetryingAdapter(retry_methods={*http.SAFE_METHODS, "POST"}))
        self._session = session
        self._logged_in = auth is not None
        if auth is not None:
            # requests would encode text as latin-1.
            self._session.auth = HTTPBasicAuth(auth[0].encode(), auth[1].encode())

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def wait(self, failures: int) -> None:
        """Pause before another try, twice as long for each of `failures` after the first."""
        time.sleep(self._pause * 2 ** (failures - 1))

    @overload
    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response: ...

    @overload
    def send(
        self, method: str, path: str, *, params: Any = None, stream: bool = False, missing_ok: Literal[True]
    ) -> requests.Response | None: ...

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        missing_ok: bool = False,
    ) -> requests.Response | None:
        """Send one request; `body` is JSON bytes, or a value to encode. With `stream`, the answer is yet to be read.

        Returns:
            The answer, of status 200, 201 or 204; None for the registry's own "not found" with `missing_ok`.

        Raises:
            RegistryRefused: 400.
            UnexpectedAnswer: Any other status, or a body that is not a registry's.
            ServiceUnavailable: No answer, or a failing one.
            AccessRefused: 401 or 403.
        """
        url = path if path.startswith(("http://", "https://")) else self.url + path
        sent = {"Accept": "application/json", **(headers or {})}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body, allow_nan=False).encode()
        if content is not None:
            sent["Content-Type"] = "application/json"
        try:
            response = http.request(
                self._session,
                SERVICE,
                method,
                url,
                params=params,
                data=content,
                headers=sent,
                allow_redirects=False,
                stream=stream,
            )
        except AccessRefused:
            if self._logged_in:
                raise
            raise AccessRefused(SERVICE, f"{method} {http.place(url)}: no login was sent. {_LOG_IN}") from None
        status = response.status_code
        if status == 400:
            raise RegistryRefused.from_json(f"{method} {http.place(url)}", json_of(response, None))
        # Only a registry's own "not found" (JSON with a detail) means that the thing does not exist.
        if status == 404 and missing_ok and "detail" in json_of(response, dict):
            return None
        if status not in (200, 201, 204):
            raise UnexpectedAnswer(
                SERVICE, f"{method} {http.place(url)} answered {status}. Check that the address is a registry's."
            )
        return response

    def write(
        self,
        method: str,
        path: str,
        body: Any,
        read: Callable[[Any], _T],
        arrived: Callable[[], _T | None],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> _T:
        """Send `body` and `read` the answer.

        After a lost reply, `arrived` asks before each further attempt, and before a refusal is believed.
        """
        lost = False
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            if lost and (known := arrived()) is not None:
                return known
            try:
                response = self.send(method, path, body=body, headers=headers)
            except ServiceUnavailable:
                if attempt == _WRITE_ATTEMPTS:
                    raise
                lost = True
                self.wait(attempt)
                continue
            except RegistryRefused:
                # The lost try may have arrived between the question and this one.
                if lost and (known := arrived()) is not None:
                    return known
                raise
            return read(json_of(response, dict))
        raise AssertionError("unreachable")

    def pages(self, path: str, params: Mapping[str, str]) -> Iterator[Any]:
        """The rows of a list, page by page along the ``Link`` headers."""
        response = self.send("GET", path, params=params)
        seen = {response.url}
        while True:
            yield from json_of(response, list)
            following = response.links.get("next", {}).get("url")
            if not following:
                return
            following = self._on_this_host(following)
            if following in seen:
                raise UnexpectedAnswer(SERVICE, f"the pages of {path} go round in a circle.")
            seen.add(following)
            response = self.send("GET", following)

    def download(self, url: str) -> Iterator[bytes]:
        """The bytes at `url`, which may be on another server: that one is told no login."""
        ours = url.startswith(self.url)
        session, service = (self._session, SERVICE) if ours else (http.build_session(), "download")
        # A web server may otherwise take a file that is compressed for an encoding, and send it unpacked.
        headers = {"Accept-Encoding": "identity"}
        with contextlib.ExitStack() as stack:
            if not ours:
                stack.callback(session.close)
            response = http.request(session, service, "GET", url, headers=headers, stream=True)
            stack.callback(response.close)
            if response.status_code != 200:
                words = http.server_words(response)
                answered = f"GET {http.place(url)} answered {response.status_code}"
                raise UnexpectedAnswer(service, f"{answered} ({words})." if words else f"{answered}.")
            try:
                yield from response.iter_content(_PIECE)
            except requests.RequestException as error:
                raise AnswerBrokenOff(
                    service,
                    f"GET {http.place(url)}: the connection broke while the content was sent "
                    f"({type(error).__name__}). Ask again.",
                ) from None

    def _on_this_host(self, url: str) -> str:
        """A page's address as we reach the server: behind a proxy it may name itself by another scheme or host."""
        base, parts = urlsplit(self.url), urlsplit(url)
        return parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()

    def bulk(self, path: str, names: Sequence[str]) -> Iterator[Any]:
        """The rows of one of the plain bulk routes, which answer in JSON lines."""
        response = self.send("POST", path, body={"names": list(names)})
        for line in response.content.splitlines():
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    raise UnexpectedAnswer(SERVICE, f"{path} was answered with a broken line. Ask again.") from None


def json_of(response: requests.Response, kind: type | None) -> Any:
    """The body of `response`, of type `kind`.

    Raises:
        UnexpectedAnswer: It is no JSON, or of another type.
    """
    try:
        body = response.json()
    except ValueError:
        body = response
    if body is response or (kind is not None and not isinstance(body, kind)):
        # Django answers so, in HTML, to a name that it does not know as its own; why, only its log says.
        unknown_name = body is response and response.status_code == 400
        host = urlsplit(response.url).hostname
        raise UnexpectedAnswer(
            SERVICE,
            f"{http.place(response.url)} answered {response.status_code} with something that is not a registry's. "
            "Check the address"
            + (f", and that REGISTRY_ALLOWED_HOSTS of the registry's server lists {host}." if unknown_name else "."),
        )
    return body
