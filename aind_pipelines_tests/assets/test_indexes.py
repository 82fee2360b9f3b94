"""The indexes as assets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from aind_pipelines.definitions import defs
from aind_pipelines.tables.schema import code_ocean_assets, index_refreshes, s3_prefixes
from aind_pipelines_tests.moto import fill

if TYPE_CHECKING:
    from aind_pipelines_tests.house import House

RAW = "ecephys_676909_2023-12-13_13-43-40"


def asset(id_: str, name: str, **values: Any) -> dict[str, Any]:
    required = {"mount": name, "last_used": 0, "owner": "o", "state": "ready", "type": "dataset", "created": 1}
    return {"id": id_, "name": name, **required, **values}


def test_the_code_ocean_index_holds_archived_assets_too_and_counts_its_requests(house: House) -> None:
    house.has_in_code_ocean([asset("here", RAW), asset("away", RAW, archived=True)])
    result = house.run(["code_ocean_index"])
    with house.engine.connect() as connection:
        marks = {row.id: row.body.get("archived") for row in connection.execute(select(code_ocean_assets))}
        requests = connection.scalar(select(index_refreshes.c.requests))
    assert marks == {"here": None, "away": True}
    (event,) = result.get_asset_materialization_events()
    assert requests == event.materialization.metadata["requests"].value == 2
    assert event.materialization.metadata["dagster/row_count"].value == 2


def test_the_s3_index_comes_after_code_oceans_which_says_what_is_raw(house: House) -> None:
    graph = defs.resolve_asset_graph()
    (key,) = [key for key in graph.materializable_asset_keys if key.to_user_string() == "s3_index"]
    assert "code_ocean_index" in {parent.to_user_string() for parent in graph.get(key).parent_keys}
    house.has_in_code_ocean([asset("16d46411-540a-4122-b47f-8cb2a15d593a", RAW)])
    fill(house.s3, "aind-open-data", "16d46411-540a-4122-b47f-8cb2a15d593a/ecephys/x")
    house.run(["s3_index", "code_ocean_index"])
    with house.engine.connect() as connection:
        assert [list(row.children) for row in connection.execute(select(s3_prefixes))] == [["ecephys"]]
