"""Publishing into tables that have keys, references and columns of their own."""

import threading
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, text

from aind_pipelines.clients.rds import (
    Client,
    PublishRefused,
    PublishResult,
    RDSCredentials,
    RdsError,
    merge,
    publish,
    replace,
)
from aind_pipelines.clients.rds.targets import natural_key
from aind_pipelines_tests.counts import examples


@pytest.fixture
def client(engine: Engine) -> Any:
    url = engine.url
    credentials = RDSCredentials(
        username=url.username, password=url.password, host=url.host, port=url.port, dbname=url.database
    )
    with Client(credentials=credentials) as made:
        yield made


def _run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _rows(engine: Engine, name: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return sorted(tuple(row) for row in connection.execute(text(f"SELECT * FROM {name}")))


def _table(name: str = "things") -> Table:
    return Table(name, MetaData(), Column("id", Integer), Column("value", Text))


@pytest.mark.parametrize("name", ["publish_rows", "publish_part", "publish_gone", "publish_rewritten"])
def test_a_table_with_the_name_of_a_staging_table_is_written(engine: Engine, client: Client, name: str) -> None:
    _run(engine, f"CREATE TABLE {name} (id int PRIMARY KEY, value text)", f"INSERT INTO {name} VALUES (1, 'old')")
    frame = pd.DataFrame({"id": [1, 2], "value": ["new", "other"]})
    assert client.overwrite_table_with_df(frame, name) == PublishResult(2, 1, 1, 0, 0)
    assert _rows(engine, f"public.{name}") == [(1, "new"), (2, "other")]
    assert merge(engine, _table(name), [], key=["id"], deleted=[{"id": 2}]).deleted == 1
    part = publish(engine, _table(name), [{"id": 1, "value": "p"}], key=["id"], part={"value": "p"})
    assert part.updated == 1
    assert _rows(engine, f"public.{name}") == [(1, "p")]


def test_unique_columns_that_are_never_null_are_a_key(engine: Engine, client: Client) -> None:
    _run(
        engine,
        "CREATE TABLE parents (n int, code text NOT NULL UNIQUE)",
        "INSERT INTO parents VALUES (1, 'a'), (2, 'b')",
        "CREATE TABLE children (id int, code text REFERENCES parents (code) ON DELETE CASCADE)",
        "INSERT INTO children VALUES (1, 'a'), (2, 'b')",
    )
    frame = pd.DataFrame({"n": [1, 5, 3], "code": ["a", "b", "c"]})
    assert client.overwrite_table_with_df(frame, "parents") == PublishResult(3, 1, 1, 0, 1)
    assert _rows(engine, "children") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_table_without_a_key_whose_rows_take_others_along_is_refused(
    engine: Engine, client: Client, action: str
) -> None:
    _run(
        engine,
        "CREATE TABLE parents (n int, code text UNIQUE)",
        "INSERT INTO parents VALUES (1, 'a')",
        f"CREATE TABLE children (id int, code text REFERENCES parents (code) ON DELETE {action})",
        "INSERT INTO children VALUES (1, 'a')",
    )
    with pytest.raises(PublishRefused, match="foreign key"):
        client.overwrite_table_with_df(pd.DataFrame({"n": [2], "code": ["a"]}), "parents")
    assert _rows(engine, "parents") == [(1, "a")]
    assert _rows(engine, "children") == [(1, "a")]


@pytest.mark.parametrize(
    ("definition", "key"),
    [
        ("a int, b int, PRIMARY KEY (b, a)", ["b", "a"]),
        ("a int NOT NULL, b int NOT NULL, UNIQUE (a, b)", ["a", "b"]),
        ("a int NOT NULL UNIQUE, b int PRIMARY KEY", ["b"]),
        ("a int UNIQUE, b int", []),
        ("a int NOT NULL, b int NOT NULL", []),
    ],
)
def test_the_key_of_a_table_is_found(engine: Engine, definition: str, key: list[str]) -> None:
    _run(
        engine,
        f"CREATE TABLE keyed ({definition})",
        "CREATE UNIQUE INDEX ON keyed (a) WHERE b > 0",
        "CREATE UNIQUE INDEX ON keyed (abs(a))",
    )
    with engine.connect() as connection:
        assert natural_key(connection, Table("keyed", MetaData())) == key


@pytest.mark.parametrize("whole", [True, False])
def test_a_table_that_repeats_the_key_is_refused(engine: Engine, whole: bool) -> None:
    _run(
        engine,
        "CREATE TABLE things (id int, value text)",
        "INSERT INTO things VALUES (1, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (3, 'd')",
    )
    before = _rows(engine, "things")
    with pytest.raises(PublishRefused, match=r"the table itself holds the key \(id\) repeatedly: id='1' 2 times"):
        publish(engine, _table(), [{"id": 1, "value": "x"}, {"id": 2, "value": "y"}], key=["id"], delete_missing=whole)
    assert _rows(engine, "things") == before
    # What is repeated elsewhere does not stand in the way of rows that are told apart.
    assert publish(engine, _table(), [{"id": 2, "value": "y"}], key=["id"], delete_missing=False).updated == 1


def _unique(engine: Engine, more: str = "") -> Table:
    _run(
        engine,
        f"CREATE TABLE ranks (id int PRIMARY KEY, rank int UNIQUE, note text DEFAULT 'kept', twice int{more})",
        "INSERT INTO ranks (id, rank) VALUES (1, 1), (2, 2), (3, 3)",
    )
    return Table("ranks", MetaData(), autoload_with=engine)


@pytest.mark.parametrize("whole", [True, False])
def test_rows_may_swap_values_that_are_unique(engine: Engine, whole: bool) -> None:
    table = _unique(engine, " GENERATED ALWAYS AS (rank * 2) STORED")
    rows = [{"id": 1, "rank": 2}, {"id": 2, "rank": 1}, {"id": 3, "rank": 3}]
    assert publish(engine, table, rows, key=["id"], delete_missing=whole) == PublishResult(3, 0, 2, 0, 1)
    assert _rows(engine, "ranks") == [(1, 2, "kept", 4), (2, 1, "kept", 2), (3, 3, "kept", 6)]


def test_a_value_that_is_unique_and_given_twice_leaves_the_table(engine: Engine) -> None:
    table = _unique(engine)
    before = _rows(engine, "ranks")
    with pytest.raises(RdsError, match="ranks_rank_key"):
        publish(engine, table, [{"id": 1, "rank": 2}, {"id": 2, "rank": 2}, {"id": 3, "rank": 3}], key=["id"])
    assert _rows(engine, "ranks") == before


def test_rows_that_others_refer_to_are_never_taken_out(engine: Engine) -> None:
    table = _unique(engine)
    _run(
        engine,
        "CREATE TABLE holders (rank_id int REFERENCES ranks ON DELETE CASCADE)",
        "INSERT INTO holders VALUES (1), (2)",
    )
    with pytest.raises(RdsError, match="ranks_rank_key"):
        publish(engine, table, [{"id": 1, "rank": 2}, {"id": 2, "rank": 1}, {"id": 3, "rank": 3}], key=["id"])
    assert _rows(engine, "holders") == [(1,), (2,)]


@given(ranks=st.permutations(range(6)), given_ids=st.sets(st.integers(0, 7), min_size=4))
@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_order_of_unique_values_can_be_published(
    engine: Engine, ranks: list[int], given_ids: set[int]
) -> None:
    _run(
        engine,
        "DROP TABLE IF EXISTS ranks",
        "CREATE TABLE ranks (id int PRIMARY KEY, rank int UNIQUE)",
        "INSERT INTO ranks SELECT n, n FROM generate_series(0, 5) n",
    )
    table = Table("ranks", MetaData(), autoload_with=engine)
    wanted = sorted(zip(sorted(given_ids), ranks, strict=False))
    publish(engine, table, [{"id": a, "rank": b} for a, b in wanted], key=["id"])
    assert _rows(engine, "ranks") == wanted


def test_columns_that_the_server_generates_are_left_to_it(engine: Engine, client: Client) -> None:
    _run(
        engine,
        "CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, "
        "b int GENERATED ALWAYS AS (a * 2) STORED)",
        "INSERT INTO made (a) VALUES (1), (2)",
    )
    frame = client.read_table("made")
    assert not client.overwrite_table_with_df(frame, "made").changed
    frame.loc[1, "a"] = 5
    frame.loc[2] = {"id": 9, "a": 7, "b": 0}
    assert client.overwrite_table_with_df(frame, "made") == PublishResult(3, 1, 1, 0, 1)
    assert client.overwrite_table_with_df(frame.drop(columns="b"), "made") == PublishResult(3, 0, 0, 0, 3)
    assert _rows(engine, "made") == [(1, 1, 2), (2, 5, 10), (9, 7, 14)]


def test_a_table_without_key_and_with_a_generated_column_is_left_alone_when_it_is_the_same(engine: Engine) -> None:
    _run(
        engine,
        "CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
        "INSERT INTO made VALUES (1), (1)",
    )
    table = Table("made", MetaData(), autoload_with=engine)
    assert replace(engine, table, [{"a": 1}, {"a": 1}]) == PublishResult(2, 0, 0, 0, 2)
    assert replace(engine, table, [{"a": 1}, {"a": 3}]) == PublishResult(2, 2, 0, 2, 0)
    assert _rows(engine, "made") == [(1, 2), (3, 6)]


def test_naming_too_many_rows_as_deleted_is_refused_unless_allowed(engine: Engine) -> None:
    _run(
        engine,
        "CREATE TABLE things (id int PRIMARY KEY, value text)",
        "INSERT INTO things SELECT n, 'v' FROM generate_series(1, 10) n",
    )
    keys = [{"id": number} for number in range(1, 11)]
    with pytest.raises(PublishRefused, match="all of its 10 rows"):
        merge(engine, _table(), [], key=["id"], deleted=keys)
    with pytest.raises(PublishRefused, match="6 of 10 rows"):
        merge(engine, _table(), [], key=["id"], deleted=keys[:6])
    with pytest.raises(PublishRefused, match="1 of 10 rows"):
        merge(engine, _table(), [], key=["id"], deleted=keys[:1], max_shrink=0)
    assert len(_rows(engine, "things")) == 10
    new = [{"id": 20, "value": "n"}]
    assert merge(engine, _table(), new, key=["id"], deleted=keys[:6]) == PublishResult(1, 1, 0, 6, 0)
    assert merge(engine, _table(), [], key=["id"], deleted=keys[6:9], max_shrink=0.6).deleted == 3
    assert merge(engine, _table(), [], key=["id"], deleted=[*keys[9:], {"id": 20}], allow_empty=True).deleted == 2


def test_publishers_of_one_table_queue_by_whatever_name_they_call_it(engine: Engine) -> None:
    _run(engine, "CREATE TABLE things (id int PRIMARY KEY, value text)")
    named = Table("things", MetaData(), Column("id", Integer), Column("value", Text), schema="public")
    with engine.begin() as connection:
        publish(connection, _table(), [{"id": 1, "value": "first"}], key=["id"])
        other = threading.Thread(
            target=publish, args=(engine, named, [{"id": 1, "value": "second"}]), kwargs={"key": ["id"]}
        )
        other.start()
        other.join(1.0)
        assert other.is_alive()
    other.join(20)
    assert _rows(engine, "things") == [(1, "second")]
