"""The resource of RDS hands its fields to the connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from aind_pipelines.clients.errors import AccessRefused, ServiceError
from aind_pipelines.resources.code_ocean import CodeOceanResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.settings import SettingsError
from aind_pipelines_tests.clients.servers import AwsServer, Bastion


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


def test_it_has_the_fields_of_the_client(bastion: Bastion) -> None:
    resource = RDSResource(application_name="tables of the night", pool_size=2, through_bastion=True)
    with resource.engine() as engine, engine.connect() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "tables of the night"
        assert engine.pool.size() == 2  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="pool_size"):
        RDSResource(pool_size=0)


def test_a_field_that_it_has_not_is_no_silence() -> None:
    with pytest.raises(ValidationError, match="aplication_name"):
        RDSResource(aplication_name="x")
    with pytest.raises(ValidationError, match="tokn"):
        CodeOceanResource(tokn="x")


def test_a_secret_is_used_instead_of_the_environment(
    engine: Engine, aws_environment: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = engine.url, []
    monkeypatch.setenv("RDS_HOST", "from-environment.invalid")
    login = {"username": url.username, "password": url.password, "host": url.host, "port": url.port}
    aws_environment.secret("resource/whole", login | {"dbname": url.database})
    aws_environment.secret("resource/part", login | {"password": "canary-wrong"})

    def look(resource: RDSResource) -> None:
        seen.append(repr(resource))
        with resource.engine() as found, found.connect() as connection:
            seen.append(repr(found))
            assert connection.execute(text("SHOW application_name")).scalar_one() == "mine"

    look(RDSResource(aws_secrets_name="resource/whole", application_name="mine"))
    # What is given wins over the secret, as for the client.
    given = {"database": url.database, "password": url.password}
    look(RDSResource(aws_secrets_name="resource/part", application_name="mine", **given))
    with pytest.raises(SettingsError, match=r"lack database: .* in the secret 'resource/part'") as lacking:
        look(RDSResource(aws_secrets_name="resource/part"))
    with pytest.raises(AccessRefused) as refused:
        look(RDSResource(aws_secrets_name="resource/part", database=url.database))
    with pytest.raises(ServiceError, match="Secrets Manager"):
        look(RDSResource(aws_secrets_name="resource/none"))
    shown = "".join([*seen, str(lacking.value), str(refused.value)])
    assert str(url.password) not in shown
    assert "canary" not in shown


def test_a_run_takes_the_secret_from_its_configuration(engine: Engine, aws_environment: AwsServer) -> None:
    url = engine.url
    login = {"username": url.username, "password": url.password, "host": url.host, "port": url.port}
    aws_environment.secret("resource/run", login | {"database": url.database})

    @dg.op
    def look(rds: RDSResource) -> str:
        with rds.engine() as found, found.connect() as connection:
            return str(connection.execute(text("SHOW application_name")).scalar_one())

    @dg.job
    def looking() -> None:
        look()

    fields = {"aws_secrets_name": {"env": "NAME_OF_SECRET"}, "application_name": "a run", "pool_size": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAME_OF_SECRET", "resource/run")
        done = looking.execute_in_process(
            run_config={"resources": {"rds": {"config": fields}}},
            resources={"rds": RDSResource.configure_at_launch()},
        )
    assert done.output_for_node("look") == "a run"


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
