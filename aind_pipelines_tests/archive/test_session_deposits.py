"""The raw assets of sessions become resources: once each, whoever is killed and however many do it at once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, Row, delete, insert, select, update

from aind_pipelines.archive import fsops
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.ledger import record_check
from aind_pipelines.archive.session_deposits import MonthDeposits, SessionDeposits, deposit_sessions
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.settings import ArchivePolicy
from aind_pipelines.tables.schema import archive_copies, archive_findings, session_assets
from aind_pipelines_tests.moto import fill
from aind_pipelines_tests.registry_process import PASSWORD, USER, RegistryProcess

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MARCH = date(2024, 3, 1)
SESSIONS = 24
BUCKET = "raw"

DEPOSIT = """
import sys
from datetime import date
from pathlib import Path
import boto3
from sqlalchemy import create_engine
from aind_pipelines.archive.session_deposits import deposit_sessions
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.settings import ArchivePolicy

database, path, registry, user, password, s3 = sys.argv[1:]
client = boto3.client("s3", endpoint_url=s3, region_name="us-west-2", aws_access_key_id="t", aws_secret_access_key="t")
with RegistryClient(registry, (user, password)) as registry:
    done = deposit_sessions(
        create_engine(database), ArchivePolicy(path=Path(path)), registry, client, [date(2024, 3, 1)],
        dtype="session-raw", run_id="child",
    )
