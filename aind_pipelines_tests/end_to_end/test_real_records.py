"""The demo on real records: all of them arrive, the odd ones too, and what cannot be loaded is listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aind_pipelines_tests.end_to_end.conftest import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_real_record_arrives_and_unloadable_files_are_listed(real_records: Path, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    shutil.copytree(real_records, folder)
    folder.chmod(0o700)  # the original may be read-only
    ids = {json.loads(file.read_text())["_id"] for file in folder.glob("*.json")}
    (folder / "malformed.json").write_text('{"_id": "x", ')
    (folder / "list.json").write_text("[]")
    (folder / "no-id.json").write_text('{"name": "x"}')
    lab = Lab(tmp_path / "home")
    try:
        result = lab.command("demo", "--home", str(lab.home), "--records", str(folder), timeout=500)
        assert result.returncode == 1, result.stderr + result.stdout
        for name in ("malformed.json", "list.json", "no-id.json"):
            assert f"not loaded: {name}: " in result.stderr
        assert "error: lab: 3 record files were not loaded: list.json, malformed.json, no-id.json." in result.stderr
        assert "FAILED" not in result.stdout
        assert lab.command("lab", "up", "--home", str(lab.home)).returncode == 0
        rows = lab.sql("select id, name, modalities, data_level, code_ocean_ids, record_version from data_assets")
        assert {row[0] for row in rows} == ids
        assert all(row[1] for row in rows)
        assert {row[3] for row in rows} == {"raw", "derived"}
        assert all(row[2] for row in rows), [row[0] for row in rows if not row[2]]
        assert all(modality.isascii() and "=" not in modality for row in rows for modality in row[2])
        assert sorted(row[5] for row in rows if row[5] == "v2") != []
        ((deposited,),) = lab.sql("select count(*) from archive.copies")
        assert deposited > 0
        # Two of them are derived and say that they are raw: no session's raw data.
        named = "select id from archive.copies c join session_assets s using (session_id) where id <> s.session_id"
        assert lab.sql(named) == []
        for name in ("malformed.json", "list.json", "no-id.json"):
            (folder / name).unlink()
        again = lab.command("demo", "--home", str(lab.home), "--records", str(folder), timeout=500)
        assert again.returncode == 0, again.stderr + again.stdout
        assert "Nothing changed since the last run." in again.stdout
    finally:
        lab.command("lab", "down", "--home", str(lab.home))


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "home")
    result = lab.command("demo", "--home", str(lab.home), "--records", str(tmp_path / "none"))
    assert result.returncode in (1, 2)
    assert str(tmp_path / "none") in result.stderr
