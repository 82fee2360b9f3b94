"""The lab and the client processes of a benchmark: started in the environment of the lab, and measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "aind-data-access-api-rds" / "bin" / "python"
NO_PEER = "the peer is not installed: make .peers/aind-data-access-api-rds/.installed"
CLI = (sys.executable, "-m", "aind_pipelines.cli")
MEGABYTE = 1e6


# Linux counts to a process's peak what its parent held when it was started; this parent holds next to nothing.
_MEASURE = """
import os, sys, time
report, command = int(sys.argv[1]), sys.argv[2:]
os.set_inheritable(report, False)
began = time.monotonic()
_, status, used = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
wall = time.monotonic() - began
figures = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, wall, used.ru_maxrss
os.write(report, " ".join(map(str, figures)).encode())
"""


def timed(command: list[str], environment: Mapping[str, str], given: bytes = b"") -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory in MB of one process, which reads what is `given` to it.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as reads, tempfile.TemporaryFile() as report:
        reads.write(given)
        reads.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _MEASURE, str(report.fileno()), *command],
            env=dict(environment), cwd=ROOT, stdin=reads, stdout=said, stderr=said,
            pass_fds=[report.fileno()], process_group=0,
        )  # fmt: skip
        try:
            process.wait()
        except BaseException:  # told to end: nothing is left running
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        report.seek(0)
        code, cpu, wall, peak = report.read().split() or (process.returncode, 0, 0, 0)
        if int(code):
            said.seek(0)
            raise RuntimeError(f"{command[-1]} ended with {int(code)}: {said.read()[-2000:].decode()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(cpu), float(wall), int(peak) * unit / MEGABYTE


def connect(environment: Mapping[str, str]) -> Any:
    """A psycopg connection to the lab's Postgres, as the lab's environment names it."""
    import psycopg

    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    return psycopg.connect(**{key: environment[name] for key, name in names.items()})


def child_environment(lab: Mapping[str, str]) -> dict[str, str]:
    """The lab's, with what finds programs and these modules."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **lab}


def run_lab(verb: str, home: Path) -> None:
    """``aind-pipelines lab VERB`` on a home."""
    subprocess.run([*CLI, "lab", verb, "--home", str(home)], check=True, stdout=subprocess.DEVNULL)
