"""Initial schema: the mirror, the indexes, the archive ledger and the analysts' tables.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMAS = ("docdb", "metadata_service", "indexes", "archive")

FINDINGS_VIEW = """
CREATE VIEW public.findings AS
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


def upgrade() -> None:
    for schema in SCHEMAS:
        op.execute(sa.schema.CreateSchema(schema, if_not_exists=True))

    op.create_table(
        "checks",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False, comment="full, exists, scrub or sample"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="when it started"),
        sa.Column(
            "ended_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it ended",
        ),
        sa.Column("resources", sa.Integer(), nullable=False, comment="resources looked at"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="bytes read"),
        sa.Column("findings", sa.Integer(), nullable=False, comment="resources found bad"),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checks")),
        schema="archive",
        comment="Every archive check that ran to its end",
    )
    op.create_table(
        "copies",
        sa.Column("archive", sa.Text(), nullable=False, comment="registered archive name"),
        sa.Column("id", sa.Text(), nullable=False, comment="resource identifier"),
        sa.Column("kind", sa.Text(), nullable=False, comment="file or directory"),
        sa.Column("path", sa.Text(), nullable=False, comment="path below the archive's resources folder"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes of content"),
        sa.Column("files", sa.Integer(), nullable=False, comment="regular files, 1 for a file resource"),
        sa.Column("sha1", sa.Text(), nullable=False, comment="neurobank digest, hex"),
        sa.Column("blake3", sa.Text(), nullable=False, comment="second digest, hex"),
        sa.Column("source", sa.Text(), nullable=True, comment="where it was deposited from"),
        sa.Column("session_id", sa.Text(), nullable=True, comment="session it belongs to, if any"),
        sa.Column("record_id", sa.Text(), nullable=True, comment="DocDB record it belongs to, if any"),
        sa.Column(
            "deposited_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when its location was registered",
        ),
        sa.Column(
            "last_verified_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when every byte was last read and found good",
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that deposited it"),
        sa.PrimaryKeyConstraint("archive", "id", name=op.f("pk_copies")),
        schema="archive",
        comment="What we know of each copy",
    )
    op.create_index("ix_copies_session_id", "copies", ["session_id"], unique=False, schema="archive")
    op.create_table(
        "findings",
        sa.Column("code", sa.Text(), nullable=False, comment="kind of finding"),
        sa.Column("key", sa.Text(), nullable=False, comment="archive/resource id"),
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
        schema="archive",
        comment="What is not as it should be, with its history",
    )
    op.create_index("ix_findings_key", "findings", ["key"], unique=False, schema="archive")
    op.create_table(
        "findings",
        sa.Column("code", sa.Text(), nullable=False, comment="kind of finding"),
        sa.Column("key", sa.Text(), nullable=False, comment="record_version/_id, or a location"),
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
        schema="docdb",
        comment="What is not as it should be, with its history",
    )
    op.create_index("ix_findings_key", "findings", ["key"], unique=False, schema="docdb")
    op.create_table(
        "records",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2, from the record's content"),
        sa.Column("id", sa.Text(), nullable=False, comment="the record's _id"),
        sa.Column("source", sa.Text(), nullable=False, comment="database.collection it was read from"),
        sa.Column("name", sa.Text(), nullable=True, comment="asset name"),
        sa.Column("location", sa.Text(), nullable=True, comment="S3 location of the asset"),
        sa.Column("schema_version", sa.Text(), nullable=True, comment="the record's own schema_version"),
        sa.Column(
            "created",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="record creation time as the record states it, UTC where it states no zone",
        ),
        sa.Column(
            "modified",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="record modification time as the record states it, UTC where it states no zone",
        ),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="blake3 of the canonical JSON of the body, hex"),
        sa.Column("body", postgresql.JSONB(), nullable=False, comment="the record as it was read"),
        sa.Column(
            "first_seen",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="first ingested",
        ),
        sa.Column(
            "last_changed",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="content last changed",
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that last changed it"),
        sa.PrimaryKeyConstraint("record_version", "id", name=op.f("pk_records")),
        schema="docdb",
        comment="Metadata records as DocDB has them now",
    )
    op.create_index("ix_records_location", "records", ["location"], unique=False, schema="docdb")
    op.create_index("ix_records_name", "records", ["name"], unique=False, schema="docdb")
    op.create_table(
        "code_ocean_assets",
        sa.Column("id", sa.Text(), nullable=False, comment="Code Ocean data asset id"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False, comment="creation time in Code Ocean"),
        sa.Column("state", sa.Text(), nullable=True, comment="draft, ready or failed"),
        sa.Column("type", sa.Text(), nullable=True, comment="dataset, result, combined or model"),
        sa.Column("size", sa.BigInteger(), nullable=True, comment="bytes"),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("data_level", sa.Text(), nullable=True, comment="custom_metadata 'data level'"),
        sa.Column(
            "session_id", sa.Text(), nullable=True, comment="normalised session id in the name, if there is one"
        ),
        sa.Column(
            "location",
            sa.Text(),
            nullable=True,
            comment="source bucket as a URI, null for assets held by Code Ocean itself",
        ),
        sa.Column(
            "body",
            postgresql.JSONB(),
            nullable=False,
            comment="the asset as Code Ocean describes it",
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="refresh that last saw it",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_code_ocean_assets")),
        schema="indexes",
        comment="Code Ocean data assets at the last complete refresh",
    )
    op.create_index("ix_code_ocean_assets_name", "code_ocean_assets", ["name"], unique=False, schema="indexes")
    op.create_index(
        "ix_code_ocean_assets_session_id", "code_ocean_assets", ["session_id"], unique=False, schema="indexes"
    )
    op.create_table(
        "findings",
        sa.Column("code", sa.Text(), nullable=False, comment="kind of finding"),
        sa.Column("key", sa.Text(), nullable=False, comment="session id, or asset name"),
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
        schema="indexes",
        comment="What is not as it should be, with its history",
    )
    op.create_index("ix_findings_key", "findings", ["key"], unique=False, schema="indexes")
    op.create_table(
        "refreshes",
        sa.Column("source", sa.Text(), nullable=False, comment="code_ocean, or s3://bucket"),
        sa.Column(
            "completed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="end of the last complete refresh",
        ),
        sa.Column("rows", sa.Integer(), nullable=False, comment="what it found"),
        sa.Column("requests", sa.Integer(), nullable=False, comment="requests it made"),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_refreshes")),
        schema="indexes",
        comment="Last complete refresh per index",
    )
    op.create_table(
        "s3_prefixes",
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False, comment="top-level folder, without slash: an asset's name"),
        sa.Column(
            "session_id", sa.Text(), nullable=True, comment="normalised session id in the name, if there is one"
        ),
        sa.Column(
            "children", postgresql.ARRAY(sa.Text()), nullable=False, comment="folders directly below, without slash"
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="refresh that last saw it",
        ),
        sa.PrimaryKeyConstraint("bucket", "prefix", name=op.f("pk_s3_prefixes")),
        schema="indexes",
        comment="Top-level folders of the asset buckets at the last complete refresh",
    )
    op.create_index("ix_s3_prefixes_session_id", "s3_prefixes", ["session_id"], unique=False, schema="indexes")
    op.create_table(
        "answers",
        sa.Column("endpoint", sa.Text(), nullable=False, comment="e.g. subject, procedures"),
        sa.Column("key", sa.Text(), nullable=False, comment="what was asked for, e.g. the subject id"),
        sa.Column("status", sa.Integer(), nullable=False, comment="HTTP status code of the answer"),
        sa.Column("message", sa.Text(), nullable=True, comment="the service's message"),
        sa.Column(
            "data",
            postgresql.JSONB(),
            nullable=True,
            comment="the service's data, null when it had none",
        ),
        sa.Column(
            "fetched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was asked",
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that asked"),
        sa.PrimaryKeyConstraint("endpoint", "key", name=op.f("pk_answers")),
        schema="metadata_service",
        comment="Last answer of the metadata-service per endpoint and key",
    )
    op.create_table(
        "findings",
        sa.Column("code", sa.Text(), nullable=False, comment="kind of finding"),
        sa.Column("key", sa.Text(), nullable=False, comment="subject id"),
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
        schema="metadata_service",
        comment="What is not as it should be, with its history",
    )
    op.create_index("ix_findings_key", "findings", ["key"], unique=False, schema="metadata_service")
    op.create_table(
        "data_assets",
        sa.Column("id", sa.Text(), nullable=False, comment="DocDB _id"),
        sa.Column("name", sa.Text(), nullable=True, comment="asset name"),
        sa.Column("location", sa.Text(), nullable=True, comment="S3 location"),
        sa.Column("subject_id", sa.Text(), nullable=True, comment="subject the record names"),
        sa.Column(
            "platform", sa.Text(), nullable=True, comment="platform abbreviation, from the record or else the name"
        ),
        sa.Column(
            "acquisition_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="start of the acquisition; UTC where the record states no zone",
        ),
        sa.Column("data_level", sa.Text(), nullable=True, comment="raw, derived or simulated"),
        sa.Column("modalities", postgresql.ARRAY(sa.Text()), nullable=True, comment="modality abbreviations, sorted"),
        sa.Column("process_name", sa.Text(), nullable=True, comment="process that made a derived asset, e.g. sorted"),
        sa.Column("project_name", sa.Text(), nullable=True),
        sa.Column("institution", sa.Text(), nullable=True, comment="institution abbreviation"),
        sa.Column(
            "code_ocean_ids",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="Code Ocean data asset ids the record names",
        ),
        sa.Column("created", sa.DateTime(timezone=True), nullable=True, comment="record creation time"),
        sa.Column("modified", sa.DateTime(timezone=True), nullable=True, comment="record modification time"),
        sa.Column("schema_version", sa.Text(), nullable=True, comment="the record's own schema_version"),
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2"),
        sa.PrimaryKeyConstraint("id", "record_version", name=op.f("pk_data_assets")),
        comment="One row per metadata record",
    )
    op.create_index("ix_data_assets_name", "data_assets", ["name"], unique=False)
    op.create_index("ix_data_assets_subject_id", "data_assets", ["subject_id"], unique=False)
    op.create_table(
        "session_assets",
        sa.Column("session_id", sa.Text(), nullable=False, comment="platform_subject_date_time"),
        sa.Column("month", sa.Date(), nullable=False, comment="first day of the month of the session id's date"),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("session_time", sa.DateTime(), nullable=False, comment="from the id: local, no zone"),
        sa.Column("raw_asset_name", sa.Text(), nullable=True),
        sa.Column("raw_record_version", sa.Text(), nullable=True),
        sa.Column("raw_record_id", sa.Text(), nullable=True, comment="DocDB record of the raw asset"),
        sa.Column("raw_code_ocean_id", sa.Text(), nullable=True, comment="Code Ocean id of the raw asset"),
        sa.Column(
            "raw_data_dir",
            sa.Text(),
            nullable=True,
            comment="URI of the raw data, checked to exist; null when it does not",
        ),
        sa.Column(
            "modalities", postgresql.ARRAY(sa.Text()), nullable=True, comment="folders of the raw data, as modalities"
        ),
        sa.Column(
            "derived",
            postgresql.JSONB(),
            nullable=False,
            comment="[{name, process, code_ocean_id, location, created}] by created",
        ),
        sa.Column(
            "resolved_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when this row last changed",
        ),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_session_assets")),
        comment="One row per session: its raw asset, its data and what was derived from it",
    )
    op.create_index("ix_session_assets_month", "session_assets", ["month"], unique=False)
    op.create_index("ix_session_assets_subject_id", "session_assets", ["subject_id"], unique=False)
    op.create_table(
        "subjects",
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("sex", sa.Text(), nullable=True, comment="Female or Male, as recorded"),
        sa.Column("date_of_birth", sa.Date(), nullable=True),
        sa.Column("genotype", sa.Text(), nullable=True),
        sa.Column("species", sa.Text(), nullable=True, comment="species name"),
        sa.Column("asset_count", sa.Integer(), nullable=False, comment="records that name this subject"),
        sa.Column(
            "first_acquisition",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="earliest acquisition of any of them",
        ),
        sa.Column(
            "last_acquisition", sa.DateTime(timezone=True), nullable=True, comment="latest acquisition of any of them"
        ),
        sa.Column(
            "record_id",
            sa.Text(),
            nullable=True,
            comment="record the subject's own fields were taken from: the latest modified one",
        ),
        sa.Column("record_version", sa.Text(), nullable=True, comment="version of that record"),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_subjects")),
        comment="One row per subject named by a record",
    )
    op.execute(FINDINGS_VIEW)
    op.execute("COMMENT ON VIEW public.findings IS 'Findings that stand now, of every stage'")


def downgrade() -> None:
    op.execute("DROP VIEW public.findings")
    op.drop_table("subjects")
    op.drop_table("session_assets")
    op.drop_table("data_assets")
    op.drop_table("findings", schema="metadata_service")
    op.drop_table("answers", schema="metadata_service")
    op.drop_table("s3_prefixes", schema="indexes")
    op.drop_table("refreshes", schema="indexes")
    op.drop_table("findings", schema="indexes")
    op.drop_table("code_ocean_assets", schema="indexes")
    op.drop_table("records", schema="docdb")
    op.drop_table("findings", schema="docdb")
    op.drop_table("findings", schema="archive")
    op.drop_table("copies", schema="archive")
    op.drop_table("checks", schema="archive")
    for schema in reversed(SCHEMAS):
        op.execute(sa.schema.DropSchema(schema))
