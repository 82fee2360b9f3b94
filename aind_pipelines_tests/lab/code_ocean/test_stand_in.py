"""The published SDK, and our client, against the stand-in as a process."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from codeocean import CodeOcean
from codeocean.capsule import CapsuleSearchParams
from codeocean.components import EveryoneRole, Permissions, SearchFilter, SortOrder
from codeocean.computation import Computation, ComputationEndStatus, ComputationState, DataAssetsRunParam, RunParams
from codeocean.data_asset import (
    AWSS3Source,
    ComputationSource,
    DataAssetAttachParams,
    DataAssetParams,
    DataAssetSearchParams,
    DataAssetSortBy,
    DataAssetState,
    DataAssetType,
    DataAssetUpdateParams,
    Source,
)
from codeocean.error import Error

from aind_pipelines.clients.code_ocean import get_client, iter_data_assets
from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable
from aind_pipelines_tests.services.processes import answers, free_port, module, wait_for

STAND_IN = "aind_pipelines.lab.code_ocean"
TOKEN = "cop_lab_token"
CAPSULE = "11111111-2222-3333-4444-555555555555"


def asset(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"{number:08}-0000-0000-0000-000000000000",
        "created": 1_700_000_000 + number,
        "name": f"ecephys_{600000 + number}_2023-12-13_13-43-40",
        "mount": f"ecephys_{600000 + number}",
        "last_used": 0,
        "owner": "someone",
        "state": "ready",
        "type": "dataset",
        "tags": ["raw"],
        "source_bucket": {"origin": "aws", "bucket": "b", "prefix": f"p{number}", "external": True},
        **values,
    }


def seed(assets: int = 5) -> dict[str, Any]:
    capsule = {"id": CAPSULE, "created": 1, "name": "analysis", "status": "non_release", "owner": "o", "slug": "1"}
    return {
        "data_assets": [asset(number) for number in range(assets)],
        "capsules": [capsule],
        "pipelines": [capsule | {"id": "pipe", "name": "pipeline"}],
        "computations": [],
        "note": "of the seeder",
    }


class Running:
    def __init__(self, port: int, state: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.state = state
        self.sdk = CodeOcean(domain=self.url, token=TOKEN)
        self.client = get_client(self.url, TOKEN, retries=1, backoff=0.01)

    def reset(self, content: dict[str, Any]) -> None:
        staged = self.state.with_suffix(".new")
        staged.write_text(json.dumps(content))
        staged.replace(self.state)

    def stored(self, kind: str = "data_assets") -> dict[str, dict[str, Any]]:
        return {item["id"]: item for item in json.loads(self.state.read_text()).get(kind, [])}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port = free_port()
    state = tmp_path_factory.mktemp("code ocean") / "state" / "code_ocean.json"
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--state", str(state), "--step-seconds", "0.3"]
    with module(STAND_IN, *arguments, env={"CODE_OCEAN_API_TOKEN": TOKEN}) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/healthcheck"), "the start of Code Ocean", child)
        running = Running(port, state)
        assert list(iter_data_assets(running.client)) == []  # no state file yet
        state.parent.mkdir()
        yield running


@pytest.fixture
def lab(process: Running) -> Running:
    process.reset(seed())
    return process


def until(condition: Callable[[], Any], what: str) -> Any:
    wait_for(lambda: bool(condition()), what, seconds=5)
    return condition()


def test_the_sdk_gets_and_searches_data_assets(lab: Running) -> None:
    one = lab.sdk.data_assets.get_data_asset(asset(3)["id"])
    assert (one.name, one.state, one.source_bucket.bucket) == (asset(3)["name"], DataAssetState.Ready, "b")
    found = lab.sdk.data_assets.search_data_assets(
        DataAssetSearchParams(
            query="name:ecephys_60000",
            limit=2,
            sort_field=DataAssetSortBy.Created,
            sort_order=SortOrder.Descending,
            type=DataAssetType.Dataset,
            filters=[SearchFilter(key="tags", value="raw")],
        )
    )
    assert [each.id for each in found.results] == [asset(4)["id"], asset(3)["id"]]
    assert found.has_more
    every = lab.sdk.data_assets.search_data_assets_iterator(DataAssetSearchParams(limit=2))
    assert sorted(each.id for each in every) == sorted(asset(n)["id"] for n in range(5))


def test_a_wrong_or_missing_token_is_a_401_for_the_sdk_and_a_refusal_for_us(lab: Running) -> None:
    with pytest.raises(Error, match="Unauthorized") as caught:
        CodeOcean(domain=lab.url, token="cop_wrong").data_assets.get_data_asset(asset(1)["id"])
    assert caught.value.status_code == 401
    with pytest.raises(AccessRefused, match=r"Code Ocean: POST .*data_assets/search answered 401") as refused:
        list(iter_data_assets(get_client(lab.url, "cop_wrong")))
    assert "cop_wrong" not in str(refused.value)
    bare = requests.get(f"{lab.url}/api/v1/data_assets/{asset(1)['id']}", timeout=5)
    password = requests.get(f"{lab.url}/api/v1/data_assets/{asset(1)['id']}", auth=(TOKEN, "x"), timeout=5)
    assert (bare.status_code, password.status_code) == (401, 401)


def test_what_does_not_exist_is_a_404_with_a_message(lab: Running) -> None:
    for ask in (
        lambda: lab.sdk.data_assets.get_data_asset("none"),
        lambda: lab.sdk.data_assets.delete_data_asset("none"),
        lambda: lab.sdk.capsules.list_computations("none"),
        lambda: lab.sdk.computations.get_computation("none"),
    ):
        with pytest.raises(Error, match="none not found") as caught:
            ask()
        assert caught.value.status_code == 404
    with pytest.raises(Error) as caught:
        lab.sdk.data_assets.get_data_asset_file_urls(asset(1)["id"], "a/b")
    assert caught.value.status_code == 404


def test_archived_assets_leave_the_search_and_come_back(lab: Running) -> None:
    key = asset(2)["id"]
    lab.sdk.data_assets.archive_data_asset(key, archive=True)
    assert key not in {each["id"] for each in iter_data_assets(lab.client)}
    assert [each["id"] for each in iter_data_assets(lab.client, parameters={"archived": True})] == [key]
    assert lab.stored()[key]["archived"] is True
    assert "archived" not in lab.sdk.session.get(f"data_assets/{key}").json()
    lab.sdk.data_assets.archive_data_asset(key, archive=False)
    assert key in {each["id"] for each in iter_data_assets(lab.client)}


def test_updates_deletes_and_permissions_are_kept_in_the_file(lab: Running) -> None:
    key = asset(1)["id"]
    updated = lab.sdk.data_assets.update_metadata(
        key, DataAssetUpdateParams(tags=["new"], custom_metadata={"subject id": "731015"})
    )
    assert (updated.tags, updated.name) == (["new"], asset(1)["name"])
    assert lab.stored()[key]["tags"] == ["new"]
    found = lab.sdk.data_assets.search_data_assets(DataAssetSearchParams(query="subject id:731015"))
    assert [each.id for each in found.results] == [key]
    lab.sdk.data_assets.update_permissions(key, Permissions(everyone=EveryoneRole.Viewer))
    assert lab.sdk.data_assets.get_permissions(key).everyone == EveryoneRole.Viewer
    lab.sdk.data_assets.delete_data_asset(key)
    assert key not in lab.stored()
    assert json.loads(lab.state.read_text())["note"] == "of the seeder"


def test_a_new_asset_is_a_draft_and_then_ready(lab: Running) -> None:
    made = lab.sdk.data_assets.create_data_asset(
        DataAssetParams(
            name="ecephys_700001_2024-01-01_00-00-00",
            tags=["raw"],
            mount="m",
            source=Source(aws=AWSS3Source(bucket="b", prefix="p", keep_on_external_storage=True)),
        )
    )
    assert made.state == DataAssetState.Draft
    assert (made.source_bucket.bucket, made.source_bucket.external) == ("b", True)
    until(lambda: lab.sdk.data_assets.get_data_asset(made.id).state == DataAssetState.Ready, "the asset")
    assert lab.sdk.data_assets.wait_until_ready(made, polling_interval=5, timeout=5).state == DataAssetState.Ready
    external = lab.sdk.data_assets.search_data_assets(DataAssetSearchParams(query="name:ecephys_700001"))
    assert [each.id for each in external.results] == [made.id]
    combined = lab.sdk.data_assets.create_data_asset(
        DataAssetParams(name="both", tags=[], mount="m", data_asset_ids=[made.id, asset(1)["id"]])
    )
    assert combined.type == DataAssetType.Combined
    assert [part.id for part in combined.contained_data_assets] == [made.id, asset(1)["id"]]


def test_a_computation_runs_through_its_states_and_its_result_becomes_an_asset(lab: Running) -> None:
    ran = lab.sdk.computations.run_capsule(
        RunParams(
            capsule_id=CAPSULE, parameters=["ecephys"], data_assets=[DataAssetsRunParam(id=asset(1)["id"], mount="in")]
        )
    )
    seen = [ran.state]

    def completed() -> bool:
        now: Computation = lab.sdk.computations.get_computation(ran.id)
        if now.state != seen[-1]:
            seen.append(now.state)
        return bool(now.state == ComputationState.Completed)

    until(completed, "the computation")
    assert seen == [ComputationState.Initializing, ComputationState.Running, ComputationState.Completed]
    done = lab.sdk.capsules.list_computations(CAPSULE)
    assert [(each.id, each.end_status, each.exit_code) for each in done] == [
        (ran.id, ComputationEndStatus.Succeeded, 0)
    ]
    assert lab.sdk.computations.list_computation_results(ran.id).items == []
    assert lab.sdk.pipelines.list_computations("pipe") == []
    result = lab.sdk.data_assets.create_data_asset(
        DataAssetParams(
            name="sorted", tags=["derived"], mount="s", source=Source(computation=ComputationSource(ran.id))
        )
    )
    assert (result.type, result.provenance.computation) == (DataAssetType.Result, ran.id)
    assert (result.provenance.capsule, result.provenance.data_assets) == (CAPSULE, [asset(1)["id"]])


def test_the_computations_of_a_capsule_include_those_that_its_results_name(lab: Running) -> None:
    made = asset(9, type="result", provenance={"capsule": "pipe", "computation": "ran"})
    ran = {"id": "ran", "created": 1, "name": "r", "owner": "o", "run_time": 5, "state": "completed"}
    content = seed()
    lab.reset(content | {"data_assets": [*content["data_assets"], made], "computations": [ran, ran | {"id": "no"}]})
    assert [each.id for each in lab.sdk.pipelines.list_computations("pipe")] == ["ran"]
    assert [each.id for each in lab.sdk.capsules.list_computations("pipe")] == ["ran"]
    assert lab.sdk.capsules.list_computations(CAPSULE) == []


def test_data_assets_attach_to_a_capsule_and_detach(lab: Running) -> None:
    wishes = [DataAssetAttachParams(id=asset(1)["id"], mount="here"), DataAssetAttachParams(id=asset(2)["id"])]
    results = lab.sdk.capsules.attach_data_assets(capsule_id=CAPSULE, attach_params=wishes)
    assert [(each.id, each.mount, each.ready) for each in results] == [
        (asset(1)["id"], "here", True),
        (asset(2)["id"], asset(2)["mount"], True),
    ]
    lab.sdk.capsules.detach_data_assets(CAPSULE, [asset(1)["id"]])
    assert list(lab.stored("capsules")[CAPSULE]["_attached"]) == [asset(2)["id"]]
    with pytest.raises(Error, match="data asset none not found"):
        lab.sdk.capsules.attach_data_assets(CAPSULE, [DataAssetAttachParams(id="none")])


def test_capsules_and_pipelines_are_found(lab: Running) -> None:
    assert lab.sdk.capsules.get_capsule(CAPSULE).name == "analysis"
    found = lab.sdk.capsules.search_capsules(CapsuleSearchParams(query="name:ana"))
    assert [each.id for each in found.results] == [CAPSULE]
    assert lab.sdk.pipelines.get_pipeline("pipe").name == "pipeline"
    assert lab.sdk.capsules.get_capsule("pipe").name == "pipeline"
    assert lab.sdk.pipelines.get_pipeline(CAPSULE).name == "analysis"
    assert lab.sdk.custom_metadata.get_custom_metadata().fields == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "data_assets/search", "{"),
        ("POST", "data_assets/search", "[]"),
        ("POST", "data_assets/search", '{"limit": 5000}'),
        ("POST", "data_assets", '{"name": "n"}'),
        ("POST", "data_assets", '{"name": "n", "tags": [], "mount": "m"}'),
        ("POST", "data_assets", '{"name": "n", "tags": [], "mount": "m", "data_asset_ids": ["none"]}'),
        ("POST", "computations", "{}"),
        ("POST", "computations", '{"capsule_id": "none"}'),
        ("POST", f"capsules/{CAPSULE}/data_assets", "{}"),
        ("PATCH", f"data_assets/{asset(1)['id']}/archive", ""),
    ],
)
def test_a_body_that_makes_no_sense_is_a_400_with_a_message_and_changes_nothing(
    lab: Running, method: str, path: str, body: str
) -> None:
    before = lab.state.read_bytes()
    response = requests.request(method, f"{lab.url}/api/v1/{path}", data=body, auth=(TOKEN, ""), timeout=5)
    assert response.status_code == 400
    assert response.json()["message"]
    assert lab.state.read_bytes() == before


def test_a_state_file_that_is_broken_is_an_outage_until_it_is_mended(lab: Running) -> None:
    for broken in ("{half", '{"data_assets": {}}', '{"data_assets": [{"name": "no id"}]}'):
        lab.state.write_text(broken)
        with pytest.raises(ServiceUnavailable, match="state file"):
            list(iter_data_assets(lab.client))
    lab.reset(seed(2))
    assert len(list(iter_data_assets(lab.client))) == 2


def test_twenty_thousand_assets_are_scanned_in_twenty_quick_calls(lab: Running) -> None:
    lab.reset(seed(20_000))
    assert len(list(iter_data_assets(lab.client))) == 20_000  # reads the file
    start = time.monotonic()
    calls: list[str] = []
    lab.client.session.hooks["response"].append(lambda response, **_: calls.append(response.url))
    found = [each["id"] for each in iter_data_assets(lab.client)]
    lab.client.session.hooks["response"].pop()
    assert (len(found), len(set(found)), len(calls)) == (20_000, 20_000, 20)
    assert time.monotonic() - start < 5
    start = time.monotonic()
    for number in range(0, 20_000, 400):
        assert lab.sdk.data_assets.get_data_asset(asset(number)["id"]).name == asset(number)["name"]
    assert time.monotonic() - start < 2  # 50 calls: a Nagle stall each would take longer


@pytest.mark.parametrize(
    ("env", "content", "words"),
    [
        ({}, None, "CODE_OCEAN_API_TOKEN is not set"),
        ({"CODE_OCEAN_API_TOKEN": TOKEN}, "{half", "cannot be read"),
    ],
)
def test_what_it_cannot_start_with_ends_it_with_one_line(
    tmp_path: Path, env: dict[str, str], content: str | None, words: str
) -> None:
    state = tmp_path / "state.json"
    if content is not None:
        state.write_text(content)
    with module(STAND_IN, "--port", str(free_port()), "--state", str(state), env=env) as child:
        assert child.wait(timeout=20) == 1
        assert child.stderr is not None
        said = child.stderr.read()
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_its_state_kept(tmp_path: Path, number: signal.Signals) -> None:
    port, state = free_port(), tmp_path / "state.json"
    state.write_text(json.dumps(seed()))
    arguments = ["--port", str(port), "--state", str(state)]
    with module(STAND_IN, *arguments, env={"CODE_OCEAN_API_TOKEN": TOKEN}) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/healthcheck"), "the start of Code Ocean", child)
        get_client(f"http://127.0.0.1:{port}", TOKEN).data_assets.delete_data_asset(asset(0)["id"])
        idle = socket.create_connection(("127.0.0.1", port))
        child.send_signal(number)
        assert child.wait(timeout=2) == 0
        idle.close()
    assert len(json.loads(state.read_text())["data_assets"]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
