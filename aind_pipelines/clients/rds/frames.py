"""DataFrames as rows and tables: which column type a new table gets, and rows in constant extra memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

from aind_pipelines.clients.rds.encode import is_nan, is_null, plain
from aind_pipelines.clients.rds.errors import SchemaMismatch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Columnar: TypeAlias = "pd.DataFrame | pa.Table | pa.RecordBatch"
"""What has columns of its own."""

_CHUNK = 10_000


def is_frame(value: object) -> bool:
    """Whether it is a DataFrame; pandas is not imported for the answer."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def column_names(data: Columnar) -> list[str]:
    """The column names of a DataFrame or an Arrow table.

    Raises:
        SchemaMismatch: There are none, one is no string, or one occurs twice.
    """
    frame = is_frame(data)
    what = "DataFrame" if frame else "Arrow table"
    names: list[Any] = list(data.columns if frame else data.schema.names)
    if not names:
        raise SchemaMismatch(f"the {what} has no columns.")
    for name in names:
        if not isinstance(name, str):
            raise SchemaMismatch(f"the {what}'s column {name!r} must have a name that is text.")
        if names.count(name) > 1:
            raise SchemaMismatch(f"the {what} has more than one column {name!r}.")
    return names


_WHOLE_OIDS = {20, 21, 23, 26}
_NUMERIC_OID = 1700


def frame_of(rows: Sequence[Any], names: Sequence[str], type_codes: Sequence[int], *, exact: bool) -> pd.DataFrame:
    """Rows of a query as a DataFrame whose integers are the ones that were read.

    Args:
        rows: As the driver gives them.
        names: Their columns.
        type_codes: The columns' types, by Postgres's object ids.
        exact: Keep ``numeric`` values as `decimal.Decimal`, not as floats.
    """
    import pandas as pd

    frame = pd.DataFrame.from_records(rows, columns=list(names), coerce_float=True)
    for place, oid in enumerate(type_codes):
        if oid in _WHOLE_OIDS and rows and frame.dtypes.iloc[place] != "int64":
            # Where one is NULL pandas would make floats of them all, which hold 53 bits.
            frame.isetitem(place, pd.array([row[place] for row in rows], dtype="Int64"))
        elif oid == _NUMERIC_OID and exact:
            frame.isetitem(place, pd.array([row[place] for row in rows], dtype=object))
    return frame


def rows_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The frame's rows, without its index, as plain Python values."""
    names = column_names(frame)
    for start in range(0, len(frame), _CHUNK):
        chunk = frame.iloc[start : start + _CHUNK]
        columns = [chunk.iloc[:, place].tolist() for place in range(len(names))]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def table_for(
    data: Columnar, name: str, schema: str | None, types: Mapping[str, TypeEngine[Any] | type[TypeEngine[Any]]]
) -> Table:
    """A new table for a DataFrame or an Arrow table.

    Column types are as given, else from the column's own type, else from every value of the column.

    Raises:
        SchemaMismatch: A column mixes kinds of values, or has no name that can be used.
    """
    columns = []
    for place, column in enumerate(column_names(data)):
        kind = types.get(column)
        if kind is None and is_frame(data):
            kind = _type_of(cast("pd.DataFrame", data).iloc[:, place], column)
        elif kind is None:
            kind = _type_of_arrow(cast("pa.Table", data).schema.field(place).type, column)
        columns.append(Column(column, kind))
    return Table(name, MetaData(), *columns, schema=schema)


def _type_of_arrow(kind: Any, name: str) -> TypeEngine[Any]:
    import pyarrow as pa
    import pyarrow.types as of

    if of.is_dictionary(kind):
        return _type_of_arrow(kind.value_type, name)
    if of.is_decimal(kind):
        return Numeric(kind.precision, kind.scale)
    if of.is_timestamp(kind):
        return DateTime(timezone=kind.tz is not None)
    if is_list(kind):
        return JSONB() if of.is_nested(kind.value_type) else ARRAY(_type_of_arrow(kind.value_type, name))
    binary = (of.is_binary, of.is_large_binary, of.is_fixed_size_binary, of.is_binary_view)
    simple: tuple[tuple[Any, TypeEngine[Any]], ...] = (
        (of.is_null(kind) or of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind), Text()),
        (of.is_boolean(kind), Boolean()),
        (of.is_uint64(kind), Numeric()),
        (of.is_integer(kind), BigInteger()),
        (of.is_floating(kind), Double()),
        (of.is_date(kind), Date()),
        (of.is_time(kind), Time()),
        (of.is_duration(kind), Interval()),
        (any(test(kind) for test in binary), LargeBinary()),
        (of.is_nested(kind), JSONB()),
        (isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid", Uuid()),
    )
    for holds, column_type in simple:
        if holds:
            return column_type
    raise SchemaMismatch(
        f"column {name!r} is Arrow's {kind}, for which no type is known. Convert it, or give its type."
    )


