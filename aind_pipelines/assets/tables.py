"""The analysts' tables, derived from the records and published atomically."""

import dagster as dg

from aind_pipelines.assets.describe import outcome
from aind_pipelines.assets.export import ExportConfig, exported
from aind_pipelines.assets.metadata import docdb_records
from aind_pipelines.resources.rds import RDSResource


@dg.asset(deps=[docdb_records], group_name="tables", kinds={"postgres"}, pool="rds")
def data_assets(context: dg.AssetExecutionContext, config: ExportConfig, rds: RDSResource) -> dg.MaterializeResult:
    """One row per metadata record, v1 and v2 in the same columns; what a record lacks is NULL, never guessed.

    Table `public.data_assets`. Readers see the old rows or the new ones, never half, and do not wait.
    """
    from aind_pipelines.tables.publishing import publish_data_assets
    from aind_pipelines.tables.schema import data_assets as table

    with rds.engine() as engine:
        result = publish_data_assets(engine, run_id=context.run.run_id)
        file = exported(engine, table, config)
    context.log.info(str(result))
    return dg.MaterializeResult(
        metadata=outcome(
            rows=result.rows, changed=result.inserted + result.updated + result.deleted, table=table, **file
        )
    )


@dg.asset(deps=[docdb_records], group_name="tables", kinds={"postgres"}, pool="rds")
def subjects(context: dg.AssetExecutionContext, config: ExportConfig, rds: RDSResource) -> dg.MaterializeResult:
    """One row per subject that a record names, with what its latest record says of it.

    Table `public.subjects`.
    """
    from aind_pipelines.tables.publishing import publish_subjects
    from aind_pipelines.tables.schema import subjects as table

    with rds.engine() as engine:
        result = publish_subjects(engine, run_id=context.run.run_id)
        file = exported(engine, table, config)
    context.log.info(str(result))
    return dg.MaterializeResult(
        metadata=outcome(
            rows=result.rows, changed=result.inserted + result.updated + result.deleted, table=table, **file
        )
    )
