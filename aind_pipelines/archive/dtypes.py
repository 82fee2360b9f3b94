"""Whether a registry knows a data type, asked before a byte is read."""

from __future__ import annotations

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.registry import RegistryClient


def require_dtype(registry: RegistryClient, name: str) -> None:
    """Refuse a data type that the registry does not know.

    Raises:
        ServiceError: It does not, or cannot be asked; the message lists the types it knows.
    """
    known = sorted(entry.name for entry in registry.dtypes())
    if name not in known:
        raise ServiceError(
            "registry",
            f"the data type {name!r} is not registered (registered: {', '.join(known) or 'none'}). Add it: "
            f"aind-pipelines archive dtype add {name} CONTENT-TYPE",
        )
