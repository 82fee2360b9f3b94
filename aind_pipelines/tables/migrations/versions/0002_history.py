"""History of the records, watermarks, held deletions, and the views over them.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ASSETS_CURRENT = """
CREATE VIEW public.assets_current AS
SELECT DISTINCT ON (location)
    location, record_version, id, source, name, schema_version, created, modified, content_hash, body, first_seen,
    last_changed
FROM docdb.records
WHERE location IS NOT NULL
ORDER BY location, record_version DESC, modified DESC NULLS LAST, id
"""

RECORDS_AS_OF = """
CREATE FUNCTION docdb.records_as_of(at timestamptz)
RETURNS TABLE (
    record_version text, id text, source text, content_hash text, body jsonb, valid_from timestamptz, run_id text
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT record_version, id, source, content_hash, body, valid_from, run_id
    FROM docdb.record_versions
    WHERE valid_from <= at AND (valid_to IS NULL OR valid_to > at)
$$
"""

# What is mirrored already was first known with this content when it last changed.
OPEN_VERSIONS = """
INSERT INTO docdb.record_versions (record_version, id, valid_from, source, content_hash, body, run_id)
SELECT record_version, id, last_changed, source, content_hash, body, run_id FROM docdb.records
"""


def upgrade() -> None:
    op.create_table(
        "record_versions",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2, from the record's content"),
        sa.Column("id", sa.Text(), nullable=False, comment="the record's _id"),
        sa.Column(
            "valid_from",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when the mirror first had this content",
        ),
        sa.Column(
            "valid_to",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the mirror had it no more, by change or deletion; null while it holds",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="database.collection it was read from"),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="blake3 of the canonical JSON of the body, hex"),
        sa.Column("body", postgresql.JSONB(), nullable=False, comment="the record as it was read"),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that wrote it"),
        sa.PrimaryKeyConstraint("record_version", "id", "valid_from", name=op.f("pk_record_versions")),
        schema="docdb",
        comment="Every content ever seen of every record; one open row per live record",
    )
    op.execute(OPEN_VERSIONS)
    op.create_index(
        "ix_record_versions_open",
        "record_versions",
        ["record_version", "id"],
        unique=True,
        schema="docdb",
        postgresql_where=sa.text("valid_to IS NULL"),
    )
    op.create_table(
        "watermarks",
        sa.Column("source", sa.Text(), nullable=False, comment="database.collection"),
        sa.Column(
            "modified",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="highest modified time seen, never later than the clock of the pass that saw it",
        ),
        sa.Column("ticked_at", sa.DateTime(timezone=True), nullable=True, comment="end of the last tick"),
        sa.Column("manifest_at", sa.DateTime(timezone=True), nullable=True, comment="end of the last manifest pass"),
        sa.Column("full_at", sa.DateTime(timezone=True), nullable=True, comment="end of the last full pass"),
        sa.Column(
            "manifest_passes",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="manifest passes so far: which part of the records is next to be read again whole",
        ),
        sa.Column(
            "without_modified",
            sa.BigInteger(),
            nullable=True,
            comment="records without usable modified time at the last manifest or full pass",
        ),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_watermarks")),
        schema="docdb",
        comment="How far each source was read",
    )
    op.create_table(
        "held_deletions",
        sa.Column("record_version", sa.Text(), nullable=False, comment="v1 or v2"),
        sa.Column("id", sa.Text(), nullable=False, comment="the record's _id"),
        sa.Column("source", sa.Text(), nullable=False, comment="database.collection that no longer has it"),
        sa.Column(
            "first_held",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was first missed and held",
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="why it was not removed without a person's word"),
        sa.PrimaryKeyConstraint("record_version", "id", name=op.f("pk_held_deletions")),
        schema="docdb",
        comment="Records that their source no longer has, kept until a person confirms the deletion",
    )
    op.execute(ASSETS_CURRENT)
    op.execute(
        "COMMENT ON VIEW public.assets_current IS 'One record per location: v2 before v1, then the one modified last'"
    )
    op.execute(RECORDS_AS_OF)
    op.execute(
        "COMMENT ON FUNCTION docdb.records_as_of(timestamptz) IS 'The records as the mirror had them at that time'"
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION docdb.records_as_of(timestamptz)")
    op.execute("DROP VIEW public.assets_current")
    op.drop_table("held_deletions", schema="docdb")
    op.drop_table("watermarks", schema="docdb")
    op.drop_table("record_versions", schema="docdb")
