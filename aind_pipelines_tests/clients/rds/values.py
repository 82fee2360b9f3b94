"""Any value of every column type that can be stored, and the table that takes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

# Short values: a row has all columns, and an example of many long rows is mostly thrown away as too large.
_storable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
_finite = st.floats(-1e15, 1e15)  # beyond, jsonb gives a whole float back as an exact integer
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | _finite | _storable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_storable, inner, max_size=3),
    max_leaves=5,
)
_values: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (Text, _storable),
    "texts": (ARRAY(Text), st.lists(st.none() | _storable, max_size=3)),
    "small": (SmallInteger, st.integers(-(2**15), 2**15 - 1)),
    "whole": (Integer, st.integers(-(2**31), 2**31 - 1)),
    "big": (BigInteger, st.integers(-(2**63), 2**63 - 1)),
    "float": (Double, st.floats(allow_nan=False)),
    "floats": (ARRAY(Double), st.lists(st.floats(allow_nan=False), max_size=3)),
    "number": (Numeric, st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20)),
    "flag": (Boolean, st.booleans()),
    "zoned": (DateTime(timezone=True), st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC))),
    "local": (DateTime(timezone=False), st.datetimes()),
    "day": (Date, st.dates()),
    "clock": (Time, st.times()),
    "span": (Interval, st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6))),
    "unique": (Uuid, st.uuids()),
    "raw": (LargeBinary, st.binary(max_size=8)),
    "body": (JSONB, st.dictionaries(_storable, _json, max_size=2)),
}


def everything() -> Table:
    columns = [Column(name, kind) for name, (kind, _) in _values.items()]
    return Table("everything", MetaData(), Column("n", Integer, primary_key=True), *columns)


ROW = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in _values.items()})
