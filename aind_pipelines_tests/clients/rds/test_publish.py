"""Publish: old or new and nothing between, whatever happens."""

import itertools
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from aind_pipelines.clients.errors import AccessRefused, ServiceUnavailable
from aind_pipelines.clients.rds import (
    BadValue,
    PublishRefused,
    PublishResult,
    RdsError,
    SchemaMismatch,
    make_engine,
    publish,
    replace,
)
from aind_pipelines.tables.schema import data_assets
from aind_pipelines_tests.clients.servers import PostgresServer
from aind_pipelines_tests.counts import examples

HOSTILE = 'order "by" %s; drop'


def _table(name: str = "assets", **options: Any) -> Table:
    return Table(
        name,
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("value", Integer),
        Column("tags", ARRAY(Text)),
        Column("body", JSONB),
        Column("seen", DateTime(timezone=True), server_default=func.now()),
        Column("run", Text),
        **options,
    )


def _row(name: str, value: int | None = 0, **more: Any) -> dict[str, Any]:
    return {"id": name, "value": value, "tags": [name, 'a"b\\c,{}'], "body": {"name": name}, **more}


@pytest.fixture
def assets(engine: Engine) -> Table:
    table = _table()
    table.metadata.create_all(engine)
    return table


def _read(engine: Engine, table: Table) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.id: row.value for row in connection.execute(select(table))}


def _versions(engine: Engine, table: Table) -> dict[str, str]:
    """Where each row version is: another place means that the row was written again."""
    with engine.connect() as connection:
        return {row.id: row.place for row in connection.execute(select(table.c.id, text("ctid::text AS place")))}


def _leftovers(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.execute(text("SELECT relname FROM pg_class WHERE relname LIKE 'publish\\_%'")).scalars()
        )


def test_rows_become_the_table_and_only_what_differs_is_written(engine: Engine, assets: Table) -> None:
    first = publish(engine, assets, [_row("a"), _row("b"), _row("c")], key=["id"])
    assert first == PublishResult(rows=3, inserted=3, updated=0, deleted=0, unchanged=0)
    before = _versions(engine, assets)
    second = publish(engine, assets, [_row("a"), _row("b", 7), _row("d")], key=["id"])
    assert second == PublishResult(rows=3, inserted=1, updated=1, deleted=1, unchanged=1)
    assert _read(engine, assets) == {"a": 0, "b": 7, "d": 0}
    assert _versions(engine, assets)["a"] == before["a"]
    third = publish(engine, assets, [_row("a"), _row("b", 7), _row("d")], key=["id"])
    assert not third.changed
    assert _leftovers(engine) == []


@given(
    before=st.dictionaries(st.text("ab", min_size=1, max_size=2), st.none() | st.integers(0, 2), max_size=6),
    after=st.dictionaries(st.text("ab", min_size=1, max_size=2), st.none() | st.integers(0, 2), max_size=6),
    delete=st.booleans(),
)
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_result_counts_what_a_dictionary_would_say(
    engine: Engine, before: dict[str, int | None], after: dict[str, int | None], delete: bool
) -> None:
    table = _table()
    table.metadata.create_all(engine)
    publish(engine, table, [_row(*item) for item in before.items()], key=["id"], allow_empty=True, max_shrink=1)
    result = publish(
        engine, table, [_row(*item) for item in after.items()],
        key=["id"], delete_missing=delete, allow_empty=True, max_shrink=1,
    )  # fmt: skip
    assert _read(engine, table) == (after if delete else {**before, **after})
    both = before.keys() & after.keys()
    assert result == PublishResult(
        rows=len(after),
        inserted=len(after.keys() - before.keys()),
        updated=sum(before[name] != after[name] for name in both),
        deleted=len(before.keys() - after.keys()) if delete else 0,
        unchanged=sum(before[name] == after[name] for name in both),
    )


