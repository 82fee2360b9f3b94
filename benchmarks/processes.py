"""The lab and the client processes of a benchmark: started in the environment of the lab, and measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".peers" / "aind-data-access-api-rds" / "bin" / "python"
CLI = (sys.executable, "-m", "aind_pipelines.cli")
MEGABYTE = 1e6


def timed(command: list[str], environment: Mapping[str, str], given: bytes = b"") -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory of one child process, which reads what is `given` to it."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as reads:
        reads.write(given)
        reads.seek(0)
        started = time.monotonic()
        process = subprocess.Popen(command, env=dict(environment), cwd=ROOT, stdin=reads, stdout=said, stderr=said)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # told to end: nothing is left running
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[-1]} ended with {process.returncode}: {said.read()[-2000:].decode()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss * unit / MEGABYTE


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
