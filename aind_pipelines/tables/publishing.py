"""Publishing the analysts' tables from the mirrored records.

The records are read through a server-side cursor in one snapshot and never all held in memory. The table keeps its
old content until the new one is complete.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, select

from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.rds.publish import PublishResult, publish
from aind_pipelines.records.normalise import NormalisedRecord, normalise
from aind_pipelines.tables.derive import data_asset_row, subject_rows
from aind_pipelines.tables.schema import data_assets, docdb_records, subjects

_log = logging.getLogger(__name__)

_ROWS_AT_A_TIME = 50
"""Records may weigh 100 KB each and some times that as Python objects."""

# How much may go is decided where records leave the mirror; here the table follows the mirror.
_ANY_SHRINKING = 1.0


def mirrored_records(engine: Engine) -> Iterator[NormalisedRecord]:
    """Every record of the mirror, normalised, in one snapshot.

    Raises:
        ServiceUnavailable: Postgres cannot be reached.
    """
    columns = (docdb_records.c.record_version, docdb_records.c.id, docdb_records.c.body)
    streaming = {"stream_results": True, "yield_per": _ROWS_AT_A_TIME}
    with translated("reading docdb.records"), engine.connect() as connection:
        for version, identity, body in connection.execution_options(**streaming).execute(select(*columns)):
            # The identity the mirror filed the record under is the one that tables and checks refer to.
            yield replace(normalise(body), record_version=version, id=identity)


def publish_data_assets(engine: Engine, run_id: str | None = None) -> PublishResult:
    """Make ``public.data_assets`` one row per mirrored record of both generations.

    Args:
        engine: On a database with our schema.
        run_id: Dagster run, for the log.

    Raises:
        PublishRefused: The mirror is empty.
        ServiceError: Postgres cannot be reached or refused; the table is as it was.
    """
    rows: Iterator[dict[str, Any]] = (data_asset_row(record) for record in mirrored_records(engine))
    result = publish(engine, data_assets, rows, key=("record_version", "id"), max_shrink=_ANY_SHRINKING)
    _log.info("run %s published public.data_assets: %s", run_id, result)
    return result


def publish_subjects(engine: Engine, run_id: str | None = None) -> PublishResult:
    """Make ``public.subjects`` one row per subject that a mirrored record names.

    Args:
        engine: On a database with our schema.
        run_id: Dagster run, for the log.

    Raises:
        PublishRefused: No mirrored record names a subject.
        ServiceError: Postgres cannot be reached or refused; the table is as it was.
    """
    rows = subject_rows(mirrored_records(engine))
    result = publish(engine, subjects, rows, key=("subject_id",), max_shrink=_ANY_SHRINKING)
    _log.info("run %s published public.subjects: %s", run_id, result)
    return result
