"""What belongs to a table survives its publishing, and what goes wrong leaves it whole."""

import ctypes
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.clients.rds import PublishRefused, PublishResult, RdsError, SchemaMismatch, merge, publish, replace
from aind_pipelines_tests.clients.servers import PostgresServer
from aind_pipelines_tests.counts import examples

HOSTILE = 'select "from" %s; drop'


def _frame(rows: int, value: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"{n:05}" for n in range(rows)], "value": value, "order": "x" * 50})


@pytest.fixture
def table(engine: Engine) -> Table:
    made = Table(
        "assets",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("value", Integer),
        Column("order", Text),
    )
    made.metadata.create_all(engine)
    return made


def _content(engine: Engine, table: Table) -> set[int]:
    with engine.connect() as connection:
        return set(connection.scalars(select(table.c.value)))


def _size(engine: Engine, name: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_total_relation_size(:name)"), {"name": name}).scalar_one())


def _leftovers(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT relname FROM pg_class WHERE relname LIKE 'publish\\_%'")))


_CATALOGUE = """
    SELECT 'class', to_jsonb(c) - ARRAY['relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relhasindex',
        'relfrozenxid', 'relminmxid']
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
    UNION ALL SELECT 'attribute', to_jsonb(a) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
    UNION ALL SELECT 'index', to_jsonb(i) FROM pg_index i WHERE indrelid = 'assets'::regclass
    UNION ALL SELECT 'constraint', to_jsonb(c) FROM pg_constraint c WHERE conrelid = 'assets'::regclass
    UNION ALL SELECT 'description', to_jsonb(d) FROM pg_description d WHERE objoid = 'assets'::regclass
    UNION ALL SELECT 'rewrite', to_jsonb(r) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
    UNION ALL SELECT 'depend', to_jsonb(d) FROM pg_depend d WHERE refobjid = 'assets'::regclass
    UNION ALL SELECT 'trigger', to_jsonb(t) FROM pg_trigger t WHERE tgrelid = 'assets'::regclass
    ORDER BY 1, 2
"""


def test_the_catalogue_is_the_same_before_and_after(engine: Engine, table: Table) -> None:
    statements = (
        'CREATE INDEX by_value ON assets (value, lower("order"))',
        "ALTER TABLE assets ADD CONSTRAINT positive CHECK (value >= 0), ADD CONSTRAINT once UNIQUE (id, value)",
        "ALTER TABLE assets ALTER COLUMN value SET STATISTICS 200, SET (fillfactor = 80)",
        "ALTER TABLE assets ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON assets TO PUBLIC",
        "GRANT SELECT (id) ON assets TO PUBLIC",
        "COMMENT ON TABLE assets IS 'what there is'",
        "COMMENT ON COLUMN assets.value IS 'in mV'",
        "CREATE VIEW seen AS SELECT id, value FROM assets WHERE value > 0",
        "CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM seen",
        "CREATE TABLE detail (id text REFERENCES assets DEFERRABLE INITIALLY DEFERRED)",
    )
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))

    def catalogue() -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(text(_CATALOGUE)).fetchall())

    before = catalogue()
    assert {kind for kind, _ in before} >= {
        "class", "attribute", "index", "constraint", "description", "rewrite", "depend", "trigger",
    }  # fmt: skip
    for rows in (_frame(200), _frame(200, 1), _frame(150, 2)):
        publish(engine, table, rows, key=["id"])
    replace(engine, table, _frame(150, 3))
    merge(engine, table, _frame(3, 4), key=["id"], deleted=pd.DataFrame({"id": ["00100"]}))
    assert catalogue() == before


def test_names_that_are_reserved_or_hold_quotes_are_names(engine: Engine) -> None:
    odd = Table(HOSTILE, MetaData(), Column("select", Text, primary_key=True), Column(HOSTILE, ARRAY(Text)))
    odd.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text('CREATE VIEW "user" AS SELECT * FROM "' + HOSTILE.replace('"', '""') + '"'))
    frame = pd.DataFrame({"select": ["a", "b"], HOSTILE: [['"'], None]})
    assert publish(engine, odd, frame, key=["select"]).inserted == 2
    assert merge(engine, odd, frame[:0], key=["select"], deleted=[{"select": "a"}]).deleted == 1
    with engine.connect() as connection:
        assert connection.execute(text('SELECT "select" FROM "user"')).scalars().all() == ["b"]
    with pytest.raises(SchemaMismatch, match="no column"):
        publish(engine, odd, frame.rename(columns={HOSTILE: 'x"; DROP TABLE y; --'}), key=["select"])


