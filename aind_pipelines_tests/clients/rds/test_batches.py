"""DataFrames, Arrow tables and batches: columns go the short way and store what the rows would have stored."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

from aind_pipelines.clients.rds import BadValue, RdsError, SchemaMismatch, make_engine, publish, replace
from aind_pipelines.clients.rds.columns import cells, from_series
from aind_pipelines_tests.clients.rds.values import ROW, everything
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.postgres import new_database

_ARROW = pa.schema(
    {
        "n": pa.int32(),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "small": pa.int16(),
        "whole": pa.int64(),
        "big": pa.int64(),
        "float": pa.float64(),
        "floats": pa.list_(pa.float64()),
        "flag": pa.bool_(),
        "zoned": pa.timestamp("us", "America/Los_Angeles"),
        "local": pa.timestamp("us"),
        "day": pa.date32(),
        "clock": pa.time64("us"),
        "span": pa.duration("us"),
        "raw": pa.binary(),
    }
)


def _stored(engine: Engine, table: Table) -> list[Any]:
    with engine.connect() as connection:
        query = select(*(text(f'"{column.name}"::text') for column in table.columns)).select_from(table)
        return list(connection.execute(query.order_by(table.columns[0])).fetchall())


def _made(engine: Engine, **columns: Any) -> Table:
    made = Table("t", MetaData(), *(Column(name, kind) for name, kind in columns.items()))
    made.metadata.create_all(engine)
    return made


def _holds(frame: pd.DataFrame, rows: list[dict[str, Any]]) -> bool:
    """Whether a frame still has the rows' integers: pandas makes floats of them, of 53 bits, where one is missing."""
    return all(
        row[name] is None or frame[name].dtype.kind != "f" or int(frame[name][number]) == row[name]
        for name in ("small", "whole", "big")
        for number, row in enumerate(rows)
    )


@pytest.fixture(params=["newest", "older"])
def any_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Our Postgres, and Debian's, which is older: COPY reads CSV otherwise before version 18."""
    if request.param == "newest":
        yield request.getfixturevalue("engine")
        return
    with new_database(request.getfixturevalue("debian_postgres_url")) as url:
        older = make_engine(url)
        yield older
        older.dispose()


