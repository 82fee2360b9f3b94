"""Client of a neurobank registry: django-neurobank 0.10 and newer, with or without our batches.

A registry says which resources exist, their sha1 and in which archives they are. Servers ignore filters they do not
know and match some by substring, so every row is checked here before it is believed. A write is repeated only after
asking whether its first try arrived, or under an idempotency key.
"""

from aind_pipelines.clients.registry.client import BULK_CHUNK, RegistryClient
from aind_pipelines.clients.registry.query import Query
from aind_pipelines.clients.registry.records import (
    Capabilities,
    DataType,
    Located,
    Location,
    RegisteredArchive,
    Registration,
    RegistryInfo,
    RegistryRefused,
    Resource,
)

__all__ = [
    "BULK_CHUNK",
    "Capabilities",
    "DataType",
    "Located",
    "Location",
    "Query",
    "RegisteredArchive",
    "Registration",
    "RegistryClient",
    "RegistryInfo",
    "RegistryRefused",
    "Resource",
]
