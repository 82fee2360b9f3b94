"""Whole columns as cells of Postgres's COPY CSV format, without looking at each value where its type vouches for it.

`cells` answers for an Arrow array whose type and statistics prove that every value keeps the rules of
`aind_pipelines.clients.rds.encode`; for all others it answers None, and the values are taken one by one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import types
from sqlalchemy.types import TypeEngine

from aind_pipelines.clients.rds.encode import integer_bits, keeps_not_a_number, stored_type
from aind_pipelines.clients.rds.frames import is_list

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1 = round((datetime(1, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())
_YEAR_9999 = round((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds())
_FAMILIES = ("text", "a number", "true or false", "a moment", "a list")


def from_series(series: pd.Series[Any], kind: TypeEngine[Any], *, nan_is_null: bool) -> pa.Array[Any] | None:
    """A Series as an Arrow array that holds the same values; None where only a look at each value can tell.

    Args:
        series: The values.
        kind: Type of the column that shall take them.
        nan_is_null: Take NaN as NULL in columns that could hold it.
    """
    import numpy as np
    import pyarrow as pa

    as_pandas = nan_is_null or not keeps_not_a_number(kind)
    try:
        found = pa.array(series, from_pandas=as_pandas)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    array = cast("pa.Array[Any]", found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)
    if series.dtype != np.dtype(object):
        return array
    # Of an object column Arrow guesses the type; only these guesses alter no value and hide none of another type.
    certain = [pa.string(), pa.large_string(), pa.bool_(), pa.int64(), pa.null()]
    if isinstance(kind, types.Float):
        certain.append(pa.float64())
    return array if array.type in certain else None


def cells(array: pa.Array[Any], kind: TypeEngine[Any], *, nan_is_null: bool) -> pa.Array[Any] | None:
    """The array in a type whose CSV form Postgres reads as exactly these values, or None.

    Args:
        array: The values.
        kind: Type of the column that shall take them.
        nan_is_null: Take NaN as NULL in columns that could hold it.

    Returns:
        Timestamps are in UTC and without their zone: the session that reads them must be in UTC.
    """
    import pyarrow as pa

    kind = stored_type(kind)
    values: Any = array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float64())
    if nan_is_null or not keeps_not_a_number(kind):
        values = _without_nan(values)
    if pa.types.is_null(values.type):
        return cast("pa.Array[Any]", values.cast(pa.string()))
    for column_type, rule in (
        (types.String, _text),
        (types.Integer, _integer),
        (types.Float, _number),
        (types.Numeric, _number),
        (types.Boolean, _boolean),
        (types.DateTime, _timestamp),
        (types.Date, _date),
        (types.Time, _time),
        (types.ARRAY, _list),
    ):
        if isinstance(kind, column_type):
            return cast("pa.Array[Any] | None", rule(values, kind))
    return None


def unsuited(array: pa.Array[Any], kind: TypeEngine[Any]) -> str | None:
    """What an array holds, when none of its values can be one of the column's type; None when they can.

    A column without any value suits every type.
    """
    import pyarrow as pa

    kind = stored_type(kind)
    wanted = next(
        (
            family
            for family, kinds in (
                ("text", (types.String,)),
                ("a number", (types.Integer, types.Numeric, types.Float)),
                ("true or false", (types.Boolean,)),
                ("a moment", (types.DateTime, types.Date, types.Time)),
                ("a list", (types.ARRAY,)),
            )
            if isinstance(kind, kinds)
        ),
        None,
    )
    given = _family(array)
    if wanted is None or given is None or wanted == given or _without_nan(array).null_count == len(array):
        return None
    return f"{given} ({array.type.value_type if isinstance(array, pa.DictionaryArray) else array.type})"


def _family(array: pa.Array[Any]) -> str | None:
    import pyarrow.types as of

    kind: Any = array.type
    if of.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        (_is_text(kind),),
        (of.is_integer(kind), of.is_floating(kind), of.is_decimal(kind)),
        (of.is_boolean(kind),),
        (of.is_timestamp(kind), of.is_date(kind), of.is_time(kind)),
        (is_list(kind),),
    )
    return next((family for family, found in zip(_FAMILIES, tests, strict=True) if any(found)), None)


def _arrow() -> tuple[Any, Any]:
    """Arrow and its functions; their stubs know single types of array only."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa, pc


