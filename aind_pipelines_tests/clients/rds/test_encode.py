"""What is stored is what was given, for every column type; what cannot be stored says so."""

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Uuid,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from aind_pipelines.clients.rds import BadValue, publish
from aind_pipelines.clients.rds.encode import NULL, cell_for
from aind_pipelines_tests.clients.rds.values import ROW, everything
from aind_pipelines_tests.counts import examples


@given(rows=st.lists(ROW, min_size=1, max_size=8))
@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_values_come_back_from_postgres_as_they_went_in(engine: Engine, rows: list[dict[str, Any]]) -> None:
    table = everything()
    table.metadata.create_all(engine)
    numbered = [{"n": number, **row} for number, row in enumerate(rows)]
    assert publish(engine, table, numbered, key=["n"], max_shrink=1).rows == len(rows)
    with engine.connect() as connection:
        read = [dict(row) for row in connection.execute(select(table).order_by(table.c.n)).mappings()]
    assert read == numbered
    again = publish(engine, table, numbered, key=["n"])
    assert not again.changed


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (Text, "a\0b", "NUL"),
        (Text, "\ud800", "surrogate"),
        (Text, 3, "not int"),
        (Text, ["a"], "not list"),
        (String(3), "four", "4 characters, the column allows 3"),
        (Integer, 2**31, "32-bit"),
        (Integer, 1.5, "float"),
        (Integer, True, "bool"),
        (Boolean, 1, "not int"),
        (Double, "1.0", "not str"),
        (DateTime(timezone=True), datetime(2024, 1, 1), "no time zone"),
        (DateTime(timezone=False), datetime(2024, 1, 1, tzinfo=UTC), "has a time zone"),
        (Date, datetime(2024, 1, 1, tzinfo=UTC), "not datetime"),
        (ARRAY(Text), "a string", "not str"),
        (ARRAY(Text), ["a\0"], "NUL"),
        (ARRAY(Text), {"a"}, "not set"),
        (JSONB, {"a": [math.nan]}, "NaN"),
        (JSONB, math.nan, "NaN"),
        (JSONB, {"a": "x\0"}, "NUL"),
        (JSONB, {"\0": 1}, "NUL"),
        (JSONB, {"a": "\udfff"}, "surrogate"),
        (JSONB, {"a": object()}, "not JSON serializable"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_with_column_and_row(
    engine: Engine, kind: Any, value: Any, reason: str
) -> None:
    table = Table("t", MetaData(), Column("id", Text, primary_key=True), Column("v", kind))
    table.metadata.create_all(engine)
    with pytest.raises(BadValue, match=reason) as raised:
        publish(engine, table, [{"id": "first", "v": None}, {"id": "second", "v": value}], key=["id"])
    assert "row 2 (id='second'): column 'v'" in str(raised.value)


def test_a_backslash_before_u0000_is_text_and_not_a_nul_character() -> None:
    assert cell_for(JSONB())({"a": "\\u0000"}) == '{"a":"\\\\\\\\u0000"}'


@pytest.mark.parametrize("nothing", [None, pd.NaT, pd.NA, math.nan])
@pytest.mark.parametrize("kind", [Text(), Integer(), Boolean(), DateTime(timezone=True), ARRAY(Text), Date()])
def test_what_pandas_has_for_nothing_is_null(kind: Any, nothing: Any) -> None:
    assert cell_for(kind)(nothing) == NULL


@pytest.mark.parametrize(("nan_is_null", "cell"), [(False, "nan"), (True, NULL)])
def test_nan_in_a_float_column_follows_the_option(nan_is_null: bool, cell: str) -> None:
    assert cell_for(Double(), nan_is_null=nan_is_null)(math.nan) == cell


def test_values_of_numpy_and_pandas_are_taken() -> None:
    frame = pd.DataFrame({"n": [1], "f": [0.5], "b": [True], "t": pd.to_datetime(["2024-01-01T00:00:00.123456Z"])})
    row = frame.iloc[0]
    assert cell_for(Integer())(frame["n"].to_numpy()[0]) == "1"
    assert cell_for(Integer())(3.0) == "3"
    assert cell_for(Double())(row["f"]) == "0.5"
    assert cell_for(Boolean())(frame["b"].to_numpy()[0]) == "t"
    assert cell_for(DateTime(timezone=True))(row["t"]) == "2024-01-01T00:00:00.123456+00:00"
    assert cell_for(Numeric())(Decimal("1.10")) == "1.10"
    assert cell_for(Uuid())("12345678123456781234567812345678") == str(UUID(int=0x12345678123456781234567812345678))
    assert cell_for(Date())(date(2024, 2, 29)) == "2024-02-29"
    assert cell_for(Time())(time(1, 2)) == "01:02:00"
