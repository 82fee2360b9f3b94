"""Content hashes of the records are computed by Postgres, from what it stores.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CONTENT_HASH = """
CREATE FUNCTION docdb.content_hash(body jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT encode(sha256(convert_to(body::text, 'UTF8')), 'hex') $$
"""

COMMENT = "sha256 of the body as JSONB writes it, hex"
FORMER_COMMENT = "blake3 of the canonical JSON of the body, hex"


def upgrade() -> None:
    op.execute(CONTENT_HASH)
    op.execute(
        "COMMENT ON FUNCTION docdb.content_hash(jsonb) IS 'Equal exactly for bodies that JSONB writes alike: neither "
        "the order of keys nor blanks matter'"
    )
    # All at once, so that no record looks changed to the next pass.
    for table in ("records", "record_versions"):
        op.execute(f"UPDATE docdb.{table} SET content_hash = docdb.content_hash(body)")  # noqa: S608 - named above
        op.execute(f"COMMENT ON COLUMN docdb.{table}.content_hash IS '{COMMENT}'")


def downgrade() -> None:
    op.execute("DROP FUNCTION docdb.content_hash(jsonb)")
    for table in ("records", "record_versions"):
        op.execute(f"COMMENT ON COLUMN docdb.{table}.content_hash IS '{FORMER_COMMENT}'")
