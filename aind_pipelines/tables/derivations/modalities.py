"""``modalities``: one row per asset and modality."""

from __future__ import annotations

from collections.abc import Iterator

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.records.vocabulary import MODALITIES
from aind_pipelines.tables.derivations.derivation import Row


def modality_rows(record: NormalisedRecord, _reader: Reader) -> Iterator[Row]:
    """The modalities of a record's data, sorted."""
    for abbreviation in record.modalities:
        yield {"modality": abbreviation, "modality_name": MODALITIES.get(abbreviation)}
