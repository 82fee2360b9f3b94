"""Checks of the analysts' tables."""

import dagster as dg

from aind_pipelines.assets.tables import data_assets, subjects
from aind_pipelines.resources.rds import RDSResource


@dg.asset_check(asset=data_assets, blocking=True, pool="rds")
def every_record_has_a_row(rds: RDSResource) -> dg.AssetCheckResult:
    """`data_assets` has exactly one row per record of the mirror, by (record_version, id)."""
    from sqlalchemy import and_, func, select

    from aind_pipelines.tables.schema import data_assets as rows
    from aind_pipelines.tables.schema import docdb_records as records

    both = and_(rows.c.record_version == records.c.record_version, rows.c.id == records.c.id)
    with rds.engine() as engine, engine.connect() as connection:
        missing = connection.scalar(
            select(func.count()).select_from(records.outerjoin(rows, both)).where(rows.c.id.is_(None))
        )
        surplus = connection.scalar(
            select(func.count()).select_from(rows.outerjoin(records, both)).where(records.c.id.is_(None))
        )
    return dg.AssetCheckResult(
        passed=missing == 0 and surplus == 0,
        description=None
        if missing == surplus == 0
        else f"{missing} records without a row, {surplus} rows without one",
        metadata={"records without a row": missing or 0, "rows without a record": surplus or 0},
    )


@dg.asset_check(asset=subjects, blocking=True, pool="rds")
def every_named_subject_has_a_row(rds: RDSResource) -> dg.AssetCheckResult:
    """`subjects` has exactly the subjects that `data_assets` names, each with as many assets."""
    from sqlalchemy import func, select

    from aind_pipelines.tables.schema import data_assets as assets
    from aind_pipelines.tables.schema import subjects as table

    with rds.engine() as engine, engine.connect() as connection:
        named = (
            select(assets.c.subject_id, func.count().label("assets"))
            .where(assets.c.subject_id.is_not(None))
            .group_by(assets.c.subject_id)
            .subquery()
        )
        apart = connection.execute(
            select(named.c.subject_id, table.c.subject_id, named.c.assets, table.c.asset_count)
            .select_from(named.outerjoin(table, table.c.subject_id == named.c.subject_id, full=True))
            .where(named.c.assets.is_distinct_from(table.c.asset_count))
            .order_by(func.coalesce(named.c.subject_id, table.c.subject_id))
            .limit(60)
        ).all()
    problems = {
        "no row for": [subject for subject, row, _, _ in apart if row is None],
        "named by no record": [row for subject, row, _, _ in apart if subject is None],
        "another number of assets": [
            subject for subject, row, _, _ in apart if subject is not None and row is not None
        ],
    }
    return dg.AssetCheckResult(
        passed=not apart,
        description="; ".join(f"{what}: {', '.join(ids)}" for what, ids in problems.items() if ids) or None,
        metadata=problems,
    )
