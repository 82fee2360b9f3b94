"""What can be published: rows, DataFrames, Arrow tables, and iterators of batches, read once behind one face.

Rows (mappings) go value by value through `aind_pipelines.clients.rds.load`. Whatever has columns goes as columns: in
pieces of some megabytes, each one COPY in CSV; the next piece is encoded while the server takes one in. Where a
column's type does not vouch for its values they are encoded one by one, under the same rules, and what cannot be
stored is named by row and column.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from aind_pipelines.clients.rds.encode import text_for
from aind_pipelines.clients.rds.errors import BadValue, RdsError, SchemaMismatch
from aind_pipelines.clients.rds.frames import Columnar, column_names, is_frame, rows_of
from aind_pipelines.clients.rds.load import RowWriter, copy_rows
from aind_pipelines.clients.rds.names import listed

if TYPE_CHECKING:
    import pandas as pd
    import psycopg
    import pyarrow as pa
    from sqlalchemy import Column

_BLOCK = 4 << 20
"""Bytes of CSV that are aimed at for one COPY."""

_FIRST_ROWS, _MOST_ROWS = 1_000, 50_000
_END_MARK = b"\n\\."
"""Before version 18, Postgres took a line that begins so for the end of the data, inside of quotes too."""


class ArrowStream(Protocol):
    """Whatever speaks Arrow's PyCapsule interface: Arrow tables and readers, DataFrames of other libraries."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The stream of its batches."""


class ArrowBatch(Protocol):
    """One batch that speaks Arrow's PyCapsule interface."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Its schema and its content."""


Batch: TypeAlias = "pd.DataFrame | ArrowStream | ArrowBatch"
Rows: TypeAlias = "Batch | Iterable[Mapping[str, Any]] | Iterable[Batch] | Source"


class Source(ABC):
    """Rows that are read once.

    Attributes:
        names: Their columns, those of the first row or batch; None when there is neither.
        means_nan_is_null: Whether NaN means NULL in what was given, as it does in a DataFrame; None where each batch
            says so itself.
        head: A first piece that tells the columns' types, until the rows are loaded; None where there is none.
    """

    names: list[str] | None
    means_nan_is_null: bool | None = False
    head: Columnar | None = None

    @abstractmethod
    def load(
        self,
        cursor: psycopg.Cursor[Any],
        target: str,
        columns: Sequence[Column[Any]],
        *,
        key: Sequence[str] = (),
        nan_is_null: bool | None = False,
    ) -> int:
        """Copy the rows into a table; see `copy_rows`.

        Args:
            cursor: Of a connection whose transaction the caller owns, in the time zone UTC.
            target: The table's quoted name.
            columns: What the names stand for.
            key: Columns that identify a row in messages.
            nan_is_null: Take NaN as NULL in columns that could hold it; None does so for DataFrames.

        Returns:
            How many rows were sent.

        Raises:
            BadValue: A value cannot be stored, or a row or batch has other columns.
            SchemaMismatch: A column has a type that no rule covers, or holds another kind of values altogether.
        """


def source_of(rows: Rows) -> Source:
    """What is to be published, its first row or batch read; what is a source already is passed on.

    Raises:
        SchemaMismatch: A DataFrame or table without columns, with a column twice or with a name that is no text.
        TypeError: It is none of the things that can be published.
    """
    if isinstance(rows, Source):
        return rows
    if _is_batch(rows):
        return _Batches(cast("Batch", rows), iter(()))
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise TypeError(f"rows are mappings, DataFrames, Arrow tables or batches, not one {type(rows).__name__}")
    iterator = iter(cast("Iterable[Any]", rows))
    for first in iterator:
        if _is_batch(first):
            return _Batches(first, iterator)
        if not isinstance(first, Mapping):
            raise TypeError(f"a row is a mapping of column to value, not {type(first).__name__}")
        return _Rows(first, iterator)
    return _Rows(None, iterator)


def _is_batch(value: Any) -> bool:
    return is_frame(value) or hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


