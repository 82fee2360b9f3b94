"""Publishing a table of 200,000 x 20, ours beside the published client's overwrite: same Postgres, same call, in turn.

Every round both overwrite a table of their own with the same new content, and the two are compared cell by cell. Ours
has a primary key, an index and a view, as published tables do; the peer's loses such things.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import NO_PEER, PEER, ROOT, child_environment, connect, run_lab
from benchmarks.rows import Row, at_least, at_most, not_measured
from benchmarks.tables_frame import COLUMNS

ROUNDS = 5
READERS = 8
LOOP = 5
FIRST = 20
LONG = 10
"""The long iterator has so many times the rows."""

_SLOWEST_LOCK = "50ms"
_WAITED = "still waiting for"
_CLIENT = Path(__file__).with_name("tables_client.py")


@dataclass(frozen=True, slots=True)
class Run:
    """One call: CPU and wall seconds of the client, peak memory over the DataFrame in MB (10^6 bytes)."""

    cpu: float
    wall: float
    memory: float


def measure(rows: int = 200_000) -> list[Row]:
    """Overwrites in turn, five of each; then readers beside a publishing loop; then iterators of batches.

    Raises:
        RuntimeError: The two tables differ, a client failed, or Postgres did not log a lock wait that was made for it.
    """
    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-tables-"))
    home = scratch / "lab"
    try:
        run_lab("up", home)
        return _measure(home, rows)
    finally:
        run_lab("down", home)
        shutil.rmtree(scratch, ignore_errors=True)


def _measure(home: Path, rows: int) -> list[Row]:
    from aind_pipelines.lab.home import LabHome

    lab = LabHome(home)
    environment = child_environment(lab.environment())
    _log_lock_waits(lab, environment)
    _make_table(environment, "bench_ours")
    _make_table(environment, "bench_loop")
    ours: list[Run] = []
    peer: list[Run] = []
    for seed in range(ROUNDS + 1):
        size = rows if seed else rows // FIRST  # the first makes the tables and does not count
        ours.append(_run(sys.executable, "ours", "bench_ours", size, seed, environment))
        if PEER.exists():
            peer.append(_run(str(PEER), "peer", "bench_peer", size, seed, environment))
            _compare(environment, size)
    ours, peer = ours[1:], peer[1:]
    waits = _lock_waits(lab, environment, rows)
    short = [_run(sys.executable, "stream", "bench_loop", rows, seed, environment).memory for seed in (1, 2, 3)]
    long = [_run(sys.executable, "stream", "bench_loop", rows * LONG, 4, environment).memory]
    size = f"{rows} x {len(COLUMNS)}"
    return [
        _ratio(f"tables: overwrite {size}, CPU of peer over ours", "cpu", peer, ours, 50),
        _ratio(f"tables: overwrite {size}, time of peer over ours", "wall", peer, ours, 20),
        at_most(f"tables: lock waits over {_SLOWEST_LOCK}, {READERS} readers", "lines", [waits], 0),
        at_most("tables: peak memory over the DataFrame", "MB", [run.memory for run in ours], 150),
        at_most(
            f"tables: memory, {rows * LONG} rows in batches over {rows}", "MB",
            [sample - statistics.median(short) for sample in long], 20,
        ),
        at_most(f"tables: memory, {rows * LONG} rows in batches", "MB", long, 150),
        *(
            at_least(f"tables: overwrite, {what} of {who}", unit, [getattr(run, field) for run in runs], 0)
            for who, runs in (("ours", ours), ("the peer", peer))
            for what, unit, field in (("CPU", "s", "cpu"), ("time", "s", "wall"), ("memory", "MB", "memory"))
            if runs
        ),
    ]  # fmt: skip


def _ratio(name: str, field: str, peer: list[Run], ours: list[Run], reach: float) -> Row:
    """Median of the peer over median of ours; not reached when the peer did not run."""
    if not peer:
        return not_measured(name, "x", reach, NO_PEER)
    pairs = [getattr(theirs, field) / getattr(our, field) for theirs, our in zip(peer, ours, strict=True)]
    return at_least(name, "x", pairs, reach)


def _run(python: str, who: str, table: str, rows: int, seed: int, environment: Mapping[str, str]) -> Run:
    done = subprocess.run(
        [python, str(_CLIENT), who, table, str(rows), str(seed)],
        env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{who} ended with {done.returncode}: {done.stderr[-2000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    run = Run(figures["cpu"], figures["wall"], figures["memory"])
    print(f"{who} {rows} rows: {run}", file=sys.stderr, flush=True)  # the whole takes the peer's many minutes
    return run


def _make_table(environment: Mapping[str, str], name: str) -> None:
    columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
    with connect(environment) as connection:
        connection.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY (id))")
        connection.execute(f"CREATE INDEX ON {name} (subject_id)")
        connection.execute(f"CREATE VIEW {name}_raw AS SELECT * FROM {name} WHERE raw")


def _compare(environment: Mapping[str, str], rows: int) -> None:
    """Cell by cell, in the database; both by ``id``."""
    differing = " + ".join(
        f"count(*) FILTER (WHERE o.{name} IS DISTINCT FROM p.{name}::{kind})" for name, kind in COLUMNS.items()
    )
    with connect(environment) as connection:
        both, cells = connection.execute(
            f"SELECT count(*), {differing} FROM bench_ours o FULL JOIN bench_peer p ON p.id = o.id"
        ).fetchone()
    if (both, cells) != (rows, 0):
        raise RuntimeError(f"the tables hold {both} rows for {rows}, and differ in {cells} cells")


def _log_lock_waits(lab: Any, environment: Mapping[str, str]) -> None:
    """Have Postgres log who waits for a lock, and see that it does."""
    from aind_pipelines.lab.postgres import SUPERUSER

    login = dict(environment) | {"PGUSER": SUPERUSER, "PGPASSWORD": lab.secrets["postgres_password"]}
    with connect(login) as connection:
        connection.autocommit = True
        connection.execute("ALTER SYSTEM SET log_lock_waits = on")
        connection.execute(f"ALTER SYSTEM SET deadlock_timeout = '{_SLOWEST_LOCK}'")
        connection.execute("SELECT pg_reload_conf()")
    time.sleep(1)
    with connect(environment) as holder, connect(environment) as waiter:
        holder.execute("CREATE TABLE bench_locked (n int)")
        holder.commit()
        before = _lines(lab)
        holder.execute("LOCK TABLE bench_locked")
        reading = threading.Thread(target=waiter.execute, args=("SELECT * FROM bench_locked",))
        reading.start()
        time.sleep(0.5)
        holder.rollback()
        reading.join()
    if _lines(lab) == before:
        raise RuntimeError("Postgres did not log a lock wait that was made to see whether it does")


def _lines(lab: Any) -> int:
    return sum(_WAITED in line for line in lab.log("postgres").read_text(errors="replace").splitlines())


def _lock_waits(lab: Any, environment: Mapping[str, str], rows: int) -> int:
    """Lines of the server's log about a wait, while readers read a table that is published again and again."""
    _run(sys.executable, "ours", "bench_loop", rows, 0, environment)
    before = _lines(lab)
    with _readers(environment) as seen:
        subprocess.run(
            [sys.executable, str(_CLIENT), "loop", "bench_loop", str(rows), str(LOOP)],
            env=dict(environment), cwd=ROOT, check=True,
        )  # fmt: skip
    if seen != {rows}:
        raise RuntimeError(f"the readers saw tables of {sorted(seen)} rows, and only {rows} is whole")
    return _lines(lab) - before


@contextmanager
def _readers(environment: Mapping[str, str]) -> Iterator[set[int]]:
    """So many readers, who note how many rows they see."""
    stop = threading.Event()
    seen: set[int] = set()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            with connect(environment) as connection:
                connection.autocommit = True
                while not stop.is_set():
                    seen.add(connection.execute("SELECT count(*) FROM bench_loop").fetchone()[0])
                    connection.execute("SELECT * FROM bench_loop_raw WHERE subject_id = '700000'").fetchall()
        except BaseException as error:  # noqa: BLE001 - reported by the thread that reads the answer
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
