"""Sessions and subjects: what belongs to a session and where it is, resolved from shared indexes.

For people, one session at a time from the live systems:

    >>> import aind_pipelines.sessions as aind_session
    >>> aind_session.Session("ecephys_676909_2023-12-13_13-43-40").subject_id
    '676909'

For the pipeline, whole months at once: `aind_pipelines.sessions.resolver`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aind_pipelines.sessions.live import get_codeocean_client as get_codeocean_client
    from aind_pipelines.sessions.namespaces import Namespace as Namespace
    from aind_pipelines.sessions.namespaces import NotFound as NotFound
    from aind_pipelines.sessions.namespaces import register_namespace as register_namespace
    from aind_pipelines.sessions.session import Session as Session
    from aind_pipelines.sessions.session import Subject as Subject
    from aind_pipelines.sessions.session import get_sessions as get_sessions

_HOMES = {
    "Namespace": "namespaces",
    "NotFound": "namespaces",
    "Session": "session",
    "Subject": "session",
    "get_codeocean_client": "live",
    "get_sessions": "session",
    "register_namespace": "namespaces",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    # The code location imports this room; what people use is loaded when they use it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
