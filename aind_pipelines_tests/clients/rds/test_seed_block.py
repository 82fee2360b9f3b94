"""The RDS block of the published guide runs as it is printed there, with its import line changed."""

import pandas as pd
import psycopg
import pytest

from aind_pipelines_tests.clients.servers import AwsServer, PostgresServer

BLOCK = """
from aind_pipelines.clients.rds import RDSCredentials, Client

# Method one assuming user, password, and host are known
ds_client = Client(
            credentials=RDSCredentials(
               username="user",
               password="password",
               host="host",
               dbname="dev",
            ),
      )

# Method two if you have permissions to AWS Secrets Manager
ds_client = Client(
            credentials=RDSCredentials(
               aws_secrets_name="aind/data/access/api/rds_tables"
            ),
      )

# To retrieve a table as a pandas dataframe
df = ds_client.read_table(table_name="spike_sorting_urls")

# Can also pass in a custom sql query
cursor_result = ds_client.execute_query(query="SELECT * FROM spike_sorting_urls")

# It's also possible to save a pandas dataframe as a table. Please check internal documentation for more details.
ds_client.overwrite_table_with_df(df, table_name)
"""
FIRST, SECOND = BLOCK.split("# Method two")
ROWS = [
    ("ecephys_676909_2023-12-13_13-43-40", "https://figurl.example/1"),
    ("ecephys_676909_2023-12-11_14-24-35", None),
]


@pytest.fixture
def dev(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """A database ``dev`` that role ``user`` reaches as ``host``, as the block says."""
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS dev WITH (FORCE)")
        connection.execute('DROP ROLE IF EXISTS "user"')
        connection.execute("CREATE ROLE \"user\" LOGIN PASSWORD 'password'")
        connection.execute('CREATE DATABASE dev OWNER "user"')
    owner = PostgresServer(postgres.port, "password", postgres.log, user="user")
    with psycopg.connect(owner.conninfo("dev")) as connection:
        connection.execute("CREATE TABLE spike_sorting_urls (session text, url text)")
        connection.cursor().executemany("INSERT INTO spike_sorting_urls VALUES (%s, %s)", ROWS)
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")  # what the name "host" resolves to
    monkeypatch.setenv("RDS_PORT", str(postgres.port))
    return owner


@pytest.mark.parametrize("second_method", [False, True])
def test_both_methods_read_query_and_overwrite(
    dev: PostgresServer, aws_environment: AwsServer, second_method: bool
) -> None:
    if second_method:
        secret = {"username": "user", "password": "password", "host": "host", "port": dev.port, "dbname": "dev"}
        aws_environment.secret("aind/data/access/api/rds_tables", secret)
        code = BLOCK
    else:
        code = FIRST + SECOND[SECOND.index("# To retrieve") :]
    names: dict[str, object] = {"table_name": "spike_sorting_copy"}
    exec(compile(code, "guide", "exec"), names)
    frame, result = names["df"], names["cursor_result"]
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["session", "url"]
    plain = frame.astype(object).where(frame.notna(), None)
    assert list(plain.itertuples(index=False, name=None)) == ROWS
    assert result.fetchall() == ROWS  # type: ignore[attr-defined]
    with psycopg.connect(dev.conninfo("dev")) as connection:
        assert connection.execute("SELECT * FROM spike_sorting_copy").fetchall() == ROWS
    names["ds_client"].close()  # type: ignore[attr-defined]
