"""Runs over the direct connection tell no secret, whatever fails: in reprs, logs, events and exceptions."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pymongo import MongoClient
from sqlalchemy import Engine

from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials
from aind_pipelines.clients.errors import ServiceError
from aind_pipelines_tests.clients.servers import DEAD_PORT, AwsServer, Bastion, DocDBServer
from aind_pipelines_tests.mirror.test_docdb_history import record

CANARY = "canary"
"""In every password of the fixtures, and in every wrong one."""


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What all libraries say, but for botocore's own dump of each answer."""
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "boto3", "urllib3"):
        caplog.set_level(logging.INFO, logger=name)
    return caplog


@pytest.fixture
def settings(
    engine: Engine, docdb: DocDBServer, bastion: Bastion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "aind-pipelines.toml"
    policy.write_text('[docdb]\nsources = [{database = "metadata_index"}]\n')
    for name, value in {
        "DOC_DB_HOST": "127.0.0.1",
        "DOC_DB_PORT": docdb.port,
        "DOC_DB_USERNAME": docdb.username,
        "DOC_DB_PASSWORD": docdb.password,
        "DOC_DB_SSH_HOST": "127.0.0.1",
        "DOC_DB_SSH_PORT": bastion.port,
        "DOC_DB_SSH_USERNAME": bastion.username,
        "DOC_DB_SSH_PASSWORD": bastion.password,
        "RDS_HOST": engine.url.host,
        "RDS_PORT": engine.url.port,
        "RDS_USER": engine.url.username,
        "RDS_PASSWORD": engine.url.password,
        "RDS_DATABASE": engine.url.database,
        "AIND_PIPELINES_CONFIG": policy,
    }.items():
        monkeypatch.setenv(name, str(value))


def _run(instance: dg.DagsterInstance) -> tuple[bool, str]:
    """The ingestion as it is deployed: whether it succeeded, and everything that its events say."""
    from aind_pipelines.definitions import build_defs

    job = dg.define_asset_job("tried", dg.AssetSelection.assets("docdb_records"))
    defs = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job]))
    result = defs.resolve_job_def("tried").execute_in_process(instance=instance, raise_on_error=False)
    events = instance.all_logs(result.run_id)
    assert len(events) > 5
    return result.success, "\n".join(dg.serialize_value(event) for event in events)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"DOC_DB_PASSWORD": "canary-wrong"}, "authentication failed"),
        ({"DOC_DB_SSH_PASSWORD": "canary-wrong"}, "login at the bastion"),
        ({"DOC_DB_SSH_PORT": str(DEAD_PORT)}, "bastion"),
        ({"DOC_DB_PORT": str(DEAD_PORT)}, "tunnel failed"),
        ({"RDS_PASSWORD": "canary-wrong"}, "RDS"),
    ],
    ids=["well", "docdb password", "ssh password", "no bastion", "no docdb", "rds password"],
)
def test_a_run_tells_no_secret_however_it_ends(
    settings: None,
    mongo: MongoClient[dict[str, Any]],
    everything_logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    said: str,
) -> None:
    mongo.metadata_index.data_assets.insert_many([record(number) for number in range(3)])
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        succeeded, events = _run(instance)
    assert succeeded == (not changes)
    assert said in events
    printed = capfd.readouterr()
    assert CANARY not in events + everything_logged.text + printed.out + printed.err


def test_secrets_from_the_secrets_manager_are_told_nowhere(
    docdb: DocDBServer,
    bastion: Bastion,
    mongo: MongoClient[dict[str, Any]],
    aws_environment: AwsServer,
    everything_logged: pytest.LogCaptureFixture,
) -> None:
    server = {"host": "127.0.0.1", "port": docdb.port, "username": docdb.username, "password": docdb.password}
    hop = {"host": "127.0.0.1", "port": bastion.port, "username": bastion.username, "password": bastion.password}
    aws_environment.secret("canaries/docdb", server)
    aws_environment.secret("canaries/ssh", hop)
    aws_environment.secret("canaries/wrong", server | {"password": "canary-wrong"})
    shown = []
    login = DocumentDbSSHCredentials.from_secrets_manager("canaries/docdb", "canaries/ssh")
    with DocumentDbSSHClient(credentials=login) as client:
        assert client.count() == 0
        shown += [repr(login), str(login), repr(client), repr(client.client), repr(client.collection)]
        shown.append(repr(vars(login)))
    for names in (("canaries/wrong", "canaries/ssh"), ("canaries/docdb", "canaries/wrong")):
        refused = DocumentDbSSHClient(credentials=DocumentDbSSHCredentials.from_secrets_manager(*names))
        with pytest.raises(ServiceError) as raised:
            refused.start()
        shown += [*traceback.format_exception(raised.value), repr(raised.value.__dict__)]
    assert CANARY not in "".join(shown).replace("canaries/", "") + everything_logged.text
