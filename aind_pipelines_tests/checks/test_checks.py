"""Every asset check passes on what its stage leaves behind, and fails when that is broken on purpose."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from sqlalchemy import delete, insert, select, text, update

from aind_pipelines.archive.fixity import Tier
from aind_pipelines.tables import analysts, schema
from aind_pipelines_tests.moto import fill

if TYPE_CHECKING:
    from aind_pipelines_tests.house import House

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write(house: House, *statements: Any) -> None:
    with house.engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def tables(house: House) -> House:
    """Three records of two subjects, their tables, and the answers about the subjects."""
    records = [
        {
            "_id": f"r{number}",
            "name": f"ecephys_{subject}_2024-03-0{number}_10-00-00",
            "subject": {"subject_id": subject},
            "data_description": {"modality": ["ecephys", "behavior"]},
        }
        for number, subject in ((1, "111111"), (2, "111111"), (3, "222222"))
    ]
    rows = [
        {"record_version": "v1", "id": record["_id"], "source": "a.b", "content_hash": "-", "body": record}
        for record in records
    ]
    answers = [{"endpoint": "subject", "key": subject, "status": 404} for subject in ("111111", "222222")]
    write(house, insert(schema.docdb_records).values(rows), insert(schema.metadata_service_answers).values(answers))
    house.run(["data_assets", "subjects", "modalities"])
    return house


BROKEN_TABLES = [
    ("every_record_has_a_row", delete(schema.data_assets).where(schema.data_assets.c.id == "r2"), "1 records"),
    ("every_record_has_a_row", insert(schema.data_assets).values(id="r9", record_version="v1"), "1 rows without"),
    ("every_record_has_a_row", update(schema.data_assets).values(record_version="v2"), "3 records"),
    (
        "every_named_subject_has_a_row",
        delete(schema.subjects).where(schema.subjects.c.subject_id == "222222"),
        "222222",
    ),
    ("every_named_subject_has_a_row", insert(schema.subjects).values(subject_id="333333", asset_count=1), "333333"),
    ("every_named_subject_has_a_row", update(schema.subjects).values(asset_count=1), "assets: 111111"),
    (
        "modalities_agrees_with_data_assets",
        delete(schema.data_assets).where(schema.data_assets.c.id == "r1"),
        "rows of 1 records that are not in data_assets",
    ),
    (
        "modalities_agrees_with_data_assets",
        delete(analysts.modalities).where(analysts.modalities.c.position == 0),
        "rows of 3 records have gaps",
    ),
    (
        "every_subject_was_asked_for",
        delete(schema.metadata_service_answers).where(schema.metadata_service_answers.c.key == "222222"),
        "222222",
    ),
]


@pytest.mark.parametrize(("name", "damage", "said"), BROKEN_TABLES)
def test_a_check_of_the_tables_fails_when_they_are_broken(tables: House, name: str, damage: Any, said: str) -> None:
    assert tables.check(name).passed
    write(tables, damage)
    verdict = tables.check(name)
    assert not verdict.passed
    assert verdict.severity == dg.AssetCheckSeverity.ERROR
    assert said in (verdict.description or "")


def test_a_table_that_is_empty_beside_data_assets_is_a_warning(tables: House) -> None:
    verdict = tables.check("quality_control_agrees_with_data_assets")
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert verdict.description == "the table is empty"


def test_a_schema_that_was_changed_by_hand_is_a_warning(tables: House) -> None:
    assert tables.check("schema_is_as_migrated").passed
    write(tables, text("ALTER TABLE public.processing DROP COLUMN code_url"))
    verdict = tables.check("schema_is_as_migrated")
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert verdict.description == "column public.processing.code_url is missing"


@pytest.fixture
def archive(house: House) -> House:
    """Two sessions whose raw data is deposited and checked."""
    names = [f"ecephys_111111_2024-03-0{day}_{house.archive_name[4:6].strip('-'):0>2}-00-00" for day in (1, 2)]
    fill(house.s3, "aind-open-data", *(f"{name}/ecephys/{house.archive_name}" for name in names))
    rows = [
        {
            "session_id": name,
            "month": date(2024, 3, 1),
            "platform": "ecephys",
            "subject_id": "111111",
            "session_time": datetime(2024, 3, 1),
            "raw_asset_name": name,
            "raw_data_dir": f"s3://aind-open-data/{name}",
            "derived": [],
        }
        for name in names
    ]
    write(house, insert(schema.session_assets).values(rows))
    house.run(["deposited_resources"], partition_key="2024-03-01")
    check_archive(house)
    return house


def check_archive(house: House, tier: Tier = "full") -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("archives", [house.archive_name])
        return house.run(
            ["archive_fixity"],
            partition_key=house.archive_name,
            instance=instance,
            run_config={"ops": {"archive_fixity": {"config": {"tier": tier}}}},
            raise_on_error=False,
        )


def test_a_ledger_that_disagrees_with_the_registry_fails(archive: House) -> None:
    copies = schema.archive_copies
    assert archive.check("every_deposit_is_registered").passed
    with archive.engine.connect() as connection:
        id_ = connection.scalar(select(copies.c.id).limit(1))
    write(archive, update(copies).where(copies.c.id == id_).values(sha1="0" * 40))
    verdict = archive.check("every_deposit_is_registered")
    assert not verdict.passed
    assert f"1 registered under another sha1: {archive.archive_name}/{id_}" in (verdict.description or "")
    write(archive, update(copies).where(copies.c.id == id_).values(id="never-registered"))
    told = archive.check("every_deposit_is_registered").description or ""
    assert f"1 not registered: {archive.archive_name}/never-registered" in told


def test_a_copy_in_an_archive_that_only_a_derived_asset_goes_to_is_looked_up_too(archive: House) -> None:
    copies = schema.archive_copies
    with archive.engine.connect() as connection:
        row = connection.execute(select(copies).limit(1)).mappings().one()
    write(archive, insert(copies).values(dict(row) | {"archive": "second", "id": "never-registered"}))
    verdict = archive.check("every_deposit_is_registered")
    assert not verdict.passed
    assert verdict.description == "1 not registered: second/never-registered"
    write(archive, update(copies).where(copies.c.archive == "second").values(id=row["id"]))
    verdict = archive.check("every_deposit_is_registered")
    assert verdict.description == f"1 not registered in that archive: second/{row['id']}"


def test_a_resource_that_is_gone_from_disk_fails_both_tiers(archive: House) -> None:
    assert archive.check("archive_is_sound").passed
    (stub,) = [entry for entry in archive.archive.resources.iterdir() if entry.is_dir()]
    lost = min(stub.iterdir())
    away = archive.archive.path.parent / lost.name
    stub.chmod(0o775)
    lost.chmod(0o755)
    lost.rename(away)
    for tier in ("exists", "full"):
        assert not check_archive(archive, tier).success
        verdict = archive.check("archive_is_sound")
        assert not verdict.passed
        assert f"{lost.name}: missing" in (verdict.description or "")
    away.rename(lost)
    assert check_archive(archive, "exists").success
    assert archive.check("archive_is_sound").passed


def test_a_look_at_names_does_not_settle_that_a_resource_is_corrupt(archive: House) -> None:
    (stub,) = [entry for entry in archive.archive.resources.iterdir() if entry.is_dir()]
    victim = next(file for file in min(stub.iterdir()).rglob("*") if file.is_file())
    content = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert not check_archive(archive).success
    check_archive(archive, "exists")
    verdict = archive.check("archive_is_sound")
    assert not verdict.passed
    assert "corrupt" in (verdict.description or "")
    victim.write_bytes(content)
    assert check_archive(archive).success
    assert archive.check("archive_is_sound").passed


def test_a_file_that_is_not_registered_fails(archive: House) -> None:
    (archive.archive.resources / "xx").mkdir()
    (archive.archive.resources / "xx" / "xx-stray").write_bytes(b"dark")
    assert not check_archive(archive).success
    assert "dark" in (archive.check("archive_is_sound").description or "")


def test_an_archive_that_is_not_mounted_is_not_an_archive_full_of_losses(archive: House) -> None:
    (archive.archive.path / "nbank.json").rename(archive.archive.path / "away")
    result = check_archive(archive)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "NotAnArchive" in str(failure.step_failure_data.error)
    with archive.engine.connect() as connection:
        assert connection.execute(select(schema.archive_findings)).all() == []


def test_archives_that_were_never_checked_are_not_called_sound(house: House) -> None:
    verdict = house.check("archive_is_sound")
    assert not verdict.passed
    assert "no archive was ever checked" in (verdict.description or "")
