r"""Python values as cells of Postgres's COPY text format, by column type.

The rules, one per type, so that what is stored never depends on what a driver guesses:

* None, ``NaT`` and ``pandas.NA`` are NULL in every column. A float NaN is NULL too, except in float and numeric
  columns, where it is NaN (unless the encoder is made with ``nan_is_null``, as for DataFrames), and in JSON, which has
  no NaN: there it is an error (unless the whole value is NaN, with ``nan_is_null``). An array's items follow the rule
  of their type.
* Text takes only strings. A NUL character or a lone surrogate is an error: Postgres stores neither.
* Integers take whole numbers in the column's range; booleans only booleans.
* ``timestamptz`` takes only datetimes with a zone, ``timestamp`` and ``time`` only values without.
* Arrays take lists, tuples and numpy's arrays; a string is not a list. JSON takes what `json` can write, and numpy's
  arrays and scalars for the values that they hold, with the same ban on NUL.
* A domain takes what its base type takes. Network addresses, ranges, bit strings and ``tsvector`` take their text,
  which the server parses.
* Numpy's scalars count as the Python values they hold. Postgres rounds to a column's precision: ``numeric(6,2)`` to
  hundredths, times to microseconds.

Everything else raises `ValueError` or `TypeError` with the reason; `aind_pipelines.clients.rds.load` adds column and
row. Format: PostgreSQL manual, "COPY", section "Text Format".
"""

from __future__ import annotations

import json
import operator
import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import types
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.ranges import AbstractRange
from sqlalchemy.types import TypeEngine, UserDefinedType

Encoder = Callable[[Any], str]
"""From a value that is not null to its Postgres text form, before COPY's own escaping."""

NULL = "\\N"

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_TEXT_SPECIAL = re.compile("[\\\\\t\n\r\0\ud800-\udfff]")
_COPY_SPECIAL = re.compile(r"[\\\t\n\r]")
_COPY_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def is_null(value: Any) -> bool:
    """Whether a value stands for "nothing" in every column: None, ``NaT``, ``pandas.NA``."""
    return value is None or type(value).__name__ in {"NaTType", "NAType"}


def is_nan(value: Any) -> bool:
    """Whether a value is a float NaN, Python's or numpy's."""
    return (isinstance(value, float) or type(value).__name__ in {"float32", "float16", "longdouble"}) and bool(
        value != value
    )


