"""One option of a table's asset leaves the table as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from sqlalchemy import insert, select

from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.normalise import normalise
from aind_pipelines.tables.schema import data_assets, docdb_records
from aind_pipelines_tests.records.shapes import SHAPES

if TYPE_CHECKING:
    from aind_pipelines_tests.house import House


def test_the_published_table_is_left_where_the_run_says(house: House, tmp_path: Path) -> None:
    with house.engine.begin() as connection:
        for name, record in SHAPES.items():
            found = normalise(record)
            row = {"record_version": found.record_version, "id": name, "source": "metadata_index.data_assets"}
            connection.execute(insert(docdb_records).values(**row, content_hash="-", body=canonicalise(record).body))
    house.run(["data_assets"], checks=False)
    assert list(tmp_path.glob("**/*.parquet")) == []
    config = {"ops": {"analysts_tables": {"config": {"export_to": str(tmp_path / "tables")}}}}
    result = house.run(["data_assets"], checks=False, run_config=config)
    (event,) = result.get_asset_materialization_events()
    file = tmp_path / "tables" / "data_assets.parquet"
    assert event.materialization.metadata["parquet"].value == str(file)
    assert event.materialization.metadata["parquet rows"].value == len(SHAPES)
    with house.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(select(data_assets)).mappings()]
    by_id = {row["id"]: row for row in rows}
    read = {row["id"]: row for row in pq.read_table(file).to_pylist()}
    assert {name: row["modalities"] for name, row in read.items()} == {
        name: row["modalities"] for name, row in by_id.items()
    }
    assert {name: row["created"] for name, row in read.items()} == {
        name: row["created"] for name, row in by_id.items()
    }
