"""What a pass over DocDB raises of itself; the transports and Postgres have errors of their own."""

from __future__ import annotations

from aind_pipelines.clients.errors import ServiceError, UnexpectedAnswer

SERVICE = "DocDB mirror"


class MirrorBusy(ServiceError):
    """Another run is writing the mirror."""


class NeverRead(ServiceError):
    """A tick or a manifest pass has no beginning: the source was never read to its end."""


class PassRefused(ServiceError):
    """A pass saw so much less than the mirror holds that nothing is removed on its word."""


class CollectionEmpty(UnexpectedAnswer):
    """A collection that was asked for some records says that it has none at all."""
