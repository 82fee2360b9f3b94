"""`Session` on the live systems of a whole lab, as the published guide shows it, and beside the bulk resolver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

import aind_pipelines.sessions as aind_session
from aind_pipelines.clients.code_ocean import iter_data_assets
from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.clients.rds import engine_from_settings
from aind_pipelines.lab.home import LabHome
from aind_pipelines.mirror.indexes import refresh_code_ocean, refresh_s3
from aind_pipelines.records.normalise import normalise
from aind_pipelines.sessions import Session, Subject, get_codeocean_client, get_sessions, live
from aind_pipelines.sessions.resolver import resolve_months
from aind_pipelines.settings import SettingsError, load_policy, load_settings
from aind_pipelines.tables.schema import data_assets, session_assets

pytestmark = pytest.mark.slow

ID = "ecephys_676909_2023-12-13_13-43-40"
OTHER = "ecephys_676909_2023-12-11_14-24-35"
SORTED = f"{ID}_sorted_2024-03-01_16-02-45"
TROUBLES = ("dead_code_ocean_link", "raw_data_missing", "record_missing", "code_ocean_asset_missing")


def _lab(home: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "aind_pipelines.cli", "lab", *arguments, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def lab() -> Iterator[Path]:
    """A lab with few sessions, and its environment in place of the caller's."""
    # Not below pytest's own folder: Postgres does not run as root, and nobody else may pass that one.
    folder = Path(tempfile.mkdtemp(prefix="lab"))
    folder.chmod(0o755)
    home = folder / "home"
    try:
        _lab(home, "up", "--sessions", "40")
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith(("AWS_", "CODE_OCEAN", "DOC_DB_", "RDS_", "AIND_PIPELINES_")):
                    patch.delenv(name)
            for name, value in LabHome(home).environment().items():
                patch.setenv(name, value)
            yield home
    finally:
        _lab(home, "down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def rows(lab: Path) -> dict[str, Any]:
    """Every session as the bulk resolver resolves it, by id."""
    engine = engine_from_settings(load_settings())
    try:
        refresh_code_ocean(engine, iter_data_assets(get_codeocean_client()))
        refresh_s3(engine, live.s3_client(), load_policy().s3.buckets)
        _store_records(engine)
        result = resolve_months(engine, [date(2016 + number // 12, number % 12 + 1, 1) for number in range(12 * 12)])
        assert {code: result.findings_by_code.get(code) for code in TROUBLES} == dict.fromkeys(TROUBLES, 1)
        with engine.connect() as connection:
            return {row.session_id: row for row in connection.execute(select(session_assets))}
    finally:
        engine.dispose()


def _store_records(engine: Engine) -> None:
    names = [column.name for column in data_assets.c]
    records = [normalise(record) for record in live.find_records({})]
    values = [{name: getattr(record, name) for name in names} for record in records]
    values = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()} for row in values
    ]
    with engine.begin() as connection:
        connection.execute(data_assets.delete())
        connection.execute(insert(data_assets), values)


def test_the_guides_example_runs_with_its_import_changed(lab: Path) -> None:
    session = aind_session.Session(ID)
    assert session.platform == "ecephys"
    assert session.subject_id == "676909"
    assert session.dt == datetime(2023, 12, 13, 13, 43, 40)
    assert session.raw_data_asset.id == "16d46411-540a-4122-b47f-8cb2a15d593a"
    assert session.raw_data_dir.as_posix() == f"s3://aind-ephys-data/{ID}"
    assert session.modalities == ("behavior", "behavior_videos", "ecephys")
    assert session.metadata.subject["genotype"] == "Pvalb-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt"
    assert session.ecephys.sorted_data_asset.name == SORTED
    assert session.is_uploaded
    assert session.ecephys.is_sorted


def test_the_guides_capsule_example_finds_what_is_attached(lab: Path, tmp_path: Path) -> None:
    import upath

    attached = [f"{OTHER}_sorted_2024-03-29_11-29-39", ID, SORTED]
    for name in attached:
        (tmp_path / name).mkdir()
    folder = upath.UPath(tmp_path)
    names = sorted(found.name for found in folder.iterdir())
    sessions = sorted({aind_session.Session(found.name) for found in folder.iterdir()})
    assert sessions == [Session(OTHER), Session(ID)]
    assert sessions[0].ecephys.sorted_data_asset.name in names
    assert sessions[0].raw_data_asset.name not in names


def test_files_of_the_raw_data_can_be_read(lab: Path) -> None:
    session = Session(ID)
    assert {found.name for found in session.raw_data_dir.iterdir()} >= {"behavior", "metadata.nd.json"}
    assert "subject.json" in {file.name for file in session.metadata.json_files}
    assert session.metadata.data_description["name"] == ID
    assert getattr(session.metadata, "metadata.nd")["name"] == ID
    with pytest.raises(AttributeError, match=r"Available: .*subject"):
        _ = session.metadata.nothing


def test_sessions_of_a_subject_come_by_time_and_ranges_include_both_ends(lab: Path) -> None:
    assert get_sessions("676909") == (Session(OTHER), Session(ID)) == Subject(676909).sessions
    assert get_sessions("676909", date="2023-12-11") == (Session(OTHER),)
    assert get_sessions("676909", start_date="2023-12-11", end_date=date(2023, 12, 13)) == get_sessions("676909")
    assert get_sessions("676909", start_date=datetime(2023, 12, 12, 23)) == (Session(ID),)
    assert get_sessions("676909", platform="behavior") == ()
    assert get_sessions("999999") == ()
    assets = Subject("676909").data_assets
    assert len({asset.id for asset in assets}) == len(assets) == 4


def test_one_session_at_a_time_agrees_with_all_at_once(rows: dict[str, Any]) -> None:
    assert len(rows) >= 40
    for id_, row in rows.items():
        session = Session(id_)
        asset = getattr(session, "raw_data_asset", None)
        folder = getattr(session, "raw_data_dir", None)
        assert (asset.id if asset else None) == row.raw_code_ocean_id, id_
        assert (folder.as_posix() if folder else None) == row.raw_data_dir, id_
        assert session.modalities == tuple(row.modalities or ()), id_
        assert {entry["code_ocean_id"] for entry in row.derived} <= {found.id for found in session.data_assets}, id_


def test_an_unknown_session_is_empty_and_says_why(lab: Path) -> None:
    session = Session("ecephys_111111_2023-12-11_14-24-35")
    assert (session.docdb, session.modalities, session.is_uploaded, session.data_assets) == ({}, (), False, ())
    with pytest.raises(LookupError, match=r"no raw data asset in Code Ocean; no raw data was found in S3"):
        _ = session.raw_data_asset
    with pytest.raises(AttributeError, match="no raw data in S3"):
        _ = session.raw_data_dir
    with pytest.raises(LookupError, match="no sorted data asset"):
        _ = session.ecephys.sorted_data_asset


def test_without_a_token_the_variable_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODE_OCEAN_API_TOKEN")
    with pytest.raises(SettingsError, match="CODE_OCEAN_API_TOKEN"):
        _ = Session(ID).data_assets


@pytest.mark.parametrize("service", ["code_ocean", "docdb_gateway"])
def test_an_outage_is_never_an_empty_answer(lab: Path, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib3.util.retry import Retry

    monkeypatch.setattr(Retry, "sleep", lambda *_: None)
    _lab(lab, "down", service)
    try:
        with pytest.raises(ServiceUnavailable):
            _ = Session(ID).raw_data_asset
        with pytest.raises(ServiceUnavailable):
            get_sessions("676909")
    finally:
        _lab(lab, "up", service)
