"""Real services of this project as child processes on free loopback ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import requests

Started = subprocess.Popen[str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, child: Started | None = None, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if child is not None and child.poll() is not None:
            assert child.stderr is not None
            raise AssertionError(f"{what}: exit code {child.returncode}: {child.stderr.read()}")
        assert time.monotonic() < end, f"{what} took over {seconds} s"
        time.sleep(0.05)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            session.get(url, timeout=5)
        except requests.RequestException:
            return False
    return True


@contextmanager
def module(name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Started]:
    """``python -m name arguments...`` with an environment of its own; stopped at the end."""
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(
        [sys.executable, "-m", name, *arguments], env=own | dict(env or {}), stderr=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


DOCDB_USER, DOCDB_PASSWORD = "docdb-user", "docdb-pw"


def mongo_uri(port: int) -> str:
    return (
        f"mongodb://{DOCDB_USER}:{DOCDB_PASSWORD}@127.0.0.1:{port}/"
        "?authSource=admin&authMechanism=SCRAM-SHA-1&directConnection=true"
    )
