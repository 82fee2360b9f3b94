"""Checks of the analysts' tables."""

from collections.abc import Iterator

import dagster as dg

from aind_pipelines.resources.rds import RDSResource

# Tables with any number of rows per record; they are named here so that definitions load without the models.
_RECORD_TABLES = (
    "modalities",
    "asset_lineage",
    "processing",
    "funding",
    "acquisitions",
    "data_streams",
    "stimulus_epochs",
    "instruments",
    "procedures",
    "procedure_materials",
    "quality_control",
)


@dg.asset_check(asset="data_assets", blocking=True, pool="rds")
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


@dg.asset_check(asset="subjects", blocking=True, pool="rds")
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


@dg.asset_check(asset="data_assets", pool="rds")
def schema_is_as_migrated(rds: RDSResource) -> dg.AssetCheckResult:
    """The database's schema is what the models say; `aind-pipelines db status` tells the same."""
    from aind_pipelines.tables.migrate import drift

    with rds.engine() as engine:
        differences = drift(engine)
    return dg.AssetCheckResult(
        passed=not differences,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(differences[:20]) or None,
        metadata={"differences": len(differences)},
    )


@dg.multi_asset_check(
    name="rows_agree_with_data_assets",
    specs=[
        dg.AssetCheckSpec(
            f"{name}_agrees_with_data_assets",
            asset=name,
            blocking=True,
            description="Every row's record is in `data_assets`, no key is there twice, positions run from 0 without "
            "a gap, and the table is not empty when `data_assets` is not (a warning).",
        )
        for name in _RECORD_TABLES
    ],
    can_subset=True,
    pool="rds",
)
def rows_agree_with_data_assets(
    context: dg.AssetCheckExecutionContext, rds: RDSResource
) -> Iterator[dg.AssetCheckResult]:
    """The tables with any number of rows per record, compared with `data_assets`."""
    from aind_pipelines.tables.agreement import agreement
    from aind_pipelines.tables.analysts import RECORD_TABLES

    tables = {table.name: table for table in RECORD_TABLES}
    with rds.engine() as engine, engine.connect() as connection:
        for key in sorted(context.selected_asset_check_keys):
            found = agreement(connection, tables[key.asset_key.to_user_string()])
            yield dg.AssetCheckResult(
                check_name=key.name,
                asset_key=key.asset_key,
                passed=not found.problems and not found.empty,
                severity=dg.AssetCheckSeverity.ERROR if found.problems else dg.AssetCheckSeverity.WARN,
                description="; ".join(found.problems) or ("the table is empty" if found.empty else None),
                metadata={"rows": found.rows, "records with rows": found.records},
            )
