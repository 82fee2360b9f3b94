"""Indexes of Code Ocean and S3: one refresh serves any number of sessions."""

import dagster as dg

from aind_pipelines.assets import sources
from aind_pipelines.assets.describe import outcome
from aind_pipelines.resources.code_ocean import CodeOceanResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.resources.s3 import S3Resource


@dg.asset(deps=[sources.code_ocean], group_name="indexes", kinds={"postgres"}, pool="code_ocean")
def code_ocean_index(
    context: dg.AssetExecutionContext, code_ocean: CodeOceanResource, rds: RDSResource
) -> dg.MaterializeResult:
    """Every data asset that Code Ocean knows, archived ones too, from one complete scan.

    Table `indexes.code_ocean_assets`. An incomplete scan fails the run and leaves the index as it was.
    """
    from aind_pipelines.clients.code_ocean import iter_data_assets
    from aind_pipelines.mirror.indexes import refresh_code_ocean, with_archived
    from aind_pipelines.tables.schema import code_ocean_assets as table

    client = code_ocean.client()
    answers: list[int] = []
    client.session.hooks["response"].append(lambda answer, **_: answers.append(answer.status_code))
    # A record may link to an archived asset, which is no dead link.
    assets = with_archived(iter_data_assets(client), iter_data_assets(client, parameters={"archived": True}))
    with rds.engine() as engine:
        result = refresh_code_ocean(engine, assets, requests=lambda: len(answers), run_id=context.run.run_id)
    context.log.info(str(result))
    return dg.MaterializeResult(
        metadata=outcome(
            rows=result.rows,
            changed=result.changed,
            findings=result.findings_by_code,
            table=table,
            requests=result.requests,
        )
    )


# Which folders are raw data, and so listed themselves, is also what Code Ocean's index says.
@dg.asset(deps=[sources.s3, code_ocean_index], group_name="indexes", kinds={"postgres"}, pool="s3")
def s3_index(
    context: dg.AssetExecutionContext, s3: S3Resource, rds: RDSResource, policy: PolicyResource
) -> dg.MaterializeResult:
    """The top-level folders of the asset buckets, with the folders directly below them.

    Table `indexes.s3_prefixes`.
    """
    from aind_pipelines.mirror.indexes import refresh_s3
    from aind_pipelines.tables.schema import s3_prefixes as table

    with rds.engine() as engine:
        result = refresh_s3(engine, s3.client(), policy.load().s3.buckets, run_id=context.run.run_id)
    context.log.info(str(result))
    return dg.MaterializeResult(
        metadata=outcome(
            rows=result.rows,
            changed=result.changed,
            findings=result.findings_by_code,
            table=table,
            requests=result.requests,
        )
    )
