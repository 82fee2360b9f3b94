"""Code Ocean through its published SDK, made patient, and a fast scan of all data assets.

The SDK builds a dataclass per asset, about a millisecond of CPU each; `iter_data_assets` yields plain dicts instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from aind_pipelines.clients.errors import UnexpectedAnswer
from aind_pipelines.clients.http import (
    DEFAULT_TIMEOUT,
    SAFE_METHODS,
    RetryingAdapter,
    failure_from,
    failure_of,
    place,
    server_words,
)

if TYPE_CHECKING:
    from codeocean import CodeOcean

SERVICE = "Code Ocean"
_SEARCHES = ("data_assets", "capsules", "pipelines")


def get_client(
    domain: str,
    token: str,
    *,
    retries: int = 5,
    backoff: float = 0.5,
    timeout: tuple[float, float] = DEFAULT_TIMEOUT,
    agent_id: str | None = None,
) -> CodeOcean:
    """The SDK's client with timeouts and retries; searches, which only ask, are repeated although they are POSTs.

    The SDK's own methods raise ``codeocean.error.Error`` and requests' exceptions; see `mapped_errors`.

    Args:
        domain: Deployment, e.g. ``https://codeocean.allenneuraldynamics.org``.
        token: Access token.
        retries: How often to repeat.
        backoff: Seconds; see `clients.http.RetryingAdapter`.
        timeout: Seconds for (a connection, the next byte).
        agent_id: Sent as ``Agent-Id``, for deployments that track automation.
    """
    from codeocean import CodeOcean

    client = CodeOcean(domain=domain.rstrip("/"), token=token, agent_id=agent_id)
    session = client.session
    session.mount(
        client.domain,
        RetryingAdapter(retries=retries, backoff=backoff, retry_methods=SAFE_METHODS, timeout=timeout),
    )
    for kind in _SEARCHES:
        session.mount(
            f"{client.domain}/api/v1/{kind}/search",
            RetryingAdapter(retries=retries, backoff=backoff, retry_methods={"POST"}, timeout=timeout),
        )
    return client


def iter_data_assets(
    client: CodeOcean, *, page_size: int = 1000, parameters: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Every data asset that a search finds, as the plain dicts that Code Ocean sends.

    Args:
        client: From `get_client`.
        page_size: Assets per request, at most 1000.
        parameters: Further search parameters, e.g. ``{"type": "dataset", "archived": False}``; default: all that are
            not archived. Sorted by creation unless they say otherwise, so that pages do not shift.

    Raises:
        ServiceUnavailable: Code Ocean cannot be reached or keeps failing.
        AccessRefused: The token is refused.
        UnexpectedAnswer: An answer is no page of assets, or a continuation token is missing or repeated, with which
            a scan would never end or silently miss assets.
    """
    search: dict[str, Any] = {"sort_field": "created", "sort_order": "asc", "archived": False}
    search |= dict(parameters or {}) | {"limit": page_size}
    seen: set[str] = set()
    while True:
        page = _post_search(client, search)
        yield from page["results"]
        if not page["has_more"]:
            return
        token = page.get("next_token")
        if not isinstance(token, str) or not token:
            raise UnexpectedAnswer(
                SERVICE, "data_assets/search says that there is more, but gives no next_token to ask for it with."
            )
        if token in seen:
            raise UnexpectedAnswer(SERVICE, "data_assets/search repeated a next_token: the scan would never end.")
        seen.add(token)
        search["next_token"] = token


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn what the SDK and requests raise inside into this project's errors.

    Raises:
        ServiceUnavailable: Code Ocean cannot be reached or keeps failing.
        AccessRefused: The token is refused, or has no right to this.
        UnexpectedAnswer: Any other status that is an error, e.g. 404 for something that does not exist.
    """
    from codeocean.error import Error

    try:
        yield
    except Error as error:
        answer: requests.Response = error.http_err.response
        method = answer.request.method or ""
        raise failure_of(SERVICE, method, answer) or UnexpectedAnswer(
            SERVICE, f"{method} {place(answer.url)} answered {answer.status_code} ({server_words(answer)})."
        ) from None
    except requests.RequestException as error:
        sent = error.request
        method, url = (sent.method or "", sent.url or "") if sent is not None else ("", "")
        raise failure_from(SERVICE, method, url, error) from None


def _post_search(client: CodeOcean, search: Mapping[str, Any]) -> dict[str, Any]:
    path = "data_assets/search"
    with mapped_errors():
        response = client.session.post(path, json=dict(search))
    try:
        page = response.json()
    except ValueError:
        page = None
    if (
        not isinstance(page, dict)
        or not isinstance(page.get("results"), list)
        or not isinstance(page.get("has_more"), bool)
        or not all(isinstance(asset, dict) for asset in page["results"])
    ):
        raise UnexpectedAnswer(SERVICE, f"POST {path} answered something that is no page of data assets.")
    return page