def _is_text(kind: Any) -> bool:
    import pyarrow.types as of

    return bool(of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind))


def _text(array: Any, kind: Any) -> Any:
    pa, pc = _arrow()
    if not _is_text(array.type):
        return None
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    if kind.length is not None and (pc.max(pc.utf8_length(array)).as_py() or 0) > kind.length:
        return None
    return array


def _integer(array: Any, kind: Any) -> Any:
    pa, pc = _arrow()
    if pa.types.is_floating(array.type):
        try:
            array = array.cast(pa.int64())
        except pa.ArrowInvalid:  # a fraction, or too large
            return None
    if not pa.types.is_integer(array.type):
        return None
    limit = 1 << (integer_bits(kind) - 1)
    bounds = pc.min_max(array).as_py()
    if bounds["min"] is not None and not -limit <= bounds["min"] <= bounds["max"] < limit:
        return None
    return array


def _number(array: Any, _kind: Any) -> Any:
    pa, _ = _arrow()
    if pa.types.is_floating(array.type):
        return array.cast(pa.float64())
    return array if pa.types.is_integer(array.type) or pa.types.is_decimal(array.type) else None


def _without_nan(array: Any) -> Any:
    pa, pc = _arrow()
    if not pa.types.is_floating(array.type):
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def _boolean(array: Any, _kind: Any) -> Any:
    pa, _ = _arrow()
    return array if pa.types.is_boolean(array.type) else None


def _timestamp(array: Any, kind: Any) -> Any:
    pa, _ = _arrow()
    if not pa.types.is_timestamp(array.type) or (array.type.tz is not None) != bool(kind.timezone):
        return None
    if not _within(array, _YEAR_1 * _TICKS[array.type.unit], (_YEAR_9999 + 1) * _TICKS[array.type.unit] - 1):
        return None
    # Arrow counts from 1970 in UTC whatever the zone; it writes times without a zone many times faster.
    return array.view(pa.timestamp(array.type.unit))


def _date(array: Any, _kind: Any) -> Any:
    pa, _ = _arrow()
    if not pa.types.is_date(array.type):
        return None
    array = array.cast(pa.date32())
    return array if _within(array, *((day - _EPOCH.date()).days for day in (date.min, date.max))) else None


def _within(array: Any, low: int, high: int) -> bool:
    pa, pc = _arrow()
    counted = array.view(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
    bounds = pc.min_max(counted).as_py()
    return bounds["min"] is None or low <= bounds["min"] <= bounds["max"] <= high


def _time(array: Any, kind: Any) -> Any:
    pa, _ = _arrow()
    return array if pa.types.is_time(array.type) and not kind.timezone else None


def _list(array: Any, kind: Any) -> Any:
    """Postgres's array literal: text items quoted, NULL for what is missing."""
    pa, pc = _arrow()
    if not isinstance(array, pa.ListArray | pa.LargeListArray) or pa.types.is_floating(array.type.value_type):
        return None
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    first = pa.array([0], lengths.type)
    items = cells(array.flatten(), kind.item_type, nan_is_null=False)
    if items is None:
        return None
    if _is_text(items.type):
        for special, written in (("\\", "\\\\"), ('"', '\\"')):
            items = pc.replace_substring(items, special, written)
        quote, nothing = pa.scalar('"', items.type), pa.scalar("", items.type)
        items = pc.binary_join_element_wise(quote, items, quote, nothing)
    elif pa.types.is_integer(items.type) or pa.types.is_boolean(items.type):
        items = items.cast(pa.string())
    else:
        return None
    items = pc.fill_null(items, "NULL")
    offsets = pa.concat_arrays([first, pc.cumulative_sum(lengths)])
    joined = pc.binary_join(type(array).from_arrays(offsets, items), ",")
    opening, closing, nothing = (pa.scalar(part, joined.type) for part in ("{", "}", ""))
    whole = pc.binary_join_element_wise(opening, joined, closing, nothing)
    return pc.if_else(array.is_valid(), whole, pa.scalar(None, whole.type))
