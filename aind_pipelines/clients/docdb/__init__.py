"""DocDB, the document database of metadata records: through its REST gateway, or directly through an SSH tunnel."""

from aind_pipelines.clients.docdb.credentials import DocumentDbSSHCredentials
from aind_pipelines.clients.docdb.direct import DocumentDbSSHClient
from aind_pipelines.clients.docdb.errors import BulkWriteFailed
from aind_pipelines.clients.docdb.rest import AnalysisDbClient, MetadataDbClient, SchemaDbClient

__all__ = [
    "AnalysisDbClient",
    "BulkWriteFailed",
    "DocumentDbSSHClient",
    "DocumentDbSSHCredentials",
    "MetadataDbClient",
    "SchemaDbClient",
]
