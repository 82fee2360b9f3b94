"""The mirror of DocDB's records in RDS, with their history."""

from aind_pipelines.mirror.docdb.deletions import DeletionGuard
from aind_pipelines.mirror.docdb.errors import MirrorBusy, NeverRead, PassRefused
from aind_pipelines.mirror.docdb.ingest import IngestResult, ingest
from aind_pipelines.mirror.docdb.passes import manifest, tick, update
from aind_pipelines.mirror.docdb.source import CollectionSource
from aind_pipelines.mirror.docdb.standing import never_read, not_mirrored, shared_locations, standing

__all__ = [
    "CollectionSource",
    "DeletionGuard",
    "IngestResult",
    "MirrorBusy",
    "NeverRead",
    "PassRefused",
    "ingest",
    "manifest",
    "never_read",
    "not_mirrored",
    "shared_locations",
    "standing",
    "tick",
    "update",
]
