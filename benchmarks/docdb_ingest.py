"""A full ingest of DocDB into RDS, ours beside the published client's: same gateway, same Postgres.

Both read over TLS. Ours normalises, hashes, finds faults and keeps its history; the peer reads, flattens and
overwrites, in memory. Records have between 10 and 100 KB. CPU and memory are those of the whole client process, as
the system accounts for it when it ends; bytes and requests are counted in front of the gateway.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.front import Traffic
from benchmarks.https_front import https_front
from benchmarks.processes import CLI, MEGABYTE, NO_PEER, PEER, child_environment, connect, run_lab, timed
from benchmarks.rows import Row, at_least, at_most, not_measured

ROUNDS = 5
_BATCH = 200
_SMALLEST, _LARGEST = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class Run:
    """One client process: CPU and wall seconds, peak memory, traffic in MB (10^6 bytes), and what it left behind."""

    cpu: float
    wall: float
    memory: float
    traffic: float
    requests: int
    contents: str


def measure(records: int = 20_000) -> list[Row]:
    """Full ingests in turn, five of each; then one of ours with twice the records, for memory.

    Raises:
        RuntimeError: Two of the clients left different contents, or one failed; the message has its last words.
    """
    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-docdb-"))
    home = scratch / "lab"
    try:
        run_lab("up", home)
        return _measure(home, scratch, records)
    finally:
        run_lab("down", home)
        shutil.rmtree(scratch, ignore_errors=True)


def _measure(home: Path, scratch: Path, records: int) -> list[Row]:
    from aind_pipelines.lab.home import LabHome
    from aind_pipelines.lab.seed.load import load_records

    lab = LabHome(home)
    subprocess.run(
        [*CLI, "db", "migrate"], check=True, env=child_environment(lab.environment()), stdout=subprocess.DEVNULL
    )

    def load(first: int, after: int) -> None:
        for start in range(first, after, _BATCH):
            load_records(lab, {"metadata_index": _made(start, min(start + _BATCH, after))})

    lab_environment = lab.environment()
    traffic = Traffic()
    with https_front(lab_environment["DOC_DB_API_HOST"], scratch, traffic) as (port, trusted):
        bench = Bench(lab_environment, f"localhost:{port}", trusted, traffic)
        load(0, records)
        ours: list[Run] = []
        flat: list[Run] = []
        for _ in range(ROUNDS):
            ours.append(bench.ours())
            if PEER.exists():
                flat.append(bench.peer("flat"))
        top = [bench.peer("top")] if PEER.exists() else []
        contents = {run.contents for run in (*ours, *flat, *top)}
        if len(contents) != 1:
            raise RuntimeError(f"the clients left {len(contents)} different contents: {sorted(contents)}")
        load(records, 2 * records)
        twice = [bench.ours()]
    growth = [run.memory / ours[-1].memory for run in twice]
    return [
        _ratio(f"docdb: full ingest of {records}, CPU of peer over ours", flat, ours, 5),
        at_most("docdb: full ingest, memory", "MB", [run.memory for run in ours], 400),
        at_most("docdb: full ingest of twice as many, memory", "MB", [run.memory for run in twice], 400),
        at_most("docdb: full ingest, memory of twice as many over once", "x", growth, 1.1),
        _ratio("docdb: full ingest, CPU of peer with top-level keys over ours", top, ours[-1:], 0),
        *(
            at_least(f"docdb: full ingest, {what} of {who}", unit, [getattr(run, field) for run in runs], 0)
            for who, runs in (("ours", ours), ("the peer", flat), ("the peer, top-level keys", top))
            for what, unit, field in (
                ("CPU", "s", "cpu"),
                ("time", "s", "wall"),
                ("memory", "MB", "memory"),
                ("traffic", "MB", "traffic"),
                ("requests", "", "requests"),
            )
            if runs
        ),
    ]


def _ratio(name: str, peer: list[Run], ours: list[Run], reach: float) -> Row:
    """CPU of the peer over ours, pair by pair; not reached when the peer did not run."""
    if not peer:
        return not_measured(name, "x", reach, NO_PEER)
    return at_least(name, "x", [theirs.cpu / our.cpu for theirs, our in zip(peer, ours, strict=True)], reach)


class Bench:
    """Runs the clients against one gateway and one Postgres."""

    def __init__(self, lab_environment: Mapping[str, str], host: str, trusted: Path, traffic: Traffic) -> None:
        self._host = host
        self._traffic = traffic
        self._environment = child_environment(lab_environment) | {
            "DOC_DB_API_HOST": f"https://{host}",
            "REQUESTS_CA_BUNDLE": str(trusted),
        }

    def ours(self) -> Run:
        """A full ingest meets an empty mirror."""
        with connect(self._environment) as connection:
            tables = connection.execute(
                "select format('docdb.%I', tablename) from pg_tables where schemaname = 'docdb'"
            )
            connection.execute("truncate " + ", ".join(name for (name,) in tables.fetchall()) + " cascade")
        command = [sys.executable, "-m", "benchmarks.docdb_ours"]
        return self._run(command, "select id, name, location from docdb.records")

    def peer(self, shape: str) -> Run:
        """Read, flatten to this shape, overwrite."""
        script = str(Path(__file__).with_name("docdb_peer.py"))
        command = [str(PEER), script, self._host, "peer", shape]
        return self._run(command, "select _id, name, location from peer")

    def _run(self, command: list[str], query: str) -> Run:
        before = replace(self._traffic)
        cpu, wall, memory = timed(command, self._environment)
        after = replace(self._traffic)
        moved = after.sent + after.received - before.sent - before.received
        contents = _contents(self._environment, query)
        run = Run(cpu, wall, memory, moved / MEGABYTE, after.requests - before.requests, contents)
        print(f"{' '.join(command[2:])}: {run}", file=sys.stderr, flush=True)  # the whole takes more than an hour
        return run


def _contents(environment: Mapping[str, str], query: str) -> str:
    """A hash of the selected columns of every record, by id, with their number."""
    digest = hashlib.sha256()
    with connect(environment) as connection:
        rows = sorted(tuple(map(str, row)) for row in connection.execute(query))
    for row in rows:
        digest.update(json.dumps(row).encode())
    return f"{len(rows)} {digest.hexdigest()}"


def _made(first: int, after: int) -> list[dict[str, Any]]:
    """Records of a made-up institute, repeated under new names and filled up to between 10 and 100 KB."""
    patterns = _patterns()
    records = []
    for number in range(first, after):
        pattern, size = patterns[number % len(patterns)]
        wanted = random.Random(number).uniform(_SMALLEST, _LARGEST) - size
        epochs = [
            {"name": f"epoch {place}", "start": place * 1.5, "stop": place * 1.5 + 1, "trials": list(range(12))}
            for place in range(max(0, int(wanted / 110)))
        ]
        named = {
            "_id": f"{number:08d}",
            "name": f"{pattern['name']}_{number}",
            "location": f"{pattern['location']}_{number}",
        }
        records.append(pattern | named | {"epochs": epochs})
    return records


@cache
def _patterns() -> list[tuple[dict[str, Any], int]]:
    """Records of one generation, with their sizes."""
    from aind_pipelines.lab.seed.institute import generate

    patterns = generate(100, 0, troubles=False).records["metadata_index"]
    return [(pattern, len(json.dumps(pattern))) for pattern in patterns]