def _type_of(series: pd.Series[Any], name: str) -> TypeEngine[Any]:
    import pandas as pd

    kind = series.dtype
    if isinstance(kind, pd.ArrowDtype):
        return _type_of_arrow(kind.pyarrow_dtype, name)
    if pd.api.types.is_bool_dtype(kind):
        return Boolean()
    if pd.api.types.is_integer_dtype(kind):
        return Numeric() if str(kind).lower() == "uint64" else BigInteger()
    if pd.api.types.is_float_dtype(kind):
        return Double()
    if isinstance(kind, pd.DatetimeTZDtype):
        return DateTime(timezone=True)
    if pd.api.types.is_datetime64_dtype(kind):
        return DateTime(timezone=False)
    if pd.api.types.is_timedelta64_dtype(kind):
        return Interval()
    if isinstance(kind, pd.StringDtype) or pd.api.types.infer_dtype(series, skipna=True) == "string":
        return Text()
    return _type_of_values(series, name)


def _type_of_values(series: pd.Series[Any], name: str) -> TypeEngine[Any]:
    kinds: set[str] = set()
    items: set[str] = set()
    for value in series.tolist():
        kind = _kind(value)
        kinds.add(kind)
        if kind == "list":
            items.update(_kinds_of_items(value))
    kinds.discard("nothing")
    items.discard("nothing")
    if kinds == {"list"}:
        item = _one_type(items or {"text"})
        return JSONB() if item is None else ARRAY(item)
    if kinds and kinds <= {"list", "mapping"}:
        return JSONB()
    found = _one_type(kinds or {"text"})
    if found is not None:
        return found
    if len(kinds) == 1:
        raise SchemaMismatch(
            f"the DataFrame's column {name!r} holds {', '.join(kinds)}, for which no type is known. "
            "Convert it, or give its type in `dtype`."
        )
    raise SchemaMismatch(
        f"the DataFrame's column {name!r} mixes kinds of values ({', '.join(sorted(kinds))}). "
        "Make them one kind, or give the column's type in `dtype`."
    )


_TYPES: dict[str, TypeEngine[Any]] = {
    "text": Text(),
    "whole": BigInteger(),
    "float": Double(),
    "decimal": Numeric(),
    "flag": Boolean(),
    "zoned": DateTime(timezone=True),
    "local": DateTime(timezone=False),
    "date": Date(),
    "time": Time(),
    "zoned time": Time(timezone=True),
    "span": Interval(),
    "bytes": LargeBinary(),
    "uuid": Uuid(),
}


def _one_type(kinds: set[str]) -> TypeEngine[Any] | None:
    """The type that takes values of all these kinds, if one does."""
    if len(kinds) == 1:
        return _TYPES.get(next(iter(kinds)))
    if kinds == {"whole", "float"}:
        return Double()
    return Numeric() if kinds <= {"whole", "float", "decimal"} else None


_PLAINEST = {str: "text", bool: "flag", int: "whole", Decimal: "decimal", dict: "mapping", list: "list", UUID: "uuid"}
_KINDS: tuple[tuple[Any, str], ...] = (
    (str, "text"),
    (bool, "flag"),
    (int, "whole"),
    (float, "float"),
    (Decimal, "decimal"),
    (date, "date"),
    (timedelta, "span"),
    (dict, "mapping"),
    (list | tuple, "list"),
    (bytes | bytearray | memoryview, "bytes"),
    (UUID, "uuid"),
)
_KINDS_OF_NUMPY = {"b": "flag", "i": "whole", "u": "whole", "f": "float", "U": "text"}


def _kind(value: Any) -> str:
    if (found := _PLAINEST.get(type(value))) is not None:
        return found
    if is_null(value) or is_nan(value):
        return "nothing"
    value = plain(value)
    if isinstance(value, datetime):
        return "local" if value.utcoffset() is None else "zoned"
    if isinstance(value, time):
        return "time" if value.tzinfo is None else "zoned time"
    return next((kind for types, kind in _KINDS if isinstance(value, types)), type(value).__name__)


def _kinds_of_items(value: Any) -> Iterable[str]:
    kind = _KINDS_OF_NUMPY.get(value.dtype.kind) if type(value).__name__ == "ndarray" and value.ndim == 1 else None
    if kind is not None:
        return [kind] if len(value) else []
    return map(_kind, plain(value))


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is one of lists, of whichever layout."""
    import pyarrow.types as of

    layouts = (of.is_list, of.is_large_list, of.is_fixed_size_list, of.is_list_view, of.is_large_list_view)
    return any(test(kind) for test in layouts)
