"""What ``lab seed``, ``demo`` and ``dev`` bring into a home, and what they leave alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aind_pipelines.cli import seeding
from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.lab import control
from aind_pipelines.lab.home import HomeError, LabError, LabHome
from aind_pipelines.lab.seed import SeedReport
from aind_pipelines.lab.seed.real import Unloadable


@pytest.fixture
def home(tmp_path: Path) -> LabHome:
    made = LabHome(tmp_path / "lab")
    made.initialise()
    return made


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be brought in, instead of bringing it in."""
    calls: list[dict[str, Any]] = []

    def note(_: LabHome, **options: Any) -> SeedReport:
        calls.append({name: value for name, value in options.items() if name != "progress"})
        return SeedReport()

    monkeypatch.setattr("aind_pipelines.lab.seed.seed", note)
    return calls


def _noted(home: LabHome, *, generated: bool | None = None, **records: bool) -> Path:
    """Note 20 sessions of seed 3 and folders of records, each as complete or not; returns the folders' folder."""
    parts = {}
    for name, done in records.items():
        folder = home.root.parent / name
        folder.mkdir()
        (folder / "record.json").write_text('{"_id": "one"}')
        parts[name] = {"folder": str(folder), "done": done}
    institute = None if generated is None else {"sessions": 20, "seed": 3, "done": generated}
    marker = {"format": 1, "generated": institute, "records": parts}
    (home.seed_dir / "seed.json").write_text(json.dumps(marker))
    return home.root.parent


def _fill_if_empty(home: LabHome, number: int = 0) -> None:
    seeding.fill_if_empty(home, sessions=None, number=number, records=None)


def test_an_empty_home_gets_the_default_institute(home: LabHome, brought: list[dict[str, Any]]) -> None:
    _fill_if_empty(home)
    assert brought == [{"sessions": seeding.DEFAULT_SESSIONS, "seed": 0, "records": None}]


