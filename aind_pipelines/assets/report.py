"""The report: the whole flow on one page."""

import dagster as dg

from aind_pipelines.assets.archives import archive_fixity
from aind_pipelines.assets.describe import outcome
from aind_pipelines.assets.metadata import docdb_records
from aind_pipelines.assets.subjects import subject_answers
from aind_pipelines.resources.rds import RDSResource


@dg.asset(
    deps=[
        docdb_records,
        subject_answers,
        dg.AssetDep(archive_fixity, partition_mapping=dg.AllPartitionMapping()),
    ],
    group_name="report",
    kinds={"postgres"},
    pool="rds",
)
def flow_report(rds: RDSResource) -> dg.MaterializeResult:
    """What stands now in every stage: rows, bytes and findings."""
    from aind_pipelines.tables.overview import stage_counts

    with rds.engine() as engine:
        counts = stage_counts(engine)
    lines = ["| stage | what | count | findings |", "| --- | --- | ---: | ---: |"]
    lines += [f"| {row.stage} | {row.what} | {row.count:,} | {row.findings:,} |" for row in counts]
    return dg.MaterializeResult(
        metadata=outcome(
            rows=len(counts),
            changed=0,
            report=dg.MetadataValue.md("\n".join(lines)),
            standing_findings=sum(row.findings for row in counts),
        )
    )
