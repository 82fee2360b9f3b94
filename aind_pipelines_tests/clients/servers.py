"""Helpers of the clients' tests: free ports, child processes, and what the started servers are."""

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL

DEAD_PORT = 1
"""Nothing listens there."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_somebody_else() -> None:
    """Postgres refuses to run as root: in a user namespace, the same user is not root."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("1000 0 1")
    Path("/proc/self/gid_map").write_text("1000 0 1")


@dataclass(frozen=True)
class PostgresServer:
    port: int
    password: str
    log: Path
    user: str = "postgres"
    host: str = "127.0.0.1"

    def url(self, database: str = "postgres") -> URL:
        return URL.create("postgresql+psycopg", self.user, self.password, self.host, self.port, database)

    def conninfo(self, database: str = "postgres") -> str:
        return make_conninfo(host=self.host, port=self.port, user=self.user, password=self.password, dbname=database)


@dataclass(frozen=True)
class AwsServer:
    """Secrets Manager, parameter store and S3 on one loopback port."""

    url: str
    access_key: str = "AKIATEST"
    secret_key: str = "canary-aws-secret"
    region: str = "us-west-2"

    def client(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name=self.region,
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
        )  # fmt: skip

    def secret(self, name: str, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.client("secretsmanager").create_secret(Name=name, SecretString=text)


@dataclass(frozen=True)
class DocDBServer:
    port: int
    username: str = "docdb-user"
    password: str = "canary-docdb-password"

    @property
    def uri(self) -> str:
        return (
            f"mongodb://{self.username}:{self.password}@127.0.0.1:{self.port}/"
            "?authSource=admin&authMechanism=SCRAM-SHA-1&directConnection=true&retryWrites=false"
        )


@dataclass(frozen=True)
class Gateway:
    port: int
    access_key: str = "AKIAGATEWAY"
    secret_key: str = "canary/gateway+secret"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def boto(self, secret_key: str | None = None, region: str | None = "us-west-2") -> boto3.session.Session:
        return boto3.session.Session(self.access_key, secret_key or self.secret_key, region_name=region)


@contextmanager
def child(
    *command: str | Path, environment: Mapping[str, str] | None = None, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process with an environment of its own, ended with the block."""
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=own | dict(environment or {}), stdin=subprocess.DEVNULL,
            stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, f"nothing listens on port {port} after {seconds} s"
            time.sleep(0.05)
        else:
            return


class Bastion:
    """The SSH bastion as a child process that can be killed and started again on the same port."""

    username = "ssh-user"
    password = "canary-ssh-password"

    def __init__(self, home: Path, allow: list[int]) -> None:
        self.port = free_port()
        self.key_file = home / "client_key"
        self._log = home / "log"
        self._config = home / "bastion.json"
        self._config.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1", "port": self.port, "username": self.username, "password": self.password,
                    "host_key": str(home / "host_key"), "client_key": str(self.key_file),
                    "allow": [["127.0.0.1", port] for port in allow],
                }
            )
        )  # fmt: skip
        self.host_key_file = home / "host_key.pub"
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = self._stack.enter_context(
            child("aind_pipelines.lab.bastion", "--config", str(self._config), log=self._log)
        )
        wait_for_port(self.port, self._process, self._log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._stack.close()