@given(rows=st.lists(ROW, min_size=1, max_size=3), start=st.integers(0, 3))
@settings(
    max_examples=examples(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_frame_and_an_arrow_table_store_what_their_rows_would(
    any_engine: Engine, rows: list[dict[str, Any]], start: int
) -> None:
    engine = any_engine
    table = everything()
    table.metadata.create_all(engine)
    numbered = [{"n": number, **row} for number, row in enumerate(rows)]
    publish(engine, table, numbered, key=["n"], max_shrink=1)
    by_rows = _stored(engine, table)
    inferred = pd.DataFrame(numbered)
    for frame in [pd.DataFrame(numbered, dtype=object), *([inferred] if _holds(inferred, rows) else [])]:
        publish(engine, table, frame, key=["n"], max_shrink=1)
        assert _stored(engine, table) == by_rows
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE everything"))
    plain = [{name: row[name] for name in _ARROW.names} for row in numbered]
    whole = pa.Table.from_pylist([{**plain[0], "n": -1 - number} for number in range(start)] + plain, schema=_ARROW)
    publish(engine, table, whole.slice(start), key=["n"])
    dropped = [name for name in table.c.keys() if name not in _ARROW.names]  # noqa: SIM118 - not a dict
    kept = [place for place, column in enumerate(table.c) if column.name not in dropped]
    assert [[row[place] for place in kept] for row in _stored(engine, table)] == [
        [row[place] for place in kept] for row in by_rows
    ]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Text(), pa.array(['a,"\n\r\t\\.', None, "", "\\N", "NULL", "\\."])),
        (Text(), pa.array(["one", None, "one"]).dictionary_encode()),
        (Text(), pa.array(["one", None], pa.string_view())),
        (Integer(), pa.array([1.0, None, float("nan")])),
        (Integer(), pa.array([2**31 - 1], pa.uint64())),
        (SmallInteger(), pa.array([-(2**15), None], pa.int64())),
        (BigInteger(), pa.array([None, None], pa.null())),
        (Double(), pa.array([0.1, 1e300, -0.0, float("inf"), None], pa.float64())),
        (Double(), pa.array([0.1], pa.float32())),
        (Double(), np.array([0.5, 1.5], np.float16)),
        (Double(), pa.array([2**53 + 1])),
        (Numeric(), pa.array([Decimal("1.10"), None])),
        (Boolean(), pa.array([True, None, False])),
        (DateTime(timezone=True), pa.array([0, None, -1], pa.timestamp("ns", "Asia/Kolkata"))),
        (
            DateTime(timezone=True),
            pa.array([datetime(1, 1, 1), datetime(9999, 12, 31)], pa.timestamp("us", "UTC")),
        ),
        (DateTime(timezone=False), pa.array([0, None], pa.timestamp("s"))),
        (ARRAY(Text), pa.array([['a"\\,{}', None, "NULL", ""], None, []])),
        (ARRAY(Text), pa.array([["a"], ["b", "c"], None, ["d"]]).slice(1)),
        (ARRAY(BigInteger), pa.array([[1, None], []])),
        (ARRAY(Boolean), pa.array([[True, None]], pa.large_list(pa.bool_()))),
        (ARRAY(Double), pa.array([[0.5, None, float("nan")]])),
        (JSONB(), pa.array([{"a": [1, None]}, None])),
    ],
)
@pytest.mark.parametrize("engine_zone", ["UTC", "Asia/Tokyo"])
def test_a_column_stores_what_its_values_would(
    engine: Engine, kind: TypeEngine[Any], values: Any, engine_zone: str
) -> None:
    table = _made(engine, v=kind)
    array = pa.array(values)
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL timezone TO '{engine_zone}'"))
        replace(connection, table, [{"v": value} for value in array.to_pylist()], nan_is_null=True)
    expected = sorted(map(str, _stored(engine, table)))
    assert len(expected) == len(array)
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL timezone TO '{engine_zone}'"))
        replace(connection, table, pa.table({"v": array}), nan_is_null=True)
        assert connection.execute(text("SHOW timezone")).scalar_one() == engine_zone
    assert sorted(map(str, _stored(engine, table))) == expected


@pytest.mark.parametrize("word", ["first\n\\.\nlast", "\n\\.", "\\.", "\\.\n", "a\r\\.", "\n\\.b"])
def test_a_line_that_older_servers_take_for_the_end_of_the_data_is_data(any_engine: Engine, word: str) -> None:
    table = _made(any_engine, n=Integer(), v=Text())
    words = ["before", word, "after"]
    replace(any_engine, table, pd.DataFrame({"n": [1, 2, 3], "v": words}))
    assert [row[1] for row in _stored(any_engine, table)] == words
    with any_engine.begin() as connection:
        connection.execute(text("DROP TABLE t"))
    alone = _made(any_engine, v=Text())  # here the word begins its line
    replace(any_engine, alone, pd.DataFrame({"v": words}))
    assert sorted(row[0] for row in _stored(any_engine, alone)) == sorted(words)


class _Whatever:
    def __repr__(self) -> str:
        return "whatever"


