"""What a derivation is, and how its rows get their key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Table

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Derivation:
    """From a record to its rows of one table.

    Attributes:
        name: The asset whose content this is.
        table: Where the rows go. Its key is the record's identity, and ``position`` unless a record has one row.
        read: Yields a record's rows without their key. It takes the normalised record, and a reader of the record's
            body that takes the findings.
    """

    name: str
    table: Table
    read: Callable[[NormalisedRecord, Reader], Iterator[Row]]

    @property
    def key(self) -> list[str]:
        """The table's primary key."""
        return [column.name for column in self.table.primary_key]

    @property
    def id_column(self) -> str:
        """The column that holds the record's id."""
        return "record_id" if "record_id" in self.table.c else "id"

    def rows(self, record: NormalisedRecord, reader: Reader) -> list[Row]:
        """A record's rows, with their key, in the order of their position."""
        identity = {"record_version": record.record_version, self.id_column: record.id}
        if "position" in self.table.c:
            return [
                {**identity, "position": position, **row} for position, row in enumerate(self.read(record, reader))
            ]
        return [{**identity, **row} for row in self.read(record, reader)]
