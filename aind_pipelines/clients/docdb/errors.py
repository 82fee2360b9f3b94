"""What DocDB's clients raise beside the errors of every client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aind_pipelines.clients.docdb.pages import SERVICE
from aind_pipelines.clients.errors import ServiceError

_SHOWN = 10


class RecordTooLarge(ServiceError):
    """A record is too large for the gateway to hand over.

    Attributes:
        identity: Its ``_id``.
    """

    def __init__(self, identity: str) -> None:
        super().__init__(
            SERVICE,
            f"the record with _id {identity!r} is too large for the gateway to hand over. Ask for some of its fields "
            "(projection), or read it over the direct connection.",
        )
        self.identity = identity


class BulkWriteFailed(ServiceError):
    """Some records of a list were not written; all the others were.

    Attributes:
        failed: Why, by ``_id`` of each record that was refused.
        unsent: ``_id`` of each record that was not sent, because DocDB stopped answering before.
    """

    def __init__(self, failed: Mapping[str, str], unsent: Sequence[str], *, retryable: bool) -> None:
        self.failed = dict(failed)
        self.unsent = list(unsent)
        parts = []
        if failed:
            shown = [f"{name}: {reason}" for name, reason in list(failed.items())[:_SHOWN]]
            parts.append(f"{len(failed)} record(s) were not written ({'; '.join(shown)}{_more(len(failed))})")
        if unsent:
            parts.append(
                f"{len(unsent)} record(s) were not sent after that ({', '.join(unsent[:_SHOWN])}{_more(len(unsent))})"
            )
        super().__init__(SERVICE, f"{'; '.join(parts)}. Upserting them again is safe.", retryable=retryable)


def _more(count: int) -> str:
    return ", ..." if count > _SHOWN else ""