total = done.total
print(total.deposited, total.already_there, total.refused)
"""


@dataclass(frozen=True)
class House:
    engine: Engine
    archive: Archive
    registry: RegistryClient
    s3: S3Client
    names: list[str]
    arguments: list[str]

    def deposit_months(self, *months: date) -> SessionDeposits:
        policy = ArchivePolicy(path=self.archive.path)
        return deposit_sessions(
            self.engine, policy, self.registry, self.s3, months, dtype="session-raw", run_id="here"
        )

    def deposit(self) -> MonthDeposits:
        return self.deposit_months(MARCH).total

    def lose(self, *names: str) -> None:
        """Take the bytes of these out of the archive, as a failing disk does."""
        for name in names:
            (path,) = self.archive.entries(name)
            path.chmod(0o700)
            shutil.rmtree(path)

    def child(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(DEPOSIT), *self.arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def copies(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return {row.id: row.sha1 for row in connection.execute(select(archive_copies))}

    def ledger(self) -> list[Row[Any]]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(archive_copies)))

    def findings(self) -> list[str]:
        table = archive_findings.c
        with self.engine.connect() as connection:
            return list(connection.scalars(select(table.code).where(table.resolved_at.is_(None))))

    def is_whole(self) -> None:
        """Disk, registry and ledger tell the same of every session, and nothing else is there."""
        registered = self.registry.get_resources(self.names)
        assert self.copies() == {id_: resource.sha1 for id_, resource in registered.items()}
        assert sorted(registered) == self.names
        assert list(self.archive.staging.iterdir()) == []
        report = check(self.archive, self.registry)
        assert (report.resources, report.findings) == (SESSIONS, [])
        assert self.findings() == []


@pytest.fixture
def house(
    engine: Engine,
    archive: Archive,
    registry: RegistryClient,
    registry_process: RegistryProcess,
    s3: S3Client,
    moto_url: str,
    unique: str,
) -> House:
    """A month of sessions with raw data in S3; identifiers that no other test uses."""
    subject = f"{int(unique[1:]) + 500_000}"
    names = [f"ecephys_{subject}_2024-03-{day + 1:02}_10-00-00" for day in range(SESSIONS)]
    fill(s3, BUCKET, *(f"{name}/{folder}/data" for name in names for folder in ("behavior", "ecephys")))
    rows = [
        {
            "session_id": name,
            "month": MARCH,
            "platform": "ecephys",
            "subject_id": subject,
            "session_time": datetime(2024, 3, 1),
            "raw_asset_name": name,
            "raw_record_id": f"record of {name}",
            "raw_data_dir": f"s3://{BUCKET}/{name}",
            "derived": [],
        }
        for name in names
    ]
    with engine.begin() as connection:
        connection.execute(insert(session_assets).values(rows))
    database = engine.url.render_as_string(hide_password=False)
    arguments = [database, str(archive.path), registry_process.url, USER, PASSWORD, moto_url]
    return House(engine, archive, registry, s3, names, arguments)


def test_each_session_is_one_resource_that_says_where_it_came_from(house: House) -> None:
    first = house.deposit()
    assert (first.deposited, first.already_there, first.refused) == (SESSIONS, 0, 0)
    assert first.held == SESSIONS
    house.is_whole()
    name = house.names[0]
    resource = house.registry.get_resource(name)
    assert resource is not None
    assert resource.metadata == {
        "session_id": name,
        "record_id": f"record of {name}",
        "source": f"s3://{BUCKET}/{name}",
    }
    again = house.deposit()
    assert (again.deposited, again.already_there, again.bytes) == (0, SESSIONS, 0)


def test_a_source_that_changed_after_its_deposit_is_a_finding_and_no_second_deposit(house: House) -> None:
    house.deposit()
    same_size, gone, untouched = house.names[:3]
    before = house.registry.get_resources(house.names)
    house.s3.put_object(Bucket=BUCKET, Key=f"{same_size}/ecephys/data", Body=b"x" * len(f"{same_size}/ecephys/data"))
    for folder in ("behavior", "ecephys"):
        house.s3.delete_object(Bucket=BUCKET, Key=f"{gone}/{folder}/data")
    again = house.deposit()
    assert (again.deposited, again.already_there, again.refused) == (0, SESSIONS, 0)
    assert again.findings_by_code == {"source_changed": 2}
    assert house.registry.get_resources(house.names) == before
    assert check(house.archive, house.registry).findings == []
    with house.engine.connect() as connection:
        told = {row.key.partition("/")[2]: row.message for row in connection.execute(select(archive_findings))}
    assert "is no longer what was deposited" in told[same_size]
    assert "holds no objects" in told[gone]
    assert untouched not in told
    house.s3.put_object(Bucket=BUCKET, Key=f"{same_size}/ecephys/data", Body=f"{same_size}/ecephys/data".encode())
    assert house.deposit().findings_by_code == {"source_changed": 1}


def test_derived_assets_of_a_process_go_where_their_rule_says(house: House) -> None:
    house.deposit()
    session = house.names[0]
    derived = [
        {"name": f"{session}_{process}_2024-04-0{day}_10-00-00", "process": process, "location": location}
        for day, process, location in (
            (1, "sorted", f"s3://{BUCKET}/{session}_sorted_2024-04-01_10-00-00"),
            (2, "sorted", None),
            (3, "processed", f"s3://{BUCKET}/{session}_processed_2024-04-03_10-00-00"),
        )
    ]
    for entry in derived:
        house.s3.put_object(Bucket=BUCKET, Key=f"{entry['name']}/data", Body=entry["name"].encode())
    with house.engine.begin() as connection:
        connection.execute(
            update(session_assets).where(session_assets.c.session_id == session).values(derived=derived)
        )
    house.registry.add_dtype(f"sorted-{session[-20:]}", "application/x-directory")
    done = deposit_sessions(
        house.engine,
        ArchivePolicy(path=house.archive.path),
        house.registry,
        house.s3,
        [MARCH],
        dtype=f"sorted-{session[-20:]}",
        role="sorted",
    ).total
    assert (done.deposited, done.already_there, done.refused) == (1, 0, 0)
    assert done.held == 1
    resource = house.registry.get_resource(derived[0]["name"])
    assert resource is not None
    assert resource.metadata == {"session_id": session, "source": derived[0]["location"]}
    assert check(house.archive, house.registry).findings == []


@pytest.mark.parametrize("after", [1, SESSIONS // 2, SESSIONS])
def test_a_kill_in_the_middle_leaves_nothing_that_the_next_run_does_not_settle(house: House, after: int) -> None:
    child = house.child()
    try:
        deadline = time.monotonic() + 60
        while len(list(house.archive.resources.glob("*/*"))) < after:
            assert child.poll() is None or after == SESSIONS
            assert time.monotonic() < deadline
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    before = len(house.copies())
    assert before in (0, SESSIONS)  # rows are written in batches: what was deposited is not in the ledger yet
    result = house.deposit()
    assert result.deposited + result.already_there == SESSIONS
    house.is_whole()


def test_two_at_once_deposit_each_session_once(house: House) -> None:
    children = [house.child(), house.child()]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    counts = [tuple(map(int, output.split())) for output, _ in outputs]
    assert sum(deposited for deposited, _, _ in counts) == SESSIONS
    assert sum(there for _, there, _ in counts) == SESSIONS
    house.is_whole()


def test_rows_that_the_ledger_lost_come_back(house: House) -> None:
    house.deposit()
    before = house.copies()
    with house.engine.begin() as connection:
        connection.execute(delete(archive_copies))
    house.deposit()
    assert house.copies() == before


def test_what_another_program_deposited_is_told_of_its_session_once_it_was_read(house: House, tmp_path: Path) -> None:
    house.deposit()
    with house.engine.begin() as connection:
        connection.execute(delete(archive_copies))
    for journal in (house.archive.journal / "done").iterdir():  # nothing tells that these were ours
        journal.unlink()
    assert house.deposit().held == 0
    with house.engine.begin() as connection:
        record_check(connection, check(house.archive, house.registry))
    assert house.deposit().held == SESSIONS
    with house.engine.connect() as connection:
        rows = connection.execute(select(archive_copies)).all()
    assert {(row.id, row.session_id, row.record_id, row.source) for row in rows} == {
        (name, name, f"record of {name}", f"s3://{BUCKET}/{name}") for name in house.names
    }


def test_a_session_whose_data_is_empty_is_a_finding_and_the_others_are_deposited(house: House) -> None:
    with house.engine.begin() as connection:
        connection.execute(
            update(session_assets)
            .where(session_assets.c.session_id == house.names[0])
            .values(raw_data_dir=f"s3://{BUCKET}/nothing-here")
        )
    result = house.deposit()
    assert (result.deposited, result.refused) == (SESSIONS - 1, 1)
    assert house.findings() == ["deposit_refused"]


def test_each_month_has_the_numbers_of_its_own(house: House) -> None:
    april, june = date(2024, 4, 1), date(2024, 6, 1)
    moved, empty = house.names[:2]
    table = session_assets.c
    with house.engine.begin() as connection:
        connection.execute(update(session_assets).where(table.session_id.in_([moved, empty])).values(month=april))
        connection.execute(
            update(session_assets).where(table.session_id == empty).values(raw_data_dir=f"s3://{BUCKET}/nothing-here")
        )
    done = house.deposit_months(MARCH, april, june).by_month
    assert [(month.deposited, month.refused, month.held) for month in done.values()] == [
        (SESSIONS - 2, 0, SESSIONS - 2),
        (1, 1, 1),
        (0, 0, 0),
    ]
    assert [month.findings_by_code for month in done.values()] == [{}, {"deposit_refused": 1}, {}]
    assert done[june] == MonthDeposits()
    assert done[april].bytes == len(f"{moved}/behavior/data") + len(f"{moved}/ecephys/data")


def test_bytes_that_were_lost_are_told_and_brought_back(house: House) -> None:
    house.deposit()
    with house.engine.begin() as connection:
        record_check(connection, check(house.archive, house.registry))
    before = {row.id: row for row in house.ledger()}
    back, sourceless = house.names[:2]
    house.lose(back, sourceless)
    for folder in ("behavior", "ecephys"):
        house.s3.delete_object(Bucket=BUCKET, Key=f"{sourceless}/{folder}/data")
    again = house.deposit()
    assert (again.deposited, again.restored, again.already_there, again.refused) == (0, 1, SESSIONS - 2, 1)
    assert again.changed == 1
    assert again.findings_by_code == {"bytes_lost": 2, "deposit_refused": 1}
    after = {row.id: row for row in house.ledger()}
    assert before[back].last_verified_at is not None
    assert (after[back].last_verified_at, after[back].session_id) == (None, back)
    assert after[back].deposited_at > before[back].deposited_at
    assert after[sourceless].last_verified_at is None
    assert [after[name] == before[name] for name in house.names[2:]] == [True] * (SESSIONS - 2)
    # Where the source is gone the loss stands; of the other, the next run finds nothing lost, and its history stays.
    assert house.deposit().findings_by_code == {"bytes_lost": 1, "deposit_refused": 1}
    table = archive_findings.c
    with house.engine.connect() as connection:
        [row] = connection.execute(
            select(archive_findings).where(table.code == "bytes_lost", table.resolved_at.is_not(None))
        )
    assert row.key.endswith(f"/{back}")
    assert row.scope == "deposits 2024-03"


def test_a_loss_is_known_even_when_bringing_it_back_is_interrupted(house: House) -> None:
    house.deposit()
    house.lose(*house.names[:3])

    def fail(operation: str, path: Path) -> None:
        if operation == "rename_new" and path.name == house.names[1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with fsops.fault_hook(fail), pytest.raises(ArchiveError):
        house.deposit()
    assert house.findings() == ["bytes_lost"] * 3
    house.deposit()
    with house.engine.begin() as connection:
        record_check(connection, check(house.archive, house.registry))
    house.deposit()
    house.is_whole()