@pytest.mark.parametrize("seeded", [{"generated": True}, {"records": True}, {"bad": False, "repaired": True}])
def test_a_home_that_holds_something_stays_as_it_is(
    home: LabHome, brought: list[dict[str, Any]], seeded: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _noted(home, **seeded)
    _fill_if_empty(home)
    assert brought == []
    said = capsys.readouterr().err
    assert "seeded already" in said
    assert ("lab seed --records" in said) is ("bad" in seeded)
    assert (f"'{folder / 'bad'}'" in said) is ("bad" in seeded)


def test_an_institute_that_was_begun_is_finished(
    home: LabHome, brought: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    _noted(home, generated=False, records=True)
    _fill_if_empty(home)
    assert brought == [{"sessions": 20, "seed": 3, "records": None}]
    assert "20 sessions of seed 3 were begun and not finished" in capsys.readouterr().err


def test_records_that_were_begun_are_loaded_and_nothing_is_made_up_beside_them(
    home: LabHome, brought: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _noted(home, real=False)
    _fill_if_empty(home)
    assert brought == [{"sessions": None, "seed": 0, "records": folder / "real"}]
    assert "begun and not all loaded" in capsys.readouterr().err


def test_records_that_were_begun_and_are_gone_leave_the_home_as_it_is(
    home: LabHome, brought: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _noted(home, real=False) / "real"
    (folder / "record.json").unlink()
    _fill_if_empty(home)
    assert brought == []
    assert f"stays as it is: {folder} holds no *.json file" in capsys.readouterr().err


@pytest.mark.parametrize(("sessions", "number"), [(100, 0), (None, 7)])
def test_another_institute_than_the_begun_one_is_refused_with_what_finishes_it(
    home: LabHome, sessions: int | None, number: int
) -> None:
    _noted(home, generated=False)
    with pytest.raises(LabError, match=r"20 sessions of seed 3 were begun .* lab seed --sessions 20 --seed 3 --home"):
        seeding.fill_if_empty(home, sessions=sessions, number=number, records=None)


def test_a_folder_of_which_no_file_holds_a_record_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(
        LabError, match=r"None of the 2 files in .*\n  broken\.json: bad JSON.*\n  list\.json: not an obj"
    ):
        seeding.require_records(tmp_path)
    (tmp_path / "one.json").write_text('{"_id": "one"}')
    seeding.require_records(tmp_path)


def test_files_that_were_not_loaded_are_named_and_the_command_fails(
    home: LabHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _noted(home, real=False) / "real"
    bad = [Unloadable(f"{number}.json", "it is empty") for number in range(7)]
    monkeypatch.setattr("aind_pipelines.lab.seed.seed", lambda *_, **__: SeedReport(unloadable=bad))
    unloadable = seeding.fill(home, sessions=None, number=0, records=folder)
    assert "not loaded: 6.json: it is empty" in capsys.readouterr().err
    assert seeding.fill_if_empty(home, sessions=None, number=0, records=folder) == unloadable
    assert seeding.fill_if_empty(home, sessions=None, number=0, records=None) == unloadable
    with pytest.raises(
        LabError, match=r"7 record files were not loaded: 0\.json, .*4\.json \.\.\. All others are loaded"
    ):
        seeding.require_loaded(unloadable)
    with pytest.raises(LabError, match=r"1 record file was not loaded: 0\.json\. All others"):
        seeding.require_loaded(unloadable[:1])
    seeding.require_loaded([])


@pytest.mark.parametrize("health", ["held", "failed"])
@pytest.mark.parametrize("service", ["postgres", "docdb", "aws", "registry"])
def test_a_service_that_is_down_is_named_before_anything_is_begun(
    home: LabHome, service: str, health: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = control.ServiceStatus(service, "", False, health, None, 0, None, "")
    monkeypatch.setattr(control, "status", lambda _: control.LabStatus("", True, True, 1, (row,)))
    with pytest.raises(LabError, match=rf"{service} .*aind-pipelines lab up {service} --home"):
        seeding.fill(home, sessions=6, number=0, records=None)
    assert not (home.seed_dir / "seed.json").exists()


def test_a_folder_of_records_that_may_not_be_listed_is_named(home: LabHome, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _noted(home, real=False) / "real"

    def refused(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(LabError, match=f"--records {folder}: Permission denied"):
        seeding.fill(home, sessions=None, number=0, records=folder)


@pytest.mark.parametrize(
    ("code", "said"), [("ENOSPC", "is full"), ("EDQUOT", "quota"), ("EROFS", "not writable"), ("EIO", "Input/output")]
)
def test_a_home_that_cannot_be_written_is_named(
    home: LabHome, code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def refused(*_: object) -> None:
        number = getattr(errno, code)
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr("aind_pipelines.lab.seed.files.write", refused)
    with pytest.raises(HomeError, match=said) as refusal:
        seeding.fill(home, sessions=6, number=0, records=None)
    assert str(home.root) in str(refusal.value)
    assert "--home" in str(refusal.value)


def test_a_service_that_fails_on_a_full_disk_is_not_what_is_named(
    home: LabHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> SeedReport:
        raise ServiceUnavailable("RDS", "could not extend file")

    monkeypatch.setattr("aind_pipelines.lab.seed.seed", fails)
    with pytest.raises(ServiceUnavailable, match="could not extend"):
        seeding.fill(home, sessions=6, number=0, records=None)
    monkeypatch.setattr(seeding, "LEAST_ROOM", 2**62)
    with pytest.raises(HomeError, match="MB left"):
        seeding.fill(home, sessions=6, number=0, records=None)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_seed_that_fills_the_disk_says_so(home: LabHome) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", home.seed_dir], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(HomeError, match=rf"The disk of {home.root} is full\. Make room"):
            seeding.fill(home, sessions=6, number=0, records=None)
    finally:
        subprocess.run(["umount", home.seed_dir], check=True)
