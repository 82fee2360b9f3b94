"""The ledger in a real Postgres: copies, checks and findings with their history."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from aind_pipelines.archive.deposit import DepositItem, DepositResult, deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.ledger import compare_with_registry, record_check, record_copies
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.tables.schema import archive_checks, archive_copies, archive_findings


@pytest.fixture
def results(tmp_path, archive, registry, unique) -> list[DepositResult]:
    items = []
    for number in range(3):
        path = tmp_path / f"{number}.dat"
        path.write_bytes(f"{unique}{number}".encode())
        items.append(DepositItem(f"{unique}{number}", local_source(path), "session-raw"))
    return list(deposit(archive, registry, items))


def copies(engine: Engine) -> dict[str, dict[str, object]]:
    with engine.connect() as connection:
        return {row["id"]: dict(row) for row in connection.execute(select(archive_copies)).mappings()}


def standing(engine: Engine) -> set[tuple[str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(select(archive_findings).where(archive_findings.c.resolved_at.is_(None))).mappings()
        return {(row["code"], row["key"].split("/")[1]) for row in rows}


def test_copies_are_written_once_and_keep_their_row(engine, results, unique):
    with engine.begin() as connection:
        said = {f"{unique}0": {"session_id": "ecephys_1_2024-01-01_01-01-01", "record_id": "r"}}
        assert record_copies(connection, "live", [*results, results[0]], metadata=said, run_id="first") == 3
    before = copies(engine)
    assert before[f"{unique}0"]["session_id"] == "ecephys_1_2024-01-01_01-01-01"
    assert before[f"{unique}1"]["blake3"] == results[1].blake3
    again = [replace(result, status="already_there") for result in results]
    with engine.begin() as connection:
        assert record_copies(connection, "live", again, run_id="second") == 0
    assert copies(engine) == before


def test_what_was_refused_or_has_no_second_digest_is_not_written(engine, results):
    refused = replace(results[0], status="refused", path=None, size=None, sha1=None, blake3=None)
    foreign = replace(results[1], status="already_there", blake3=None)
    with engine.begin() as connection:
        assert record_copies(connection, "live", [refused, foreign]) == 0


def test_a_full_check_fills_in_copies_and_says_when_they_were_verified(engine, archive, registry, results):
    report = check(archive, registry)
    with engine.begin() as connection:
        record_check(connection, report, run_id="r")
        record_check(connection, report)
    rows = copies(engine)
    assert {id_: row["sha1"] for id_, row in rows.items()} == {result.id: result.sha1 for result in results}
    assert {row["last_verified_at"] for row in rows.values()} == {report.ended_at}
    with engine.connect() as connection:
        first, second = connection.execute(select(archive_checks).order_by(archive_checks.c.id)).mappings()
    assert (first["resources"], first["bytes"], first["passed"], first["run_id"]) == (3, report.bytes, True, "r")
    assert second["findings"] == 0


def test_an_existence_check_does_not_resolve_what_only_reading_shows(engine, archive, registry, results, unique):
    lost, rotten = (archive.resources / str(result.path) for result in results[:2])
    content = lost.read_bytes()
    lost.unlink()
    good = damage(rotten)
    with engine.begin() as connection:
        record_check(connection, check(archive, registry))
    assert standing(engine) == {("missing", f"{unique}0"), ("corrupt", f"{unique}1")}
    lost.write_bytes(content)
    with engine.begin() as connection:
        record_check(connection, check(archive, registry, "exists"))
    assert standing(engine) == {("corrupt", f"{unique}1")}
    assert copies(engine)[f"{unique}2"]["last_verified_at"] is not None
    assert f"{unique}1" not in copies(engine)
    rotten.write_bytes(good)
    with engine.begin() as connection:
        record_check(connection, check(archive, registry))
    assert standing(engine) == set()


def damage(path: Path) -> bytes:
    path.chmod(0o644)
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    return good


def test_many_copies_are_written_in_parts(engine, results):
    many = [replace(results[0], id=f"m{number}") for number in range(1_201)]
    with engine.begin() as connection:
        assert record_copies(connection, "live", many) == 1_201


def test_copies_of_every_archive_are_compared_with_the_registry(
    engine: Engine, archive: Archive, second: Archive, registry: RegistryClient, results: list[DepositResult]
) -> None:
    live, other = archive.name_in(registry), second.name_in(registry)
    elsewhere = replace(results[1], id=results[0].id)
    unknown = [replace(results[0], id=f"never{number}") for number in range(30)]
    with engine.begin() as connection:
        record_copies(connection, live, results)
        found = compare_with_registry(connection, registry)
        assert (found.copies, found.problems) == (3, {})
        record_copies(connection, other, [elsewhere, *unknown])
        record_copies(connection, "gone", [results[1]])
        connection.execute(
            update(archive_copies).where(archive_copies.c.id == results[2].id).values(sha1=results[0].sha1)
        )
        found = compare_with_registry(connection, registry)
    assert found.copies == 35
    assert found.counts == {
        "not registered": 30,
        "not registered in that archive": 2,
        "registered under another sha1": 1,
    }
    assert found.problems["not registered in that archive"] == [f"gone/{results[1].id}", f"{other}/{results[0].id}"]
    assert found.problems["registered under another sha1"] == [f"{live}/{results[2].id}"]
    assert len(found.problems["not registered"]) == 20
    assert found.problems["not registered"][0] == f"{other}/never0"
