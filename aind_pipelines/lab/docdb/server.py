"""The TCP side: one thread for each connection, and an orderly end."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
from itertools import count

import bson

from aind_pipelines.lab.docdb.commands import Commands, Session
from aind_pipelines.lab.docdb.errors import BSON_OBJECT_TOO_LARGE, INVALID_BSON, PROTOCOL_ERROR, CommandError
from aind_pipelines.lab.docdb.protocol import (
    MAX_MESSAGE_BYTES,
    MessageTooLarge,
    ProtocolError,
    Request,
    encode_reply,
    read_request,
)
from aind_pipelines.lab.docdb.store import Store

log = logging.getLogger(__name__)

_BACKLOG = 128
_MAX_CONNECTIONS = 500
_STOP_SECONDS = 1.0


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to do."""


class Server:
    """Accepts connections for a store.

    Args:
        store: Where the documents are.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.

    Raises:
        CannotListen: The port is taken, or the address is not this machine's.
    """

    def __init__(self, store: Store, host: str, port: int) -> None:
        self._stopping = threading.Event()
        self._numbers = count(1)
        self._connections: dict[int, socket.socket] = {}
        self._busy = 0
        self._lock = threading.Condition()
        self._listener = _listen(host, port)
        self.host, self.port = self._listener.getsockname()[:2]
        # Whatever name or tunnel a client came by, the replica set's member is known by its own address.
        self._commands = Commands(store, f"{self.host}:{self.port}", self._stopping)

    def serve(self) -> None:
        """Accept connections until `stop` is called."""
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    break
                log.warning("a connection could not be accepted: %s", error)
                self._stopping.wait(0.1)
                continue
            with self._lock:
                if len(self._connections) >= _MAX_CONNECTIONS:
                    log.warning("refused a connection: %d are open", _MAX_CONNECTIONS)
                    connection.close()
                    continue
                number = next(self._numbers)
                self._connections[number] = connection
            thread = threading.Thread(
                target=self._serve_connection, args=(number, connection), name=f"connection-{number}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                log.warning("refused a connection: %s", error)
                with self._lock:
                    self._connections.pop(number).close()

    def stop(self) -> None:
        """End: no new commands, a moment for those under way, then every connection is closed. May be called twice."""
        self._stopping.set()
        with contextlib.suppress(OSError):  # shutting down wakes the accepting thread; macOS refuses it
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._lock.wait_for(lambda: not self._busy, timeout=_STOP_SECONDS)
            for connection in self._connections.values():
                with contextlib.suppress(OSError):  # the peer may have closed it already
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve_connection(self, number: int, connection: socket.socket) -> None:
        session = Session(number)
        try:
            with connection, connection.makefile("rb", buffering=1 << 16) as stream:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self._stopping.is_set():
                    try:
                        request = read_request(stream.read)
                    except MessageTooLarge as error:
                        refusal = CommandError(PROTOCOL_ERROR, str(error)).document()
                        connection.sendall(encode_reply(error.header, refusal))
                        continue
                    if request is None:
                        return
                    self._answer(request, session, connection)
        except ProtocolError as error:
            log.warning("connection %d closed: %s", number, error)
        except OSError as error:
            log.debug("connection %d ended: %s", number, error)
        finally:
            with self._lock:
                self._connections.pop(number, None)

    def _answer(self, request: Request, session: Session, connection: socket.socket) -> None:
        with self._lock:
            self._busy += 1
        try:
            reply = self._commands.run(request, session)
            if request.wants_reply:
                try:
                    frame = encode_reply(request.header, reply)
                except (bson.errors.InvalidDocument, OverflowError, RecursionError) as error:
                    refusal = CommandError(INVALID_BSON, f"the answer is no BSON: {error}")
                    frame = encode_reply(request.header, refusal.document())
                if len(frame) > MAX_MESSAGE_BYTES:  # of which a client would close the connection
                    refusal = CommandError(
                        BSON_OBJECT_TOO_LARGE,
                        f"the answer of {len(frame)} bytes is larger than the limit of {MAX_MESSAGE_BYTES} bytes",
                    )
                    frame = encode_reply(request.header, refusal.document())
                connection.sendall(frame)
        finally:
            with self._lock:
                self._busy -= 1
                self._lock.notify_all()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(f"{host}:{port} is taken by another program; stop it or give another --port") from error
        raise CannotListen(f"cannot listen on {host}:{port}: {error}") from error
    return listener
