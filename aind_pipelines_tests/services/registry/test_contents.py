"""An archive's contents as a stream: in the order of bytes, whole, in flat memory, from pages that cost the same."""

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import psutil
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.clients.registry import Registration
from aind_pipelines_tests.counts import SOAK, examples
from aind_pipelines_tests.registry_process import RegistryProcess, running_registry


def lines(registry: RegistryProcess, archive: str, after: str = "") -> list[dict]:
    answer = requests.get(f"{registry.url}archives/{archive}/contents/", params={"after": after}, timeout=60)
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.content.splitlines()]


@pytest.fixture
def client(registry):
    with registry.client() as made:
        yield made


def test_rows_are_the_plain_records_with_their_key_and_the_end_has_their_count(registry, client, unique):
    client.add_archive(unique, f"/{unique}")
    names = [f"{unique}-b", f"{unique}_B", f"{unique}-A", f"{unique}0"]
    client.register_many([Registration(name, None, "session-raw", {"n": name}, ("one",)) for name in names])
    client.add_locations([(name, unique, f"key/{name}") for name in names[:3]])
    *rows, end = lines(registry, unique)
    assert end == {"end": True, "count": 3}
    assert [row["name"] for row in rows] == sorted(names[:3])
    for row in rows:
        assert row.pop("key") == f"key/{row['name']}"
        assert row == requests.get(f"{registry.url}resources/{row['name']}/", timeout=10).json()
    assert [row.get("name") for row in lines(registry, unique, sorted(names[:3])[0])] == [*sorted(names[:3])[1:], None]


def test_an_archive_without_anything_ends_at_once_and_an_unknown_one_is_not_found(registry, client, unique):
    client.add_archive(unique, f"/{unique}")
    assert lines(registry, unique) == [{"end": True, "count": 0}]
    answer = requests.get(f"{registry.url}archives/no-such/contents/", timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"detail": "No Archive matches the given query."})


@settings(max_examples=examples(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tails=st.sets(st.text("aAzZ09-_", min_size=1, max_size=4), min_size=1, max_size=40))
def test_the_order_is_that_of_the_bytes_whatever_the_database_speaks(registry, client, tails):
    archive = "o" + os.urandom(5).hex()
    client.add_archive(archive, f"/{archive}")
    names = [f"{archive}{tail}" for tail in tails]
    client.register_many([Registration(name, None, "session-raw", {}, (archive,)) for name in names])
    assert [resource.id for resource in client.iter_archive_resources(archive)] == sorted(names)


def test_many_pages_hold_every_resource_once(registry, client, unique):
    client.add_archive(unique, f"/{unique}")
    names = [f"{unique}-{number * 7919 % 10_000:05d}" for number in range(2_500)]
    client.register_many([Registration(name, None, "session-raw", {}, (unique,)) for name in names])
    assert [resource.id for resource in client.iter_archive_resources(unique)] == sorted(names)


def test_a_page_on_postgres_walks_the_index_of_the_names(debian_postgres_url, registry, client, unique):
    """A page that sorted the whole archive would make a list cost its square."""
    if isinstance(registry.database, Path):
        pytest.skip("SQLite has its own test")
    import psycopg

    from aind_pipelines.services.registry.batch.pages import PAGE

    client.add_archive(unique, f"/{unique}")
    names = [f"{unique}-{number:05d}" for number in range(4_000)]
    client.register_many([Registration(name, None, "session-raw", {}, (unique,)) for name in names])
    with psycopg.connect(registry.database, autocommit=True) as connection:
        connection.execute("ANALYZE nbank_registry_resource, nbank_registry_location")
        (archive,) = connection.execute("SELECT id FROM nbank_registry_archive WHERE name = %s", [unique]).fetchone()
        plan = connection.execute("EXPLAIN " + PAGE["postgresql"], [archive, f"{unique}-01000", 50]).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "Sort" not in text, text
    assert "_like" in text, text


def test_a_page_on_sqlite_walks_the_index_of_the_names(tmp_path):
    from aind_pipelines.services.registry.batch.pages import PAGE

    with running_registry(tmp_path) as running, contextlib.closing(sqlite3.connect(running.database)) as database:
        query = "EXPLAIN QUERY PLAN " + PAGE["sqlite"].replace("%s", "?")
        plan = [step for *_, step in database.execute(query, [1, "a", 50])]
    assert not any("TEMP B-TREE" in step for step in plan), plan
    assert plan[0].startswith("SEARCH r USING"), plan


@pytest.mark.slow
def test_memory_stays_flat_on_both_sides(tmp_path):
    total = 1_000_000 if SOAK else 60_000
    with running_registry(tmp_path) as running, running.client() as client:
        with contextlib.closing(sqlite3.connect(running.database, timeout=60)) as database, database:
            database.execute(
                "INSERT INTO nbank_registry_archive (name, scheme, root, accessibility) VALUES ('m','s','r',0)"
            )
            database.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO nbank_registry_resource (name, dtype_id, created_on, created_by_id, metadata) "
                "SELECT printf('m%08x', i * 2654435761 % 4294967296), (SELECT id FROM nbank_registry_datatype), "
                """'2026-01-01 00:00:00', (SELECT min(id) FROM auth_user), '{"size": 4096}' FROM n""",
                [total],
            )
            database.execute(
                "INSERT INTO nbank_registry_location (resource_id, archive_id) SELECT r.id, a.id "
                "FROM nbank_registry_resource r, nbank_registry_archive a"
            )
        server, ours = psutil.Process(running.process.pid), psutil.Process()
        seen, largest, first = 0, 0, None
        for resource in client.iter_archive_resources("m"):
            seen += 1
            assert resource.metadata == {"size": 4096}
            if seen % 5_000 == 0:
                used = server.memory_info().rss + ours.memory_info().rss
                first, largest = first or used, max(largest, used)
        assert seen == total
        assert largest - first < 30 * 2**20
