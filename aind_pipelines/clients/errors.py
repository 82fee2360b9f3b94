"""What every client raises when the system behind it does not do what was asked."""

from __future__ import annotations


class ServiceError(Exception):
    """An external system refused, failed or could not be reached.

    The message names the system, what was asked of it, the cause and the next step; it never holds a secret.

    Attributes:
        service: The system as people call it, e.g. ``DocDB``, ``metadata-service``.
        retryable: Whether asking again later may help.
    """

    def __init__(self, service: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{service}: {message}")
        self.service = service
        self.retryable = retryable


class ServiceUnavailable(ServiceError):
    """The system could not be reached, or kept failing after retries: an outage, never an empty answer."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(service, message, retryable=True)


class AnswerBrokenOff(ServiceUnavailable):
    """The connection broke while the system was sending its answer; a part of it may have been handed on."""


class AccessRefused(ServiceError):
    """The system answered, and refused these credentials or this right."""


class UnexpectedAnswer(ServiceError):
    """The system answered something that its contract does not allow."""
