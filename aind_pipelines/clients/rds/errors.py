"""What reading from and writing to RDS raises, and how the driver's errors become one of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines.settings import SettingsError

SERVICE = "RDS"


class RdsError(ServiceError):
    """A query or a publish failed; the table is as it was."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(SERVICE, message, retryable=retryable)


class PublishRefused(RdsError):
    """Rows that would empty or drastically shrink a table, repeat a key, or lie outside the published part."""


class SchemaMismatch(RdsError):
    """The table in the database is not the one that was asked for: missing, or with other columns or types."""


class BadValue(RdsError):
    """A value cannot be stored in its column; the message names column and row."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn errors of psycopg and SQLAlchemy into ours.

    Args:
        doing: What was being done, e.g. ``publishing public.data_assets``.

    Raises:
        ServiceUnavailable: The server cannot be reached, goes down or lacks a resource, or the connection was lost.
        AccessRefused: Wrong login, or a missing right.
        SchemaMismatch: A table, schema or column does not exist.
        SettingsError: The server does not know what libpq told it from the environment, e.g. of ``PGTZ``.
        RdsError: Anything else the server refused.
    """
    import psycopg
    import sqlalchemy.exc

    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        cause = error.orig
        if not isinstance(cause, psycopg.Error):
            raise
        raise _ours(doing, cause) from None
    except psycopg.Error as error:
        raise _ours(doing, error) from None


_NEXT_STEP = {
    "57014": "Narrow the query, or raise the statement timeout.",
    "42601": "Where it is a :name, give its value in `parameters`.",
    "57P04": "Check RDS_DATABASE.",
    "3D000": "Check RDS_DATABASE, or create the database.",
}
_ANOTHER_SESSION = {"55P03", "55006"}
_OUTAGES = ("", "08", "57", "58")
"""Classes of SQLSTATE; psycopg counts many more among its operational errors. Without a state there was no answer."""

_STATE_OF = {
    r'database ".*" does not exist': "3D000",
    r'role ".*" does not exist|password authentication failed|no password supplied|no pg_hba\.conf entry': "28000",
    r'permission denied for database ".*"': "42501",
    r"too many (clients|connections)|connection slots are reserved": "53300",
}
"""States by the words of a refused connection, with which psycopg gives none."""


_SHELLS_OWN = {"TimeZone": "PGTZ", "DateStyle": "PGDATESTYLE", "geqo": "PGGEQO"}
"""What libpq sends with every connection from the environment, and nothing else can set or keep back."""


def _state(error: Exception, reason: str) -> str:
    """The SQLSTATE of an error; empty where there was no answer."""
    if state := getattr(error, "sqlstate", None):
        return str(state)
    return next((state for words, state in _STATE_OF.items() if re.search(words, reason)), "")


def _refused_name(error: Exception, reason: str) -> str | None:
    """The name in the environment for whose value a connection was refused."""
    if getattr(error, "sqlstate", None):  # a statement said it
        return None
    found = re.search(r'parameter "(\w+)"', reason)
    return _SHELLS_OWN.get(found[1]) if found else None


def _ours(doing: str, error: Exception) -> ServiceError | SettingsError:
    from psycopg import OperationalError, errors

    reason = " ".join(str(error).split())
    state = _state(error, reason)
    said = f"{doing}: {reason.removesuffix('.')}."
    if (name := _refused_name(error, reason)) is not None:
        return SettingsError(f"{SERVICE}: {said} That is {name} in the environment: correct or unset it.")
    if state.startswith("28"):
        return AccessRefused(SERVICE, f"{doing}: {reason}. Check RDS_USER and RDS_PASSWORD.")
    if state == errors.InsufficientPrivilege.sqlstate:
        return AccessRefused(SERVICE, f"{doing}: {reason}. Ask for the right, or use another RDS_USER.")
    if state in {"42P01", "3F000", "42703"}:
        return SchemaMismatch(f"{doing}: {reason}. If it is a table of this project, run `aind-pipelines db migrate`.")
    if state in _NEXT_STEP and (state != "42601" or 'near ":"' in reason):
        return RdsError(f"{said} {_NEXT_STEP[state]}")
    if state.startswith("53"):
        return ServiceUnavailable(SERVICE, f"{said} The server is out of a resource; free it, then repeat.")
    if state.startswith("54"):
        return RdsError(f"{said} It is a limit of Postgres: a shorter value, no index on it, or fewer columns help.")
    if state.startswith("40"):
        return RdsError(
            f"{said} Another session was at the same rows, and nothing was changed; repeat it.", retryable=True
        )
    if state in _ANOTHER_SESSION:
        return RdsError(f"{said} Another session uses it; repeat it when that one is done.", retryable=True)
    if isinstance(error, OperationalError) and state[:2] in _OUTAGES:
        if state[:2] in {"57", "58"}:
            return ServiceUnavailable(SERVICE, f"{said} The server has a fault or is restarting; repeat it later.")
        return ServiceUnavailable(SERVICE, f"{said} Check RDS_HOST and RDS_PORT and that it is up.")
    return RdsError(f"{doing}: {reason}")