def plain(value: Any) -> Any:
    """The Python value, or list of values, that a numpy scalar or array holds; anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic):
        return value
    if value.dtype.kind in "mM" and numpy.datetime_data(value.dtype)[0] in {"ns", "ps", "fs", "as"}:
        # Python's times have microseconds; of finer ones numpy would give the bare number.
        value = value.astype(f"{value.dtype.kind}8[us]")
    return value.tolist()


def escaped(text: str) -> str:
    """A cell's text with COPY's special characters escaped."""
    if _COPY_SPECIAL.search(text) is None:
        return text
    return _COPY_SPECIAL.sub(lambda match: _COPY_ESCAPES[match[0]], text)


def _checked(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character, which Postgres cannot store")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("it holds a lone surrogate, which is not valid Unicode text")
    return text


def _text(longest: int | None) -> Encoder:
    def encode(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"text is wanted, not {type(value).__name__}")
        if longest is not None and len(value) > longest:
            raise ValueError(f"it has {len(value)} characters, the column allows {longest}")
        return _checked(value)

    return encode


def _integer(bits: int) -> Encoder:
    limit = 1 << (bits - 1)

    def encode(value: Any) -> str:
        if isinstance(value, bool):
            raise TypeError("a whole number is wanted, not bool")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        number = operator.index(value)
        if not -limit <= number < limit:
            raise ValueError(f"it is outside the range of a {bits}-bit integer")
        return str(number)

    return encode


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in {"bool_", "bool"}


def _float(value: Any) -> str:
    if isinstance(value, str) or _is_bool(value):
        raise TypeError(f"a number is wanted, not {type(value).__name__}")
    return repr(float(value))


def _numeric(value: Any) -> str:
    if isinstance(value, str) or _is_bool(value):
        raise TypeError(f"a number is wanted, not {type(value).__name__}")
    if isinstance(value, Decimal):
        return str(value)
    return str(operator.index(value) if hasattr(value, "__index__") else float(value))


def _boolean(value: Any) -> str:
    if _is_bool(value):
        return "t" if value else "f"
    raise TypeError(f"true or false is wanted, not {type(value).__name__}")


def _timestamp(zoned: bool) -> Encoder:
    def encode(value: Any) -> str:
        if not isinstance(value, datetime):
            value = plain(value)
        if not isinstance(value, datetime):
            raise TypeError(f"a datetime is wanted, not {type(value).__name__}")
        if (value.utcoffset() is not None) != zoned:
            raise ValueError("the datetime has no time zone" if zoned else "the datetime has a time zone")
        return value.isoformat()

    return encode


def _date(value: Any) -> str:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError(f"a date is wanted, not {type(value).__name__}")
    return value.isoformat()


def _time(zoned: bool) -> Encoder:
    def encode(value: Any) -> str:
        if not isinstance(value, time):
            raise TypeError(f"a time of day is wanted, not {type(value).__name__}")
        if value.tzinfo is not None and not zoned:
            raise ValueError("the time of day has a time zone")
        return value.isoformat()

    return encode


def _interval(value: Any) -> str:
    if not isinstance(value, timedelta):
        raise TypeError(f"a timedelta is wanted, not {type(value).__name__}")
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


def _uuid(value: Any) -> str:
    return str(value if isinstance(value, UUID) else UUID(value))


def _bytes(value: Any) -> str:
    return "\\x" + memoryview(value).hex()


def _of_numpy(value: Any) -> Any:
    """For `json`: what is no type of its own."""
    found = plain(value)
    if found is value:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return found


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_of_numpy)
    except RecursionError:
        raise ValueError("it is nested too deeply for JSON, or contains itself") from None
    except ValueError:
        raise ValueError("it holds NaN or an infinity, which JSON has not, or contains itself") from None
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise ValueError("a string in it holds a NUL character, which Postgres cannot store")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("a string in it holds a lone surrogate, which is not valid Unicode text")
    return text


def _array(item: Encoder, *, keeps_nan: bool) -> Encoder:
    def encode(value: Any) -> str:
        if type(value).__name__ == "ndarray":
            value = plain(value)
        if not isinstance(value, list | tuple):
            raise TypeError(f"a list is wanted, not {type(value).__name__}")
        parts = []
        for element in value:
            if type(element) is not str and (isinstance(element, list | tuple) or type(element).__name__ == "ndarray"):
                parts.append(encode(element))
            elif type(element) is not str and (is_null(element) or (not keeps_nan and is_nan(element))):
                parts.append("NULL")
            else:
                parts.append('"' + item(element).replace("\\", "\\\\").replace('"', '\\"') + '"')
        return "{" + ",".join(parts) + "}"

    return encode


def _as_text(value: Any) -> str:
    """The text form of what the server alone can parse; addresses are what the driver reads as such."""
    if type(value).__module__ == "ipaddress":
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"its text form is wanted, not {type(value).__name__}")
    return _checked(value)


def integer_bits(column_type: types.Integer) -> int:
    """Width of an integer column."""
    # The others are subclasses of Integer.
    return (
        16 if isinstance(column_type, types.SmallInteger) else 64 if isinstance(column_type, types.BigInteger) else 32
    )


_PARSED: tuple[type[TypeEngine[Any]], ...] = (
    postgresql.INET,
    postgresql.CIDR,
    postgresql.MACADDR,
    postgresql.MACADDR8,
    postgresql.BIT,
    postgresql.TSVECTOR,
    AbstractRange,
)
"""Types with an equality of their own whose text form the server parses."""

_SIMPLE: tuple[tuple[type[TypeEngine[Any]], Encoder], ...] = (
    (types.Float, _float),
    (types.Numeric, _numeric),
    (types.Boolean, _boolean),
    (types.Date, _date),
    (types.Uuid, _uuid),
    (types.JSON, _json),
    (types.LargeBinary, _bytes),
    *((kind, _as_text) for kind in _PARSED),
)
"""In this order: Float was a subclass of Numeric before SQLAlchemy 2.1."""


def stored_type(column_type: TypeEngine[Any]) -> TypeEngine[Any]:
    """What a decorated type or a domain is in the database; Interval is decorated only for those that have none."""
    while True:
        if isinstance(column_type, postgresql.DOMAIN):
            column_type = column_type.data_type
        elif isinstance(column_type, types.TypeDecorator) and not isinstance(column_type, types.Interval):
            column_type = column_type.impl_instance
        else:
            return column_type


class ServerType(UserDefinedType[Any]):
    """A type that SQLAlchemy does not know, by the server's name for it; no rule covers it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_options: Any) -> str:
        """Its name in SQL."""
        return self.name


