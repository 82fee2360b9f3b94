"""The tables that have any number of rows per record, what they were derived from, views and a role that reads them.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COMMENTS = {
    ("data_assets", "project_name"): "project the record names",
    ("subjects", "subject_id"): "the subject's id, e.g. six digits",
    ("subjects", "date_of_birth"): "date of birth, as recorded",
    ("subjects", "genotype"): "genotype, as recorded",
    ("session_assets", "platform"): "platform, from the id",
    ("session_assets", "subject_id"): "subject, from the id",
    ("session_assets", "raw_asset_name"): "name of the raw asset; null when there is none",
    ("session_assets", "raw_record_version"): "v1 or v2: version of the raw asset's record",
    ("session_assets", "run_id"): "Dagster run that last changed this row",
}
"""Of columns that had none."""

_FINDINGS = """
CREATE OR REPLACE VIEW public.findings AS
SELECT 'docdb' AS stage, code, key, field, message, scope, first_seen, last_seen, run_id
FROM docdb.findings WHERE resolved_at IS NULL
UNION ALL
SELECT 'metadata_service', code, key, field, message, scope, first_seen, last_seen, run_id
FROM metadata_service.findings WHERE resolved_at IS NULL
UNION ALL
SELECT 'sessions', code, key, field, message, scope, first_seen, last_seen, run_id
FROM indexes.findings WHERE resolved_at IS NULL
UNION ALL
SELECT 'archive', code, key, field, message, scope, first_seen, last_seen, run_id
FROM archive.findings WHERE resolved_at IS NULL
"""

_TABLE_FINDINGS = """UNION ALL
SELECT 'tables', code, key, field, message, scope, first_seen, last_seen, run_id
FROM tables.findings WHERE resolved_at IS NULL
"""

TABLE_STATUS = """
CREATE VIEW public.table_status AS
SELECT table_name, rows, published_at, changed_at, run_id FROM tables.publications
"""

LATEST_PROCESSED_ASSETS = """
CREATE VIEW public.latest_processed_assets AS
SELECT DISTINCT ON (session.session_id, derived.process)
    session.session_id, session.subject_id, session.platform, session.session_time, derived.process, derived.name,
    derived.code_ocean_id, derived.location, derived.created
FROM public.session_assets AS session
CROSS JOIN LATERAL jsonb_to_recordset(session.derived)
    AS derived(name text, process text, code_ocean_id text, location text, created timestamptz)
ORDER BY session.session_id, derived.process, derived.created DESC NULLS LAST, derived.name DESC
"""

SESSIONS_BY_SUBJECT_AND_MONTH = """
CREATE VIEW public.sessions_by_subject_and_month AS
SELECT subject_id, month, count(*) AS sessions, count(raw_asset_name) AS with_raw_asset,
    count(*) FILTER (WHERE jsonb_array_length(derived) > 0) AS with_derived_assets,
    array_agg(DISTINCT platform ORDER BY platform) AS platforms
FROM public.session_assets
GROUP BY subject_id, month
"""

ASSETS_WITHOUT_METADATA = """
CREATE VIEW public.assets_without_metadata AS
WITH found AS (
    SELECT 's3' AS found_in, prefix AS name, 's3://' || bucket || '/' || prefix AS location,
        NULL AS code_ocean_id, session_id
    FROM indexes.s3_prefixes
    UNION ALL
    SELECT 'code_ocean', name, location, id, session_id FROM indexes.code_ocean_assets
)
SELECT found_in, name, location, code_ocean_id, session_id
FROM found
WHERE session_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM public.data_assets AS asset WHERE asset.name = found.name)
    AND NOT EXISTS (SELECT FROM public.data_assets AS asset WHERE asset.location = found.location)
    AND NOT EXISTS (
        SELECT FROM (SELECT unnest(code_ocean_ids) AS id FROM public.data_assets) AS named
        WHERE named.id = found.code_ocean_id
    )
"""

ASSETS_WITH_MISSING_SOURCE = """
CREATE VIEW public.assets_with_missing_source AS
SELECT derived_name, source_name, stated_by, record_version, record_id,
    EXISTS (SELECT FROM indexes.s3_prefixes AS folder WHERE folder.prefix = lineage.source_name) AS source_in_s3,
    EXISTS (SELECT FROM indexes.code_ocean_assets AS asset WHERE asset.name = lineage.source_name)
        AS source_in_code_ocean
