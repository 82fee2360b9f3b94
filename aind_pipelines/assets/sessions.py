"""Session assets: what belongs to each session and where it is."""

from datetime import date

import dagster as dg

from aind_pipelines.assets.describe import outcome
from aind_pipelines.assets.indexes import code_ocean_index, s3_index
from aind_pipelines.partitions import months
from aind_pipelines.resources.rds import RDSResource


def months_of(context: dg.AssetExecutionContext) -> list[date]:
    """The months this run handles, as their first days."""
    return [date.fromisoformat(key) for key in context.partition_keys]


@dg.asset(
    deps=["data_assets", code_ocean_index, s3_index],
    partitions_def=months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="sessions",
    kinds={"postgres"},
    pool="rds",
)
def session_assets(context: dg.AssetExecutionContext, rds: RDSResource) -> dg.MaterializeResult:
    """Each session's raw asset, raw data directory, modalities, record and derived assets.

    Table `public.session_assets`, resolved from the records and the shared indexes: no request per session. A link
    that leads nowhere is a finding.
    """
    from aind_pipelines.sessions.resolver import resolve_months
    from aind_pipelines.tables.schema import session_assets as table

    with rds.engine() as engine:
        result = resolve_months(engine, months_of(context), run_id=context.run.run_id)
    context.log.info(f"{result.sessions} sessions, {result.changed} changed")
    for month, sessions in result.sessions_by_month.items():
        context.add_asset_metadata({"dagster/row_count": sessions}, partition_key=month.isoformat())
    return dg.MaterializeResult(
        metadata=outcome(
            rows=None,
            changed=result.changed,
            findings=result.findings_by_code,
            table=table,
            months_in_this_run=len(context.partition_keys),
        )
    )
