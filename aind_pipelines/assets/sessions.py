"""Session assets: what belongs to each session and where it is."""

from datetime import date

import dagster as dg

from aind_pipelines.assets.describe import outcome, outcome_of_run, table_metadata
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
    that leads nowhere is a finding. Each month tells its own numbers; names that belong to no month are among the
    findings of the run.
    """
    from aind_pipelines.sessions.resolver import resolve_months
    from aind_pipelines.tables.schema import session_assets as table

    with rds.engine() as engine:
        result = resolve_months(engine, months_of(context), run_id=context.run.run_id)
    context.log.info(f"{result.sessions} sessions, {result.changed} changed")
    for month, done in result.by_month.items():
        context.add_asset_metadata(
            outcome(rows=done.sessions, changed=done.changed, findings=done.findings_by_code),
            partition_key=month.isoformat(),
        )
    about_names = result.findings_about_names.total()
    return dg.MaterializeResult(
        metadata=table_metadata(table)
        | outcome_of_run(changed=result.changed, findings=result.findings_by_code, months=len(result.by_month))
        | {"findings about names, of no month": about_names}
    )
