"""A full ingest of DocDB into RDS, ours beside the published client's: same gateway, same Postgres.

Both read over TLS. Ours normalises, hashes, finds faults and keeps its history; the peer reads, flattens and
overwrites, in memory. Records have between 10 and 100 KB. CPU and memory are those of the whole client process, as
the system accounts for it when it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import docdb_tick
from benchmarks.https_front import https_front
from benchmarks.rows import Row, at_least, at_most

ROUNDS = 5
ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "aind-data-access-api-rds" / "bin" / "python"
_CLI = (sys.executable, "-m", "aind_pipelines.cli")
_BATCH = 200
_SMALLEST, _LARGEST = 10_000, 100_000
_MEGABYTE = 1e6
_LIGHT_PER_RECORD = 5


@dataclass(frozen=True, slots=True)
class Run:
    """One client process: CPU and wall seconds, peak memory in MB (10^6 bytes), and what it left behind."""

    cpu: float
    wall: float
    memory: float
    contents: str


def measure(records: int = 20_000) -> list[Row]:
    """Full ingests in turn, five of each; then ticks, over five times as many light records (`docdb_tick`).

    Raises:
        RuntimeError: Two of the clients left different contents, or one failed; the message has its last words.
    """
    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-docdb-"))
    home = scratch / "lab"
    try:
        _lab("up", home)
        rows = _measure(home, scratch, records)
    finally:
        _lab("down", home)
        shutil.rmtree(scratch, ignore_errors=True)
    return [*rows, *docdb_tick.measure(_LIGHT_PER_RECORD * records)]


def _measure(home: Path, scratch: Path, records: int) -> list[Row]:
    from aind_pipelines.lab.home import LabHome
    from aind_pipelines.lab.seed.load import load_records

    lab = LabHome(home)
    subprocess.run(
        [*_CLI, "db", "migrate"], check=True, env=_environment(lab.environment()), stdout=subprocess.DEVNULL
    )
    for batch in _made(records):
        load_records(lab, {"metadata_index": batch})
    lab_environment = lab.environment()
    with https_front(lab_environment["DOC_DB_API_HOST"], scratch) as (port, trusted):
        host = f"localhost:{port}"
        environment = _environment(lab_environment) | {
            "DOC_DB_API_HOST": f"https://{host}",
            "REQUESTS_CA_BUNDLE": str(trusted),
        }
        ours: list[Run] = []
        flat: list[Run] = []
        top: list[Run] = []
        for _ in range(ROUNDS):
            ours.append(_ours(environment))
            if PEER.exists():
                flat.append(_peer(environment, host, "flat"))
                top.append(_peer(environment, host, "top"))
    contents = {run.contents for run in (*ours, *flat, *top)}
    if len(contents) != 1:
        raise RuntimeError(f"the clients left {len(contents)} different contents: {sorted(contents)}")
    return [
        _ratio(f"docdb: full ingest of {records}, CPU of peer over ours", flat, ours, 5),
        _ratio("docdb: the same, peer with top-level keys", top, ours, 0),
        at_most("docdb: full ingest, memory", "MB", [run.memory for run in ours], 400),
        *(
            at_least(f"docdb: full ingest, {what} of {who}", unit, [getattr(run, field) for run in runs], 0)
            for who, runs in (("ours", ours), ("the peer", flat), ("the peer, top-level keys", top))
            for what, unit, field in (("CPU", "s", "cpu"), ("time", "s", "wall"), ("memory", "MB", "memory"))
            if runs
        ),
    ]


def _ratio(name: str, peer: list[Run], ours: list[Run], reach: float) -> Row:
    """CPU of the peer over ours, pair by pair; not reached when the peer did not run."""
    if not peer:
        return Row(f"{name} (the peer is not installed)", "x", 0, reach, ok=False, samples=())
    return at_least(name, "x", [theirs.cpu / our.cpu for theirs, our in zip(peer, ours, strict=True)], reach)


def _ours(environment: Mapping[str, str]) -> Run:
    with _connect(environment) as connection:  # a full ingest meets an empty mirror
        tables = connection.execute("select format('docdb.%I', tablename) from pg_tables where schemaname = 'docdb'")
        connection.execute("truncate " + ", ".join(name for (name,) in tables.fetchall()) + " cascade")
    figures = _timed([sys.executable, "-m", "benchmarks.docdb_ours"], environment)
    return Run(*figures, _contents(environment, "select id, name, location from docdb.records"))


def _peer(environment: Mapping[str, str], host: str, shape: str) -> Run:
    figures = _timed([str(PEER), str(Path(__file__).with_name("docdb_peer.py")), host, "peer", shape], environment)
    return Run(*figures, _contents(environment, "select _id, name, location from peer"))


def _timed(command: list[str], environment: Mapping[str, str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory of one child process."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=dict(environment), cwd=ROOT, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[-1]} ended with {process.returncode}: {said.read()[-2000:].decode()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss * unit / _MEGABYTE


def _contents(environment: Mapping[str, str], query: str) -> str:
    """A hash of the selected columns of every record, by id, with their number."""
    digest = hashlib.sha256()
    with _connect(environment) as connection:
        rows = sorted(tuple(map(str, row)) for row in connection.execute(query))
    for row in rows:
        digest.update(json.dumps(row).encode())
    return f"{len(rows)} {digest.hexdigest()}"


def _connect(environment: Mapping[str, str]) -> Any:
    import psycopg

    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    return psycopg.connect(**{key: environment[name] for key, name in names.items()})


def _environment(lab: Mapping[str, str]) -> dict[str, str]:
    """The lab's, and of the caller's only where programs are."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **lab}


def _lab(verb: str, home: Path) -> None:
    subprocess.run([*_CLI, "lab", verb, "--home", str(home)], check=True, stdout=subprocess.DEVNULL)


def _made(records: int) -> Iterator[list[dict[str, Any]]]:
    """Records of a made-up institute in batches, repeated under new names and filled up to between 10 and 100 KB."""
    from aind_pipelines.lab.seed.institute import generate

    patterns = generate(100, 0, troubles=False).records["metadata_index"]
    sizes = [len(json.dumps(pattern)) for pattern in patterns]
    rng = random.Random(0)
    batch: list[dict[str, Any]] = []
    for number in count():
        if number == records or len(batch) == _BATCH:
            yield batch
            batch = []
        if number == records:
            return
        pattern, size = patterns[number % len(patterns)], sizes[number % len(patterns)]
        wanted = rng.uniform(_SMALLEST, _LARGEST) - size
        epochs = [
            {"name": f"epoch {place}", "start": place * 1.5, "stop": place * 1.5 + 1, "trials": list(range(12))}
            for place in range(max(0, int(wanted / 110)))
        ]
        name = f"{pattern['name']}_{number}"
        batch.append(
            {
                **pattern, "_id": f"{number:08d}", "name": name,
                "location": f"{pattern['location']}_{number}", "epochs": epochs,
            }
        )  # fmt: skip
