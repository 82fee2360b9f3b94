"""The client: credentials from wherever they are, DataFrames in and out, and nothing half-written."""

import traceback
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Numeric, text

from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable
from aind_pipelines.clients.rds import BadValue, Client, PublishRefused, RDSCredentials, SchemaMismatch
from aind_pipelines.settings import SettingsError
from aind_pipelines_tests.clients.servers import AwsServer, PostgresServer


def _one(client: Client, query: str) -> Any:
    return client.execute_query(query).scalar_one()


@pytest.mark.parametrize(("user", "database"), [("RDS_USER", "RDS_DATABASE"), ("RDS_USERNAME", "RDS_DBNAME")])
def test_credentials_come_from_the_environment_in_both_spellings(
    monkeypatch: pytest.MonkeyPatch, user: str, database: str
) -> None:
    for name, value in {
        user: "u",
        "RDS_PASSWORD": "canary-p",
        "RDS_HOST": "h",
        "RDS_PORT": "6543",
        database: "d",
    }.items():
        monkeypatch.setenv(name, value)
    credentials = RDSCredentials()
    assert (credentials.username, credentials.host, credentials.port) == ("u", "h", 6543)
    assert credentials.database == credentials.dbname == "d"
    assert credentials.password.get_secret_value() == "canary-p"
    assert RDSCredentials(dbname="other", host="there").url().render_as_string() == (
        "postgresql+psycopg://u:***@there:6543/other"
    )