@pytest.mark.parametrize(
    ("kind", "column", "reason"),
    [
        (Text(), ["a", "b\0"], "row 2 .*NUL"),
        (Text(), pd.Series(["a", "\ud800"], dtype=object), "row 2 .*surrogate"),
        (Text(), ["a", 3], "row 2 .*not int"),
        (Text(), ["a", b"b"], "row 2 .*not bytes"),
        (Text(), ["a", ["b"]], "row 2 .*not list"),
        (Text(), ["a", {"b": 1}], "row 2 .*not dict"),
        (Text(), ["a", pd.Timestamp(0)], "row 2 .*not Timestamp"),
        (String(3), ["a", "four"], "row 2 .*4 characters, the column allows 3"),
        (Integer(), [1, True], "row 2 .*bool"),
        (Integer(), [1, 2**31], "row 2 .*32-bit"),
        (Integer(), [1, 1.5], "row 2 .*float"),
        (SmallInteger(), pd.array([1, 2**15], "Int64"), "row 2 .*16-bit"),
        (Integer(), pd.array([1.0, 0.5], "Float64"), "row 2 "),
        (Double(), [0.5, "1"], "row 2 .*not str"),
        (Numeric(), [0.5, True], "row 2 .*bool"),
        (Boolean(), [True, 1], "row 2 .*not int"),
        (DateTime(timezone=True), [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)], "row 2 .*no time zone"),
        (DateTime(timezone=True), pd.to_datetime(["2024-01-01"]), "row 1 .*no time zone"),
        (DateTime(timezone=False), pd.to_datetime(["2024-01-01"], utc=True), "row 1 .*has a time zone"),
        (ARRAY(Text), [["a"], "b"], "row 2 .*not str"),
        (ARRAY(Text), [["a"], ["b\0"]], "row 2 .*NUL"),
        (JSONB(), [{}, {"a": float("nan")}], "row 2 .*NaN"),
        (JSONB(), [{}, {"a": _Whatever()}], "row 2 .*not JSON serializable"),
    ],
)
def test_a_value_that_cannot_be_stored_is_named_by_row_and_column(
    engine: Engine, kind: TypeEngine[Any], column: Any, reason: str
) -> None:
    table = _made(engine, id=Text(), v=kind)
    ids = [f"id-{number}" for number in range(1, len(column) + 1)]
    replace(engine, table, [{"id": "old", "v": None}])
    with pytest.raises(BadValue, match=reason) as raised:
        publish(engine, table, pd.DataFrame({"id": ids, "v": column}), key=["id"])
    assert "column 'v' cannot take this value" in str(raised.value)
    assert f"(id='id-{str(raised.value).split('row ')[1][0]}')" in str(raised.value)
    assert [row[0] for row in _stored(engine, table)] == ["old"]


def test_a_bad_value_far_down_is_named_by_its_place(engine: Engine) -> None:
    table = _made(engine, id=BigInteger(), v=Text())
    words = [f"word {number}" for number in range(30_000)]
    words[23_456] = "bad\0"
    frame = pd.DataFrame({"id": range(30_000), "v": words})
    with pytest.raises(BadValue, match=r"row 23457 \(id='23456'\): column 'v' .*NUL"):
        publish(engine, table, frame, key=["id"])
    batches = (frame.iloc[start : start + 7_000] for start in range(0, 30_000, 7_000))
    with pytest.raises(BadValue, match=r"row 23457 \(id='23456'\)"):
        publish(engine, table, batches, key=["id"])
    with pytest.raises(BadValue, match=r"row 23457 \(id='23456'\)"):
        publish(engine, table, pa.Table.from_pandas(frame), key=["id"])


def test_columns_of_another_type_are_all_reported_before_anything_is_sent(engine: Engine) -> None:
    table = _made(engine, a=Integer(), b=Text(), c=DateTime(timezone=True), d=Boolean(), e=ARRAY(Text), f=Integer())
    frame = pd.DataFrame({"a": ["1"], "b": [1], "c": [1.5], "d": [1], "e": ["x"], "f": [float("nan")]})
    for data in (frame, pa.Table.from_pandas(frame)):
        with pytest.raises(SchemaMismatch, match=r"'a' is INTEGER, and text .*'b' .*'c' .*'d' .*'e' ") as raised:
            replace(engine, table, data)
        assert "'f'" not in str(raised.value)
    assert _stored(engine, table) == []


def test_batches_of_every_kind_are_read_once_and_in_turn(engine: Engine) -> None:
    table = _made(engine, n=BigInteger(), v=Text())
    frame = pd.DataFrame({"n": [1, 2], "v": ["a", None]})
    arrow = pa.table({"v": ["c"], "n": [3]})

    def mixed() -> Iterator[Any]:
        yield frame
        yield arrow
        yield frame.iloc[:0]
        yield arrow.to_batches()[0]

    replace(engine, table, mixed())
    assert sorted(_stored(engine, table)) == [("1", "a"), ("2", None), ("3", "c"), ("3", "c")]
    assert replace(engine, table, arrow.to_reader(), max_shrink=1).rows == 1
    with pytest.raises(BadValue, match=r"the batch that begins with row 3 lacks 'v', has an unexpected 'w'"):
        replace(engine, table, iter([frame, frame.rename(columns={"v": "w"})]))
    with pytest.raises(TypeError, match="not dict"):
        replace(engine, table, iter([frame, {"n": 1}]))
    for useless in ("rows", {"n": 1}, 3, [1]):
        with pytest.raises(TypeError):
            replace(engine, table, useless)  # type: ignore[arg-type]
    with pytest.raises(SchemaMismatch, match="more than one"):
        replace(engine, table, pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["n", "n"]))


