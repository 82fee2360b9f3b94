"""What may end a command early."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from aind_pipelines.lab.docdb.errors import INTERRUPTED_AT_SHUTDOWN, MAX_TIME_EXPIRED, CommandError


@dataclass(slots=True)
class Limits:
    """What may end a command early; looked at between chunks, and within a regular expression.

    Attributes:
        stopping: Set when the server shuts down.
        deadline: Monotonic time, from the client's ``maxTimeMS``; None means none.
    """

    stopping: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None

    def check(self) -> None:
        """Raise what ends the command, if anything does."""
        if self.stopping.is_set():
            raise CommandError(INTERRUPTED_AT_SHUTDOWN, "the server is shutting down")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise CommandError(MAX_TIME_EXPIRED, "operation exceeded time limit")

    def left(self, most: float) -> float:
        """Seconds until the deadline, above zero and at most `most`."""
        if self.deadline is None:
            return most
        return min(most, max(self.deadline - time.monotonic(), 0.001))


NONE = Limits()
"""Limits that end nothing."""

current: ContextVar[Limits] = ContextVar("current", default=NONE)
"""The limits of the command that this thread carries out.

What a filter is compiled to keeps them, so that the later batches of a cursor have those of the question.
"""
