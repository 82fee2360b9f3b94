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
    """Every subject that `data_assets` names is in `subjects`."""
    from sqlalchemy import select

    from aind_pipelines.tables.schema import data_assets as assets
    from aind_pipelines.tables.schema import subjects as table

    with rds.engine() as engine, engine.connect() as connection:
        missing = list(
            connection.scalars(
                select(assets.c.subject_id)
                .where(assets.c.subject_id.is_not(None))
                .except_(select(table.c.subject_id))
                .limit(20)
            )
        )
    return dg.AssetCheckResult(
        passed=not missing,
        description=f"no row for: {', '.join(missing)}" if missing else None,
        metadata={"missing": missing},
    )
