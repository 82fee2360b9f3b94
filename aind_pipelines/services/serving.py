"""How an ASGI app of ours runs as a process: one port, logs on stderr, a clean end on SIGTERM and SIGINT."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.types import ASGIApp

_GRACE_SECONDS = 1
"""How long requests that are under way may take to end after a signal; a supervisor waits two seconds in all."""


class CannotStart(Exception):
    """The service cannot start; the message is one line that says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket on `host`:`port`.

    Raises:
        CannotStart: The port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotStart(
            f"cannot listen on {host}:{port}: {reason}. Choose another --port, or stop what holds it."
        ) from error
    return bound


class _Ended(BaseException):
    """A signal said that the service is to end."""


def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve `app` until SIGTERM or SIGINT.

    Raises:
        CannotStart: See `listen`.
    """
    import uvicorn

    bound = listen(host, port)
    logging.getLogger(__name__).info("listening on http://%s:%d", host, port)

    def end(*_: object) -> NoReturn:
        raise _Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)  # before uvicorn has its own handlers, and when it raises the signal once more
    config: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "off"}
    with contextlib.suppress(_Ended):
        uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=_GRACE_SECONDS, **config)).run(sockets=[bound])


def run_service(name: str, main: Callable[[], None]) -> NoReturn:
    """The body of a service's ``__main__``: logs to stderr, `CannotStart` becomes one line and exit code 1."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s", force=True
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    code = 0
    try:
        main()
    except CannotStart as error:
        sys.stderr.write(f"{name}: {error}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a worker thread that waits for a silent backend must not hold the end up
