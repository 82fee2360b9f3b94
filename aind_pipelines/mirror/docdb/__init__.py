"""The mirror of DocDB's records in RDS, with their history."""

from aind_pipelines.mirror.docdb.deletions import DeletionGuard
from aind_pipelines.mirror.docdb.errors import MirrorBusy, PassRefused
from aind_pipelines.mirror.docdb.ingest import IngestResult, ingest

__all__ = ["DeletionGuard", "IngestResult", "MirrorBusy", "PassRefused", "ingest"]
