"""Checks of the metadata-service's answers."""

import dagster as dg

from aind_pipelines.assets.subjects import subject_answers
from aind_pipelines.resources.rds import RDSResource


@dg.asset_check(asset=subject_answers, blocking=True, pool="rds")
def every_subject_was_asked_for(rds: RDSResource) -> dg.AssetCheckResult:
    """There is an answer, found or not found, for every subject."""
    from sqlalchemy import select

    from aind_pipelines.tables.schema import metadata_service_answers as answers
    from aind_pipelines.tables.schema import subjects

    with rds.engine() as engine, engine.connect() as connection:
        missing = list(
            connection.scalars(
                select(subjects.c.subject_id)
                .except_(select(answers.c.key).where(answers.c.endpoint == "subject"))
                .limit(20)
            )
        )
    return dg.AssetCheckResult(
        passed=not missing,
        description=f"never asked for: {', '.join(missing)}" if missing else None,
        metadata={"never asked for": missing},
    )
