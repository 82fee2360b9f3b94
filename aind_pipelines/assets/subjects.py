"""What the metadata-service says about each subject, and where the records disagree with it."""

from datetime import timedelta

import dagster as dg

from aind_pipelines.assets import sources
from aind_pipelines.assets.describe import outcome
from aind_pipelines.resources.metadata_service import MetadataServiceResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource


@dg.asset(
    deps=[sources.metadata_service, "subjects"], group_name="subjects", kinds={"postgres"}, pool="metadata_service"
)
def subject_answers(
    context: dg.AssetExecutionContext,
    metadata_service: MetadataServiceResource,
    rds: RDSResource,
    policy: PolicyResource,
) -> dg.MaterializeResult:
    """The metadata-service's answer for every subject, with its status, asked at a budgeted rate.

    Table `metadata_service.answers`. An answer younger than the policy's age is not asked for again, but at least
    one is, so that an outage shows. Disagreements with the records are findings.
    """
    from sqlalchemy import func, select

    from aind_pipelines.mirror.metadata_service import fetch_subjects
    from aind_pipelines.tables import schema

    budget = policy.load().metadata_service
    with rds.engine() as engine:
        with engine.connect() as connection:
            ids = list(connection.scalars(select(schema.subjects.c.subject_id).order_by(schema.subjects.c.subject_id)))
        result = fetch_subjects(
            engine,
            metadata_service.client(),
            ids,
            requests_per_second=budget.requests_per_second,
            max_age=timedelta(days=budget.max_age_days),
            run_id=context.run.run_id,
        )
        with engine.connect() as connection:
            rows = connection.scalar(select(func.count()).select_from(schema.metadata_service_answers)) or 0
    context.log.info(str(result))
    return dg.MaterializeResult(
        metadata=outcome(
            rows=rows,
            changed=result.changed,
            findings=result.findings_by_code,
            table=schema.metadata_service_answers,
            asked=result.asked,
            still_fresh=result.fresh,
        )
    )
