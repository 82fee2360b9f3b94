"""The client: credentials from wherever they are, DataFrames in and out, and nothing half-written."""

import random
import re
import string
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import Numeric, text

from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable
from aind_pipelines.clients.rds import BadValue, Client, PublishRefused, RDSCredentials, RdsError, SchemaMismatch
from aind_pipelines.clients.rds.errors import translated
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


def test_integers_come_back_as_they_are_beside_null(client: Client) -> None:
    client.execute_query(
        "CREATE TABLE t (big bigint, small smallint, full_ int, empty_ int, flag boolean, share float8, exact numeric)"
    )
    client.execute_query(
        "INSERT INTO t VALUES (9007199254740993, 1, 1, NULL, true, 0.5, 1.10), (NULL, NULL, 2, NULL, NULL, NULL, NULL)"
    )
    frame = client.read_table("t")
    assert frame.dtypes.astype(str).to_dict() == {
        "big": "Int64", "small": "Int64", "full_": "int64", "empty_": "Int64", "flag": "object", "share": "float64",
        "exact": "float64",
    }  # fmt: skip
    assert frame["big"].tolist() == [9007199254740993, pd.NA]
    stored = client.execute_query("SELECT * FROM t").fetchall()
    assert not client.overwrite_table_with_df(client.read_table("t", exact=True), "t").changed
    client.overwrite_table_with_df(client.read_table("t", exact=True), "other")
    assert client.execute_query("SELECT * FROM t").fetchall() == stored
    assert client.execute_query("SELECT big, exact FROM other").fetchall() == [
        (9007199254740993, Decimal("1.10")), (None, None)
    ]  # fmt: skip
    exact = client.read_table("t", exact=True)
    assert exact["exact"].tolist() == [Decimal("1.10"), None]
    assert exact.drop(columns="exact").equals(frame.drop(columns="exact"))
    assert client.read_table("t", "false", exact=True).shape == (0, 7)


def test_a_value_that_python_has_not_is_named(client: Client) -> None:
    client.execute_query('CREATE TABLE t (n int, "when" timestamptz, day date)')
    client.execute_query("INSERT INTO t VALUES (1, 'infinity', NULL)")
    with pytest.raises(RdsError, match=r"'infinity'.*'when' or 'day'.*column::text"):
        client.read_table("t")
    with pytest.raises(RdsError, match="column::text"):
        client.execute_query("SELECT * FROM t").fetchall()
    with pytest.raises(RdsError, match="column::text"):
        client.execute_query("SELECT day FROM (VALUES (date '-infinity')) t (day) WHERE :x", {"x": True}).scalar_one()
    assert client.read_table("t", columns=["n"])["n"].tolist() == [1]


def test_parameters_are_those_of_the_condition(client: Client) -> None:
    frame = pd.DataFrame({"b :c": [1, 2], "d\\:e %s ::f": ["x", "y"], ":g": [3, 4]})
    client.overwrite_table_with_df(frame, "a :table")
    read = client.read_table("a :table", '"b \\:c" = :c', parameters={"c": 2}, columns=list(frame))
    assert read.to_dict("records") == frame.iloc[1:].to_dict("records")
    assert client.read_table("a :table", '":g" = 3').shape == (1, 3)
    for query, parameters in (("SELECT :a", {"b": 1}), ("SELECT 'at :a', :b", {"b": 1}), ("SELECT 1", {"b": 1})):
        with pytest.raises(RdsError, match=r"there is no .*:[ab].*A colon"):
            client.execute_query(query, parameters)
    with pytest.raises(RdsError, match=r"there is no value for :low"):
        client.read_table("a :table", "1 > :low", parameters={"high": 1})
    with pytest.raises(RdsError, match=r"syntax error.*`parameters`"):
        client.read_table("a :table", "1 > :low")


def test_those_who_create_a_table_at_once_all_store_their_rows(client: Client) -> None:
    def frames(number: int) -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"n": [number], "v": ["a"]})
        time.sleep(0.1)  # within the transaction that creates it
        yield pd.DataFrame({"n": [number], "v": ["b"]})

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda number: client.append_table(frames(number), "log"), range(4)))
        assert added == [2, 2, 2, 2]
        assert _one(client, "SELECT count(*) FROM log") == 8
        for result in pool.map(lambda number: client.overwrite_table_with_df(frames(number), "whole"), range(4)):
            assert result.rows == 2
    assert len(set(client.read_table("whole")["n"])) == 1
    client.execute_query("CREATE SEQUENCE taken")
    with pytest.raises(RdsError, match=r"creating table taken.*already exists"):
        client.append_table(frames(1), "taken")


def test_batches_are_taken_wherever_a_frame_is(client: Client) -> None:
    frame = pd.DataFrame({"id": [1, 2], "v": ["a", None]})
    arrow = pa.table({"id": [3], "v": ["c"]})
    assert client.overwrite_table_with_df(iter([frame, arrow]), "by_frame").rows == 3
    assert client.overwrite_table_with_df(arrow.to_reader(), "by_arrow").rows == 1
    assert client.append_table((batch for batch in arrow.to_batches()), "by_batch") == 1
    client.execute_query("ALTER TABLE by_frame ADD PRIMARY KEY (id)")
    again = client.overwrite_table_with_df((part for part in [arrow, frame]), "by_frame")
    assert (again.rows, again.unchanged) == (3, 3)
    assert client.append_table(arrow.to_reader(), "by_arrow") == 1
    assert client.upsert_table(iter([frame, pa.table({"id": [9], "v": ["z"]})]), "by_frame", key=["id"]).inserted == 1
    assert client.upsert_table(iter([{"id": 10, "v": "row"}]), "by_frame", key=["id"]).inserted == 1
    assert client.append_table(iter(()), "by_frame") == 0
    with pytest.raises(PublishRefused, match="allow_empty"):
        client.overwrite_table_with_df(iter(()), "by_frame")
    with pytest.raises(SchemaMismatch, match="no column 'w'"):
        client.overwrite_table_with_df(iter([frame.rename(columns={"v": "w"})]), "by_frame")
    with pytest.raises(BadValue, match="the batch that begins with row 3"):
        client.append_table(iter([frame.assign(id=[11, 12]), frame[["id"]]]), "by_frame")
    for nothing in (iter(()), iter([{"id": 1}])):
        with pytest.raises(SchemaMismatch, match='"fresh" cannot be created'):
            client.overwrite_table_with_df(nothing, "fresh")
    assert _one(client, "SELECT count(*) FROM by_frame") == 5


