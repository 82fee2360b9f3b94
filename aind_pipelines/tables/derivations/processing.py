"""``processing``: what was run on each asset's data."""

from __future__ import annotations

from collections.abc import Iterator

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row


def process_rows(record: NormalisedRecord, _reader: Reader) -> Iterator[Row]:
    """A record's processes, in its order."""
    for process in record.processes:
        yield {
            "path": process.path,
            "process_type": process.process_type,
            "name": process.name,
            "stage": process.stage,
            "software_name": process.software_name,
            "software_version": process.software_version,
            "code_url": process.code_url,
            "code_version": process.code_version,
            "pipeline_name": process.pipeline_name,
            "pipeline_url": process.pipeline_url,
            "pipeline_version": process.pipeline_version,
            "start_time": process.start,
            "end_time": process.end,
        }
