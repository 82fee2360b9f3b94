"""A client of the tests' Postgres."""

from collections.abc import Iterator

import pytest

from aind_pipelines.clients.rds import Client, RDSCredentials
from aind_pipelines_tests.clients.servers import PostgresServer


@pytest.fixture
def client(postgres: PostgresServer, database: str) -> Iterator[Client]:
    credentials = RDSCredentials(
        username=postgres.user, password=postgres.password, host=postgres.host, port=postgres.port, database=database
    )
    with Client(credentials=credentials, application_name="notebook") as client:
        yield client
