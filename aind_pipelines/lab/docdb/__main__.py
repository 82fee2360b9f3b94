"""Start the embedded DocDB: ``python -m aind_pipelines.lab.docdb --port N --data DIR``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from aind_pipelines.lab.docdb.server import CannotListen, Server
from aind_pipelines.lab.docdb.store import Store, StoreUnavailable

SWITCH_INTERVAL = 0.001
"""Seconds after which a thread that computes lets another one run: a long scan then costs others little."""


def main(arguments: list[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT.

    The environment names the one user: ``DOC_DB_USERNAME`` and ``DOC_DB_PASSWORD``.

    Returns:
        0 after an orderly end, 1 when it could not start; the reason is one line on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m aind_pipelines.lab.docdb", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="directory that keeps the documents")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s docdb: %(message)s")
    sys.setswitchinterval(SWITCH_INTERVAL)

    # Not a handler and an Event: a signal that comes when the main thread is on its way into wait() would not wake it.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)

    username, password = os.environ.get("DOC_DB_USERNAME"), os.environ.get("DOC_DB_PASSWORD")
    if not username or not password:
        return _refuse("set DOC_DB_USERNAME and DOC_DB_PASSWORD, the user that may log in")
    try:
        store = Store(options.data)
    except StoreUnavailable as error:
        return _refuse(str(error))
    try:
        store.set_up_user(username, password)
        server = Server(store, options.host, options.port)
    except CannotListen as error:
        store.close()
        return _refuse(str(error))

    threading.Thread(target=server.serve, name="accept", daemon=True).start()
    logging.getLogger(__name__).info("ready on %s:%d, data in %s", server.host, server.port, options.data)
    signal.sigwait(ending)
    server.stop()
    store.close()
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.write(f"docdb: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
