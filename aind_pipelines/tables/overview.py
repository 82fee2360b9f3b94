"""What stands in every stage, for reports."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Table, func, select

from aind_pipelines.tables import schema


@dataclass(frozen=True, slots=True)
class StageCount:
    """One line of the report.

    Attributes:
        stage: The stage of the flow.
        what: What is counted.
        count: How many there are.
        findings: Standing findings of the stage; given once per stage.
    """

    stage: str
    what: str
    count: int
    findings: int = 0


def stage_counts(engine: Engine) -> list[StageCount]:
    """Counts of every stage, in the order of the flow, read in one snapshot."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:

        def rows(table: Table) -> int:
            return connection.scalar(select(func.count()).select_from(table)) or 0

        copies = schema.archive_copies.c
        size = connection.scalar(select(func.coalesce(func.sum(copies.size), 0))) or 0
        return [
            StageCount("metadata", "records", rows(schema.docdb_records), standing(connection, "docdb")),
            StageCount("tables", "data assets", rows(schema.data_assets), standing(connection, "tables")),
            *(
                StageCount("tables", table.name.replace("_", " "), rows(table))
                for table in schema.ANALYSTS_TABLES
                if table is not schema.data_assets
            ),
            StageCount(
                "subjects", "answers", rows(schema.metadata_service_answers), standing(connection, "metadata_service")
            ),
            StageCount("indexes", "Code Ocean assets", rows(schema.code_ocean_assets)),
            StageCount("indexes", "S3 folders", rows(schema.s3_prefixes)),
            StageCount("sessions", "sessions", rows(schema.session_assets), standing(connection, "sessions")),
            StageCount("archives", "copies", rows(schema.archive_copies), standing(connection, "archive")),
            StageCount("archives", "bytes", int(size)),
        ]


def standing(connection: Connection, stage: str) -> int:
    """How many findings of a stage stand."""
    table = schema.FINDINGS[stage]
    return connection.scalar(select(func.count()).select_from(table).where(table.c.resolved_at.is_(None))) or 0
