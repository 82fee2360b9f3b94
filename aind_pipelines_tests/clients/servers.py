"""Helpers of the clients' tests: free ports, and what a started Postgres is."""

import ctypes
import socket
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import URL


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
