"""What the ingestion asset does: a full pass over one generation of DocDB. Run in a process of its own."""

from __future__ import annotations

from aind_pipelines.mirror.docdb import CollectionSource, update
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.settings import DocDBPolicy


def main() -> None:
    """One full pass."""
    policy = DocDBPolicy()
    source = policy.sources[0]
    name = f"{source.database}.{source.collection}"
    with RDSResource().engine() as engine, DocDBResource().client(source) as client:
        update(engine, CollectionSource(client, name, page_size=policy.page_size), "full", run_id="benchmark")


main()