def test_a_secret_is_used_instead_of_the_environment(
    aws_environment: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RDS_HOST", "from-environment")
    aws_environment.secret("rds/whole", {"username": "u", "password": "p", "host": "h", "database": "d"})
    aws_environment.secret("rds/part", {"username": "u", "password": "canary-p"})
    credentials = RDSCredentials(aws_secrets_name="rds/whole")
    assert (credentials.host, credentials.port) == ("h", 5432)
    with pytest.raises(SettingsError, match=r"lack host, database: .* in the secret 'rds/part'") as raised:
        RDSCredentials(aws_secrets_name="rds/part")
    assert "canary" not in "".join(traceback.format_exception(raised.value))


def test_missing_and_unusable_credentials_are_named() -> None:
    with pytest.raises(SettingsError, match="lack username, password, database"):
        RDSCredentials(host="h")
    with pytest.raises(SettingsError, match="port"):
        RDSCredentials(username="u", password="p", host="h", port="many", dbname="d")


def test_the_password_is_nowhere_in_sight(postgres: PostgresServer) -> None:
    credentials = RDSCredentials(username="u", password="canary-p", host="127.0.0.1", port=postgres.port, dbname="d")
    client = Client(credentials)
    with pytest.raises(ServiceError) as raised:
        client.read_table(table_name="t")
    shown = [repr(credentials), str(credentials), repr(client), repr(client.engine), str(vars(client))]
    shown += traceback.format_exception(raised.value)
    assert "canary" not in "".join(shown)


def test_a_frame_goes_in_and_comes_out_with_its_types(client: Client) -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    frame = pd.DataFrame(
        {
            "name": ['tab\t"quote"\\', None, "ü\n"],
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "count": [2**62, 2, 3],
            "share": [0.1, np.nan, np.inf],
            "flag": [True, False, True],
            "at": pd.to_datetime([moment, None, moment], utc=True),
            "local": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
            "day": [date(2024, 2, 29), None, date(1999, 1, 1)],
            "words": [["a", "b,{}"], [], None],
            "body": [{"k": [1, None]}, None, []],
            "exact": [Decimal("1.10"), None, Decimal(2)],
            "nothing": [None, None, None],
        }
    )
    client.overwrite_table_with_df(frame, "typed")
    types = dict(
        client.execute_query(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'typed'::regclass AND attnum > 0"
        ).fetchall()
    )
    assert types == {
        "name": "text", "whole": "bigint", "count": "bigint", "share": "double precision", "flag": "boolean",
        "at": "timestamp with time zone", "local": "timestamp without time zone", "day": "date",
        "words": "text[]", "body": "jsonb", "exact": "numeric", "nothing": "text",
    }  # fmt: skip
    back = client.read_table("typed")
    assert back["name"].tolist()[0] == 'tab\t"quote"\\'
    assert back["words"].tolist() == [["a", "b,{}"], [], None]
    assert back["body"].tolist() == [{"k": [1, None]}, None, []]
    assert back["at"][0].to_pydatetime() == moment
    assert pd.isna(back["at"][1])
    assert _one(client, "SELECT share IS NULL FROM typed WHERE name IS NULL")
    assert _one(client, "SELECT sum(exact)::text FROM typed") == "3.10"
    again = client.overwrite_table_with_df(frame, "typed")
    assert (again.rows, again.deleted, again.unchanged) == (3, 0, 3)
    frame.loc[0, "name"] = "other"
    again = client.overwrite_table_with_df(frame, "typed")
    assert (again.rows, again.deleted, again.inserted) == (3, 3, 3)


def test_with_a_primary_key_only_rows_that_differ_are_written(client: Client) -> None:
    client.execute_query("CREATE TABLE t (id int PRIMARY KEY, v text)")
    client.overwrite_table_with_df(pd.DataFrame({"id": [1, 2], "v": ["a", "b"]}), "t")
    result = client.overwrite_table_with_df(pd.DataFrame({"id": [1, 3], "v": ["a", "c"]}), "t")
    assert (result.inserted, result.updated, result.deleted, result.unchanged) == (1, 0, 1, 1)
    upserted = client.upsert_table(pd.DataFrame({"id": [3, 4], "v": ["C", "d"]}), "t", key=["id"])
    assert (upserted.inserted, upserted.updated, upserted.deleted) == (1, 1, 0)
    assert client.read_table("t", "id >= :low", parameters={"low": 3}, columns=["v"])["v"].tolist() == ["C", "d"]


@pytest.mark.parametrize(
    ("frame", "error", "reason"),
    [
        ({"v": [{"a": 1}]}, BadValue, "row 1: column 'v' cannot take this value: text is wanted, not dict"),
        ({"v": ["fine", "a\0"]}, BadValue, "row 2: column 'v' .*NUL"),
        ({"w": ["a"]}, SchemaMismatch, "no column 'w'.*no column 'v'.*Nothing was changed"),
        ({"v": []}, PublishRefused, "allow_empty"),
        ({}, SchemaMismatch, "no columns"),
        ({1: ["a"]}, SchemaMismatch, "column 1"),
    ],
)
def test_a_frame_that_cannot_be_stored_leaves_the_table(
    client: Client, frame: Any, error: type[Exception], reason: str
) -> None:
    client.execute_query("CREATE TABLE t (v text)")
    client.execute_query("INSERT INTO t VALUES ('old')")
    with pytest.raises(error, match=reason):
        client.overwrite_table_with_df(pd.DataFrame(frame), "t")
    assert client.read_table("t")["v"].tolist() == ["old"]
    with pytest.raises(error):
        client.append_table(pd.DataFrame(frame), "t") if frame != {"v": []} else client.overwrite_table_with_df(
            pd.DataFrame(frame), "t"
        )
    assert client.read_table("t")["v"].tolist() == ["old"]


def test_a_new_table_with_mixed_values_is_refused_and_not_created(client: Client) -> None:
    with pytest.raises(SchemaMismatch, match=r"'v' mixes kinds of values \(text, whole\)"):
        client.overwrite_table_with_df(pd.DataFrame({"v": [1, "a"]}), "fresh")
    with pytest.raises(BadValue):
        client.overwrite_table_with_df(pd.DataFrame({"v": ["a", "\0"]}), "fresh")
    with pytest.raises(SchemaMismatch, match="fresh"):
        client.read_table("fresh")
    client.overwrite_table_with_df(pd.DataFrame({"v": [1, 2]}), "fresh", dtype={"v": Numeric(5, 2)})
    assert _one(client, "SELECT v::text FROM fresh LIMIT 1") == "1.00"


def test_append_adds_all_rows_or_none_and_fills_in_defaults(client: Client) -> None:
    client.append_df_to_table(pd.DataFrame({"v": ["a"]}), "log")
    client.execute_query("ALTER TABLE log ADD COLUMN n int DEFAULT 7")
    assert client.append_table(pd.DataFrame({"v": ["b", None]}), "log") == 2
    with pytest.raises(BadValue):
        client.append_table(pd.DataFrame({"v": ["c", "\0"]}), "log")
    assert client.execute_query("SELECT * FROM log").fetchall() == [("a", 7), ("b", 7), (None, 7)]


def test_names_with_capitals_quotes_and_a_schema_work(client: Client) -> None:
    client.execute_query('CREATE SCHEMA "Lab"')
    frame = pd.DataFrame({'Select "x" %s :y': [1]})
    client.overwrite_table_with_df(frame, 'Table "1"', schema="Lab")
    client.overwrite_table_with_df(frame + 1, 'Table "1"', schema="Lab")
    pd.testing.assert_frame_equal(client.read_table('Table "1"', schema="Lab"), frame + 1)


def test_a_query_text_goes_to_the_server_as_it_is(client: Client) -> None:
    assert client.execute_query("SELECT ':c', '%s', 1::text").fetchall() == [(":c", "%s", "1")]
    assert client.execute_query("SELECT :a || '%'", {"a": "x"}).scalar_one() == "x%"


def test_a_statement_that_writes_is_committed(client: Client) -> None:
    client.execute_query("CREATE TABLE t (v int)")
    assert client.execute_query("INSERT INTO t VALUES (1), (2)").rowcount == 2
    assert _one(client, "SELECT count(*) FROM t") == 2


def test_many_reads_use_one_connection(client: Client) -> None:
    client.execute_query("CREATE TABLE t (v int)")
    for _ in range(10):
        client.read_table("t")
    assert _one(client, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'notebook'") == 1


def test_views_and_grants_survive_an_overwrite(client: Client) -> None:
    client.overwrite_table_with_df(pd.DataFrame({"v": ["a"]}), "t")
    client.execute_query("CREATE VIEW seen AS SELECT v FROM t")
    client.execute_query("GRANT SELECT ON t TO PUBLIC")
    client.overwrite_table_with_df(pd.DataFrame({"v": ["b"]}), "t")
    assert client.read_table("seen")["v"].tolist() == ["b"]
    assert "=r/" in _one(client, "SELECT relacl::text FROM pg_class WHERE relname = 't'")


def test_a_server_that_is_down_is_an_outage() -> None:
    client = Client(RDSCredentials(username="u", password="canary-p", host="127.0.0.1", port=1, dbname="d"))
    with pytest.raises(ServiceUnavailable, match="RDS_HOST"):
        client.overwrite_table_with_df(pd.DataFrame({"v": [1]}), "t")


def test_a_failed_query_names_the_cause(client: Client) -> None:
    with pytest.raises(ServiceError, match="division by zero"):
        client.execute_query("SELECT 1/0")
    with client.engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
