"""The sensor that follows DocDB: what it asks for, and that an outage never looks like a quiet day."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from sqlalchemy import Engine

from aind_pipelines.clients import http
from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.mirror.docdb import CollectionSource, tick, update
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.sensors.metadata import docdb_changes
from aind_pipelines.settings import SettingsError
from aind_pipelines_tests.clients.misbehaving import Fault, MisbehavingGateway, html, short, status, truncated
from aind_pipelines_tests.clients.servers import Gateway, free_port
from aind_pipelines_tests.mirror.sources import NAME, iso, rest
from aind_pipelines_tests.mirror.test_docdb_history import record

NOW = datetime.now(UTC).replace(microsecond=0)
Records = Collection[dict[str, Any]]
Evaluate = Callable[[str | None], dg.SensorResult | dg.SkipReason]


@pytest.fixture
def collection(mongo: MongoClient[dict[str, Any]]) -> Records:
    records = mongo.metadata_index.data_assets
    records.insert_many([record(n, last_modified=iso(NOW - timedelta(days=n + 1))) for n in range(10)])
    return records


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[MisbehavingGateway]:
    proxy = MisbehavingGateway(gateway.url)
    with proxy.serving():
        yield proxy


@pytest.fixture
def source(proxy: MisbehavingGateway) -> Iterator[CollectionSource]:
    with rest(proxy.url) as source:
        yield source


@pytest.fixture
def evaluate(engine: Engine, proxy: MisbehavingGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """One evaluation that begins with a cursor, as a daemon that knows nothing else does."""
    policy = tmp_path / "aind-pipelines.toml"
    policy.write_text('[docdb]\nsources = [{database = "metadata_index"}]\n')
    monkeypatch.setitem(http.build_session.__kwdefaults__, "backoff", 0)

    def evaluation(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        url = engine.url
        rds = RDSResource(
            host=url.host, port=url.port, user=url.username, password=url.password, database=url.database
        )
        answer = docdb_changes(
            dg.build_sensor_context(cursor=cursor),
            docdb=DocDBResource(api_host=proxy.url),
            rds=rds,
            policy=PolicyResource(path=str(policy)),
        )
        assert isinstance(answer, dg.SensorResult | dg.SkipReason)
        return answer

    return evaluation


def _skipped(answer: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message or ""


def _asked(answer: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(answer, dg.SensorResult)
    assert answer.run_requests is not None
    (request,) = answer.run_requests
    assert request.run_config == {"ops": {"docdb_records": {"config": {"mode": "tick"}}}}
    assert answer.cursor is not None
    return answer.cursor


def test_it_asks_once_for_what_is_new_and_again_only_when_that_did_not_help(
    engine: Engine, collection: Records, source: CollectionSource, evaluate: Evaluate
) -> None:
    assert NAME in _skipped(evaluate(None))
    update(engine, source)
    assert "everything" in _skipped(evaluate(None))
    collection.update_one({"_id": "id-000003"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    cursor = _asked(evaluate(None))
    assert "1 changes wait" in _skipped(evaluate(cursor)), "the cursor is all that a restarted daemon needs"
    collection.update_one({"_id": "id-000004"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    later = _asked(evaluate(cursor))
    long_ago = json.loads(later) | {"at": 0}
    _asked(evaluate(json.dumps(long_ago)))
    tick(engine, source)
    assert "everything" in _skipped(evaluate(later))


@pytest.mark.parametrize(
    "fault",
    [status(500), status(429), status(404), html, truncated, short(0)],
    ids=["500", "429", "404", "no JSON", "truncated", "empty lists"],
)
def test_an_outage_of_docdb_fails_the_evaluation_and_loses_nothing(
    engine: Engine,
    collection: Records,
    proxy: MisbehavingGateway,
    source: CollectionSource,
    evaluate: Evaluate,
    fault: Fault,
) -> None:
    update(engine, source)
    collection.update_one({"_id": "id-000003"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    cursor = _asked(evaluate(None))
    tick(engine, source)
    proxy.rule = lambda asked: fault
    for _ in range(2):
        with pytest.raises(ServiceError, match="DocDB"):
            evaluate(cursor)
    collection.update_one({"_id": "id-000004"}, {"$set": {"note": 1, "last_modified": iso(NOW)}})
    with pytest.raises(ServiceError, match="DocDB"):
        evaluate(cursor)
    proxy.behave()
    _asked(evaluate(cursor))


def test_an_outage_of_rds_fails_the_evaluation(
    engine: Engine, collection: Records, source: CollectionSource, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(engine, source)
    there = engine.url
    monkeypatch.setattr(engine, "url", there.set(port=free_port()))
    with pytest.raises(ServiceError, match="RDS"):
        evaluate(None)


_WHOLE = {
    "DocDB": [f"DOC_DB_{ssh}{name}" for ssh in ("", "SSH_") for name in ("HOST", "USERNAME", "PASSWORD")],
    "RDS": [f"RDS_{name}" for name in ("HOST", "USER", "PASSWORD", "DATABASE")],
}


def _evaluate_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *names: str) -> dg.SensorResult | dg.SkipReason:
    """One evaluation where only these settings are set."""
    for name in list(os.environ):
        if name.startswith(("DOC_DB_", "RDS_", "AWS_PARAM", "AIND_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    monkeypatch.chdir(tmp_path)
    for name in names:
        monkeypatch.setenv(name, "127.0.0.1")
    answer = docdb_changes(
        dg.build_sensor_context(), docdb=DocDBResource(), rds=RDSResource(), policy=PolicyResource()
    )
    assert isinstance(answer, dg.SensorResult | dg.SkipReason)
    return answer


@pytest.mark.parametrize(
    ("names", "unset"),
    [
        ((), "DocDB and RDS"),
        (_WHOLE["DocDB"], "RDS"),
        (("DOC_DB_API_HOST",), "RDS"),
        (_WHOLE["RDS"], "DocDB"),
        ((*_WHOLE["RDS"], "DOC_DB_SSH_HOST"), "DocDB"),
    ],
)
def test_where_nothing_of_docdb_or_rds_is_configured_it_skips_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...], unset: str
) -> None:
    assert _skipped(_evaluate_with(monkeypatch, tmp_path, *names)).startswith(f"Not configured: {unset}.")


@pytest.mark.parametrize(
    "names",
    [
        ("DOC_DB_HOST",),
        ("DOC_DB_SSH_HOST",),
        ("RDS_USER", "RDS_PASSWORD"),
        (*_WHOLE["DocDB"], "RDS_HOST"),
        ("DOC_DB_API_HOST", "RDS_PASSWORD"),
    ],
)
def test_half_a_configuration_fails_the_evaluation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError, match="RDS is not configured"):
        _evaluate_with(monkeypatch, tmp_path, *names)


def test_a_setting_that_cannot_be_used_fails_the_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DOC_DB_PORT"):
        _evaluate_with(monkeypatch, tmp_path, "DOC_DB_PORT")
