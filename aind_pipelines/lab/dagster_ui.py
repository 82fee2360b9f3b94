"""The Dagster UI and daemon on a lab."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.lab.environment import isolated
from aind_pipelines.lab.home import HOST, LabError, LabHome, port_is_free
from aind_pipelines.lab.processes import bound, end_group

READY_SECONDS = 180
_STOP_SECONDS = 20


def require_free(port: int) -> None:
    """Refuse a port that another program has: Dagster would go on without its UI.

    Raises:
        LabError: It is taken.
    """
    if not port_is_free(port):
        raise LabError(
            f"Port {port} is taken by another program. Choose another: aind-pipelines dev --port {port + 1}"
        )


@contextmanager
def dagster_dev(home: LabHome, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``dagster dev`` on the lab until the block ends; yields when the UI answers.

    The processes start in the lab's home, with the lab's environment alone: Dagster lets a ``.env`` in its working
    directory override the environment.

    Raises:
        LabError: Another program has the port.
        ServiceError: It ended, or did not answer in time; the message names its log.
    """
    require_free(port)
    log = home.root / "logs" / "dagster_dev.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(home.root / "workspace.yaml")]
    with log.open("ab") as output:
        process = subprocess.Popen(
            bound([*command, "-h", HOST, "-p", str(port)], signal.SIGINT),
            cwd=home.root,
            env=isolated(home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        _wait_until_ready(process, port, str(log))
        yield process
    finally:
        # Dagster's code servers are of its group, and now and then one stays behind when Dagster has ended.
        end_group(process, signal.SIGINT, _STOP_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServiceError("Dagster UI", f"it ended with exit code {process.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/server_info", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise ServiceError("Dagster UI", f"it did not answer on port {port} within {READY_SECONDS} s; see {log}")
