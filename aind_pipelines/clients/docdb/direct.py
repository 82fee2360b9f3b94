"""DocDB directly: pymongo through an SSH tunnel.

Options are those that Amazon DocumentDB bears: no retryable writes, a direct connection (the other members' addresses
mean nothing on this side of the tunnel), SCRAM-SHA-1 unless asked otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from aind_pipelines.clients.docdb.credentials import DocumentDbSSHCredentials
from aind_pipelines.clients.docdb.pages import NOT_TEXT, SERVICE, Query, Record, walk, with_id, with_id_shown
from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines.clients.ssh import Tunnel

if TYPE_CHECKING:
    from types import TracebackType

    from pymongo import MongoClient
    from pymongo.collection import Collection
    from pymongo.errors import PyMongoError

ReadPreference = Literal["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"]
Mechanism = Literal["SCRAM-SHA-1", "SCRAM-SHA-256"]
_Answer = TypeVar("_Answer")

DEFAULT_PAGE_SIZE = 500
_NOT_AUTHENTICATED = 18
_NOT_AUTHORIZED = 13
_TIME_OUT = 50

_log = logging.getLogger(__name__)


class DocumentDbSSHClient:
    """A client of one collection; use it as a context manager.

    Entering it opens the tunnel on any free local port, logs in, and asks the database once, so that what is wrong
    is said at once, naming the hop: bastion, tunnel, authentication or database. Whatever fails, everything that was
    opened is closed.

    Args:
        credentials: Where and who; None takes them from the environment.
        database: Another database than the credentials name.
        collection: Another collection than the credentials name.
        replica_set: Name that the server must say its replica set has.
        read_preference: Which members may answer reads; None is pymongo's default (primary).
        tls: Encrypt the connection inside of the tunnel.
        ca_file: CA bundle that the server's certificate is checked with. Its host name is not: behind a tunnel the
            server is always 127.0.0.1.
        auth_mechanism: How to log in to DocDB.
        server_selection_timeout: Seconds after which a server that does not answer is given up.
        heal_seconds: How long `iter_records` and `count` try to restore a connection that broke.
    """

    def __init__(
        self,
        credentials: DocumentDbSSHCredentials | None = None,
        *,
        database: str | None = None,
        collection: str | None = None,
        replica_set: str | None = None,
        read_preference: ReadPreference | None = None,
        tls: bool = False,
        ca_file: str | Path | None = None,
        auth_mechanism: Mechanism = "SCRAM-SHA-1",
        server_selection_timeout: float = 5.0,
        heal_seconds: float = 30.0,
    ) -> None:
        self.credentials = credentials or DocumentDbSSHCredentials()
        self.database_name = database or self.credentials.database
        self.collection_name = collection or self.credentials.collection
        self._heal_seconds = heal_seconds
        self._options: dict[str, Any] = {
            "authSource": "admin",
            "authMechanism": auth_mechanism,
            "directConnection": True,
            "retryWrites": False,
            "connectTimeoutMS": 5_000,
            "serverSelectionTimeoutMS": round(server_selection_timeout * 1000),
            "socketTimeoutMS": 60_000,
            "appname": "aind_pipelines",
        }
        if replica_set is not None:
            self._options["replicaSet"] = replica_set
        if read_preference is not None:
            self._options["readPreference"] = read_preference
        if tls:
            self._options |= {"tls": True, "tlsAllowInvalidHostnames": True}
            if ca_file is not None:
                self._options["tlsCAFile"] = str(ca_file)
        self._tunnel: Tunnel | None = None
        self._mongo: MongoClient[Record] | None = None

    def __repr__(self) -> str:
        return f"DocumentDbSSHClient({self._what!r})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _what(self) -> str:
        return f"{self.credentials.host}:{self.credentials.port}/{self.database_name}.{self.collection_name}"

    @property
    def client(self) -> MongoClient[Record]:
        """The pymongo client.

        Raises:
            ServiceError: It is not connected.
        """
        if self._mongo is None:
            raise ServiceError(SERVICE, "the client is not connected. Use it in a `with` block, or call `start`.")
        return self._mongo

    @property
    def collection(self) -> Collection[Record]:
        """The pymongo collection, for everything that pymongo can do; errors there are pymongo's own.

        A value that Python cannot hold does not hide the records around it: a date outside of the years 1 to 9999
        comes as `bson.datetime_ms.DatetimeMS`, a byte that is no UTF-8 as half of a surrogate pair.

        Raises:
            ServiceError: The client is not connected.
        """
        from bson.codec_options import CodecOptions, DatetimeConversion

        options: CodecOptions[Record] = CodecOptions(
            datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="surrogateescape"
        )
        return self.client[self.database_name].get_collection(self.collection_name, codec_options=options)

    def start(self) -> None:
        """Connect, as entering the `with` block does.

        Raises:
            ServiceUnavailable: The bastion, the server behind it, or the database cannot be reached.
            AccessRefused: The bastion or the database refused the login.
            ServiceError: An option cannot be used.
        """
        if self._mongo is not None:
            return
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        login = self.credentials
        with ExitStack() as opened:
            tunnel = Tunnel(
                host=login.ssh_host,
                port=login.ssh_port,
                username=login.ssh_username,
                password=login.ssh_password,
                key_file=login.ssh_key_file,
                key_password=login.ssh_key_password,
                host_key=login.ssh_host_key,
                target=(login.host, login.port),
            )
            opened.enter_context(tunnel)
            try:
                mongo: MongoClient[Record] = MongoClient(
                    "127.0.0.1",
                    tunnel.local_port,
                    username=login.username,
                    password=login.password.get_secret_value(),
                    **self._options,
                )
                opened.callback(mongo.close)
                mongo.admin.command("ping")
            except (PyMongoError, OSError, ValueError) as error:
                raise self._failure("connecting", error, tunnel) from None
            self._tunnel, self._mongo = tunnel, mongo
            opened.pop_all()

    def close(self) -> None:
        """Close the connections and the tunnel. Doing it twice is no error."""
        mongo, tunnel = self._mongo, self._tunnel
        self._mongo = self._tunnel = None
        try:
            if mongo is not None:
                mongo.close()
        finally:
            if tunnel is not None:
                tunnel.stop()

    def iter_records(
        self,
        filter: Query | None = None,  # noqa: A002 - MongoDB's word
        projection: Query | None = None,
        page_size: int = DEFAULT_PAGE_SIZE,
        after_id: str | None = None,
    ) -> Iterator[Record]:
        """Every matching record once, by ``_id`` keyset, in constant memory.

        A connection that breaks meanwhile is restored, tunnel included, and the pass goes on where it was.

        Args:
            filter: MongoDB filter; None for all.
            projection: MongoDB projection; None for whole records.
            page_size: Records asked for at once; large records come in smaller pages.
            after_id: Go on after this ``_id``.

        Raises:
            ServiceUnavailable: The connection broke and could not be restored; the message names the hop.
            ServiceError: The database refused the query.
        """
        if page_size < 1:
            raise ValueError("page_size must be 1 or more.")
        shown, strip = with_id_shown(projection)
        for record in walk(_Pages(self, filter, shown, page_size), after_id):
            if strip:
                del record["_id"]
            yield record

    def count(self, filter: Query | None = None) -> int:  # noqa: A002 - MongoDB's word
        """How many records match; errors and healing as of `iter_records`."""
        return self._healing("counting", lambda: self.collection.count_documents(dict(filter or {})))

    def _healing(self, doing: str, ask: Callable[[], _Answer]) -> _Answer:
        """Ask something that can be asked again, restoring the connection while time allows."""
        from pymongo.errors import ConnectionFailure, PyMongoError

        deadline = time.monotonic() + self._heal_seconds
        pause = 0.1
        while True:
            try:
                return ask()
            except ConnectionFailure as error:
                _log.warning("%s of %s broke off: %s", doing, self._what, type(error).__name__)
                cause: ServiceError = self._failure(doing, error, self._tunnel)
            except PyMongoError as error:
                raise self._failure(doing, error, self._tunnel) from None
            if not cause.retryable or time.monotonic() >= deadline:
                raise cause
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
            self._restore(deadline)

    def _restore(self, deadline: float) -> None:
        """Open the tunnel again if it is down; an unreachable bastion is borne until the deadline."""
        if self._tunnel is None:
            return
        try:
            self._tunnel.heal()
        except ServiceUnavailable:
            if time.monotonic() >= deadline:
                raise

    def _failure(self, doing: str, error: Exception, tunnel: Tunnel | None) -> ServiceError:
        """The error of ours that names the hop."""
        from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure

        what = f"{doing} {self._what}"
        if isinstance(error, OperationFailure):
            return _refusal(what, self.credentials.username, error)
        if isinstance(error, ConnectionFailure):
            if tunnel is not None:
                try:
                    tunnel.probe()
                except ServiceError as hop:
                    return hop
            return ServiceUnavailable(
                SERVICE,
                f"{what}: the database failed: the tunnel stands, but no usable server answers behind it "
                f"({_reason(error)}). Check that DocDB is up, DOC_DB_PORT, the replica set's name and TLS.",
            )
        if isinstance(error, ConfigurationError | ValueError | OSError):
            return ServiceError(SERVICE, f"{what}: an option cannot be used: {error}.")
        return ServiceError(SERVICE, f"{what}: {type(error).__name__}: {error}.")


def _reason(error: PyMongoError) -> str:
    # pymongo appends the whole topology after the first part
    return str(error).partition(", Timeout:")[0].partition(" (configured timeouts:")[0]


def _refusal(what: str, username: str, error: Any) -> ServiceError:
    said = (error.details or {}).get("errmsg") or type(error).__name__
    if error.code == _NOT_AUTHENTICATED:
        return AccessRefused(
            SERVICE,
            f"{what}: the authentication failed: user {username!r} is refused ({said}). Check DOC_DB_USERNAME and "
            "DOC_DB_PASSWORD.",
        )
    if error.code == _NOT_AUTHORIZED:
        return AccessRefused(SERVICE, f"{what}: user {username!r} lacks the right ({said}).")
    if error.code == _TIME_OUT:
        return ServiceUnavailable(SERVICE, f"{what}: the database ran out of time ({said}).")
    return ServiceError(SERVICE, f"{what}: the database refused: {said} (code {error.code}).")


class _Pages:
    """One filtered collection, as the keyset walk asks for it."""

    def __init__(self, client: DocumentDbSSHClient, query: Query | None, projection: Query | None, size: int) -> None:
        self._client = client
        self._query = query
        self._projection = projection
        self._size = size

    def page(self, bound: Query) -> list[Record]:
        query = with_id(self._query, bound)
        # A negative limit asks for one reply of the server, 16 MB at most: large records make short pages.
        return self._client._healing(
            "reading",
            lambda: list(self._client.collection.find(query, self._projection, sort=[("_id", 1)], limit=-self._size)),
        )

    def end(self, direction: int) -> list[Any]:
        return self._client._healing(
            "reading",
            lambda: [
                record.get("_id")
                for record in self._client.collection.find(
                    dict(self._query or {}), {"_id": 1}, sort=[("_id", direction)], limit=-1
                )
            ],
        )

    def others(self) -> Iterator[Record]:
        query = {"$and": [dict(self._query or {}), dict(NOT_TEXT)]}
        yield from self._client._healing(
            "reading", lambda: list(self._client.collection.find(query, self._projection))
        )
