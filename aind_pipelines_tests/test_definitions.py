"""The definitions: they load with nothing set, cheaply, and do not change unseen."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from aind_pipelines.definitions import build_defs, defs
from aind_pipelines.jobs import FLOW

ROOT = Path(__file__).parents[1]


def test_every_asset_is_in_exactly_one_job_of_the_flow() -> None:
    graph = defs.resolve_asset_graph()
    materializable = set(graph.materializable_asset_keys)
    in_jobs = [key for job in FLOW for key in defs.resolve_job_def(job.name).asset_layer.executable_asset_keys]
    assert sorted(in_jobs) == sorted(materializable)


def test_every_stage_but_the_report_and_the_indexes_has_a_check() -> None:
    graph = defs.resolve_asset_graph()
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert checked >= {
        "docdb_records",
        "data_assets",
        "subjects",
        "subject_answers",
        "deposited_resources",
        "archive_fixity",
    }


def test_every_asset_has_a_description_a_group_and_a_kind() -> None:
    graph = defs.resolve_asset_graph()
    for node in graph.asset_nodes:
        assert node.description, node.key
        assert node.group_name not in (None, "default"), node.key
        assert node.kinds, node.key


def test_nothing_that_deletes_is_an_asset() -> None:
    names = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert not [name for name in names if "prune" in name or "purge" in name]


def test_the_code_location_loads_with_no_environment_and_no_heavy_library() -> None:
    code = (
        "import sys, aind_pipelines.definitions as d; d.defs.resolve_all_job_defs();"
        "heavy = {'pandas', 'boto3', 'pymongo', 'codeocean', 'dagster_aws', 'django', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_secrets_of_a_resource_are_masked_when_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-in-a-coal-mine")
    seen: list[str] = []

    @dg.op(required_resource_keys={"rds", "registry", "code_ocean"})
    def look(context) -> None:
        seen.extend(repr(getattr(context.resources, name)) for name in ("rds", "registry", "code_ocean"))

    @dg.job
    def looking() -> None:
        look()

    from aind_pipelines.resources.code_ocean import CodeOceanResource
    from aind_pipelines.resources.rds import RDSResource
    from aind_pipelines.resources.registry import RegistryResource

    secret = dg.EnvVar("CANARY")
    looking.execute_in_process(
        resources={
            "rds": RDSResource(host="h", password=secret),
            "registry": RegistryResource(url="http://r", password=secret),
            "code_ocean": CodeOceanResource(token=secret),
        }
    )
    assert len(seen) == 3
    assert "canary-in-a-coal-mine" not in "".join(seen)
    assert "***" in "".join(seen)


def test_resources_can_be_overridden() -> None:
    assert build_defs({"extra": 1}).resources is not None


def test_the_picture_in_the_readme_is_the_asset_graph() -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "draw_flow.py"))["draw"]
    assert draw() in (ROOT / "README.md").read_text()
