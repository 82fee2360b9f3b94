"""``asset_lineage``: what each asset was made of."""

from __future__ import annotations

from collections.abc import Iterator

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row


def lineage_rows(record: NormalisedRecord, _reader: Reader) -> Iterator[Row]:
    """The sources that the record states, and after them the one in its name where the record does not state it.

    Which records these are is told by the database, where all of them are.
    """
    for source in record.source_names:
        yield {"derived_name": record.name, "source_name": source, "stated_by": "record"}
    if record.input_name is not None and record.input_name not in record.source_names:
        yield {"derived_name": record.name, "source_name": record.input_name, "stated_by": "name"}
