"""A lab's home: one folder with everything the lab is, and the names under which its services are reached.

``lab.json`` (mode 0600) holds what must outlive a restart: the ports, the generated secrets, which services are
somebody else's, and in which folder that is, by which a copy is told from a home that was moved. Everything else in
the folder is data of one service, generated configuration, or logs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.lab.moving import settle_archives

HOST = "127.0.0.1"
REGION = "us-west-2"
CAPSULE_ID = "5b0c8f6e-93d1-4c5a-8a57-2e1f7c0d9b64"
"""The Code Ocean capsule that every seed has, as which the lab's processes run."""
SERVICES = (
    "postgres",
    "docdb",
    "docdb_gateway",
    "aws",
    "bastion",
    "registry",
    "metadata_service",
    "code_ocean",
)
OPTIONS = {"docdb": "--docdb-uri", "postgres": "--postgres-url"}
"""The command-line option that puts somebody else's server in the place of a service."""
_FORMAT = 1
_NEEDED_BYTES = 256 * 2**20
_KNOWN_ENTRIES = frozenset(
    {
        "aind-pipelines.toml",
        "archives",
        "dagster",
        "data",
        "inbox",
        "lab.json",
        "lock",
        "logs",
        "seed",
        "supervisor.json",
        "workspace.yaml",
    }
)
_SSL_OPTIONS = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}


class LabError(ServiceError):
    """The lab did not do what was asked; the message names the service or the home, the reason and what to do.

    Attributes:
        message: The text without the system's name.
    """

    def __init__(self, message: str) -> None:
        super().__init__("lab", message)
        self.message = message


class HomeError(LabError):
    """The home cannot be used."""


class HomeInUse(HomeError):
    """Another supervisor holds the home's lock."""


def _has_control_character(text: str) -> bool:
    """Whether a line that shows `text` may be more than one line, or show something else."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def _split(url: str, option: str) -> SplitResult:
    """The parts of a connection string; what is refused here may hold a password, and is not repeated."""
    try:
        return urlsplit(url)
    except ValueError:
        raise HomeError(
            f"{option} cannot be read: in brackets there is an IPv6 address, such as [::1], and nothing else. "
            "In a user's name or password, write them as %5B and %5D."
        ) from None


def _host(parts: SplitResult, option: str) -> str:
    """The host; empty when none is named."""
    host = parts.hostname or ""
    try:
        host.encode("idna")
    except UnicodeError:
        raise HomeError(
            f"{option} names a host that cannot be: between its dots a name has 1 to 63 characters."
        ) from None
    return host


def _port(parts: SplitResult, default: int, option: str) -> int:
    _, _, text = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise HomeError(f"The port in {option} is not a number.")
    if len(text) > 5 or not 1 <= int(text) <= 65535:
        raise HomeError(f"The port in {option} is not between 1 and 65535.")
    return int(text)


@dataclass(frozen=True, repr=False)
class Postgres:
    """How to log in to one Postgres server.

    Attributes:
        host: Server name or address.
        port: TCP port.
        user: Role.
        password: Its password; empty for none.
        database: Database of the analysts' tables.
        options: libpq's ``sslmode`` and ``sslrootcert``, as given.
    """

    host: str
    port: int
    user: str
    password: str
    database: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, of which only port and password may be missing.

        Raises:
            HomeError: The URL is of another form.
        """
        option = OPTIONS["postgres"]
        parts = _split(url, option)
        port, host = _port(parts, 5432, option), _host(parts, option)
        database = unquote(parts.path.lstrip("/"))
        if parts.scheme.partition("+")[0] not in {"postgresql", "postgres"} or not (
            host and parts.username and database
        ):
            raise HomeError(f"{option} looks like postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
        options = tuple(parse_qsl(parts.query))
        if unknown := sorted({name for name, _ in options} - set(_SSL_OPTIONS)):
            raise HomeError(
                f"The option {unknown[0]!r} in {option} is not supported here; {', '.join(_SSL_OPTIONS)} are."
            )
        return cls(host, port, unquote(parts.username), unquote(parts.password or ""), database, options)

    def url(self, driver: str = "postgresql+psycopg", database: str | None = None) -> str:
        """The SQLAlchemy URL, password included, of `database` (default: the analysts')."""
        login = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in self.options)
        host = f"[{self.host}]" if ":" in self.host else self.host
        name = quote(database or self.database, safe="")
        return f"{driver}://{login}@{host}:{self.port}/{name}" + (f"?{query}" if query else "")

    @property
    def dagster_database(self) -> str:
        """The database of Dagster's own storage, beside the analysts'."""
        return f"{self.database}_dagster"


