"""The demo as a person runs it: green, quiet the second time, and red when something is wrong."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aind_pipelines_tests.end_to_end.conftest import ROOT, SESSIONS, STAGES, FirstDemo, Lab
from aind_pipelines_tests.hostile import plant, started_by_the_callers_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_first_demo_runs_every_stage_and_ends_well(first_demo: FirstDemo) -> None:
    result = first_demo.result
    assert result.returncode == 0, result.stderr + result.stdout
    assert [stage for stage in STAGES if stage not in result.stdout] == []
    assert "FAILED" not in result.stdout
    assert "dev --home" in result.stdout


def test_every_record_has_a_row_and_every_session_with_raw_data_is_deposited(lab: Lab) -> None:
    with lab.docdb() as client:
        there = sum(client[name].data_assets.count_documents({}) for name in ("metadata_index", "metadata_index_v2"))
    assert lab.sql("select count(*) from data_assets") == [(there,)]
    assert there > SESSIONS
    ((with_raw,),) = lab.sql(
        "select count(*) from session_assets where raw_asset_name is not null and raw_data_dir is not null"
    )
    assert lab.sql("select count(*) from archive.copies") == [(with_raw,)]
    assert with_raw >= SESSIONS / 2


def test_a_second_demo_changes_nothing_and_says_so(lab: Lab) -> None:
    rows = "select count(*), max(xmin::text::bigint) from data_assets"
    before = lab.sql(rows)
    result = lab.demo()
    assert result.returncode == 0, result.stderr + result.stdout
    assert "Nothing changed since the last run." in result.stdout
    assert lab.sql(rows) == before


def test_a_flipped_byte_in_the_archive_turns_the_demo_red(lab: Lab) -> None:
    ((identifier, path),) = lab.sql("select id, path from archive.copies where size > 0 order by id limit 1")
    resource = lab.home / "archives" / "live" / "resources" / path
    victim = max((file for file in resource.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    mode, content = victim.stat().st_mode, victim.read_bytes()
    victim.chmod(mode | 0o200)
    victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    try:
        result = lab.demo()
        assert result.returncode == 1
        assert "archive_fixity" in result.stdout
        assert "archive_is_sound" in result.stdout
        assert identifier in result.stdout
        assert "corrupt" in result.stdout
    finally:
        victim.write_bytes(content)
        victim.chmod(mode)
    assert lab.demo().returncode == 0


def test_a_metadata_service_that_is_down_turns_the_demo_red(lab: Lab) -> None:
    assert lab.command("lab", "down", "metadata_service", "--home", str(lab.home)).returncode == 0
    try:
        result = lab.demo()
        assert result.returncode == 1
        assert "stage subject_answers failed" in result.stdout
        assert "metadata-service" in result.stdout
    finally:
        assert lab.command("lab", "up", "metadata_service", "--home", str(lab.home)).returncode == 0
    assert lab.demo().returncode == 0
    assert lab.sql("select count(*) from metadata_service.answers") == lab.sql("select count(*) from subjects")


def _demo_interrupted(lab: Lab, line: str, interrupt: Callable[[], object]) -> tuple[int, str, str]:
    """Run the demo and do something as soon as it says `line`; its exit code, output and last words on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aind_pipelines.cli", "demo", "--home", str(lab.home), "--sessions", str(SESSIONS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            interrupt()
            break
    output, errors = process.communicate(timeout=180)
    for written_by_a_library in ("WARNING:", "Exception while", "INSERT INTO"):
        assert written_by_a_library not in errors, errors
    return process.returncode, output, errors


def test_a_disk_that_fills_in_the_middle_is_named_and_the_next_demo_works(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", disk], check=False).returncode:
        pytest.skip("a disk of its own cannot be mounted here")
    lab, filler = Lab(disk / "home"), disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**16))

    try:
        code, output, errors = _demo_interrupted(lab, "stage subject_answers started", fill)
        assert code == 1, output
        assert _verdict(output)
        assert re.search(
            rf"^error: lab: The disk of {re.escape(str(lab.home))} (is full|has \d MB left)", errors, re.M
        )
        filler.unlink()
        assert lab.demo().returncode == 0
    finally:
        filler.unlink(missing_ok=True)
        lab.command("lab", "down", "--home", str(lab.home))
        subprocess.run(["umount", "--lazy", disk], check=True)