FROM public.asset_lineage AS lineage
WHERE source_record_id IS NULL
"""

VIEWS = {
    "table_status": (TABLE_STATUS, "When each analysts'' table was last brought up to date, and its rows then"),
    "latest_processed_assets": (
        LATEST_PROCESSED_ASSETS,
        "The latest derived asset of each session and process, by creation time",
    ),
    "sessions_by_subject_and_month": (
        SESSIONS_BY_SUBJECT_AND_MONTH,
        "Sessions of each subject in each month, by the date in the session id",
    ),
    "assets_without_metadata": (
        ASSETS_WITHOUT_METADATA,
        "Session assets in S3 or Code Ocean that no metadata record has the name, location or Code Ocean id of",
    ),
    "assets_with_missing_source": (
        ASSETS_WITH_MISSING_SOURCE,
        "Derived assets whose source has no metadata record, and whether S3 or Code Ocean has it",
    ),
}


def upgrade() -> None:
    op.execute(sa.schema.CreateSchema("tables", if_not_exists=True))
    op.create_table(
        "acquisitions",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the acquisition in the record, from 0",
        ),
        sa.Column(
            "section", sa.Text(), nullable=False, comment="part of the record it is from: session (v1) or acquisition"
        ),
        sa.Column("schema_version", sa.Text(), nullable=True, comment="schema version of that part"),
        sa.Column("subject_id", sa.Text(), nullable=True, comment="subject that part names"),
        sa.Column("specimen_ids", postgresql.ARRAY(sa.Text()), nullable=False, comment="specimens that part names"),
        sa.Column("instrument_id", sa.Text(), nullable=True, comment="rig or instrument as that part names it"),
        sa.Column("acquisition_type", sa.Text(), nullable=True, comment="kind of session or acquisition, as recorded"),
        sa.Column(
            "start_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it started; UTC where the record states no zone",
        ),
        sa.Column(
            "end_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it ended; UTC where the record states no zone",
        ),
        sa.Column(
            "modalities",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="modality abbreviations of its data streams, sorted",
        ),
        sa.Column("stream_count", sa.Integer(), nullable=False, comment="data streams; see data_streams"),
        sa.Column("epoch_count", sa.Integer(), nullable=False, comment="stimulus epochs; see stimulus_epochs"),
        sa.Column(
            "tile_count",
            sa.Integer(),
            nullable=True,
            comment="tiles of an imaging acquisition; null where none are listed",
        ),
        sa.Column("protocol_ids", postgresql.ARRAY(sa.Text()), nullable=False, comment="protocols, as recorded"),
        sa.Column(
            "ethics_review_ids",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="ethics reviews (IACUC protocols)",
        ),
        sa.Column(
            "experimenter_count",
            sa.Integer(),
            nullable=True,
            comment="experimenters it names; null when it says nothing of them",
        ),
        sa.Column("animal_weight_prior", sa.Double(), nullable=True, comment="weight of the animal before, grams"),
        sa.Column("animal_weight_post", sa.Double(), nullable=True, comment="weight of the animal after, grams"),
        sa.Column(
            "reward_consumed", sa.Double(), nullable=True, comment="water consumed as reward in all, microlitres"
        ),
        sa.Column("platform_name", sa.Text(), nullable=True, comment="what the animal was on, e.g. a wheel or a tube"),
        sa.Column("platform_active", sa.Boolean(), nullable=True, comment="whether that platform was driven; v1 only"),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_acquisitions")),
        comment="One row per acquisition: a session in v1, an acquisition in v2",
    )
    op.create_index("ix_acquisitions_instrument_id", "acquisitions", ["instrument_id"], unique=False)
    op.create_index("ix_acquisitions_subject_id", "acquisitions", ["subject_id"], unique=False)
    op.create_table(
        "asset_lineage",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the source in the record, from 0",
        ),
        sa.Column("derived_name", sa.Text(), nullable=True, comment="name of the asset that was made"),
        sa.Column("source_name", sa.Text(), nullable=False, comment="name of an asset it was made of"),
        sa.Column(
            "stated_by",
            sa.Text(),
            nullable=False,
            comment="record: the record says so; name: only the asset's name does",
        ),
        sa.Column(
            "source_record_version",
            sa.Text(),
            nullable=True,
            comment="version of the source's record; null while no record has its name",
        ),
        sa.Column(
            "source_record_id",
            sa.Text(),
            nullable=True,
            comment="DocDB _id of the source's record; null while no record has its name",
        ),
        sa.Column(
            "source_records",
            sa.Integer(),
            nullable=True,
            comment="how many records have the source's name; of several, that of the same version counts, then the "
            "newer version, then the one modified last",
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_asset_lineage")),
        comment="One row per derived asset and asset it was made of",
    )
    op.create_index("ix_asset_lineage_derived_name", "asset_lineage", ["derived_name"], unique=False)
    op.create_index("ix_asset_lineage_source_name", "asset_lineage", ["source_name"], unique=False)
    op.create_table(
        "data_streams",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the data stream in the record, from 0",
        ),
        sa.Column(
            "acquisition_position", sa.Integer(), nullable=False, comment="position of its acquisition in acquisitions"
        ),
        sa.Column(
            "start_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it started; UTC where the record states no zone",
        ),
        sa.Column(
            "end_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it ended; UTC where the record states no zone",
        ),
        sa.Column("modalities", postgresql.ARRAY(sa.Text()), nullable=False, comment="modality abbreviations, sorted"),
        sa.Column(
            "devices",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="names of the devices in use; v2's active devices, in v1 those of every kind",
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_data_streams")),
        comment="One row per data stream of an acquisition",
    )
    op.create_table(
        "funding",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the funding source in the record, from 0",
        ),
        sa.Column("funder", sa.Text(), nullable=True, comment="name of the funder"),
        sa.Column("funder_abbreviation", sa.Text(), nullable=True, comment="its abbreviation"),
        sa.Column("grant_number", sa.Text(), nullable=True, comment="grant number as recorded"),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_funding")),
        comment="One row per asset and funding source",
    )
    op.create_index("ix_funding_grant_number", "funding", ["grant_number"], unique=False)
    op.create_table(
        "instruments",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the rig or instrument in the record, from 0",
        ),
        sa.Column(
            "section", sa.Text(), nullable=False, comment="part of the record it is from: rig (v1) or instrument"
        ),
        sa.Column("schema_version", sa.Text(), nullable=True, comment="schema version of that part"),
        sa.Column("instrument_id", sa.Text(), nullable=True, comment="the rig's or instrument's id"),
        sa.Column("instrument_type", sa.Text(), nullable=True, comment="e.g. SmartSPIM; instruments of v1 only"),
        sa.Column(
            "manufacturer", sa.Text(), nullable=True, comment="name of the manufacturer; instruments of v1 only"
        ),
        sa.Column("location", sa.Text(), nullable=True, comment="where it stands"),
        sa.Column("modification_date", sa.Date(), nullable=True, comment="when it was last changed"),
        sa.Column("modalities", postgresql.ARRAY(sa.Text()), nullable=False, comment="modality abbreviations, sorted"),
        sa.Column("temperature_control", sa.Boolean(), nullable=True, comment="whether its temperature is controlled"),
        sa.Column(
            "devices",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="names of its devices",
        ),
        sa.Column(
            "calibration_count", sa.Integer(), nullable=True, comment="calibrations; null where none are listed"
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_instruments")),
        comment="One row per asset and the rig or instrument that acquired it, as it was then",
    )
    op.create_index("ix_instruments_instrument_id", "instruments", ["instrument_id"], unique=False)
    op.create_table(
        "modalities",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the modality in the record, from 0",
        ),
        sa.Column("modality", sa.Text(), nullable=False, comment="modality abbreviation, e.g. ecephys"),
        sa.Column(
            "modality_name",
            sa.Text(),
            nullable=True,
            comment="its full name; null for a word that is no known modality",
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_modalities")),
        comment="One row per asset and modality",
    )
    op.create_index("ix_modalities_modality", "modalities", ["modality"], unique=False)
    op.create_table(
        "procedure_materials",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the material in the record, from 0",
        ),
        sa.Column(
            "procedure_position", sa.Integer(), nullable=False, comment="position of its procedure in procedures"
        ),
        sa.Column(
            "material_type",
            sa.Text(),
            nullable=True,
            comment="Virus (v1), Viral material (v2), Reagent ..., as recorded",
        ),
        sa.Column("name", sa.Text(), nullable=True, comment="name as recorded"),
        sa.Column("titer", sa.Double(), nullable=True, comment="titer of a virus, in titer_unit"),
        sa.Column(
            "titer_unit", sa.Text(), nullable=True, comment="unit of the titer, e.g. gc/mL; null without a titer"
        ),
        sa.Column(
            "concentration",
            sa.Double(),
            nullable=True,
            comment="concentration of another material, in concentration_unit",
        ),
        sa.Column(
            "concentration_unit", sa.Text(), nullable=True, comment="unit of the concentration; null without one"
        ),
        sa.Column("virus_tars_id", sa.Text(), nullable=True, comment="virus id in TARS"),
        sa.Column(
            "plasmid_tars_aliases", postgresql.ARRAY(sa.Text()), nullable=False, comment="plasmid aliases in TARS"
        ),
        sa.Column("lot_number", sa.Text(), nullable=True, comment="lot of the preparation or of the reagent"),
        sa.Column("addgene_id", sa.Text(), nullable=True, comment="Addgene identifier"),
        sa.Column("rrid", sa.Text(), nullable=True, comment="research resource identifier"),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_procedure_materials")),
        comment="One row per material of a procedure: what was injected, and reagents",
    )
    op.create_index("ix_procedure_materials_name", "procedure_materials", ["name"], unique=False)
    op.create_table(
        "procedures",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the procedure in the record, from 0",
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="where it stands in the record, dotted"),
        sa.Column("subject_id", sa.Text(), nullable=True, comment="subject whose procedures these are"),
        sa.Column("target", sa.Text(), nullable=False, comment="subject or specimen"),
        sa.Column(
            "surgery_position",
            sa.Integer(),
            nullable=True,
            comment="position of the surgery it was a part of; null for a procedure of its own, surgeries too",
        ),
        sa.Column(
            "procedure_type",
            sa.Text(),
            nullable=True,
            comment="as recorded: Surgery, Nanoject injection (v1), Brain injection (v2) ...",
        ),
        sa.Column(
            "procedure_name", sa.Text(), nullable=True, comment="name within its type; specimen procedures only"
        ),
        sa.Column(
            "start_date", sa.Date(), nullable=True, comment="first day; of a part of a surgery that of the surgery"
        ),
        sa.Column("end_date", sa.Date(), nullable=True, comment="last day, where one is recorded"),
        sa.Column("specimen_ids", postgresql.ARRAY(sa.Text()), nullable=False, comment="specimens it was done to"),
        sa.Column("output_specimen_ids", postgresql.ARRAY(sa.Text()), nullable=False, comment="specimens it made"),
        sa.Column("protocol_ids", postgresql.ARRAY(sa.Text()), nullable=False, comment="protocols, as recorded"),
        sa.Column(
            "ethics_review_id", sa.Text(), nullable=True, comment="ethics review (IACUC protocol); of surgeries"
        ),
        sa.Column("workstation_id", sa.Text(), nullable=True, comment="surgery workstation"),
        sa.Column("animal_weight_prior", sa.Double(), nullable=True, comment="weight of the animal before, grams"),
        sa.Column("animal_weight_post", sa.Double(), nullable=True, comment="weight of the animal after, grams"),
        sa.Column("anaesthetic", sa.Text(), nullable=True, comment="anaesthetic, as recorded"),
        sa.Column(
            "anaesthesia_duration", sa.Double(), nullable=True, comment="how long it was anaesthetised, minutes"
        ),
        sa.Column(
            "targeted_structure",
            sa.Text(),
            nullable=True,
            comment="acronym of the targeted structure, or else its name",
        ),
        sa.Column(
            "hemisphere",
            sa.Text(),
            nullable=True,
            comment="Left or Right: v1's hemisphere, the one side among v2's relative positions",
        ),
        sa.Column(
            "injection_volumes",
            postgresql.ARRAY(sa.Double()),
            nullable=False,
            comment="volumes of an injection, nanolitres, in order",
        ),
        sa.Column(
            "coordinates",
            postgresql.JSONB(),
            nullable=True,
            comment="coordinates as recorded; v1 names its axes, v2 a coordinate system",
        ),
        sa.Column(
            "coordinate_system",
            sa.Text(),
            nullable=True,
            comment="v1's reference point, or the name of v2's coordinate system",
        ),
        sa.Column("material_count", sa.Integer(), nullable=False, comment="materials; see procedure_materials"),
        sa.Column(
            "devices", postgresql.ARRAY(sa.Text()), nullable=False, comment="names of implanted devices, e.g. fibers"
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_procedures")),
        comment="One row per procedure: surgeries, what was done in them, other procedures, and those on specimens",
    )
    op.create_index("ix_procedures_procedure_type", "procedures", ["procedure_type"], unique=False)
    op.create_index("ix_procedures_subject_id", "procedures", ["subject_id"], unique=False)
    op.create_table(
        "processing",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the process in the record, from 0",
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="where it stands in the record, dotted"),
        sa.Column(
            "process_type", sa.Text(), nullable=True, comment="kind of process, e.g. Spike sorting; v1 calls it name"
        ),
        sa.Column("name", sa.Text(), nullable=True, comment="the process' own name; v2 only"),
        sa.Column("stage", sa.Text(), nullable=True, comment="Processing or Analysis"),
        sa.Column("software_name", sa.Text(), nullable=True, comment="name of the code; v2 only"),
        sa.Column(
            "software_version",
            sa.Text(),
            nullable=True,
            comment="version of the software, or of v2's code, as recorded",
        ),
        sa.Column("code_url", sa.Text(), nullable=True, comment="where the code is"),
        sa.Column(
            "code_version",
            sa.Text(),
            nullable=True,
            comment="version of the code beside that of the software; v1 only",
        ),
        sa.Column("pipeline_name", sa.Text(), nullable=True, comment="pipeline it ran in; v2 only"),
        sa.Column("pipeline_url", sa.Text(), nullable=True, comment="where that pipeline's code is"),
        sa.Column("pipeline_version", sa.Text(), nullable=True, comment="version of that pipeline"),
        sa.Column(
            "start_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it started; UTC where the record states no zone",
        ),
        sa.Column(
            "end_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it ended; UTC where the record states no zone",
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_processing")),
        comment="One row per process that was run on an asset's data",
    )
    op.create_index("ix_processing_process_type", "processing", ["process_type"], unique=False)
    op.create_table(
        "quality_control",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the metric in the record, from 0",
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="where it stands in the record, dotted"),
        sa.Column("evaluation_name", sa.Text(), nullable=True, comment="evaluation the metric belongs to; v1 only"),
        sa.Column(
            "evaluation_status",
            sa.Text(),
            nullable=True,
            comment="latest status of that evaluation, where recorded; v1 only",
        ),
        sa.Column("stage", sa.Text(), nullable=True, comment="e.g. Raw data, Processing"),
        sa.Column("modality", sa.Text(), nullable=True, comment="modality abbreviation"),
        sa.Column(
            "tags",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="tags of the metric or of v1's evaluation; pairs as key:value",
        ),
        sa.Column(
            "metric_name",
            sa.Text(),
            nullable=True,
            comment="name of the metric; null for an evaluation without metrics",
        ),
        sa.Column("metric_type", sa.Text(), nullable=True, comment="QC metric or Curation metric; v2 only"),
        sa.Column("status", sa.Text(), nullable=True, comment="status of the metric: the last one of its history"),
        sa.Column(
            "status_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it got that status; UTC where the record states no zone",
        ),
        sa.Column("status_count", sa.Integer(), nullable=False, comment="how many statuses its history has"),
        sa.Column(
            "automated",
            sa.Boolean(),
            nullable=True,
            comment="whether a program gave that status: its evaluator is Automated",
        ),
        sa.Column(
            "value",
            postgresql.JSONB(),
            nullable=True,
            comment="value as recorded; null when it is longer than 10,000 characters",
        ),
        sa.Column("reference", sa.Text(), nullable=True, comment="plot or page that shows it"),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_quality_control")),
        comment="One row per quality metric, with its evaluation",
    )
    op.create_index("ix_quality_control_metric_name", "quality_control", ["metric_name"], unique=False)
    op.create_table(
        "stimulus_epochs",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the stimulus epoch in the record, from 0",
        ),
        sa.Column(
            "acquisition_position", sa.Integer(), nullable=False, comment="position of its acquisition in acquisitions"
        ),
        sa.Column("stimulus_name", sa.Text(), nullable=True, comment="name of the stimulus"),
        sa.Column(
            "stimulus_modalities", postgresql.ARRAY(sa.Text()), nullable=False, comment="e.g. Auditory, as recorded"
        ),
        sa.Column(
            "start_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it started; UTC where the record states no zone",
        ),
        sa.Column(
            "end_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it ended; UTC where the record states no zone",
        ),
        sa.Column("devices", postgresql.ARRAY(sa.Text()), nullable=False, comment="names of the devices in use"),
        sa.Column(
            "software",
            postgresql.JSONB(),
            nullable=False,
            comment="[{name, version, url}] of its software and script (v1) or code (v2)",
        ),
        sa.Column("trials_total", sa.Integer(), nullable=True, comment="trials"),
        sa.Column("trials_finished", sa.Integer(), nullable=True, comment="trials that were finished"),
        sa.Column("trials_rewarded", sa.Integer(), nullable=True, comment="trials that were rewarded"),
        sa.Column(
            "reward_consumed",
            sa.Double(),
            nullable=True,
            comment="water consumed as reward during the epoch, microlitres",
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_stimulus_epochs")),
        comment="One row per stimulus epoch of an acquisition",
    )
    op.create_table(
        "derived_records",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "content_hash", sa.Text(), nullable=False, comment="content of the record that its rows were derived from"
        ),
        sa.Column("code", sa.Text(), nullable=False, comment="digest of the code that derived them"),
        sa.Column(
            "tables",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="tables whose rows are of that content and that code",
        ),
        sa.PrimaryKeyConstraint("record_version", "record_id", name=op.f("pk_derived_records")),
        schema="tables",
        comment="What the rows of each record were derived from: only what changed since is derived again",
    )
    op.create_table(
        "findings",
        sa.Column("code", sa.Text(), nullable=False, comment="kind of finding"),
        sa.Column("key", sa.Text(), nullable=False, comment="record_version/_id"),
        sa.Column("field", sa.Text(), nullable=False, comment="dotted path within it, empty for the whole"),
        sa.Column("message", sa.Text(), nullable=False, comment="what was found, for a person"),
        sa.Column(
            "scope", sa.Text(), nullable=False, comment="the pass that owns the finding; only that pass resolves it"
        ),
        sa.Column(
            "first_seen",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was first found",
        ),
        sa.Column(
            "last_seen",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was last found",
        ),
        sa.Column(
            "resolved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a later pass no longer found it; null while it stands",
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that last saw it"),
        sa.PrimaryKeyConstraint("code", "key", "field", name=op.f("pk_findings")),
        schema="tables",
        comment="What is not as it should be, with its history",
    )
    op.create_index("ix_findings_key", "findings", ["key"], unique=False, schema="tables")
    op.create_table(
        "publications",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="rows it had then"),
        sa.Column(
            "published_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when a run last brought it up to date",
        ),
        sa.Column(
            "changed_at", sa.DateTime(timezone=True), nullable=True, comment="when a run last changed its content"
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that last brought it up to date"),
        sa.PrimaryKeyConstraint("table_name", name=op.f("pk_publications")),
        schema="tables",
        comment="When each analysts' table was last brought up to date",
    )
    op.create_table(
        "subject_statements",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2: version of the record"),
        sa.Column("record_id", sa.Text(), nullable=False, comment="DocDB _id of the record"),
        sa.Column(
            "position",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="place of the statement in the record, from 0",
        ),
        sa.Column("subject_id", sa.Text(), nullable=False, comment="subject the record names"),
        sa.Column("acquisition_time", sa.DateTime(timezone=True), nullable=True, comment="start of the acquisition"),
        sa.Column("modified", sa.DateTime(timezone=True), nullable=True, comment="record modification time"),
        sa.Column("sex", sa.Text(), nullable=True, comment="as recorded"),
        sa.Column("date_of_birth", sa.Date(), nullable=True),
        sa.Column("genotype", sa.Text(), nullable=True),
        sa.Column("species", sa.Text(), nullable=True, comment="species name"),
        sa.PrimaryKeyConstraint("record_version", "record_id", "position", name=op.f("pk_subject_statements")),
        schema="tables",
        comment="What each record says of its subject; subjects is made of it",
    )
    for (table, column), comment in COMMENTS.items():
        op.alter_column(table, column, comment=comment)
    op.execute(_FINDINGS + _TABLE_FINDINGS)
    for name, (definition, comment) in VIEWS.items():
        op.execute(definition)
        op.execute(f"COMMENT ON VIEW public.{name} IS '{comment}'")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW public.{name}")
    op.execute(_FINDINGS)
    for table, column in COMMENTS:
        op.alter_column(table, column, comment=None)
    op.drop_table("subject_statements", schema="tables")
    op.drop_table("publications", schema="tables")
    op.drop_table("findings", schema="tables")
    op.drop_table("derived_records", schema="tables")
    op.drop_table("stimulus_epochs")
    op.drop_table("quality_control")
    op.drop_table("processing")
    op.drop_table("procedures")
    op.drop_table("procedure_materials")
    op.drop_table("modalities")
    op.drop_table("instruments")
    op.drop_table("funding")
    op.drop_table("data_streams")
    op.drop_table("asset_lineage")
    op.drop_table("acquisitions")
    op.execute(sa.schema.DropSchema("tables"))
