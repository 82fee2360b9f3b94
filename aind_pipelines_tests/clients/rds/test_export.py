"""Export: the file has the table's rows and types, and the one before it stays until the new one is whole."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Integer,
    Interval,
    MetaData,
    Numeric,
    Table,
    Text,
    Time,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.rds import publish
from aind_pipelines.clients.rds.export import Exported, export_table
from aind_pipelines_tests.clients.servers import AwsServer

_ROW: dict[str, Any] = {
    "id": 1, "words": ["a", None], "share": float("nan"), "at": datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "day": date(2024, 2, 29), "clock": time(1, 2), "span": timedelta(days=1, microseconds=5),
    "exact": Decimal("1.10"), "any_exact": Decimal("1e30"), "body": {"ü": [1]}, "uuid": UUID(int=5), "n": 3,
}  # fmt: skip


@pytest.fixture
def table(engine: Engine) -> Table:
    made = Table(
        "Every kind", MetaData(),
        Column("id", BigInteger, primary_key=True, comment="number"),
        Column("words", ARRAY(Text)), Column("share", Double), Column("at", DateTime(timezone=True)),
        Column("day", Date), Column("clock", Time), Column("span", Interval), Column("exact", Numeric(10, 2)),
        Column("any_exact", Numeric), Column("body", JSONB), Column("uuid", Uuid), Column("n", Integer),
        comment="all of them",
    )  # fmt: skip
    made.metadata.create_all(engine)
    publish(engine, made, [_ROW, {**dict.fromkeys(_ROW), "id": 2}], key=["id"])
    return made


def test_rows_and_types_are_kept_on_disk(engine: Engine, table: Table, tmp_path: Path) -> None:
    done = export_table(engine, table, str(tmp_path / "new" / "folder"))
    file = tmp_path / "new" / "folder" / "Every kind.parquet"
    assert done == Exported(str(file), 2, file.stat().st_size)
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    read = pq.read_table(file)
    assert [str(field.type) for field in read.schema] == [
        "int64", "list<element: string>", "double", "timestamp[us, tz=UTC]", "date32[day]", "time64[us]",
        "duration[us]", "decimal128(10, 2)", "string", "string", "string", "int32",
    ]  # fmt: skip
    assert read.schema.field("id").metadata[b"comment"] == b"number"
    assert read.schema.metadata[b"comment"] == b"all of them"
    first, second = sorted(read.to_pylist(), key=lambda row: row["id"])
    assert str(first.pop("share")) == "nan"
    expected = {**_ROW, "any_exact": "1" + "0" * 30, "body": '{"ü": [1]}', "uuid": str(_ROW["uuid"])}
    del expected["share"]
    assert first == expected
    assert set(second.values()) == {2, None}


def test_what_arrow_has_no_type_for_is_what_postgres_writes(engine: Engine, tmp_path: Path) -> None:
    made = Table(
        "texts", MetaData(),
        Column("number", JSONB), Column("spelt", JSON), Column("many", ARRAY(JSONB)),
        Column("grid", ARRAY(Integer, dimensions=2)),
        Column("clock", Time(timezone=True)), Column("nothing", JSONB), Column("uuids", ARRAY(Uuid)),
    )  # fmt: skip
    made.metadata.create_all(engine)
    values = (
        '{"a": 12345678901234567890.123456789}', '{"a":  1.10}', '{"[1]"}', "{{1,2},{3,4}}", "01:02:00+05:30", "null",
        f"{{{UUID(int=5)}}}",
    )  # fmt: skip
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO texts VALUES (%s, %s, %s, %s, %s, %s, %s)", values)
    export_table(engine, made, str(tmp_path))
    [row] = pq.read_table(tmp_path / "texts.parquet").to_pylist()
    assert tuple(row.values()) == (*values[:2], ["[1]"], *values[3:6], [str(UUID(int=5))])


def test_s3_gets_it_whole_and_an_earlier_file_stays_when_the_next_fails(
    engine: Engine, table: Table, aws_environment: AwsServer, tmp_path: Path
) -> None:
    s3 = aws_environment.client("s3")
    s3.create_bucket(Bucket="tables", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    done = export_table(engine, table, "s3://tables/for/notebooks")
    assert (done.location, done.rows) == ("s3://tables/for/notebooks/Every kind.parquet", 2)
    with engine.begin() as connection:  # NaN is no decimal of Arrow's
        connection.execute(text("UPDATE \"Every kind\" SET exact = 'NaN' WHERE id = 2"))
    with pytest.raises(ServiceError, match="does not fit its column"):
        export_table(engine, table, "s3://tables/for/notebooks")
    listed = s3.list_objects_v2(Bucket="tables")["Contents"]
    assert [item["Key"] for item in listed] == ["for/notebooks/Every kind.parquet"]
    s3.download_file("tables", listed[0]["Key"], str(tmp_path / "file"))
    assert pq.read_table(tmp_path / "file").num_rows == 2
    with pytest.raises(ServiceError, match=r"s3://no-such-bucket/.*cannot be written"):
        export_table(engine, table, "s3://no-such-bucket/x")


def test_a_place_that_cannot_be_written_is_named(engine: Engine, table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"file/Every kind\.parquet cannot be written"):
        export_table(engine, table, str(tmp_path / "file"))
    with pytest.raises(ServiceError, match="gone"):
        export_table(engine, Table("gone", MetaData(), Column("id", Integer)), str(tmp_path))
    assert list(tmp_path.glob("*gone*")) == []


def test_memory_does_not_grow_with_the_rows(engine: Engine, tmp_path: Path) -> None:
    long = Table("long", MetaData(), Column("n", Integer), Column("filler", Text))
    long.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO long SELECT n, repeat(n::text, 100) FROM generate_series(1, 40000) n"))
    before = pa.total_allocated_bytes()
    assert export_table(engine, long, str(tmp_path)).rows == 40_000
    assert pa.total_allocated_bytes() - before < 2_000_000
    assert pq.ParquetFile(tmp_path / "long.parquet").metadata.num_row_groups == 8
