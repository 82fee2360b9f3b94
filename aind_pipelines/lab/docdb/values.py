"""BSON values: how documents are decoded, and byte keys whose order is BSON's comparison order.

A key of a value is a byte string such that two keys compare as MongoDB compares the values, across types too. Equal
keys mean equal values (``1`` and ``1.0`` are equal, ``1`` and ``true`` are not, subdocuments compare field by field in
their order). No key is the beginning of another value's key, so keys can be put one after the other.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Mapping
from typing import Any, Final

import bson
from bson import (
    Binary,
    Code,
    CodecOptions,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument

from aind_pipelines.lab.docdb.errors import INTERNAL_ERROR, CommandError, not_implemented

Document = Mapping[str, Any]

PLAIN: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
DOCUMENT_TYPES: Final = (dict, RawBSONDocument)


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a path leads to where a document has no such field."""

MIN_KEY, UNDEFINED, NULL, NUMBER, STRING, OBJECT, ARRAY = 0x05, 0x0F, 0x10, 0x20, 0x30, 0x40, 0x50
BINARY, OBJECT_ID, BOOLEAN, DATE, TIMESTAMP, REGEX, CODE, CODE_WITH_SCOPE = (
    0x60,
    0x70,
    0x80,
    0x90,
    0xA0,
    0xB0,
    0xC0,
    0xC8,
)
MAX_KEY = 0xF0

EMPTY_ARRAY_SORT_KEY: Final = bytes([UNDEFINED])
NULL_KEY: Final = bytes([NULL])
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - BSON dates are decoded without a zone and are UTC
_EPOCH_AWARE = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EXACT = 1 << 53
_SIGN = 1 << 63
_INVERTED = bytes(255 - value for value in range(256))


def decode(raw: RawBSONDocument) -> dict[str, Any]:
    """Decode a document completely; raises bson's errors when it is malformed at any depth."""
    return bson.decode(bytes(raw.raw), PLAIN)