def test_whoever_makes_the_batches_may_read_over_the_same_connection(engine: Engine) -> None:
    table = _made(engine, id=BigInteger(), v=Text())
    with engine.connect() as connection:

        def batches() -> Iterator[pd.DataFrame]:
            for start in range(0, 6_000, 2_000):  # more than a first piece
                query = text(f"SELECT n AS id, 'word ' || n AS v FROM generate_series({start + 1}, {start + 2_000}) n")
                yield pd.DataFrame(connection.execute(query).mappings().all())

        with connection.begin():
            assert publish(connection, table, batches(), key=["id"]).inserted == 6_000
    assert len(_stored(engine, table)) == 6_000


def test_no_rows_are_refused_whatever_should_have_held_them(engine: Engine) -> None:
    table = _made(engine, n=BigInteger())
    replace(engine, table, [{"n": 1}])
    for nothing in (pd.DataFrame({"n": []}), pa.table({"n": pa.array([], pa.int64())}), iter(()), []):
        with pytest.raises(RdsError, match="allow_empty"):
            replace(engine, table, nothing)
    assert len(_stored(engine, table)) == 1


def test_nan_means_null_in_a_frame_and_nan_in_arrow(engine: Engine) -> None:
    table = _made(engine, v=Double())
    nan = pa.table({"v": [float("nan")]})
    for rows, expected in ((nan.to_pandas(), None), (nan, "NaN"), ([{"v": float("nan")}], "NaN")):
        replace(engine, table, rows)
        assert _stored(engine, table) == [(expected,)]
    replace(engine, table, nan.to_pandas(), nan_is_null=False)
    assert _stored(engine, table) == [("NaN",)]


def test_each_batch_says_what_its_nan_means(engine: Engine) -> None:
    table = _made(engine, n=BigInteger(), v=Double())
    frame, arrow = pd.DataFrame({"n": [1], "v": [float("nan")]}), pa.table({"n": [2], "v": [float("nan")]})
    for batches in ([frame, arrow], [arrow, frame]):
        replace(engine, table, iter(batches))
        assert _stored(engine, table) == [("1", None), ("2", "NaN")]
    for told, stored in ((True, None), (False, "NaN")):
        replace(engine, table, iter([arrow, frame]), nan_is_null=told)
        assert _stored(engine, table) == [("1", stored), ("2", stored)]


@pytest.mark.parametrize(
    "values",
    [[1, True], [2**62 + 1, 0.5], ["a", b"b"], [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)], [time(1), 2]],
)
def test_where_arrow_would_have_to_guess_each_value_is_looked_at(values: list[Any]) -> None:
    for kind in (Text(), BigInteger(), Numeric(), DateTime(timezone=True)):
        array = from_series(pd.Series(values, dtype=object), kind, nan_is_null=True)
        assert array is None or cells(array, kind, nan_is_null=True) is None


@pytest.mark.parametrize("kind", ["frames", "arrow"])
def test_memory_stays_flat_for_batches(engine: Engine, kind: str) -> None:
    table = Table("wide", MetaData(), Column("id", BigInteger, primary_key=True), Column("filler", Text))
    table.metadata.create_all(engine)

    def peak(rows: int) -> int:
        def batches() -> Iterator[Any]:
            for start in range(0, rows, 1_000):
                frame = pd.DataFrame({"id": range(start, start + 1_000), "filler": "x" * 1_000})
                yield frame if kind == "frames" else pa.Table.from_pandas(frame)

        before = pa.total_allocated_bytes()
        tracemalloc.start()
        publish(engine, table, batches(), key=["id"])
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 4_000_000
        return top

    peak(1_000)
    small, large = peak(5_000), peak(40_000)
    assert large < small + 4_000_000
