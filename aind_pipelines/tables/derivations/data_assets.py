"""``data_assets``: one row per record."""

from __future__ import annotations

from collections.abc import Iterator

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row


def data_asset_rows(record: NormalisedRecord, _reader: Reader) -> Iterator[Row]:
    """The row of a record."""
    yield {
        "name": record.name,
        "location": record.location,
        "subject_id": record.subject_id,
        "platform": record.platform,
        "acquisition_time": record.acquisition_time,
        "data_level": record.data_level,
        "modalities": list(record.modalities),
        "process_name": record.process_name,
        "project_name": record.project_name,
        "institution": record.institution,
        "code_ocean_ids": list(record.code_ocean_ids),
        "created": record.created,
        "modified": record.modified,
        "schema_version": record.schema_version,
    }
