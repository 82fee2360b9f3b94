"""The comments of an acquisition's times say when they are null.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("acquisitions", "data_streams", "stimulus_epochs")
MEANINGS = {"start_time": "when it started", "end_time": "when it ended"}
WITHOUT_ZONE = "UTC where the record states no zone, null where its acquisition shows that it is another"
FORMER = "UTC where the record states no zone"


def upgrade() -> None:
    _comment(WITHOUT_ZONE)


def downgrade() -> None:
    _comment(FORMER)


def _comment(without_zone: str) -> None:
    for table in TABLES:
        for column, meaning in MEANINGS.items():
            op.execute(f"COMMENT ON COLUMN public.{table}.{column} IS '{meaning}; {without_zone}'")
