"""Schedules: what runs by the clock."""

import dagster as dg

NIGHTLY = "15 3 * * *"


def docdb_manifest(cron_schedule: str = NIGHTLY) -> dg.ScheduleDefinition:
    """The manifest pass over DocDB; on by default.

    Args:
        cron_schedule: When.
    """
    return dg.ScheduleDefinition(
        name="docdb_manifest",
        job_name="follow_docdb",
        cron_schedule=cron_schedule,
        run_config={"ops": {"docdb_records": {"config": {"mode": "manifest"}}}},
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares a light list of DocDB with the mirror: deletions, and edits that no tick sees.",
    )
