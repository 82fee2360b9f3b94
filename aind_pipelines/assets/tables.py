"""The analysts' tables, derived from the records and published atomically.

One op makes them all: a pass over the records that changed feeds every table that was asked for, and one transaction
brings them in.
"""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from aind_pipelines.assets.describe import NIGHTLY, column_lineage, outcome
from aind_pipelines.assets.export import ExportConfig, exported
from aind_pipelines.assets.metadata import docdb_records
from aind_pipelines.resources.rds import RDSResource

_AS_A_WHOLE = "Readers see the old rows or the new ones of all tables, never half, and do not wait."

_DESCRIPTIONS = {
    "data_assets": "One row per metadata record, v1 and v2 in the same columns; what a record lacks is NULL, never "
    f"guessed. {_AS_A_WHOLE}",
    "subjects": "One row per subject that a record names, with what its latest record says of it.",
    "modalities": "One row per asset and modality.",
    "asset_lineage": "What each derived asset was made of: names, and the records that have them. A source without a "
    "record stays.",
    "processing": "One row per process that was run on an asset's data: software, version, times.",
    "funding": "One row per asset and funding source.",
    "acquisitions": "One row per session (v1) or acquisition (v2): instrument, times, weights of the animal, reward.",
    "data_streams": "One row per data stream of an acquisition: times, modalities, devices.",
    "stimulus_epochs": "One row per stimulus epoch of an acquisition: times, software, trials.",
    "instruments": "One row per asset and the rig or instrument it was acquired with, as it was then.",
    "procedures": "Surgeries, what was done in them, other procedures, and those on specimens.",
    "procedure_materials": "What was injected and which reagents were used, one row per material of a procedure.",
    "quality_control": "One row per quality metric, with its evaluation and its status.",
}

_FROM_OTHER_TABLES = {"asset_lineage": ["data_assets"]}


class TablesConfig(ExportConfig):
    """How much to derive, and where the tables go as files."""

    full: bool = Field(
        default=False,
        description="derive every record again, instead of those that changed, and remove rows of records that the "
        "mirror does not have: after tables were edited by hand",
    )
    confirm_deletions: bool = Field(
        default=False,
        description="remove the rows though the mirror lost more than half of the records, or all, since the last run",
    )


@dg.multi_asset(
    name="analysts_tables",
    specs=[
        dg.AssetSpec(
            name,
            deps=[docdb_records, *_FROM_OTHER_TABLES.get(name, ())],
            description=f"{description}\n\nTable `public.{name}`.",
            group_name="tables",
            kinds={"postgres"},
            freshness_policy=NIGHTLY,
        )
        for name, description in _DESCRIPTIONS.items()
    ],
    can_subset=True,
    pool="rds",
)
def analysts_tables(
    context: dg.AssetExecutionContext, config: TablesConfig, rds: RDSResource
) -> Iterator[dg.MaterializeResult]:
    """The analysts' tables."""
    from aind_pipelines.tables.publishing import publish_tables
    from aind_pipelines.tables.schema import ANALYSTS_TABLES

    names = {key.to_user_string() for key in context.selected_asset_keys}
    tables = {table.name: table for table in ANALYSTS_TABLES}
    with rds.engine() as engine:
        results = publish_tables(
            engine,
            names,
            full=config.full,
            confirm_deletions=config.confirm_deletions,
            run_id=context.run.run_id,
        )
        for name, result in results.items():
            context.log.info(f"{name}: {result}")
            table = tables[name]
            yield dg.MaterializeResult(
                asset_key=name,
                metadata=outcome(
                    rows=result.rows,
                    changed=result.changed,
                    findings=result.findings,
                    table=table,
                    **column_lineage(table),
                    **exported(engine, table, config),
                    **{"records derived": result.records},
                ),
            )
