"""A table made from a DataFrame or an Arrow table: which types its columns get, and that it holds what was given."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Engine, insert

from aind_pipelines.clients.rds import BadValue, Client, SchemaMismatch
from aind_pipelines.clients.rds.export import export_table
from aind_pipelines.tables.schema import data_assets

_MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
_NAIVE = _MOMENT.replace(tzinfo=None)
_DAY = date(2024, 2, 29)
_ID = UUID(int=7)


def _types(client: Client, table: str) -> list[str]:
    query = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    return list(client.execute_query(query.replace("%s", f"'{table}'")).scalars())


def _objects(*values: Any) -> "pd.Series[Any]":
    return pd.Series(list(values), dtype=object)


def _arrow(values: list[Any], kind: Any) -> "pd.Series[Any]":
    return pd.Series(pd.array(values, dtype=pd.ArrowDtype(kind)))


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (_objects(np.array(["a", None], dtype=object), None), "text[]", [["a", None], None]),
        (_objects(np.array(["a"]), np.array([], dtype=object)), "text[]", [["a"], []]),
        (_objects(np.array([1, 2**60]), np.array([])), "bigint[]", [[1, 2**60], []]),
        (_objects(np.array([1.0, np.nan]), [0.5, None]), "double precision[]", [[1.0, None], [0.5, None]]),
        (_objects(np.array([True]), None), "boolean[]", [[True], None]),
        (_objects(np.array([_NAIVE], dtype="M8[ns]")), "timestamp without time zone[]", [[_NAIVE]]),
        (_objects(np.array([_DAY], dtype="M8[D]")), "date[]", [[_DAY]]),
        (_objects(np.array([[1, 2], [3, 4]])), "jsonb", [[[1, 2], [3, 4]]]),
        (_objects([1, 2], None, [None]), "bigint[]", [[1, 2], None, [None]]),
        (_objects([1, 0.5], [2]), "double precision[]", [[1.0, 0.5], [2.0]]),
        (_objects([np.int32(1), np.nan]), "bigint[]", [[1, None]]),
        (_objects((True, None), []), "boolean[]", [[True, None], []]),
        (_objects([_DAY, None]), "date[]", [[_DAY, None]]),
        (_objects([_MOMENT, pd.NaT, pd.Timestamp(_MOMENT)]), "timestamp with time zone[]", [[_MOMENT, None, _MOMENT]]),
        (_objects([_ID]), "uuid[]", [[_ID]]),
        (_objects([Decimal("1.10"), 2]), "numeric[]", [[Decimal("1.10"), Decimal(2)]]),
        (_objects([b"a\0"], None), "bytea[]", [[b"a\0"], None]),
        (_objects([], []), "text[]", [[], []]),
        (_objects([1, "a"]), "jsonb", [[1, "a"]]),
        (_objects([[1], []], None), "jsonb", [[[1], []], None]),
        (_objects([1], {"a": np.array([1, 2]), "b": np.float32(0.5)}), "jsonb", [[1], {"a": [1, 2], "b": 0.5}]),
        (_objects(_ID, None), "uuid", [_ID, None]),
        (_objects(time(1, 2, 3, 4), None), "time without time zone", [time(1, 2, 3, 4), None]),
        (_objects(time(1, 2, tzinfo=UTC)), "time with time zone", [time(1, 2, tzinfo=UTC)]),
        (_objects(timedelta(days=1, seconds=2)), "interval", [timedelta(days=1, seconds=2)]),
        (_objects(b"a\0b", None, bytearray(b"")), "bytea", [b"a\0b", None, b""]),
        (_objects(np.int64(2**60), None, 3), "bigint", [2**60, None, 3]),
        (_objects(np.bool_(1), None), "boolean", [True, None]),
        (_objects(np.float32(0.5), np.float32("nan"), 1), "double precision", [0.5, None, 1.0]),
        (_objects(np.datetime64("2024-01-02T03:04:05.678901"), None), "timestamp without time zone", [_NAIVE, None]),
        (_arrow([time(1, 2), None], pa.time64("us")), "time without time zone", [time(1, 2), None]),
        (_arrow([b"a", None], pa.binary()), "bytea", [b"a", None]),
        (_arrow([b"a", None], pa.binary_view()), "bytea", [b"a", None]),
        (_arrow([[0.5, None], None], pa.list_(pa.float64())), "double precision[]", [[0.5, None], None]),
        (_arrow([[_MOMENT]], pa.list_(pa.timestamp("us", "UTC"))), "timestamp with time zone[]", [[_MOMENT]]),
        (_arrow([{"a": 1}, None], pa.struct({"a": pa.int64()})), "jsonb", [{"a": 1}, None]),
        (_arrow([Decimal("1.10"), None], pa.decimal128(6, 2)), "numeric(6,2)", [Decimal("1.10"), None]),
        (pa.array([b"a", None], pa.binary_view()), "bytea", [b"a", None]),
        (pa.array([_ID.bytes, None], pa.uuid()), "uuid", [_ID, None]),
        (pa.array([[1, None], None, []], pa.list_view(pa.int64())), "bigint[]", [[1, None], None, []]),
        (pa.array([["a"], None], pa.large_list_view(pa.string())), "text[]", [["a"], None]),
        (pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), "bigint[]", [[1, 2], None]),
        (pa.array([[0.5, float("nan")]], pa.large_list(pa.float64())), "double precision[]", [[0.5, float("nan")]]),
        (pa.array([[[1]], None], pa.list_(pa.list_(pa.int64()))), "jsonb", [[[1]], None]),
    ],
)  # fmt: skip
def test_a_column_of_one_kind_gets_its_type_and_keeps_its_values(
    client: Client, column: Any, kind: str, expected: list[Any]
) -> None:
    data = pd.DataFrame({"v": column}) if isinstance(column, pd.Series) else pa.table({"v": column})
    client.overwrite_table_with_df(data, "made")
    assert _types(client, "made") == [kind]
    assert str(client.execute_query("SELECT v FROM made").scalars().all()) == str(expected)
    assert not client.overwrite_table_with_df(data, "made").changed


@pytest.mark.parametrize(
    ("column", "error", "reason"),
    [
        (_objects([1], [_MOMENT]), BadValue, "row 2: column 'v' .*datetime is not JSON serializable"),
        (_objects([[_MOMENT]]), BadValue, "row 1: column 'v' .*datetime is not JSON serializable"),
        (_objects({"a": object()}), BadValue, "row 1: column 'v' .*object is not JSON serializable"),
        (_objects({"a": np.array([np.nan])}), BadValue, "row 1: column 'v' .*NaN"),
        (_objects([1], 1), SchemaMismatch, r"'v' mixes kinds of values \(list, whole\)"),
        (_objects(_ID, "a"), SchemaMismatch, r"'v' mixes kinds of values \(text, uuid\)"),
        (_objects(_MOMENT, _NAIVE), SchemaMismatch, r"mixes kinds of values \(local, zoned\)"),
        (_objects(1j), SchemaMismatch, "'v' holds complex, for which no type is known.*`dtype`"),
    ],
)
def test_a_column_that_no_type_takes_is_named(
    client: Client, column: Any, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        client.overwrite_table_with_df(pd.DataFrame({"v": column}), "made")
    with pytest.raises(SchemaMismatch):
        client.read_table("made")


def test_a_json_value_that_is_missing_is_null(client: Client) -> None:
    left, right = pd.DataFrame({"id": [1, 2]}), pd.DataFrame({"id": [1], "j": [{"a": 1}]})
    merged = left.merge(right, how="left")
    client.execute_query("CREATE TABLE plain (id bigint, j json)")
    for table in ("made", "plain", "made"):
        client.overwrite_table_with_df(merged, table)
        query = f"SELECT j::text, j IS NULL FROM {table} ORDER BY id"
        assert client.execute_query(query).fetchall() == [(
            '{"a": 1}' if table == "made" else '{"a":1}', False
        ), (None, True)]  # fmt: skip
    client.append_table(pd.DataFrame({"id": [3, 4], "j": [0.5, np.nan]}), "made")
    assert client.execute_query("SELECT j FROM made ORDER BY id OFFSET 2").scalars().all() == [0.5, None]


def test_nan_in_the_lists_of_a_frame_is_null_too(client: Client) -> None:
    client.execute_query("CREATE TABLE t (whole bigint[], part double precision[], word text[])")
    lists = {"whole": [np.array([2.0, np.nan])], "part": [[0.5, np.nan]], "word": [["a", np.nan]]}
    client.overwrite_table_with_df(pd.DataFrame(lists), "t")
    assert client.execute_query("SELECT * FROM t").fetchall() == [([2, None], [0.5, None], ["a", None])]
    client.overwrite_table_with_df(pa.table({"part": [[0.5, float("nan")]]}), "arrow")
    assert client.execute_query("SELECT part::text FROM arrow").scalar_one() == "{0.5,NaN}"


@pytest.mark.parametrize("backend", [None, "numpy_nullable", "pyarrow"])
def test_an_exported_table_can_be_read_back_into_a_new_one(
    client: Client, engine: Engine, tmp_path: Path, backend: Any
) -> None:
    data_assets.create(engine)
    row = {
        "id": "a",
        "record_version": "v2",
        "modalities": ["ecephys", None],
        "created": _MOMENT,
        "code_ocean_ids": [],
    }
    with engine.begin() as connection:
        connection.execute(insert(data_assets), [row, row | {"id": "b", "modalities": None}])
    export_table(engine, data_assets, str(tmp_path))
    chosen = {} if backend is None else {"dtype_backend": backend}
    client.overwrite_table_with_df(pd.read_parquet(tmp_path / "data_assets.parquet", **chosen), "copied")
    assert _types(client, "copied") == _types(client, "data_assets")
    one, other = (client.execute_query(f"SELECT * FROM {name} ORDER BY id") for name in ("data_assets", "copied"))
    assert one.fetchall() == other.fetchall()
