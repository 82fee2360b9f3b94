"""Searches find what they ask for, and their pages hold every item once."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.lab.code_ocean.search import BadSearch, Item, Searcher


def asset(key: str, **values: Any) -> Item:
    return {"id": key, "name": key, "created": 1, "type": "dataset", "state": "ready", **values}


ASSETS = [
    asset("1", name="ecephys_676909_2023-12-13_13-43-40", tags=["raw", "ecephys"], created=3, size=10),
    asset("2", name="ecephys_676909_2023-12-13_13-43-40_sorted_2024-03-01_16-02-45", type="result", created=5),
    asset("3", name="My RNA-seq Data", tags=["genomics"], description="two Words here", created=4, size=30),
    asset("4", name="behavior_717121_2024-06-16_11-39-34", custom_metadata={"Subject ID": "717121", "age": 9}),
    asset("5", name="old", archived=True),
    asset("6", name="ext", source_bucket={"origin": "aws", "bucket": "b", "external": True}, favorite=True),
    asset("7", name="whole", type="combined", contained_data_assets=[{"id": "1"}], shared=True),
    asset("8", name="made", type="result", provenance={"commit": "AB12", "run_script": "code/run"}),
]


def ids(**parameters: Any) -> list[str]:
    return Searcher({item["id"]: item for item in ASSETS}).search(parameters).ids


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (None, ["1", "2", "3", "4", "6", "7", "8"]),
        ("name:ecephys_676909_2023-", ["1", "2"]),
        ("name:ECEPHYS_676909", ["1", "2"]),
        ("name:ecephys_676909_2023-12-13_13-43-40", []),
        ('name:"ecephys_676909_2023-12-13_13-43-40"', ["1"]),
        ("name:rna-seq", ["3"]),
        ('name:"rna-seq data"', ["3"]),
        ('name:"seq data"', []),
        ("name:behavior name:my", ["3", "4"]),
        ("name:ecephys* ", []),
        ("name:ecephys tag:raw", ["1"]),
        ("tag:raw tag:genomics", ["1", "3"]),
        ("tag:Genomics", ["3"]),
        ("subject id:717121", ["4"]),
        ("subject id:7171", []),
        ("contained_data_id:1", ["7"]),
        ("commit_id:ab12", ["8"]),
        ("run_script:code/run", ["8"]),
        ("words", ["3"]),
        ('"two words"', ["3"]),
        ("genomics two", ["3"]),
        ("genomics nothing", []),
        ("unknown:1", []),
    ],
)
def test_queries_find_what_they_say(query: str | None, found: list[str]) -> None:
    assert ids(query=query) == found


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"type": "result"}, ["2", "8"]),
        ({"archived": True}, ["5"]),
        ({"origin": "external"}, ["6"]),
        ({"favorite": True}, ["6"]),
        ({"ownership": "shared"}, ["7"]),
        ({"filters": [{"key": "tags", "values": ["RAW", "genomics"]}]}, ["1", "3"]),
        ({"filters": [{"key": "subject id", "value": "717121", "exclude": None}]}, ["4"]),
        ({"filters": [{"key": "age", "range": {"min": 8, "max": None}}]}, ["4"]),
        ({"filters": [{"key": "age", "range": {"min": 10, "max": None}}]}, []),
        ({"filters": [{"key": "name", "values": ["old", "ext"], "exclude": True}], "type": "combined"}, ["7"]),
        ({"sort_field": "created", "sort_order": "desc", "limit": 3}, ["2", "3", "1"]),
        ({"sort_field": "name", "limit": 2}, ["4", "1"]),
        ({"sort_field": "size", "sort_order": "desc", "limit": 2}, ["3", "1"]),
        ({"offset": 5}, ["7", "8"]),
        ({"offset": 50}, []),
    ],
)
def test_parameters_narrow_and_order(parameters: dict[str, Any], found: list[str]) -> None:
    assert ids(**parameters) == found


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "10"},
        {"limit": True},
        {"offset": -1},
        {"query": 7},
        {"sort_field": "owner"},
        {"sort_order": "asc"},
        {"sort_field": "name", "sort_order": "up"},
        {"archived": "yes"},
        {"origin": "space"},
        {"ownership": "mine"},
        {"filters": [{}]},
        {"filters": {"key": "name"}},
        {"next_token": "nonsense"},
        {"next_token": 7},
        {"next_token": "WzEsMiwzXQ=="},
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(BadSearch):
        ids(**parameters)


@given(
    created=st.lists(st.integers(0, 3), max_size=30),
    limit=st.integers(1, 10),
    order=st.sampled_from(["asc", "desc", None]),
)
def test_pages_hold_every_item_once_and_in_order(created: list[int], limit: int, order: str | None) -> None:
    items = {str(n): asset(str(n), created=when) for n, when in enumerate(created)}
    searcher = Searcher(items)
    asked: dict[str, Any] = {"limit": limit}
    if order:
        asked |= {"sort_field": "created", "sort_order": order}
    found: list[str] = []
    while True:
        page = searcher.search(asked)
        found += page.ids
        if page.next_token is None:
            break
        assert len(page.ids) == limit
        asked["next_token"] = page.next_token
        asked["offset"] = 3  # ignored beside a token
    assert sorted(found) == sorted(items)
    if order:
        assert [items[key]["created"] for key in found] == sorted(created, reverse=order == "desc")


def test_a_token_goes_on_after_the_last_item_seen_although_items_came_and_went() -> None:
    items = {str(n): asset(str(n), created=n) for n in range(10)}
    asked: dict[str, Any] = {"sort_field": "created", "limit": 4}
    token = Searcher(items).search(asked).next_token
    changed = {key: item for key, item in items.items() if key != "1"} | {"new": asset("new", created=-1)}
    changed["newer"] = asset("newer", created=-1)
    page = Searcher(changed).search(asked | {"next_token": token})
    assert page.ids == ["4", "5", "6", "7"]
    with pytest.raises(BadSearch, match="next_token"):
        Searcher(changed).search({"limit": 4, "next_token": token})


def test_twenty_thousand_assets_are_found_by_name_and_paged_quickly() -> None:
    items = {str(n): asset(str(n), name=f"ecephys_{600000 + n}_2024-01-01_00-00-00", created=n) for n in range(20_000)}
    searcher = Searcher(items)
    start = time.process_time()
    for n in range(0, 20_000, 40):
        assert searcher.search({"query": f"name:ecephys_{600000 + n}_20"}).ids == [str(n)]
    assert time.process_time() - start < 2
    start = time.process_time()
    asked: dict[str, Any] = {"limit": 1000, "sort_field": "created"}
    pages = 0
    while (page := searcher.search(asked)).next_token:
        asked["next_token"] = page.next_token
        pages += 1
    assert pages == 19
    assert time.process_time() - start < 1
