"""The relational database of the analysts' tables: engine, client, COPY load, atomic publish."""

from aind_pipelines.clients.rds.bastion import SSHBastion
from aind_pipelines.clients.rds.client import Client
from aind_pipelines.clients.rds.credentials import RDSCredentials
from aind_pipelines.clients.rds.engine import engine_from_settings, make_engine
from aind_pipelines.clients.rds.errors import BadValue, PublishRefused, RdsError, SchemaMismatch
from aind_pipelines.clients.rds.publish import PublishResult, merge, publish, replace

__all__ = [
    "BadValue",
    "Client",
    "PublishRefused",
    "PublishResult",
    "RDSCredentials",
    "RdsError",
    "SSHBastion",
    "SchemaMismatch",
    "engine_from_settings",
    "make_engine",
    "merge",
    "publish",
    "replace",
]