def test_an_empty_or_drastically_smaller_result_is_refused_unless_allowed(engine: Engine, assets: Table) -> None:
    full = [_row(str(number)) for number in range(10)]
    with pytest.raises(PublishRefused, match="no rows"):
        publish(engine, assets, [], key=["id"])
    publish(engine, assets, full, key=["id"])
    with pytest.raises(PublishRefused, match="allow_empty"):
        publish(engine, assets, [], key=["id"])
    with pytest.raises(PublishRefused, match="only 4 rows were given for 10"):
        publish(engine, assets, full[:4], key=["id"])
    assert len(_read(engine, assets)) == 10
    assert publish(engine, assets, full[:5], key=["id"]).deleted == 5
    assert publish(engine, assets, full[:1], key=["id"], max_shrink=1).deleted == 4
    assert publish(engine, assets, [], key=["id"], allow_empty=True).deleted == 1
    assert publish(engine, assets, [], key=["id"], delete_missing=False).rows == 0


def test_a_part_of_the_table_is_replaced_and_the_rest_left_alone(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a1", 1), _row("b1", 2), _row("b2", 2)], key=["id"])
    result = publish(engine, assets, [_row("b2", 2), _row("b3", 2)], key=["id"], part={"value": 2})
    assert result == PublishResult(rows=2, inserted=1, updated=0, deleted=1, unchanged=1)
    assert _read(engine, assets) == {"a1": 1, "b2": 2, "b3": 2}
    with pytest.raises(PublishRefused, match=r"1 of the rows lie outside of the part \{'value': 2\}"):
        publish(engine, assets, [_row("b2", 2), _row("a1", 1)], key=["id"], part={"value": 2})
    assert publish(engine, assets, [], key=["id"], part={"value": 2}, allow_empty=True).deleted == 2
    assert _read(engine, assets) == {"a1": 1}


def test_a_stamp_alone_does_not_rewrite_a_row_but_goes_with_one_that_changed(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a", run="one"), _row("b", run="one")], key=["id"], stamps=["run"])
    result = publish(engine, assets, [_row("a", run="two"), _row("b", 5, run="two")], key=["id"], stamps=["run"])
    assert (result.updated, result.unchanged) == (1, 1)
    with engine.connect() as connection:
        runs = {row.id: row.run for row in connection.execute(select(assets))}
    assert runs == {"a": "one", "b": "two"}


def test_columns_that_no_row_has_take_their_default_and_keep_their_value(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a")], key=["id"])
    with engine.begin() as connection:
        connection.execute(assets.update().values(run="by hand"))
        seen = connection.execute(select(assets.c.seen)).scalar_one()
    assert (datetime.now(UTC) - seen).total_seconds() < 60
    publish(engine, assets, [_row("a", 9)], key=["id"])
    with engine.connect() as connection:
        row = connection.execute(select(assets)).one()
    assert (row.value, row.run, row.seen) == (9, "by hand", seen)


def test_repeated_null_and_absent_keys_are_refused_and_named(engine: Engine, assets: Table) -> None:
    with pytest.raises(PublishRefused, match=r"id='twin' 2 times"):
        publish(engine, assets, [_row("twin"), _row("twin", 1)], key=["id"])
    with pytest.raises(PublishRefused, match="never null"):
        publish(engine, assets, [{**_row("x"), "id": None}], key=["id"])
    with pytest.raises(PublishRefused, match="no column 'id'"):
        publish(engine, assets, [{"value": 1}], key=["id"])


def test_rows_with_other_columns_are_refused_and_named(engine: Engine, assets: Table) -> None:
    with pytest.raises(BadValue, match=r"row 2 \(id='b'\) lacks 'value'"):
        publish(engine, assets, [{"id": "a", "value": 1}, {"id": "b"}], key=["id"])
    with pytest.raises(BadValue, match=r"row 2 .*unexpected 'extra'"):
        publish(engine, assets, [{"id": "a"}, {"id": "b", "extra": 1}], key=["id"])
    with pytest.raises(SchemaMismatch, match="no column 'unknown'"):
        publish(engine, assets, [{"id": "a", "unknown": 1}], key=["id"])


def test_a_table_that_is_missing_or_has_other_types_is_reported_before_anything_is_touched(engine: Engine) -> None:
    table = _table()
    with pytest.raises(SchemaMismatch, match="db migrate"):
        publish(engine, table, [_row("a")], key=["id"])
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE assets (id text PRIMARY KEY, value text, tags text[])"))
    with pytest.raises(SchemaMismatch, match=r"column 'value' is text, not integer; it has no column 'body'"):
        publish(engine, table, [_row("a")], key=["id"])
    assert _leftovers(engine) == []


def test_names_with_quotes_percents_and_reserved_words_work(engine: Engine) -> None:
    table = Table(
        HOSTILE, MetaData(), Column("select", Text, primary_key=True), Column('a"b%s', Integer), schema='sch"ema'
    )
    with engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "sch""ema"'))
        connection.execute(text(f'CREATE TABLE "sch""ema"."{HOSTILE.replace(chr(34), chr(34) * 2)}" '
                                '("select" text PRIMARY KEY, "a""b%s" integer)'))  # fmt: skip
    for value in (1, 2):
        publish(engine, table, [{"select": "x", 'a"b%s': value}], key=["select"], part={"select": "x"})
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f'SELECT * FROM "sch""ema"."{HOSTILE.replace(chr(34), chr(34) * 2)}"',
            execution_options={"no_parameters": True},
        ).all()
    assert rows == [("x", 2)]


def test_plain_json_is_compared_by_its_text(engine: Engine) -> None:
    table = Table("j", MetaData(), Column("id", Text, primary_key=True), Column("body", JSON))
    table.metadata.create_all(engine)
    publish(engine, table, [{"id": "a", "body": {"x": 1}}], key=["id"])
    assert publish(engine, table, [{"id": "a", "body": {"x": 1}}], key=["id"]).unchanged == 1
    assert publish(engine, table, [{"id": "a", "body": {"x": 2}}], key=["id"]).updated == 1


def test_views_indexes_grants_and_comments_survive(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a")], key=["id"])
    look = text(
        "SELECT c.oid, c.relacl::text, obj_description(c.oid), "
        "(SELECT array_agg(indexdef ORDER BY indexname) FROM pg_indexes WHERE tablename = 'assets') "
        "FROM pg_class c WHERE relname = 'assets'"
    )
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW names AS SELECT id FROM assets"))
        connection.execute(text("CREATE INDEX by_value ON assets (value)"))
        connection.execute(text("COMMENT ON TABLE assets IS 'kept'"))
        connection.execute(text("GRANT SELECT ON assets TO PUBLIC"))
        before = connection.execute(look).one()
    publish(engine, assets, [_row("b"), _row("c")], key=["id"])
    with engine.connect() as connection:
        assert connection.execute(look).one() == before
        assert connection.execute(text("SELECT id FROM names ORDER BY id")).scalars().all() == ["b", "c"]


def test_a_failing_source_leaves_the_old_table_and_its_own_error(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a")], key=["id"])

    def rows() -> Iterator[dict[str, Any]]:
        yield from (_row(str(number)) for number in range(20_000))
        raise ServiceUnavailable("DocDB", "the page after 20000 records did not come")

    with pytest.raises(ServiceUnavailable, match="20000 records"):
        publish(engine, assets, rows(), key=["id"])
    assert _read(engine, assets) == {"a": 0}
    assert _leftovers(engine) == []


def test_a_constraint_leaves_the_old_table_and_names_itself(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a"), _row("b")], key=["id"])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE assets ADD CONSTRAINT small CHECK (value < 10)"))
    with pytest.raises(RdsError, match="small"):
        publish(engine, assets, [_row("a", 5), _row("c", 50)], key=["id"])
    assert _read(engine, assets) == {"a": 0, "b": 0}


@pytest.mark.slow
def test_a_connection_killed_at_every_step_leaves_the_table_old_or_new(
    engine: Engine, postgres: PostgresServer, database: str, assets: Table
) -> None:
    """The backend is ended before the n-th statement of the publish, for every n there is, its COPY included.

    An error means that nothing was published, as far as anybody can know; what is ended after the commit is no error.
    """
    many = 80  # enough to be replaced that a vacuum follows
    old = [_row(f"{number}") for number in range(many)]
    new = [_row(f"{number}", 1) for number in range(1, many + 1)]
    contents = [{row["id"]: row["value"] for row in rows} for rows in (old, new)]
    said: set[str] = set()
    reached = 0

    class Ending(psycopg.Cursor[Any]):
        def _step(self) -> None:
            nonlocal reached
            if reached == step:
                with psycopg.connect(postgres.conninfo(database), autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", (self.connection.info.backend_pid,))
            reached += 1

        def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
            self._step()
            said.add(str(query).split()[0])
            return super().execute(query, *arguments, **options)

        def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
            self._step()
            said.add("COPY")
            return super().copy(statement, *arguments, **options)

    seen = []
    for step in itertools.count():
        publish(engine, assets, old, key=["id"], max_shrink=1)
        reached = 0
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.cursor_factory = Ending
            connection.rollback()
            try:
                publish(connection, assets, pd.DataFrame(new), key=["id"])
                ended = False
            except ServiceUnavailable:
                ended = True
            connection.invalidate()
        now = _read(engine, assets)
        assert now == contents[0 if ended else 1]
        seen.append(ended)
        assert _leftovers(engine) == []
        if reached <= step:
            break
    assert {"COPY", "DELETE", "UPDATE", "INSERT", "VACUUM"} <= said
    assert seen == sorted(seen, reverse=True)
    assert seen[0] is True
    assert seen[-3:] == [False, False, False], "the vacuum and what goes before it"


def test_inside_of_a_callers_transaction_it_becomes_visible_when_the_caller_commits(
    engine: Engine, assets: Table
) -> None:
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(insert(assets).values(id="before", value=1))
            publish(connection, assets, [_row("a")], key=["id"], delete_missing=False)
            publish(connection, assets, [_row("b")], key=["id"], delete_missing=False)
            assert _read(engine, assets) == {}
            with pytest.raises(BadValue):
                publish(connection, assets, [_row("c", "many")], key=["id"])  # type: ignore[arg-type]
        assert _read(engine, assets) == {"before": 1, "a": 0, "b": 0}
        with connection.begin() as transaction:
            publish(connection, assets, [_row("gone")], key=["id"], delete_missing=False)
            transaction.rollback()
    assert "gone" not in _read(engine, assets)
    assert _leftovers(engine) == []


def test_readers_see_old_or_new_and_never_wait(
    engine: Engine, postgres: PostgresServer, database: str, assets: Table
) -> None:
    publish(engine, assets, [_row(str(number), 0) for number in range(2000)], key=["id"])
    stop = threading.Event()
    seen: set[tuple[int, int, int]] = set()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            with psycopg.connect(postgres.conninfo(database), autocommit=True) as connection:
                connection.execute("SET lock_timeout = '50ms'")
                while not stop.is_set():
                    row = connection.execute("SELECT count(*), min(value), max(value) FROM assets").fetchone()
                    assert row is not None
                    seen.add((row[0], row[1], row[2]))
        except BaseException as error:  # noqa: BLE001 - reported to the test below
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for generation in range(1, 6):
        rows = [_row(str(number), generation) for number in range(1000 * (generation % 2), 2000)]
        publish(engine, assets, rows, key=["id"])
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert seen <= {(2000 if n % 2 == 0 else 1000, n, n) for n in range(6)}
    assert len(seen) > 1


def test_a_reader_that_holds_its_snapshot_does_not_stop_a_publish(
    engine: Engine, postgres: PostgresServer, database: str, assets: Table
) -> None:
    publish(engine, assets, [_row("a")], key=["id"])
    with psycopg.connect(postgres.conninfo(database)) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute("SELECT id FROM assets").fetchall() == [("a",)]
        publish(engine, assets, [_row("b")], key=["id"])
        assert reader.execute("SELECT id FROM assets").fetchall() == [("a",)]
    assert _read(engine, assets) == {"b": 0}


def test_two_publishers_queue_and_the_later_one_wins_whole(engine: Engine, assets: Table) -> None:
    errors: list[BaseException] = []

    def many(value: int) -> None:
        try:
            for _ in range(4):
                publish(engine, assets, [_row(str(number), value) for number in range(300)], key=["id"])
        except BaseException as error:  # noqa: BLE001 - reported to the test below
            errors.append(error)

    threads = [threading.Thread(target=many, args=(value,)) for value in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    content = _read(engine, assets)
    assert len(content) == 300
    assert len(set(content.values())) == 1


def test_a_publisher_waits_for_the_one_before_it_even_with_a_statement_timeout(
    postgres: PostgresServer, database: str, engine: Engine, assets: Table
) -> None:
    hasty = make_engine(postgres.url(database), statement_timeout=0.2)
    with engine.connect() as first, first.begin():
        publish(first, assets, [_row("a")], key=["id"])
        done: list[PublishResult] = []
        second = threading.Thread(target=lambda: done.append(publish(hasty, assets, [_row("b")], key=["id"])))
        second.start()
        time.sleep(0.6)
        assert done == []
    second.join(10)
    hasty.dispose()
    assert [(result.inserted, result.deleted) for result in done] == [(1, 1)]
    assert _read(engine, assets) == {"b": 0}


def test_memory_stays_flat_for_an_iterator(engine: Engine) -> None:
    table = Table("wide", MetaData(), Column("id", BigInteger, primary_key=True), Column("filler", Text))
    table.metadata.create_all(engine)

    def peak(rows: int) -> int:
        tracemalloc.start()
        publish(engine, table, ({"id": number, "filler": "x" * 1000} for number in range(rows)), key=["id"])
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(100)
    small, large = peak(2_000), peak(20_000)
    assert large < small + 1_000_000


def test_replace_takes_rows_without_any_key(engine: Engine) -> None:
    table = Table("bag", MetaData(), Column("word", Text))
    table.metadata.create_all(engine)
    replace(engine, table, [{"word": "a"}, {"word": "a"}, {"word": None}])
    assert replace(engine, table, [{"word": None}, {"word": "a"}, {"word": "a"}]) == PublishResult(3, 0, 0, 0, 3)
    assert replace(engine, table, [{"word": None}, {"word": None}, {"word": "a"}]) == PublishResult(3, 3, 0, 3, 0)
    assert replace(engine, table, [{"word": "b"}, {"word": "b"}]) == PublishResult(2, 2, 0, 3, 0)
    with pytest.raises(PublishRefused):
        replace(engine, table, [])
    with pytest.raises(ValueError, match="replace"):
        publish(engine, table, [{"word": "a"}], key=[])


def test_the_projects_own_tables_can_be_published(engine: Engine) -> None:
    data_assets.create(engine)
    row = {
        **{column.name: None for column in data_assets.columns},
        "id": "1", "record_version": "v2", "modalities": ["ecephys"], "created": datetime(2024, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    assert publish(engine, data_assets, [row], key=["record_version", "id"]).inserted == 1
    assert publish(engine, data_assets, [row], key=["record_version", "id"]).unchanged == 1


def test_a_server_that_is_down_and_a_wrong_password_are_told_apart_without_the_password(
    postgres: PostgresServer, database: str, engine: Engine, assets: Table
) -> None:
    down = make_engine(postgres.url(database).set(port=1))
    with pytest.raises(ServiceUnavailable, match="RDS_HOST") as raised:
        publish(down, assets, [_row("a")], key=["id"])
    assert postgres.password not in str(raised.value)
    wrong = make_engine(postgres.url(database).set(password="canary-wrong"))
    with pytest.raises(AccessRefused, match="RDS_PASSWORD") as refused:
        publish(wrong, assets, [_row("a")], key=["id"])
    assert "canary" not in str(refused.value)
    assert "canary" not in repr(wrong)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN PASSWORD 'canary-reader'"))
        connection.execute(text("GRANT SELECT ON assets TO reader"))
    reader = make_engine(postgres.url(database).set(username="reader", password="canary-reader"))
    with pytest.raises(AccessRefused, match="permission denied"):
        publish(reader, assets, [_row("a")], key=["id"])
    reader.dispose()
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY reader"))
        connection.execute(text("DROP ROLE reader"))


def test_another_driver_is_refused_by_name(postgres: PostgresServer, database: str, assets: Table) -> None:
    other = create_engine(postgres.url(database).set(drivername="postgresql+psycopg2"))
    with pytest.raises(RdsError, match="psycopg2"):
        publish(other, assets, [_row("a")], key=["id"])
    other.dispose()


def test_a_connection_that_commits_every_statement_is_refused(engine: Engine, assets: Table) -> None:
    publish(engine, assets, [_row("a")], key=["id"])
    with pytest.raises(RdsError, match="AUTOCOMMIT"):
        publish(engine.execution_options(isolation_level="AUTOCOMMIT"), assets, [_row("b")], key=["id"])
    assert _read(engine, assets) == {"a": 0}
