"""What tests of the Dagster layer share: the definitions on real services, each test with a database of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine

from aind_pipelines.archive.layout import Archive, init_archive
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines_tests.registry_process import PASSWORD, USER, RegistryProcess
from aind_pipelines_tests.services.processes import answers, free_port, module, wait_for

if TYPE_CHECKING:
    import dagster as dg
    from types_boto3_s3 import S3Client

TOKEN = "cop_lab_token"
BUCKET = "aind-open-data"
_numbers = itertools.count()


@dataclass(frozen=True)
class House:
    """The definitions' resources on real services, and those services."""

    engine: Engine
    registry: RegistryClient
    archive: Archive
    archive_name: str
    s3: S3Client
    code_ocean: Path

    def run(self, selection: Sequence[str], *, checks: bool = True, **keywords: Any) -> dg.ExecuteInProcessResult:
        """Run these assets, with or without their checks, as the deployed definitions have them."""
        import dagster as dg

        from aind_pipelines.definitions import build_defs

        chosen = dg.AssetSelection.assets(*selection)
        job = dg.define_asset_job("tried", chosen if checks else chosen - dg.AssetSelection.all_asset_checks())
        return self._execute(build_defs(), job, **keywords)

    def check(self, name: str) -> dg.AssetCheckEvaluation:
        """Run one asset check alone; its verdict."""
        import dagster as dg

        from aind_pipelines import checks
        from aind_pipelines.definitions import build_defs

        (key,) = [key for each in checks.ALL for key in each.check_keys if key.name == name]
        job = dg.define_asset_job("tried", dg.AssetSelection.checks(key))
        (evaluation,) = self._execute(build_defs(), job, raise_on_error=False).get_asset_check_evaluations()
        return evaluation

    def _execute(self, defs: dg.Definitions, job: Any, **keywords: Any) -> dg.ExecuteInProcessResult:
        import dagster as dg

        defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
        return defs.resolve_job_def(job.name).execute_in_process(**keywords)

    def has_in_code_ocean(self, assets: Sequence[Mapping[str, Any]]) -> None:
        """Let Code Ocean hold exactly these assets."""
        staged = self.code_ocean.with_suffix(".new")
        staged.write_text(json.dumps({"data_assets": list(assets), "capsules": [], "computations": []}))
        staged.replace(self.code_ocean)


@pytest.fixture(scope="session")
def code_ocean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL and state file of a Code Ocean stand-in."""
    state = tmp_path_factory.mktemp("code ocean") / "code_ocean.json"
    url = f"http://127.0.0.1:{free_port()}"
    arguments = ["--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--state", str(state)]
    with module("aind_pipelines.lab.code_ocean", *arguments, env={"CODE_OCEAN_API_TOKEN": TOKEN}) as child:
        wait_for(lambda: answers(f"{url}/healthcheck"), "the start of Code Ocean", child)
        yield url, state


@pytest.fixture
def house(
    engine: Engine,
    registry_process: RegistryProcess,
    code_ocean: tuple[str, Path],
    s3: S3Client,
    moto_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    """Every setting named in the environment, as a deployment has them."""
    with registry_process.client() as registry:
        name = f"live{next(_numbers)}-{tmp_path.name[:20]}"
        archive = init_archive(tmp_path / "live", registry, name)
        policy = tmp_path / "aind-pipelines.toml"
        policy.write_text(
            f'[s3]\nbuckets = ["{BUCKET}"]\n[deposits]\narchive = "{name}"\ndtype = "session-raw"\n'
            f'[archives.{name}]\npath = "{archive.path}"\n'
        )
        url = engine.url
        for variable, value in {
            "RDS_HOST": url.host,
            "RDS_PORT": str(url.port),
            "RDS_USER": url.username,
            "RDS_PASSWORD": url.password,
            "RDS_DATABASE": url.database,
            "NBANK_REGISTRY": registry_process.url,
            "NBANK_USERNAME": USER,
            "NBANK_PASSWORD": PASSWORD,
            "CODE_OCEAN_DOMAIN": code_ocean[0],
            "CODE_OCEAN_API_TOKEN": TOKEN,
            "AWS_ENDPOINT_URL": moto_url,
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AIND_PIPELINES_CONFIG": str(policy),
        }.items():
            monkeypatch.setenv(variable, str(value))
        made = House(engine, registry, archive, name, s3, code_ocean[1])
        made.has_in_code_ocean([])
        yield made