def encoder_for(column_type: TypeEngine[Any], *, nan_is_null: bool = False) -> Encoder:
    """How values of a column type are written.

    Args:
        column_type: The column's type.
        nan_is_null: Take NaN among an array's items as NULL.

    Raises:
        TypeError: No rule exists for this type.
    """
    column_type = stored_type(column_type)
    if isinstance(column_type, types.Interval | postgresql.INTERVAL):
        return _interval
    if isinstance(column_type, types.String):
        return _text(column_type.length)
    if isinstance(column_type, types.DateTime):
        return _timestamp(bool(column_type.timezone))
    if isinstance(column_type, types.ARRAY):
        keeps_nan = keeps_not_a_number(column_type.item_type) and not nan_is_null
        return _array(encoder_for(column_type.item_type), keeps_nan=keeps_nan)
    if isinstance(column_type, types.Time):
        return _time(bool(column_type.timezone))
    if isinstance(column_type, types.Integer):
        return _integer(integer_bits(column_type))
    for kind, encoder in _SIMPLE:
        if isinstance(column_type, kind):
            return encoder
    named = column_type.name if isinstance(column_type, ServerType) else repr(column_type)
    raise TypeError(f"no rule says how to write values of type {named}")


def text_for(column_type: TypeEngine[Any], *, nan_is_null: bool = False) -> Callable[[Any], str | None]:
    """A function from any value, null or not, to its Postgres text form; None stands for NULL.

    Args:
        column_type: The column's type.
        nan_is_null: Take a float NaN as NULL in columns that could hold it, in their arrays' items, and in place of
            JSON (what a DataFrame means by it).

    Raises:
        TypeError: No rule exists for this type.
    """
    column_type = stored_type(column_type)
    encode = encoder_for(column_type, nan_is_null=nan_is_null)
    # JSON has no NaN: its encoder says so.
    passes_nan = not nan_is_null and (keeps_not_a_number(column_type) or isinstance(column_type, types.JSON))

    def text(value: Any) -> str | None:
        if is_null(value):
            return None
        if not passes_nan and is_nan(value):
            return None
        return encode(value)

    return text


def keeps_not_a_number(column_type: TypeEngine[Any]) -> bool:
    """Whether NaN is a value of the type and not merely a sign that there is none."""
    return isinstance(stored_type(column_type), types.Float | types.Numeric)


def cell_for(column_type: TypeEngine[Any], *, nan_is_null: bool = False) -> Encoder:
    """As `text_for`, but to the finished COPY cell."""
    as_text = text_for(column_type, nan_is_null=nan_is_null)
    quick = _quick(stored_type(column_type))

    def cell(value: Any) -> str:
        if value is None:
            return NULL
        if quick is not None and (text := quick(value)) is not None:
            return text
        text = as_text(value)
        return NULL if text is None else escaped(text)

    return cell


def _quick(column_type: TypeEngine[Any]) -> Callable[[Any], str | None] | None:
    """The finished cell of the plainest values of the commonest types, or None where the rules must be asked.

    Most of a load's time is spent here: one look at the exact type, one at the content.
    """
    if isinstance(column_type, types.String) and column_type.length is None:
        return lambda value: value if type(value) is str and _TEXT_SPECIAL.search(value) is None else None
    if isinstance(column_type, types.Integer):
        limit = 1 << (integer_bits(column_type) - 1)
        return lambda value: str(value) if type(value) is int and -limit <= value < limit else None
    if isinstance(column_type, types.Float):
        return lambda value: repr(value) if type(value) is float and value == value else None
    if isinstance(column_type, types.DateTime) and column_type.timezone:
        return lambda value: value.isoformat() if isinstance(value, datetime) and value.tzinfo is UTC else None
    return None