class _Rows(Source):
    def __init__(self, first: Mapping[str, Any] | None, others: Iterator[Mapping[str, Any]]) -> None:
        self.names = None if first is None else list(first)
        self._rows = others if first is None else itertools.chain([first], others)

    def load(
        self,
        cursor: psycopg.Cursor[Any],
        target: str,
        columns: Sequence[Column[Any]],
        *,
        key: Sequence[str] = (),
        nan_is_null: bool | None = False,
    ) -> int:
        if self.names is None:
            return 0
        writer = RowWriter.for_columns(columns, key, nan_is_null=bool(nan_is_null))
        return copy_rows(cursor, target, writer, self._rows)


class _Batches(Source):
    def __init__(self, first: Batch, others: Iterator[Batch]) -> None:
        self.means_nan_is_null = None
        opened = _tables(first)
        self.head = next(opened)
        self.names = column_names(self.head)
        self._tables = itertools.chain([self.head], opened, itertools.chain.from_iterable(map(_tables, others)))

    def load(
        self,
        cursor: psycopg.Cursor[Any],
        target: str,
        columns: Sequence[Column[Any]],
        *,
        key: Sequence[str] = (),
        nan_is_null: bool | None = False,
    ) -> int:
        self.head = None  # its memory is free once it is sent
        loader = _Loader(cursor, target, columns, key, nan_is_null)
        for table in self._tables:
            loader.add(table)
        return loader.sent


def _tables(batch: Batch) -> Iterator[Columnar]:
    """The pieces of one batch: a frame as it is, at least one record batch of an Arrow stream."""
    if is_frame(batch):
        yield cast("pd.DataFrame", batch)
        return
    if not _is_batch(batch):
        raise TypeError(f"after a first batch every one is a DataFrame or of Arrow, not {type(batch).__name__}")
    import pyarrow as pa

    if not hasattr(batch, "__arrow_c_stream__"):
        yield pa.record_batch(cast("Any", batch))
        return
    reader = pa.RecordBatchReader.from_stream(cast("Any", batch))
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader


class _Loader:
    """Sends piece after piece; how many rows make a piece follows from the size of the one before."""

    def __init__(
        self,
        cursor: psycopg.Cursor[Any],
        target: str,
        columns: Sequence[Column[Any]],
        key: Sequence[str],
        nan_is_null: bool | None,
    ) -> None:
        self._cursor = cursor
        self._columns = columns
        self._names = [column.name for column in columns]
        self._option = nan_is_null
        self._nan_is_null = bool(nan_is_null)
        # One by one, for what columns cannot carry; they also refuse columns that no rule covers.
        self._writers = {either: RowWriter.for_columns(columns, key, nan_is_null=either) for either in (False, True)}
        self._target = target
        self._copy = f"COPY {target} ({listed(self._names)}) FROM STDIN (FORMAT csv, ENCODING 'utf8')"
        self._rows = _FIRST_ROWS
        self._unsettled = 0
        self.sent = 0

    @property
    def _writer(self) -> RowWriter:
        return self._writers[self._nan_is_null]

    def add(self, table: Columnar) -> None:
        self._nan_is_null = is_frame(table) if self._option is None else self._option
        names = column_names(table)
        if set(names) != set(self._names):
            wrong = [f"lacks {name!r}" for name in self._names if name not in names]
            wrong += [f"has an unexpected {name!r}" for name in names if name not in self._names]
            raise BadValue(
                f"the batch that begins with row {self.sent + 1} {', '.join(wrong)}: every batch must have the same "
                "columns."
            )
        length, start = len(table), 0
        # Settled at the end of every batch: whoever makes the next one may read over this connection.
        with ExitStack() as in_flight:
            while start < length:
                piece = _slice(table, start, min(self._rows, length - start))
                if start == 0:
                    self._refuse_other_types(piece)
                block = self._csv(piece)  # while the server takes in the piece before
                self._settle(in_flight)
                self._send(piece, block, in_flight)
                start += len(piece)
            self._settle(in_flight)

    def _send(self, piece: Columnar, block: bytes, in_flight: ExitStack) -> None:
        count = len(piece)
        if _END_MARK in block:
            copy_rows(self._cursor, self._target, self._writer, _as_rows(piece), first=self.sent + 1)
        else:
            in_flight.enter_context(self._cursor.copy(self._copy)).write(block)
        self._unsettled = count
        self.sent += count
        self._rows = max(1, min(_MOST_ROWS, self._rows * 4, count * _BLOCK // max(1, len(block))))

    def _settle(self, in_flight: ExitStack) -> None:
        in_flight.close()
        if self._unsettled and self._cursor.rowcount != self._unsettled:
            raise RdsError(
                f"the database took {self._cursor.rowcount} of the {self._unsettled} rows up to row {self.sent}. This "
                "is a fault of the encoding; publish the rows as mappings, and report it."
            )
        self._unsettled = 0

    def _csv(self, piece: Columnar) -> bytes:
        import pyarrow as pa
        import pyarrow.csv

        arrays = [self._cells(piece, column) for column in self._columns]
        batch = pa.RecordBatch.from_arrays(arrays, self._names)
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(batch, sink, pyarrow.csv.WriteOptions(include_header=False))
        block = sink.getvalue().to_pybytes()
        if b"\0" in block:
            for column in self._columns:
                self._one_by_one(piece, column)
        return block

    def _cells(self, piece: Columnar, column: Column[Any]) -> pa.Array[Any]:
        from aind_pipelines.clients.rds.columns import cells

        array = self._array(piece, column)
        found = None if array is None else cells(array, column.type, nan_is_null=self._nan_is_null)
        return self._one_by_one(piece, column) if found is None else found

    def _array(self, piece: Columnar, column: Column[Any]) -> pa.Array[Any] | None:
        from aind_pipelines.clients.rds.columns import from_series

        if is_frame(piece):
            series = cast("pd.DataFrame", piece)[column.name]
            return from_series(series, column.type, nan_is_null=self._nan_is_null)
        return cast("pa.RecordBatch", piece).column(column.name)

    def _one_by_one(self, piece: Columnar, column: Column[Any]) -> pa.Array[Any]:
        import pyarrow as pa

        encode = text_for(column.type, nan_is_null=self._nan_is_null)
        texts: list[str | None] = []
        try:
            texts.extend(encode(value) for value in _values(piece, column.name))
            return pa.array(texts, pa.large_string())
        except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
            raise self._bad_value(piece, len(texts), column, error) from None

    def _bad_value(self, piece: Columnar, place: int, column: Column[Any], error: Exception) -> BadValue:
        named = {name: _values(_slice(piece, place, 1), name) for name in self._writer.key if name != column.name}
        key = {name: next(iter(values)) for name, values in named.items()}
        return self._writer.refused(self.sent + place + 1, key, column.name, error)

    def _refuse_other_types(self, piece: Columnar) -> None:
        from aind_pipelines.clients.rds.columns import unsuited

        wrong = []
        for column in self._columns:
            if is_frame(piece) and cast("pd.DataFrame", piece)[column.name].dtype == object:
                continue  # of such a column each value is looked at
            array = self._array(piece, column)
            given = None if array is None else unsuited(array, column.type)
            if given is not None:
                wrong.append(f"column {column.name!r} is {column.type}, and {given} was given")
        if wrong:
            raise SchemaMismatch(f"{'; '.join(wrong)}. Nothing was changed; convert the values, or migrate the table.")


def _slice(table: Columnar, start: int, count: int) -> Columnar:
    if is_frame(table):
        return cast("pd.DataFrame", table).iloc[start : start + count]
    return cast("pa.RecordBatch", table).slice(start, count)


def _values(piece: Columnar, name: str) -> Iterator[Any]:
    """Plain Python values, one after the other."""
    if is_frame(piece):
        return iter(cast("pd.DataFrame", piece)[name].tolist())
    return (scalar.as_py() for scalar in cast("pa.RecordBatch", piece).column(name))


def _as_rows(piece: Columnar) -> Iterator[dict[str, Any]]:
    if is_frame(piece):
        return rows_of(cast("pd.DataFrame", piece))
    return iter(cast("pa.RecordBatch", piece).to_pylist())