@dataclass(frozen=True, repr=False)
class DocDB:
    """How to log in to one MongoDB-protocol server.

    Attributes:
        hosts: (name, port) of each member; the first is the one that clients without a URI use.
        username: User, or None where the server asks for none.
        password: Its password.
        uri: The connection string with everything in it.
    """

    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    uri: str

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Read ``mongodb://USER:PASSWORD@HOST:PORT/?OPTIONS``.

        Raises:
            HomeError: The URI is of another form; ``mongodb+srv`` cannot be tunnelled, so it is refused.
        """
        option = OPTIONS["docdb"]
        if _has_control_character(uri):
            raise HomeError(f"{option} holds a control character. In a user's name or password, a newline is %0A.")
        scheme, _, rest = uri.partition("://")
        if scheme != "mongodb" or not rest:
            raise HomeError(
                f"{option} looks like mongodb://USER:PASSWORD@HOST:PORT/?OPTIONS "
                "(mongodb+srv:// does not name its hosts, which the bastion must know)."
            )
        authority = rest.partition("/")[0].partition("?")[0]
        login, _, members = authority.rpartition("@")
        username, _, password = login.partition(":")
        hosts = []
        for member in members.split(","):
            parts = _split(f"//{member}", option)
            port, host = _port(parts, 27017, option), _host(parts, option)
            if not host:
                raise HomeError(f"{option} names no host.")
            hosts.append((host, port))
        return cls(tuple(hosts), unquote(username) if username else None, unquote(password) if password else None, uri)


def _new_secrets() -> dict[str, str]:
    return {
        "postgres_password": secrets.token_urlsafe(18),
        "rds_password": secrets.token_urlsafe(18),
        "dagster_password": secrets.token_urlsafe(18),
        "docdb_password": secrets.token_urlsafe(18),
        "bastion_password": secrets.token_urlsafe(18),
        "registry_password": secrets.token_urlsafe(18),
        "registry_secret_key": secrets.token_urlsafe(36),
        "code_ocean_token": f"cop_{secrets.token_urlsafe(24)}",
        "aws_access_key_id": "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)),
        "aws_secret_access_key": secrets.token_urlsafe(30),
    }


def _port_range() -> range:
    """Ports below those the kernel hands out to outgoing connections.

    A client that retries a closed port out of that range can be given this very port as its own: it then talks to
    itself, and the service cannot come back on it.
    """
    first_outgoing = 49152
    with contextlib.suppress(OSError, ValueError):
        first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    return range(15000, min(first_outgoing, 32768))


def port_is_free(port: int) -> bool:
    """Whether a server could open this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port(taken: set[int]) -> int:
    candidates = _port_range()
    for _ in range(200 if candidates else 0):
        port = random.choice(candidates)  # noqa: S311 - not a secret
        if port not in taken and port_is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        chosen: int = probe.getsockname()[1]
        return chosen


def _registry_url(port: int) -> str:
    return f"http://{HOST}:{port}/neurobank/"


