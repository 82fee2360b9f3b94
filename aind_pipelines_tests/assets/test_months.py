"""A run over many months tells each month's numbers in that month, and its own under names that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from sqlalchemy import insert

from aind_pipelines.lab.flow import _totals
from aind_pipelines.partitions import months
from aind_pipelines.tables.schema import data_assets
from aind_pipelines_tests.moto import fill

if TYPE_CHECKING:
    from aind_pipelines_tests.house import House

MARCH, APRIL, MAY = "2024-03-01", "2024-04-01", "2024-05-01"


def told(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    """The metadata of each partition's materialization."""
    return {
        str(event.partition): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key == dg.AssetKey(asset)
    }


def every_month(house: House) -> dg.ExecuteInProcessResult:
    keys = months.get_partition_keys()
    return house.run(
        ["session_assets", "deposited_resources"],
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
    )


@pytest.mark.slow
def test_each_month_tells_its_own_numbers_and_the_run_its_own(house: House) -> None:
    names = [f"ecephys_676123_2024-0{month}-0{day}_10-00-00" for month, day in ((3, 1), (3, 2), (4, 1))]
    empty = "ecephys_676123_2024-04-02_10-00-00"
    fill(house.s3, "aind-open-data", *(f"{name}/ecephys/{house.archive_name}" for name in names))
    with house.engine.begin() as connection:
        connection.execute(
            insert(data_assets).values(
                [
                    {"id": name, "record_version": "v1", "name": name, "location": f"s3://aind-open-data/{name}"}
                    for name in (*names, empty, "676123 without a session")
                ]
            )
        )
    house.run(["code_ocean_index", "s3_index"])
    result = every_month(house)

    sessions = told(result, "session_assets")
    assert sorted(sessions) == months.get_partition_keys()
    numbers = ("dagster/row_count", "changed", "findings")
    assert {key: tuple(sessions[key][name] for name in numbers) for key in (MARCH, APRIL, MAY)} == {
        MARCH: (2, 2, 2),
        APRIL: (2, 2, 3),
        MAY: (0, 0, 0),
    }
    assert "raw_data_missing" in sessions[APRIL]["findings by code"]
    assert "raw_data_missing" not in sessions[MARCH]["findings by code"]
    assert "findings by code" not in sessions[MAY]
    assert sessions[MAY]["changed in this run"] == 4
    assert sessions[MAY]["findings in this run"] == 6
    assert sessions[MAY]["findings about names, of no month"] == 1
    assert sessions[MAY]["months in this run"] == len(sessions)
    assert sessions[MAY]["dagster/table_name"] == "public.session_assets"

    deposits = told(result, "deposited_resources")
    size = sum(len(f"{name}/ecephys/{house.archive_name}") for name in names)
    numbers = ("dagster/row_count", "changed", "restored", "findings", "bytes")
    assert {key: tuple(deposits[key][name] for name in numbers) for key in (MARCH, APRIL, MAY)} == {
        MARCH: (2, 2, 0, 0, size * 2 // 3),
        APRIL: (1, 1, 0, 0, size // 3),
        MAY: (0, 0, 0, 0, 0),
    }
    assert deposits[MAY]["bytes in this run"] == size
    assert (_totals(sessions[MAY]), _totals(deposits[MAY])) == (
        {"changed": 4, "findings": 6, "bytes": None},
        {"changed": 3, "findings": 0, "bytes": size},
    )
    again = every_month(house)
    for asset in ("session_assets", "deposited_resources"):
        assert {metadata["changed"] for metadata in told(again, asset).values()} == {0}