def plain(value: Any) -> Any:
    """`value` with every undecoded document in it decoded."""
    if isinstance(value, RawBSONDocument):
        return decode(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def is_document(value: Any) -> bool:
    """Whether `value` is an embedded document."""
    return isinstance(value, DOCUMENT_TYPES)


def is_number(value: Any) -> bool:
    """Whether `value` is of one of BSON's numeric types; a boolean is not."""
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def whole_number(value: Any) -> int | None:
    """A whole number of any numeric type as an int; None for anything else, NaN and infinity too."""
    if not is_number(value):
        return None
    exact = value.to_decimal() if isinstance(value, Decimal128) else value
    return int(exact) if math.isfinite(exact) and exact == int(exact) else None


def _escaped(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\0", b"\0\xff") + b"\0\0"


def string_prefix(text: str) -> bytes:
    """The beginning that the keys of all strings starting with `text` have in common."""
    return bytes([STRING]) + text.encode("utf-8", "surrogatepass").replace(b"\0", b"\0\xff")


def _number(value: float) -> bytes:
    remainder = 0
    if isinstance(value, int):
        approximation = float(value)
        if not -_EXACT <= value <= _EXACT:
            if int(approximation) > value:
                approximation = math.nextafter(approximation, -math.inf)
            remainder = value - int(approximation)
    else:
        approximation = value
    if math.isnan(approximation):
        return bytes(10)
    bits = struct.unpack(">Q", struct.pack(">d", approximation + 0.0))[0]
    ordered = bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits & _SIGN else bits | _SIGN
    return struct.pack(">QH", ordered, remainder)


def milliseconds(value: dt.datetime | DatetimeMS) -> int:
    """Milliseconds since 1970-01-01 UTC."""
    if isinstance(value, DatetimeMS):
        return int(value)
    return (value - (_EPOCH if value.tzinfo is None else _EPOCH_AWARE)) // dt.timedelta(milliseconds=1)


def bracket(value: Any) -> int:
    """The class of types that `value` is compared within; MongoDB's canonical type."""
    kind = _BRACKETS.get(type(value))
    if kind is not None:
        return kind
    if isinstance(value, Code):
        return CODE if value.scope is None else CODE_WITH_SCOPE
    if isinstance(value, Decimal128):
        raise not_implemented("comparing or indexing a Decimal128")
    for parent, kind in _BRACKETS.items():
        if isinstance(value, parent):
            return kind
    raise CommandError(INTERNAL_ERROR, f"a {type(value).__name__} has no place in BSON's order")


_BRACKETS: Final[dict[type[Any], int]] = {
    str: STRING,
    type(None): NULL,
    _Missing: NULL,
    bool: BOOLEAN,
    int: NUMBER,
    Int64: NUMBER,
    float: NUMBER,
    dict: OBJECT,
    RawBSONDocument: OBJECT,
    DBRef: OBJECT,
    list: ARRAY,
    dt.datetime: DATE,
    DatetimeMS: DATE,
    ObjectId: OBJECT_ID,
    bytes: BINARY,
    Timestamp: TIMESTAMP,
    Regex: REGEX,
    MinKey: MIN_KEY,
    MaxKey: MAX_KEY,
}


def _payload(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _escaped(value)
    if kind == NUMBER:
        return _number(value)
    if kind in (NULL, MIN_KEY, MAX_KEY):
        return b""
    if kind == BOOLEAN:
        return b"\x01" if value else b"\x00"
    if kind == OBJECT:
        return _object(value.as_doc() if isinstance(value, DBRef) else value)
    if kind == ARRAY:
        return b"".join(key(item) for item in value) + b"\0"
    if kind == DATE:
        return struct.pack(">Q", milliseconds(value) + _SIGN)
    if kind == OBJECT_ID:
        return bytes(value.binary)
    if kind == BINARY:
        subtype = value.subtype if isinstance(value, Binary) else 0
        return struct.pack(">IB", len(value), subtype) + bytes(value)
    if kind == TIMESTAMP:
        return struct.pack(">II", value.time, value.inc)
    if kind == REGEX:
        return _escaped(str(value.pattern)) + struct.pack(">I", value.flags)
    return _escaped(str(value)) + (_object(value.scope) if kind == CODE_WITH_SCOPE else b"")


def _object(value: Document) -> bytes:
    parts = []
    for name, item in value.items():
        kind = bracket(item)
        parts.append(bytes([kind]) + _escaped(name) + _payload(kind, item))
    return b"".join(parts) + b"\0"


def key(value: Any) -> bytes:
    """The byte key of a value.

    Raises:
        CommandError: The value is a Decimal128, whose order is not supported.
    """
    kind = bracket(value)
    return bytes([kind]) + _payload(kind, value)


def inverted(encoded: bytes) -> bytes:
    """A key that sorts the other way round."""
    return encoded.translate(_INVERTED)


def successor(prefix: bytes) -> bytes:
    """The smallest byte string above every byte string that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


def equal(one: Any, other: Any) -> bool:
    """Whether MongoDB holds two values for equal."""
    if type(one) is str and type(other) is str:
        return one == other
    return bracket(one) == bracket(other) and key(one) == key(other)


def type_name(value: Any) -> str:
    """BSON's name of a value's type, as ``$type`` knows it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Int64):
        return "long"
    if isinstance(value, int):
        return "int" if -(1 << 31) <= value < 1 << 31 else "long"
    if isinstance(value, float):
        return "double"
    if isinstance(value, Decimal128):
        return "decimal"
    return _TYPE_NAMES[bracket(value)] if value is not MISSING else "missing"


_TYPE_NAMES = {
    MIN_KEY: "minKey",
    NULL: "null",
    STRING: "string",
    OBJECT: "object",
    ARRAY: "array",
    BINARY: "binData",
    OBJECT_ID: "objectId",
    DATE: "date",
    TIMESTAMP: "timestamp",
    REGEX: "regex",
    CODE: "javascript",
    CODE_WITH_SCOPE: "javascriptWithScope",
    MAX_KEY: "maxKey",
}
TYPE_CODES = {
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    5: "binData",
    7: "objectId",
    8: "bool",
    9: "date",
    10: "null",
    11: "regex",
    13: "javascript",
    15: "javascriptWithScope",
    16: "int",
    17: "timestamp",
    18: "long",
    19: "decimal",
    -1: "minKey",
    127: "maxKey",
}
