"""``funding``: who paid for each asset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row
from aind_pipelines.tables.derivations.values import mappings

_FIELD = "data_description.funding_source"


def funding_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The funding sources of the data description; a funder that is a bare text is a name."""
    sources = reader.section("data_description").get("funding_source")
    for index, source in mappings(reader, sources, _FIELD, "funding_unreadable"):
        field = f"{_FIELD}.{index}"
        funder = source.get("funder")
        organization = funder if isinstance(funder, Mapping) else {"name": funder}
        yield {
            "funder": reader.text(organization.get("name"), f"{field}.funder"),
            "funder_abbreviation": reader.text(organization.get("abbreviation"), f"{field}.funder"),
            "grant_number": reader.text(source.get("grant_number"), f"{field}.grant_number"),
        }
