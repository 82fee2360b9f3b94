"""The resource of RDS hands its fields to the connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from aind_pipelines.clients.errors import AccessRefused, ServiceError
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.settings import SettingsError
from aind_pipelines_tests.clients.servers import Bastion


@pytest.fixture
def bastion(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bastion]:
    """The bastion, and the settings of it and of the database in the environment."""
    url = engine.url
    assert url.port is not None
    running = Bastion(tmp_path, allow=[url.port])
    running.start()
    for name, value in {
        "RDS_HOST": url.host, "RDS_PORT": url.port, "RDS_USER": url.username, "RDS_PASSWORD": url.password,
        "RDS_DATABASE": url.database, "DOC_DB_SSH_HOST": "127.0.0.1", "DOC_DB_SSH_PORT": running.port,
        "DOC_DB_SSH_USERNAME": running.username, "DOC_DB_SSH_PASSWORD": running.password,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    yield running
    running.stop()


def test_its_fields_reach_the_connection(bastion: Bastion) -> None:
    for resource in (
        RDSResource(statement_timeout=7, through_bastion=True),
        RDSResource(statement_timeout=7, through_bastion=True, ssh_key_file=str(bastion.key_file)),
        RDSResource(statement_timeout=7),
    ):
        with resource.engine() as engine, engine.connect() as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7s"
            assert connection.execute(text("SHOW application_name")).scalar_one() == "aind_pipelines"


def test_what_cannot_be_is_named(bastion: Bastion, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(SettingsError, match="sslmode 'always' is none of disable"),
        RDSResource(sslmode="always").engine(),
    ):
        pass
    with pytest.raises(ServiceError, match="SSL"), RDSResource(sslmode="require").engine():
        pass
    monkeypatch.setenv("DOC_DB_SSH_PASSWORD", "canary-wrong")
    with pytest.raises(AccessRefused, match="bastion") as raised, RDSResource(through_bastion=True).engine():
        pass
    assert "canary" not in str(raised.value)