def _anothers(root: Path, owner: int) -> HomeError:
    return HomeError(f"{root} belongs to another user (id {owner}). Run as that user, or choose another --home.")


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class LabHome:
    """The folder of one lab.

    Constructing it touches nothing; `initialise` makes the folder, and `ports` and `secrets` need that to have
    happened once.

    Args:
        root: The folder, e.g. ``.lab``; made absolute.

    Raises:
        HomeError: Its path leads nowhere, or holds a control character: messages and `environment.exports` show it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        try:
            self.root = Path(root).expanduser().resolve()
        except RuntimeError as error:  # a link that leads to itself, or ~ of a user who is not there
            raise HomeError(f"{root} cannot be used: {error}. Choose another --home.") from None
        if _has_control_character(str(self.root)):
            raise HomeError(f"{str(self.root)!r} has a control character in its path. Choose another --home.")
        self._content: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"LabHome({str(self.root)!r})"

    # Places.

    @property
    def file(self) -> Path:
        """``lab.json``: ports, secrets, and which services are external."""
        return self.root / "lab.json"

    @property
    def lock_file(self) -> Path:
        """What a supervisor holds while it, or any child of it, lives."""
        return self.root / "lock"

    @property
    def state_file(self) -> Path:
        """Where the running supervisor and its children are recorded."""
        return self.root / "supervisor.json"

    @property
    def seed_dir(self) -> Path:
        """Files that services load at start."""
        return self.root / "seed"

    @property
    def archives_dir(self) -> Path:
        """Neurobank archives."""
        return self.root / "archives"

    @property
    def inbox_dir(self) -> Path:
        """Files that are to be deposited are put here."""
        return self.root / "inbox"

    @property
    def dagster_home(self) -> Path:
        """Dagster's home, with its ``dagster.yaml``."""
        return self.root / "dagster"

    @property
    def config_file(self) -> Path:
        """The lab's policy file."""
        return self.root / "aind-pipelines.toml"

    @property
    def workspace_file(self) -> Path:
        """The workspace with which Dagster's processes start."""
        return self.root / "workspace.yaml"

    @property
    def logs_dir(self) -> Path:
        """One log per service, and the supervisor's."""
        return self.root / "logs"

    def data(self, service: str) -> Path:
        """Where a service keeps its data."""
        return self.root / "data" / service

    @property
    def registry_database(self) -> Path:
        """The registry's SQLite file."""
        return self.data("registry") / "registry.sqlite"

    def log(self, service: str) -> Path:
        """Where a service's output goes."""
        return self.logs_dir / f"{service}.log"

    # What lab.json says.

    @property
    def place(self) -> list[int] | None:
        """What tells this folder from any other, also from a copy, wherever it is moved; None when it is not there."""
        try:
            seen = self.root.stat()
        except OSError:
            return None
        return [seen.st_dev, seen.st_ino]

    @property
    def exists(self) -> bool:
        """Whether there is a lab here.

        Raises:
            HomeError: That cannot be told, since a folder above may not be passed.
        """
        with self.explained():
            return self.file.is_file()

    def _read(self) -> dict[str, Any]:
        if self._content is None:
            try:
                content = json.loads(self.file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise HomeError(
                    f"There is no lab in {self.root}. Start one: aind-pipelines lab up --home {self.root}"
                ) from None
            except OSError as error:
                raise self.explanation(error) from None
            except ValueError as error:
                raise HomeError(f"{self.file} cannot be read: {error}. Stop the lab and remove {self.root}.") from None
            if not isinstance(content, dict) or content.get("format") != _FORMAT:
                raise HomeError(
                    f"{self.file} was written by another version of the lab. Stop that lab, remove {self.root} "
                    "and start again."
                )
            self._refuse_copy(content)
            self._content = content
        return self._content

    def _refuse_copy(self, content: Mapping[str, Any]) -> None:
        """Let no command work on a copy whose original is there: it has the original's ports, logins and archives.

        Raises:
            HomeError: The lab that `content` describes is in another folder.
        """
        original = Path(content.get("root", self.root))
        try:
            if original.samefile(self.root):
                return
            there = json.loads((original / self.file.name).read_text(encoding="utf-8"))
            if there["secrets"]["postgres_password"] != content["secrets"]["postgres_password"]:
                return
        except (OSError, ValueError, KeyError, TypeError):  # the lab is no longer there: this is where it was moved
            return
        raise HomeError(
            f"{self.root} is a copy of the lab in {original}: it has its ports and passwords, and its registry names "
            f"that lab's archives. Use that one: --home {original}. Or start another in a new folder: "
            f"aind-pipelines lab up --home DIR --sessions N. A copy can be used when {original} is no longer there."
        )

    def reload(self) -> None:
        """Forget what was read, so that the next look reads ``lab.json`` again."""
        self._content = None

    @property
    def ports(self) -> dict[str, int]:
        """Loopback port by service."""
        return dict(self._read()["ports"])

    @property
    def secrets(self) -> dict[str, str]:
        """Generated passwords, keys and tokens by name."""
        return dict(self._read()["secrets"])

    @property
    def external(self) -> dict[str, str]:
        """Connection string by service (``postgres``, ``docdb``) of those that are not the lab's own."""
        return dict(self._read()["external"])

    def initialise(self, *, docdb_uri: str | None = None, postgres_url: str | None = None) -> list[str]:
        """Make the folder usable and settle ports, secrets and external services. Call it under `lock`.

        Ports stay what they were, unless another program has taken one meanwhile.

        Args:
            docdb_uri: MongoDB URI of a DocDB to use instead of the lab's own.
            postgres_url: URL of a Postgres to use instead of the lab's own.

        Returns:
            What a person should know: that the lab was moved here, and the ports that had to move.

        Raises:
            HomeError: The folder cannot be used, or a connection string is malformed.
        """
        external = {}
        if docdb_uri:
            DocDB.from_uri(docdb_uri)
            external["docdb"] = docdb_uri
        if postgres_url:
            Postgres.from_url(postgres_url)
            external["postgres"] = postgres_url
        self.check()
        content: dict[str, Any] = self._read() if self.exists else {"ports": {}, "secrets": {}}
        ports = dict(content["ports"])
        notes = []
        for service in SERVICES:
            old = ports.get(service)
            if old is None or (service not in external and not port_is_free(old)):
                ports[service] = _free_port(set(ports.values()))
                if old is not None:
                    notes.append(f"port {old} of {service} is taken by another program; it moves to {ports[service]}")
        former, former_ports = Path(content.get("root", self.root)), content["ports"]
        if former != self.root:
            notes.append(f"the lab was moved here from {former}")
        content = {
            "format": _FORMAT,
            "root": str(self.root),
            "ports": ports,
            "secrets": _new_secrets() | content["secrets"],
            "external": external,
        }
        with self.explained():
            for folder in (
                self.seed_dir,
                self.archives_dir,
                self.inbox_dir,
                self.dagster_home,
                self.logs_dir,
                *(self.data(service) for service in SERVICES),
            ):
                folder.mkdir(parents=True, exist_ok=True)
            if former_ports and content != self._content:
                self._settle_archives(former, former_ports, ports)
            if content != self._content:
                write_private(self.file, json.dumps(content, indent=2) + "\n")
        self._content = content
        return notes

    def _settle_archives(self, former: Path, former_ports: Mapping[str, int], ports: Mapping[str, int]) -> None:
        try:
            settle_archives(
                self.registry_database,
                home=(former, self.root),
                registry=(_registry_url(former_ports["registry"]), _registry_url(ports["registry"])),
            )
        except sqlite3.Error as error:
            raise HomeError(
                f"{self.registry_database} cannot be changed: {error}. Stop what has it open, and start again."
            ) from None

    def check(self, needed_bytes: int = _NEEDED_BYTES) -> None:
        """Make sure the folder is there, ours, writable, and that its disk has room.

        Args:
            needed_bytes: Free space below which a lab should not start.

        Raises:
            HomeError: It cannot be used; the message says why and what to do.
        """
        with self.explained():
            if self.root.exists() and not self.root.is_dir():
                raise HomeError(f"{self.root} is not a folder. Choose another --home.")
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            entries = {entry.name for entry in self.root.iterdir() if not entry.name.startswith(".")}
        if entries and not self.exists and not entries <= _KNOWN_ENTRIES:
            raise HomeError(
                f"{self.root} holds other things ({sorted(entries - _KNOWN_ENTRIES)[0]!r}) and no lab. "
                "Choose a new or empty folder as --home."
            )
        with self.explained():
            if (owner := self.root.stat().st_uid) != os.geteuid():
                raise _anothers(self.root, owner)
            if self.root.stat().st_mode & 0o066:
                self.root.chmod(0o700)
            probe = self.root / f".probe.{os.getpid()}"
            try:
                probe.write_bytes(bytes(4096))
            finally:
                probe.unlink(missing_ok=True)
            free = shutil.disk_usage(self.root).free
        if free < needed_bytes:
            raise HomeError(
                f"The disk of {self.root} has {free >> 20} MB left; the lab needs {needed_bytes >> 20}. "
                "Make room, or choose a --home on another disk."
            )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Do something in the home.

        Raises:
            HomeError: The system refused, as an `OSError`; the message says why and what to do.
        """
        try:
            yield
        except OSError as error:
            raise self.explanation(error) from error

    def explanation(self, error: OSError) -> HomeError:
        """What the system's refusal of a step in the home means for a person."""
        if error.errno in {errno.EACCES, errno.EPERM} and (owner := self._another_owner()) is not None:
            return _anothers(self.root, owner)
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return HomeError(f"{self.root} is not writable ({error.strerror}). Choose a --home that you may write to.")
        if error.errno == errno.EDQUOT:
            return HomeError(
                f"Your quota on the disk of {self.root} is used up. Make room, or choose a --home on another disk."
            )
        if error.errno == errno.ENOSPC:
            return HomeError(f"The disk of {self.root} is full. Make room, or choose a --home on another disk.")
        if error.errno in {errno.ENOTDIR, errno.EEXIST}:
            return HomeError(f"{error.filename or self.root} is not a folder. Choose another --home.")
        return HomeError(f"{self.root} cannot be used: {error}. Choose another --home.")

    def _another_owner(self) -> int | None:
        """The id of the user whose folder this is; None where it is ours, or that cannot be told."""
        try:
            owner = self.root.stat().st_uid
        except OSError:
            return None
        return owner if owner != os.geteuid() else None

    def lock(self, wait: float = 0.0) -> int:
        """Take the home for one supervisor.

        The lock lives as long as the returned descriptor is open in any process, and goes with the last of them,
        however it ends.

        Args:
            wait: Seconds to wait for a holder that is just ending.

        Returns:
            The open file descriptor; `os.close` releases it.

        Raises:
            HomeInUse: Another process holds it.
            HomeError: The folder cannot be used.
        """
        with self.explained():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    raise HomeInUse(
                        f"Another supervisor owns {self.root}. Stop it: aind-pipelines lab down --home {self.root}"
                    ) from None
                time.sleep(0.05)
            except OSError as error:
                os.close(descriptor)
                raise HomeError(f"{self.lock_file} cannot be locked: {error.strerror}.") from error
            else:
                return descriptor

    # How the services are reached.

    def postgres(self) -> Postgres:
        """The login of the analysts' database: the lab's own or the external server's."""
        if url := self.external.get("postgres"):
            return Postgres.from_url(url)
        return Postgres(HOST, self.ports["postgres"], "rds", self.secrets["rds_password"], "rds")

    def dagster_postgres(self) -> Postgres:
        """The login of Dagster's own storage."""
        if url := self.external.get("postgres"):
            given = Postgres.from_url(url)
            return Postgres(given.host, given.port, given.user, given.password, given.dagster_database, given.options)
        return Postgres(HOST, self.ports["postgres"], "dagster", self.secrets["dagster_password"], "dagster")

    def docdb(self) -> DocDB:
        """The login of DocDB: the lab's own or the external server's."""
        if uri := self.external.get("docdb"):
            return DocDB.from_uri(uri)
        port, password = self.ports["docdb"], self.secrets["docdb_password"]
        options = "authSource=admin&replicaSet=rs0&directConnection=true&retryWrites=false"
        uri = f"mongodb://docdb:{quote(password, safe='')}@{HOST}:{port}/?{options}"
        return DocDB(((HOST, port),), "docdb", password, uri)

    def url(self, service: str) -> str:
        """Where a service is, without credentials."""
        if service == "postgres":
            server = self.postgres()
            return f"postgresql://{server.host}:{server.port}/{server.database}"
        if service == "docdb":
            return "mongodb://" + ",".join(f"{host}:{port}" for host, port in self.docdb().hosts)
        if service == "registry":
            return _registry_url(self.ports[service])
        return f"{'ssh' if service == 'bastion' else 'http'}://{HOST}:{self.ports[service]}"

    def places(self) -> dict[str, str]:
        """The part of `environment` that is known before there is a lab: where tools look for a person's things."""
        return {
            "HOME": str(self.root),
            "AIND_PIPELINES_NO_DOTENV": "1",
            "AIND_PIPELINES_CONFIG": str(self.config_file),
            "DAGSTER_HOME": str(self.dagster_home),
            "AWS_CONFIG_FILE": str(self.root / ".aws" / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.root / ".aws" / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "NETRC": str(self.root / ".netrc"),
            "NO_PROXY": f"{HOST},localhost",
            "no_proxy": f"{HOST},localhost",
        }

    def environment(self) -> dict[str, str]:
        """What a process needs to be set to meet this lab and nothing else of the kind.

        Every name of the systems' own users with the lab's value, the ``PG*`` names of libpq, and the places where
        tools look for a person's logins, moved into the home.
        """
        ports, keys = self.ports, self.secrets
        server, docdb = self.postgres(), self.docdb()
        values: Mapping[str, str | None] = {
            "DOC_DB_HOST": docdb.hosts[0][0],
            "DOC_DB_PORT": str(docdb.hosts[0][1]),
            "DOC_DB_USERNAME": docdb.username,
            "DOC_DB_PASSWORD": docdb.password,
            "DOC_DB_DATABASE": "metadata_index",
            "DOC_DB_COLLECTION": "data_assets",
            "DOC_DB_SSH_HOST": HOST,
            "DOC_DB_SSH_PORT": str(ports["bastion"]),
            "DOC_DB_SSH_USERNAME": "bastion",
            "DOC_DB_SSH_PASSWORD": keys["bastion_password"],
            "DOC_DB_API_HOST": self.url("docdb_gateway"),
            "DOC_DB_API_VERSION": "v1",
            "RDS_HOST": server.host,
            "RDS_PORT": str(server.port),
            "RDS_USER": server.user,
            "RDS_USERNAME": server.user,
            "RDS_PASSWORD": server.password,
            "RDS_DATABASE": server.database,
            "RDS_DBNAME": server.database,
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": server.user,
            "PGPASSWORD": server.password,
            "PGDATABASE": server.database,
            "CODE_OCEAN_DOMAIN": self.url("code_ocean"),
            "CODE_OCEAN_API_TOKEN": keys["code_ocean_token"],
            "OS_CAPSULE_ID": CAPSULE_ID,
            "METADATA_SERVICE_URL": self.url("metadata_service"),
            "METADATA_SERVICE_VERSION": "v1",
            "NBANK_REGISTRY": self.url("registry"),
            "NBANK_USERNAME": "lab",
            "NBANK_PASSWORD": keys["registry_password"],
            "AWS_ENDPOINT_URL": self.url("aws"),
            "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        } | {_SSL_OPTIONS[name]: value for name, value in server.options}
        return self.places() | {name: value for name, value in values.items() if value}
