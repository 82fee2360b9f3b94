"""A published table as one Parquet file, on disk or in S3, for notebooks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ColumnElement, Engine, Table, cast, select, text, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable
from aind_pipelines.clients.rds.encode import integer_bits, stored_type
from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.clients.s3 import path

if TYPE_CHECKING:
    import pyarrow as pa
    from upath import UPath

_log = logging.getLogger(__name__)

SERVICE = "export"
_ROWS = 5_000
_MOST_DIGITS = 38
"""Of Arrow's 128-bit decimals."""
_SUFFIX = ".parquet"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        location: Path or address of the file.
        rows: Its rows.
        size: Its bytes.
    """

    location: str
    rows: int
    size: int


def export_table(engine: Engine, table: Table, folder: str) -> Exported:
    """Write a table to ``folder/NAME.parquet``, replacing an earlier one only when the new one is whole.

    The rows are of one snapshot and are never all held in memory. Column types become Arrow's: text, integers,
    floats, booleans, ``timestamptz`` in UTC, dates, arrays as lists, ``numeric`` with precision as decimals; ``json``
    and ``jsonb``, and what Arrow does not have, as Postgres writes them. Two exports of one table to one place queue.

    Args:
        engine: On the database.
        table: What to export.
        folder: Folder on disk, or an address such as ``s3://bucket/prefix``; credentials for S3 by boto3's chain.

    Raises:
        ServiceUnavailable: The database or the place cannot be reached; an earlier file is as it was.
        ServiceError: The place cannot be written, or the database refused.
    """
    name = table.name.replace("/", "_") + _SUFFIX
    place = path(folder)
    target, unfinished = place / name, place / f".{name}.unfinished"
    with translated(f"exporting {table.fullname}"), engine.connect() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:place, 0))"),
            {"place": f"aind_pipelines.export {target}"},
        )
        streaming = connection.execution_options(stream_results=True, yield_per=_ROWS)
        with _named(target), streaming.execute(select(*map(_selected, table.columns))) as rows:
            try:
                if not place.protocol:  # a bucket is not made by the way
                    place.mkdir(parents=True, exist_ok=True)
                count = _write(unfinished, table, rows.mappings().partitions())
                size = int(unfinished.stat().st_size)
                if place.protocol:
                    unfinished.fs.mv(unfinished.path, target.path)
                else:
                    unfinished.replace(target)
            except BaseException:
                try:
                    unfinished.unlink(missing_ok=True)
                except Exception as error:  # noqa: BLE001 - what failed first is raised; this is told beside it
                    _log.warning("%s is left and can be removed: %s", unfinished, error)
                raise
    return Exported(str(target), count, size)


@contextlib.contextmanager
def _named(target: UPath) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from pyarrow import ArrowException

    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        kind = ServiceUnavailable if isinstance(error, BotoCoreError | ConnectionError) else ServiceError
        raise kind(
            SERVICE, f"{target} cannot be written: {error or type(error).__name__}. An earlier file is as it was."
        ) from None
    except ArrowException as error:
        raise ServiceError(SERVICE, f"{target} was not written, a value does not fit its column: {error}.") from None


def _write(place: UPath, table: Table, parts: Iterator[Any]) -> int:
    """All rows into one file; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema(
        [_field(column) for column in table.columns], metadata={"comment": table.comment} if table.comment else None
    )
    count = 0
    with place.open("wb") as stream, pyarrow.parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for part in parts:
            columns = [pa.array([row[field.name] for row in part], field.type) for field in schema]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            count += len(part)
    return count


def _field(column: Column[Any]) -> pa.Field[Any]:
    import pyarrow as pa

    return pa.field(
        column.name,
        _arrow_type(column.type),
        nullable=bool(column.nullable),
        metadata={"comment": column.comment} if column.comment else None,
    )


def _arrow_type(kind: TypeEngine[Any]) -> Any:
    import pyarrow as pa

    kind = stored_type(kind)
    if isinstance(kind, types.ARRAY) and (kind.dimensions or 1) == 1:
        return pa.list_(_arrow_type(kind.item_type))
    if isinstance(kind, types.Integer):
        return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[integer_bits(kind)]
    if isinstance(kind, types.Float):
        return pa.float64()
    if isinstance(kind, types.Numeric) and kind.precision is not None and kind.precision <= _MOST_DIGITS:
        return pa.decimal128(kind.precision, kind.scale or 0)
    if isinstance(kind, types.DateTime):
        return pa.timestamp("us", "UTC" if kind.timezone else None)
    if isinstance(kind, types.Time) and kind.timezone:
        return pa.string()
    if isinstance(kind, types.Interval | postgresql.INTERVAL):
        return pa.duration("us")
    for column_type, arrow_type in (
        (types.Boolean, pa.bool_()),
        (types.Date, pa.date32()),
        (types.Time, pa.time64("us")),
        (types.LargeBinary, pa.binary()),
    ):
        if isinstance(kind, column_type):
            return arrow_type
    return pa.string()


def _selected(column: Column[Any]) -> ColumnElement[Any]:
    """The column, as the server's own text where Arrow has no type for it: nothing is lost on a way through Python."""
    import pyarrow as pa

    kind = stored_type(column.type)
    arrow = _arrow_type(kind)
    if arrow == pa.string() and not isinstance(kind, types.String):
        return cast(column, types.Text).label(column.name)
    if (
        isinstance(kind, types.ARRAY)
        and arrow == pa.list_(pa.string())
        and not isinstance(kind.item_type, types.String)
    ):
        return cast(column, postgresql.ARRAY(types.Text)).label(column.name)
    return column
