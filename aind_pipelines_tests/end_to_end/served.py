"""The UI with its daemon as `aind-pipelines dev` serves them, asked as a browser asks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

_TICKS = """query($s: InstigationSelector!) { instigationStateOrError(instigationSelector: $s) {
  ... on InstigationState { ticks(limit: 20) { status } } } }"""


@dataclass(frozen=True)
class UI:
    """A running UI with its daemon."""

    url: str

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """One GraphQL request; its data."""
        answer = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def ticks(self, sensor: str) -> list[str]:
        """How the sensor's newest ticks ended, newest first; none before its first."""
        selector = {"repositoryName": "__repository__", "repositoryLocationName": "aind_pipelines", "name": sensor}
        state = self.ask(_TICKS, s=selector)["instigationStateOrError"]
        return [tick["status"] for tick in state.get("ticks", [])]


@contextmanager
def served(home: Path, root: Path) -> Iterator[UI]:
    """Serve a lab's home by the checkout at `root`; afterwards nothing answers there any more."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "aind_pipelines.cli", "dev", "--home", str(home), "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert f"http://127.0.0.1:{port}" in line, line
    try:
        yield UI(f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}", timeout=5)


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Ask again each second until the answer is true; that answer."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(1)
    return value
