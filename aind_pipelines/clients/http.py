"""The one way this project talks HTTP: sessions that repeat what is safe to repeat, and errors that say what to do.

`build_session` makes a `requests.Session` with timeouts by default, retries with backoff and jitter, and no
credentials from ``.netrc``. `request` sends through any session and turns failures into `clients.errors`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable, UnexpectedAnswer

SAFE_METHODS: frozenset[str] = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that HTTP defines as idempotent. A POST is repeated only where its caller knows that it only asks."""

RETRY_STATUSES: frozenset[int] = frozenset({429, 500, 502, 503, 504})
DEFAULT_TIMEOUT: tuple[float, float] = (5.0, 60.0)
_LONGEST_PAUSE = 30.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class _Retry(Retry):
    """`Retry`, with a server's ``Retry-After`` bounded: a worker must not sleep for as long as a server likes."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds to pause, at most half a minute, or None without the header."""
        wish = super().get_retry_after(response)
        return None if wish is None else min(wish, _LONGEST_PAUSE)


class RetryingAdapter(HTTPAdapter):
    """Sends with a default timeout, and again after a failure where that is safe.

    Connections that were never made are tried again for every method; statuses of `RETRY_STATUSES`, connections that
    broke and bodies that ended early only for `retry_methods`. After the last attempt the answer is returned, or the
    exception raised, as it came.

    Args:
        retries: How many times to repeat after the first attempt.
        backoff: Seconds; the pauses are about 0, 2, 4, 8 ... times this, with jitter.
        retry_methods: Upper-case names of the methods that are safe to repeat.
        timeout: Seconds to wait for (a connection, the next byte).
    """

    def __init__(
        self,
        *,
        retries: int = 5,
        backoff: float = 0.5,
        retry_methods: Collection[str] = SAFE_METHODS,
        timeout: tuple[float, float] = DEFAULT_TIMEOUT,
    ) -> None:
        self._retries = retries
        self._backoff = backoff
        self._retry_methods = frozenset(retry_methods)
        self._timeout = timeout
        policy = _Retry(
            total=retries,
            backoff_factor=backoff,
            backoff_jitter=backoff,
            backoff_max=_LONGEST_PAUSE,
            status_forcelist=RETRY_STATUSES,
            allowed_methods=self._retry_methods,
            raise_on_status=False,
        )
        super().__init__(max_retries=policy)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request. Unless `stream`, the body is read here, so that a body cut short is asked for again."""
        if urlsplit(request.url or "").hostname in _LOOPBACK:
            proxies = None  # the environment's proxy cannot reach our own loopback
        repeatable = request.method in self._retry_methods and isinstance(request.body, bytes | str | None)
        attempt = 0
        while True:
            response = super().send(request, stream, timeout or self._timeout, verify, cert, proxies)
            if stream:
                return response
            try:
                _ = response.content  # requests keeps it
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if not repeatable or attempt >= self._retries:
                    raise
                pause = min(self._backoff * 2**attempt, _LONGEST_PAUSE)
                time.sleep(pause + random.uniform(0, self._backoff))  # noqa: S311 - jitter, not cryptography
                attempt += 1
            else:
                return response


class _OnlyGivenCredentials(AuthBase):
    """Stands where requests would look into ``.netrc``; keeps ``user:password@`` of the URL working."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        user, password = get_auth_from_url(request.url or "")
        return HTTPBasicAuth(user, password)(request) if user else request


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self.auth = _OnlyGivenCredentials()

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """On a redirect, drop credentials that were for another host; never add those of ``.netrc``."""
        sent_to = response.request.url or ""
        goes_to = prepared_request.url or ""
        if self.should_strip_auth(sent_to, goes_to):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def build_session(
    *,
    retries: int = 5,
    backoff: float = 0.5,
    retry_methods: Collection[str] = SAFE_METHODS,
    timeout: tuple[float, float] = DEFAULT_TIMEOUT,
) -> requests.Session:
    """A session with `RetryingAdapter` for http and https that sends no credentials but those it is given.

    Where one path may be repeated although its method in general may not (a search by POST), mount another
    `RetryingAdapter` on that URL prefix.
    """
    session = _Session()
    adapter = RetryingAdapter(retries=retries, backoff=backoff, retry_methods=retry_methods, timeout=timeout)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def place(url: str) -> str:
    """Scheme, host and path of `url`: no user, password, query or fragment, so that it can be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def server_words(response: requests.Response) -> str:
    """What the server said about its failure, in one short line; empty when it said nothing readable."""
    try:
        body = response.json()
    except ValueError:
        text = response.text
    else:
        said = (body.get("message") or body.get("detail") or body.get("error")) if isinstance(body, dict) else None
        text = str(said or "")
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}..."


def failure_of(service: str, method: str, response: requests.Response) -> ServiceError | None:
    """The error that a response stands for whatever was asked: refused (401, 403) or failing (429, 5xx), else None."""
    status = response.status_code
    words = server_words(response) if status in (401, 403, 429) or status >= 500 else ""
    asked = f"{method} {place(response.url)} answered {status}" + (f" ({words})" if words else "")
    if status in (401, 403):
        return AccessRefused(service, f"{asked}: the credentials were refused. Check the login that is configured.")
    if status == 429 or status >= 500:
        return ServiceUnavailable(service, f"{asked}, after retries where safe. Try again when it is healthy.")
    return None


def failure_from(service: str, method: str, url: str, error: requests.RequestException) -> ServiceError:
    """The error that an exception of requests stands for."""
    asked = f"{method} {place(url)}"
    if isinstance(error, requests.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in str(error):  # OpenSSL's word for an answer that is no TLS
            return ServiceUnavailable(
                service, f"{asked}: what answers there does not speak TLS. Give an http:// address, or another port."
            )
        return ServiceUnavailable(
            service,
            f"{asked}: the TLS connection failed. Check the certificate, or REQUESTS_CA_BUNDLE for a private CA.",
        )
    if isinstance(error, requests.Timeout):
        return ServiceUnavailable(service, f"{asked}: no answer in time. Check that the service is healthy.")
    if isinstance(error, ValueError):  # a missing scheme, an impossible host: requests marks them so
        return UnexpectedAnswer(service, f"{asked}: no usable URL. Check the address that is configured.")
    cause = type(error).__name__
    return ServiceUnavailable(
        service, f"{asked}: the connection failed ({cause}). Check the address and that the service is up."
    )


def request(session: requests.Session, service: str, method: str, url: str, **kwargs: Any) -> requests.Response:
    """Send one request; a failing service raises, every other answer (300, 400, 404, 406 ...) is returned.

    Args:
        session: From `build_session`, or any other.
        service: The system as people call it, for messages.
        method: Upper-case method.
        url: Absolute URL.
        kwargs: As for `requests.Session.request`.

    Raises:
        ServiceUnavailable: No connection, no answer in time, 429 or 5xx.
        AccessRefused: 401 or 403.
        UnexpectedAnswer: `url` cannot be used at all.
    """
    try:
        response = session.request(method, url, **kwargs)
    except requests.RequestException as error:
        raise failure_from(service, method, url, error) from None
    if failure := failure_of(service, method, response):
        raise failure
    return response
