"""Checks of ingestion."""

import dagster as dg

from aind_pipelines.assets.metadata import docdb_records
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource


@dg.asset_check(asset=docdb_records, pool="docdb")
def record_counts_agree(docdb: DocDBResource, rds: RDSResource, policy: PolicyResource) -> dg.AssetCheckResult:
    """The mirror holds as many records of each collection as DocDB does.

    A warning, since DocDB may have changed since the records were read.
    """
    from sqlalchemy import func, select

    from aind_pipelines.tables.schema import docdb_records as table

    counts = {}
    with rds.engine() as engine, engine.connect() as connection:
        for source in policy.load().docdb.sources:
            name = f"{source.database}.{source.collection}"
            mirrored = connection.scalar(select(func.count()).where(table.c.source == name)) or 0
            counts[name] = (docdb.count(source), mirrored)
    apart = {name: pair for name, pair in counts.items() if pair[0] != pair[1]}
    return dg.AssetCheckResult(
        passed=not apart,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{name}: {there} in DocDB, {here} in RDS" for name, (there, here) in apart.items())
        or None,
        metadata={name: f"{there} in DocDB, {here} in RDS" for name, (there, here) in counts.items()},
    )
