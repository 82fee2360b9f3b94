"""What a pass over DocDB raises of itself; the transports and Postgres have errors of their own."""

from __future__ import annotations

from aind_pipelines.clients.errors import ServiceError

SERVICE = "DocDB mirror"


class MirrorBusy(ServiceError):
    """Another run is writing the mirror."""


class PassRefused(ServiceError):
    """A pass saw so much less than the mirror holds that nothing is removed on its word."""
