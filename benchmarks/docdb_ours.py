"""What the ingestion asset does: read one generation of DocDB, normalise, hash and mirror it. Run in a process."""

from __future__ import annotations

from aind_pipelines.mirror.docdb import ingest
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.settings import DocDBPolicy


def main() -> None:
    """One full pass."""
    policy = DocDBPolicy()
    source = policy.sources[0]
    records = DocDBResource().iter_records(source, page_size=policy.page_size)
    with RDSResource().engine() as engine:
        ingest(engine, f"{source.database}.{source.collection}", records, run_id="benchmark")


main()