def test_a_merge_writes_what_is_given_and_deletes_what_is_named(engine: Engine, table: Table) -> None:
    publish(engine, table, _frame(5), key=["id"])
    change = pd.DataFrame({"id": ["00001", "00002", "00009"], "value": [0, 7, 8], "order": "x" * 50})
    gone = [{"id": "00003"}, {"id": "00004"}, {"id": "never there"}]
    assert merge(engine, table, change, key=["id"], deleted=gone) == PublishResult(3, 1, 1, 2, 1)
    assert not merge(engine, table, change, key=["id"], deleted=gone).changed
    assert not merge(engine, table, [], key=["id"]).changed
    with engine.connect() as connection:
        now = dict(connection.execute(select(table.c.id, table.c.value)).fetchall())  # type: ignore[arg-type]
    assert now == {"00000": 0, "00001": 0, "00002": 7, "00009": 8}
    with pytest.raises(PublishRefused, match="1 of the rows are also named as deleted"):
        merge(engine, table, change, key=["id"], deleted=pd.DataFrame({"id": ["00009"]}))
    with pytest.raises(PublishRefused, match=r"its key \(id\) alone"):
        merge(engine, table, change, key=["id"], deleted=change)
    with engine.begin() as connection:
        merge(connection, table, [], key=["id"], deleted=[{"id": "00000"}])
        connection.rollback()
    assert len(_content(engine, table)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [True, False])
def test_the_room_a_table_takes_stays_bounded(engine: Engine, table: Table, keyed: bool) -> None:
    rows = 200

    def again(number: int) -> None:
        if keyed:
            publish(engine, table, _frame(rows, number).assign(id=lambda f: f["id"] + str(number % 3)), key=["id"])
        else:
            replace(engine, table, _frame(rows, number))

    for number in range(5):
        again(number)
    settled = _size(engine, "assets")
    for number in range(5, 5 + examples(20)):  # 1,000 in the long run
        again(number)
    assert _size(engine, "assets") <= 2 * settled
    assert _content(engine, table) == {4 + examples(20)}


def test_rows_that_are_as_given_are_not_written_and_nothing_is_vacuumed(engine: Engine, table: Table) -> None:
    publish(engine, table, _frame(500), key=["id"])
    with engine.connect() as connection:
        look = text("SELECT xmin::text, ctid::text FROM assets ORDER BY id")
        before = connection.execute(look).fetchall()
    changed = _frame(500)
    changed.loc[7, "value"] = 1
    assert publish(engine, table, changed, key=["id"]) == PublishResult(500, 0, 1, 0, 499)
    with engine.connect() as connection:
        after = connection.execute(look).fetchall()
    assert [place for place, (one, two) in enumerate(zip(before, after, strict=True)) if one != two] == [7]


@pytest.fixture
def small_disk(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """A tablespace on a disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, b"size=1m,mode=700") != 0:
        pytest.skip("a disk that fills up needs the right to mount one")
    space = folder / "space"
    space.mkdir(mode=0o700)
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        yield "small"
        connection.execute("DROP TABLESPACE small")
    assert libc.umount2(str(folder).encode(), 2) == 0


def test_a_disk_that_fills_up_in_staging_leaves_the_old_table(engine: Engine, small_disk: str, table: Table) -> None:
    publish(engine, table, _frame(10), key=["id"])
    with engine.connect() as connection:
        connection.execute(text(f"SET temp_tablespaces = {small_disk}"))
        connection.commit()
        with pytest.raises(ServiceUnavailable, match=r"[Nn]o space left.*free it, then repeat"):
            publish(connection, table, _frame(100_000, 1), key=["id"])
    assert _content(engine, table) == {0}
    assert publish(engine, table, _frame(10, 2), key=["id"]).updated == 10
    assert _leftovers(engine) == []


def test_what_holds_a_lock_is_waited_for_and_nobody_waits_for_us(
    engine: Engine, postgres: PostgresServer, database: str, table: Table
) -> None:
    """Readers of a table that is published hold up nothing; a schema change does, and then the publish is whole."""
    publish(engine, table, _frame(100), key=["id"])
    before = _waits(postgres)
    with psycopg.connect(postgres.conninfo(database)) as reader:
        reader.execute("LOCK TABLE assets IN ACCESS SHARE MODE")
        reader.execute("SELECT * FROM assets")
        publish(engine, table, _frame(100, 1), key=["id"])
        publish(engine, table, _frame(100, 2), key=["id"])
    assert _waits(postgres) == before
    done: list[PublishResult] = []
    with psycopg.connect(postgres.conninfo(database)) as changer:
        changer.execute("LOCK TABLE assets IN ACCESS EXCLUSIVE MODE")
        publisher = threading.Thread(target=lambda: done.append(publish(engine, table, _frame(100, 3), key=["id"])))
        publisher.start()
        publisher.join(0.5)
        assert done == []
        changer.rollback()
    publisher.join(30)
    assert [result.updated for result in done] == [100]
    assert _waits(postgres) > before


def _waits(postgres: PostgresServer) -> int:
    return len(re.findall("still waiting for", postgres.log.read_text(errors="replace")))


def test_rows_that_the_database_alone_can_refuse_leave_the_table(engine: Engine, table: Table) -> None:
    publish(engine, table, _frame(3), key=["id"])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE assets ADD CONSTRAINT small CHECK (value < 10)"))
    with pytest.raises(RdsError, match="small"):
        publish(engine, table, _frame(3, 11), key=["id"])
    other = Table("assets", MetaData(), Column("id", Text, primary_key=True), Column("value", Text))
    with pytest.raises(SchemaMismatch, match="not as expected"):
        publish(engine, other, [{"id": "1", "value": "1"}], key=["id"])
    assert _content(engine, table) == {0}
