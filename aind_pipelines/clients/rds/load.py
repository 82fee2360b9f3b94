"""Rows into a Postgres table through COPY, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aind_pipelines.clients.rds.encode import Encoder, cell_for
from aind_pipelines.clients.rds.errors import BadValue, SchemaMismatch
from aind_pipelines.clients.rds.names import listed

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Column, Table

_BLOCK = 1 << 18
"""Characters gathered before they are sent."""


@dataclass(frozen=True)
class RowWriter:
    """Turns rows into lines of COPY text, checking every value.

    Attributes:
        columns: Column names, in the order of the cells.
        key: Columns that identify a row in messages.
        cells: One encoder per column.
    """

    columns: list[str]
    key: Sequence[str]
    cells: list[Encoder]

    @classmethod
    def for_columns(
        cls, columns: Sequence[Column[Any]], key: Sequence[str] = (), *, nan_is_null: bool = False
    ) -> RowWriter:
        """A writer for these columns of a table.

        Raises:
            SchemaMismatch: A column has a type that no rule covers.
        """
        cells = []
        for column in columns:
            try:
                cells.append(cell_for(column.type, nan_is_null=nan_is_null))
            except TypeError as error:
                raise SchemaMismatch(f"column {column.name!r} cannot be loaded: {error}") from None
        return cls([column.name for column in columns], key, cells)

    def line(self, row: Mapping[str, Any], number: int) -> str:
        """One row as a line.

        Args:
            row: Exactly one value per column.
            number: The row's place, from 1, for messages.

        Raises:
            BadValue: A value cannot be stored, or the row has other columns.
        """
        if len(row) == len(self.columns):
            try:
                parts = [cell(row[name]) for name, cell in zip(self.columns, self.cells, strict=True)]
            except (KeyError, TypeError, ValueError, OverflowError, ArithmeticError):
                pass
            else:
                return "\t".join(parts) + "\n"
        raise self._complaint(row, number)

    def _complaint(self, row: Mapping[str, Any], number: int) -> BadValue:
        where = f"row {number}" + self._key_of(row)
        missing = [name for name in self.columns if name not in row]
        extra = [name for name in row if name not in self.columns]
        if missing or extra:
            said = [f"lacks {name!r}" for name in missing] + [f"has an unexpected {name!r}" for name in extra]
            return BadValue(f"{where} {', '.join(said)}: every row must have the same columns.")
        for name, cell in zip(self.columns, self.cells, strict=True):
            try:
                cell(row[name])
            except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
                return self.refused(number, row, name, error)
        return BadValue(f"{where} changed while it was being written.")

    def refused(self, number: int, row: Mapping[str, Any], column: str, reason: Exception) -> BadValue:
        """The error for a value that cannot be stored.

        Args:
            number: The row's place, from 1.
            row: The row, or only its key.
            column: The value's column.
            reason: What is wrong with it.
        """
        return BadValue(f"row {number}{self._key_of(row)}: column {column!r} cannot take this value: {reason}.")

    def _key_of(self, row: Mapping[str, Any]) -> str:
        shown = [f"{name}={str(row[name])[:80]!r}" for name in self.key if name in row]
        return f" ({', '.join(shown)})" if shown else ""


def copy_rows(
    cursor: psycopg.Cursor[Any], target: str, writer: RowWriter, rows: Iterable[Mapping[str, Any]], *, first: int = 1
) -> int:
    """Stream rows into a table.

    Args:
        cursor: Of a connection whose transaction the caller owns.
        target: The table's quoted name.
        writer: Made for the columns that the rows have.
        rows: Read once; memory does not grow with their number.
        first: Number of the first row, for messages.

    Returns:
        How many rows were sent.

    Raises:
        BadValue: A value cannot be stored; nothing is kept once the caller rolls back.
    """
    count = 0
    held: list[str] = []
    size = 0
    with cursor.copy(f"COPY {target} ({listed(writer.columns)}) FROM STDIN (FORMAT text, ENCODING 'utf8')") as copy:
        for row in rows:
            line = writer.line(row, first + count)
            count += 1
            held.append(line)
            size += len(line)
            if size >= _BLOCK:
                copy.write("".join(held).encode())
                held.clear()
                size = 0
        if held:
            copy.write("".join(held).encode())
    return count


def columns_of(table: Table, names: Iterable[str]) -> list[Column[Any]]:
    """The table's columns of these names, in the table's order.

    Raises:
        SchemaMismatch: A name is not a column of the table.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in table.c]
    if unknown:
        raise SchemaMismatch(f"table {table.fullname} has no column {', '.join(map(repr, unknown))}.")
    return [column for column in table.columns if column.name in wanted]
