"""Dagster assets, one module per stage of the flow.

Thin: an asset takes resources, calls one function of the room that does the work, and says what happened in its
metadata. Logic belongs below. No module here uses ``from __future__ import annotations``: Dagster reads the
annotation of ``context`` when the asset is defined.
"""

import dagster as dg

from aind_pipelines.assets import archives, indexes, metadata, report, sessions, sources, subjects, tables

ALL: list[dg.AssetsDefinition | dg.AssetSpec] = [
    sources.docdb,
    sources.metadata_service,
    sources.code_ocean,
    sources.s3,
    metadata.docdb_records,
    tables.analysts_tables,
    subjects.subject_answers,
    indexes.code_ocean_index,
    indexes.s3_index,
    sessions.session_assets,
    archives.deposited_resources,
    archives.inbox_deposits,
    archives.archive_fixity,
    report.flow_report,
]
"""Every asset, in the order of the flow."""
