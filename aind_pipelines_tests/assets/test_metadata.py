"""The asset `docdb_records` over the real DocDB: several sources in one run, one of them never read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pymongo import MongoClient
from sqlalchemy import Engine, text

from aind_pipelines.assets.metadata import docdb_records
from aind_pipelines.checks import metadata as checks
from aind_pipelines.mirror.docdb import NeverRead
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.sensors.metadata import docdb_changes
from aind_pipelines_tests.clients.servers import Gateway
from aind_pipelines_tests.mirror.sources import iso
from aind_pipelines_tests.mirror.test_docdb_history import check_history, record

NOW = datetime.now(UTC).replace(microsecond=0)
V1, V2, NEW = "metadata_index", "metadata_index_v2", "metadata_index_v3"
Mongo = MongoClient[dict[str, Any]]


class Lab:
    """The asset, its checks and its sensor, with a policy that names these databases."""

    def __init__(self, engine: Engine, gateway: Gateway, policy: Path) -> None:
        url = engine.url
        self._policy = policy
        self._engine = engine
        self._resources = {
            "docdb": DocDBResource(api_host=gateway.url),
            "rds": RDSResource(
                host=url.host, port=url.port, user=url.username, password=url.password, database=url.database
            ),
            "policy": PolicyResource(path=str(policy)),
        }

    def follow(self, *databases: str) -> None:
        lines = [f'[[docdb.sources]]\ndatabase = "{name}"\n' for name in databases]
        self._policy.write_text("".join(lines))

    def run(self, mode: str) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [docdb_records, checks.record_counts_agree, checks.every_source_was_read],
            resources=self._resources,
            run_config={"ops": {"docdb_records": {"config": {"mode": mode}}}},
        )

    def sense(self) -> dg.SensorResult | dg.SkipReason:
        answer = docdb_changes(dg.build_sensor_context(), **self._resources)
        assert isinstance(answer, dg.SensorResult | dg.SkipReason)
        return answer

    def ask(self, query: str) -> list[Any]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]


@pytest.fixture
def lab(engine: Engine, gateway: Gateway, mongo: Mongo, tmp_path: Path) -> Lab:
    mongo[NEW].data_assets.delete_many({})
    for first, database in enumerate((V1, V2, NEW)):
        mongo[database].data_assets.insert_many(
            [record(100 * first + n, last_modified=iso(NOW - timedelta(days=n + 1))) for n in range(5)]
        )
    return Lab(engine, gateway, tmp_path / "aind-pipelines.toml")


def _changed(result: dg.ExecuteInProcessResult) -> Any:
    (made,) = result.asset_materializations_for_node("docdb_records")
    return made.metadata["changed"].value


def _verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


FINDINGS = "SELECT key, scope FROM docdb.findings WHERE code = 'held_twice' AND resolved_at IS NULL"


@pytest.mark.parametrize("order", [(V1, V2), (V2, V1)])
@pytest.mark.parametrize("mode", ["auto", "full"])
def test_a_copy_that_is_deleted_again_leaves_the_record_where_it_was(
    lab: Lab, mongo: Mongo, engine: Engine, mode: str, order: Sequence[str]
) -> None:
    lab.follow(*order)
    lab.run("auto")
    copied = mongo[V1].data_assets.find_one({"_id": "id-000003"})
    assert copied is not None
    mongo[V2].data_assets.insert_one(copied | {"last_modified": iso(NOW)})
    for changed in (1, 0):
        result = lab.run(mode)
        assert _changed(result) == changed
        assert lab.ask(FINDINGS) == [("v1/id-000003", f"{V1}.data_assets")]
        assert all(_verdicts(result).values()), "what another source has is not missing"
    mongo[V2].data_assets.delete_one({"_id": "id-000003"})
    for changed in (1, 0):
        result = lab.run(mode)
        assert _changed(result) == changed
        assert lab.ask(FINDINGS) == []
        assert lab.ask("SELECT source FROM docdb.records WHERE id = 'id-000003'") == [(f"{V1}.data_assets",)]
        assert all(_verdicts(result).values())
    assert lab.ask("SELECT count(DISTINCT valid_from) FROM docdb.record_versions WHERE id = 'id-000003'") == [(3,)]
    check_history(engine)


def test_a_source_that_was_never_read_hinders_no_other_and_is_named_until_the_nightly_pass_reads_it(
    lab: Lab, mongo: Mongo, capfd: pytest.CaptureFixture[str]
) -> None:
    lab.follow(V1, V2)
    lab.run("auto")
    lab.follow(NEW, V1, V2)
    mongo[V1].data_assets.update_one({"_id": "id-000003"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    answer = lab.sense()
    assert isinstance(answer, dg.SensorResult)
    assert f"Never read to the end: {NEW}.data_assets" in capfd.readouterr().err
    result = lab.run("tick")
    assert (result.success, _changed(result), _verdicts(result)["every_source_was_read"]) == (True, 1, False)
    assert f"{NEW}.data_assets was never read" in capfd.readouterr().err
    quiet = lab.sense()
    assert isinstance(quiet, dg.SkipReason)
    assert f"Never read to the end: {NEW}.data_assets" in (quiet.skip_message or "")
    moved = mongo[V1].data_assets.find_one_and_delete({"_id": "id-000004"})
    assert moved is not None
    mongo[NEW].data_assets.insert_one(moved)
    result = lab.run("manifest")
    assert (_changed(result), _verdicts(result)["every_source_was_read"]) == (6, True)
    ended, began = lab.ask("SELECT valid_to, valid_from FROM docdb.record_versions WHERE id = 'id-000004' ORDER BY 2")
    assert ended[0] == began[1], "what moved was never gone"
    mongo[NEW].data_assets.update_one({"_id": "id-000003"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    mongo[NEW].data_assets.update_one({"_id": "id-000201"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    assert isinstance(lab.sense(), dg.SensorResult)
    assert _changed(lab.run("tick")) == 1
    quiet = lab.sense()
    assert isinstance(quiet, dg.SkipReason)
    assert (quiet.skip_message or "").startswith("The mirror has everything")


def test_where_nothing_was_ever_read_a_tick_fails_and_says_what_to_do(lab: Lab) -> None:
    lab.follow(V1, V2)
    assert isinstance(lab.sense(), dg.SkipReason)
    with pytest.raises(NeverRead, match="mode auto"):
        lab.run("tick")