def test_memory_stays_flat_for_batches_into_a_new_table(client: Client) -> None:
    def peak(rows: int, table: str) -> int:
        def batches() -> Iterator[pd.DataFrame]:
            for start in range(0, rows, 1_000):
                yield pd.DataFrame({"id": range(start, start + 1_000), "filler": ["x" * 1_000] * 1_000})

        tracemalloc.start()
        assert client.append_table(batches(), table) == rows
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1_000, "first")
    assert peak(20_000, "long") < peak(4_000, "short") + 4_000_000


def test_types_that_only_the_server_parses_take_their_text(client: Client) -> None:
    client.execute_query("CREATE DOMAIN share AS numeric(6,2) CHECK (VALUE >= 0)")
    client.execute_query(
        "CREATE TABLE t (id int PRIMARY KEY, d share, i inet, c cidr, m macaddr, r int4range, b bit(3), w tsvector)"
    )
    frame = pd.DataFrame(
        {"id": [1, 2], "d": [1.5, None], "i": ["10.0.0.1", None], "c": ["10.0.0.0/8", None],
         "m": ["08:00:2b:01:02:03", None], "r": ["[1,5)", None], "b": ["101", None], "w": ["'a' 'b'", None]}
    )  # fmt: skip
    assert client.overwrite_table_with_df(frame, "t").inserted == 2
    assert not client.overwrite_table_with_df(frame, "t").changed
    assert client.execute_query("SELECT d, i::text, r::text, b::text FROM t WHERE id = 1").fetchall() == [
        (Decimal("1.50"), "10.0.0.1/32", "[1,5)", "101")
    ]
    client.append_table(client.read_table("t", "id = 1", columns=["id", "i", "c"]).assign(id=3), "t")
    for column, value, reason in (("i", "nowhere", "inet.*column i"), ("d", -1.0, "check"), ("r", 5, "not int")):
        with pytest.raises(RdsError, match=reason):
            client.append_table(pd.DataFrame({"id": [4], column: [value]}), "t")


@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.parametrize("kind", ["point", "point[]", "xml", "hstore_like"])
def test_a_column_of_a_type_without_a_rule_is_named(client: Client, kind: str) -> None:
    client.execute_query("CREATE TYPE hstore_like AS (a int)")
    client.execute_query(f"CREATE TABLE t (id int, p {kind})")
    for write in (client.overwrite_table_with_df, client.append_table):
        with pytest.raises(SchemaMismatch, match=rf"column 'p' .*type {re.escape(kind)}"):
            write(pd.DataFrame({"id": [1], "p": ["(1,2)"]}), "t")
    assert client.append_table(pd.DataFrame({"id": [1]}), "t") == 1


def test_limits_and_other_sessions_are_no_outage(client: Client) -> None:
    client.execute_query("CREATE TABLE t (v text PRIMARY KEY)")
    word = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))
    with pytest.raises(RdsError, match=r"index row .*a limit of Postgres"):
        client.overwrite_table_with_df(pd.DataFrame({"v": [word]}), "t")
    with pytest.raises(RdsError, match=r"1600 columns.*a limit of Postgres"):
        client.overwrite_table_with_df(pd.DataFrame([range(1601)], columns=[f"c{n}" for n in range(1601)]), "wide")
    with client.engine.begin() as connection:
        connection.execute(text("LOCK TABLE t"))
        with pytest.raises(RdsError, match=r"could not obtain lock.*Another session") as raised:
            client.execute_query("LOCK TABLE t NOWAIT")
    assert raised.value.retryable


@pytest.mark.parametrize(
    ("state", "kind", "retryable", "step"),
    [
        ("54000", RdsError, False, "limit of Postgres"),
        ("54001", RdsError, False, "limit of Postgres"),
        ("40001", RdsError, True, "repeat it"),
        ("40P01", RdsError, True, "repeat it"),
        ("55P03", RdsError, True, "Another session"),
        ("55006", RdsError, True, "Another session"),
        ("55000", RdsError, False, "reason"),
        ("57014", RdsError, False, "statement timeout"),
        ("57P04", RdsError, False, "RDS_DATABASE"),
        ("57P01", ServiceUnavailable, True, "restarting"),
        ("57P03", ServiceUnavailable, True, "restarting"),
        ("58030", ServiceUnavailable, True, "fault"),
        ("53300", ServiceUnavailable, True, "out of a resource"),
        ("08006", ServiceUnavailable, True, "RDS_HOST"),
        ("38000", RdsError, False, "reason"),
        ("HV000", RdsError, False, "reason"),
    ],
)
def test_an_operational_error_is_what_its_state_says(
    state: str, kind: type[ServiceError], retryable: bool, step: str
) -> None:
    with pytest.raises(ServiceError, match=step) as raised, translated("doing"):
        raise psycopg.errors.lookup(state)("reason")
    assert type(raised.value) is kind
    assert raised.value.retryable is retryable
    assert not (kind is RdsError and "RDS_HOST" in str(raised.value))