def _verdict(output: str) -> str:
    """The lines that say which stages failed, and why."""
    return "\n".join(re.findall(r"^stage \w+ failed: .*", output, re.MULTILINE))


def _until_healthy(lab: Lab) -> None:
    deadline = time.monotonic() + 60
    while not lab.status()["healthy"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_postgres_that_goes_away_turns_the_demo_red_and_the_next_one_works(lab: Lab) -> None:
    def take_away() -> None:
        assert lab.command("lab", "down", "postgres", "--home", str(lab.home)).returncode == 0

    code, output, _ = _demo_interrupted(lab, "stage deposited_resources started", take_away)
    try:
        assert code == 1, output
        assert "deposited_resources" in output
        verdict = _verdict(output)
        assert "Postgres" in verdict, output
        assert re.search(r"127\.0\.0\.1:\d+", verdict), output
        assert "postgres.log" in verdict, output
        assert "lab up postgres --home" in verdict, output
        assert "Traceback" not in output
        assert re.search(r"^\S session_assets .* ok ", output, re.MULTILINE), output  # it had ended before
        refused = lab.command("demo", "--home", str(lab.home))
        assert refused.returncode == 1
        assert "postgres is held down. Start it: aind-pipelines lab up postgres --home" in refused.stderr
        assert "retries" not in refused.stderr
    finally:
        assert lab.command("lab", "up", "postgres", "--home", str(lab.home)).returncode == 0
    _until_healthy(lab)
    again = lab.demo()
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_postgres_that_is_killed_comes_back_and_the_next_demo_works(lab: Lab) -> None:
    services = {service["name"]: service for service in lab.status()["services"]}
    code, output, _ = _demo_interrupted(
        lab, "stage archive_fixity started", lambda: os.kill(services["postgres"]["pid"], signal.SIGKILL)
    )
    # The supervisor brings it back at once, but the connections that the demo kept are gone: it fails at the next
    # event that it stores, unless that was the last, and says so.
    # A check that blocks nothing has failed in any case, and is told as "stage ...: check ... failed".
    verdict = _verdict(output)
    assert bool(verdict) == (code != 0), output
    assert not verdict or "Postgres" in verdict, output
    assert not verdict or "postgres.log" in verdict, output
    _until_healthy(lab)
    after = {service["name"]: service for service in lab.status()["services"]}
    assert after["postgres"]["pid"] != services["postgres"]["pid"]
    assert after["postgres"]["url"] == services["postgres"]["url"]
    again = lab.demo()
    assert again.returncode == 0, again.stdout + again.stderr


def test_nothing_of_the_callers_reaches_the_demo(lab: Lab, tmp_path: Path) -> None:
    result = lab.demo(environment=plant(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stderr + result.stdout
    assert "Nothing changed" in result.stdout
    assert len(started_by_the_callers_python(tmp_path)) == 1  # the command itself


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_says_so_and_the_next_one_works(lab: Lab, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "aind_pipelines.cli", "demo", "--home", str(lab.home), "--sessions", str(SESSIONS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "stage session_assets started" in line:
            process.send_signal(number)
            break
    output, error = process.communicate(timeout=120)
    assert process.returncode == 130, output + error
    assert "interrupted" in error
    assert "FAILED" not in output
    again = lab.demo()
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("content", [None, {}, {"a.json": "{", "b.json": "[]"}])
def test_records_of_which_none_can_be_loaded_are_named_and_refused(
    content: dict[str, str] | None, lab: Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "some records"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    before = lab.sql("select count(*) from data_assets")
    result = lab.demo("--records", str(folder))
    assert result.returncode == 1
    assert str(folder) in result.stderr
    assert all(name in result.stderr for name in content or ())
    assert lab.sql("select count(*) from data_assets") == before
