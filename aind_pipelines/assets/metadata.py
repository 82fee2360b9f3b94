"""Ingestion: DocDB's metadata records into RDS."""

from collections import Counter

import dagster as dg

from aind_pipelines.assets import sources
from aind_pipelines.assets.describe import outcome
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource


@dg.asset(deps=[sources.docdb], group_name="metadata", kinds={"postgres"}, pool="docdb")
def docdb_records(
    context: dg.AssetExecutionContext, docdb: DocDBResource, rds: RDSResource, policy: PolicyResource
) -> dg.MaterializeResult:
    """Every metadata record as DocDB has it now, both generations, compared by content hash.

    Table `docdb.records`. A record that did not change is not rewritten; an empty or drastically smaller answer fails
    the run instead of emptying the mirror.
    """
    from aind_pipelines.mirror.docdb import ingest
    from aind_pipelines.tables.schema import docdb_records as table

    docdb_policy = policy.load().docdb
    read = changed = 0
    findings: Counter[str] = Counter()
    with rds.engine() as engine:
        for source in docdb_policy.sources:
            name = f"{source.database}.{source.collection}"
            result = ingest(
                engine,
                name,
                docdb.iter_records(source, page_size=docdb_policy.page_size),
                run_id=context.run_id,
            )
            context.log.info(f"{name}: {result}")
            read += result.read
            changed += result.inserted + result.changed + result.vanished
            findings.update(result.findings_by_code)
    return dg.MaterializeResult(metadata=outcome(rows=read, changed=changed, findings=findings, table=table))
