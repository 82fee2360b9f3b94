"""The embedded DocDB as the passes reach it, through either transport, and the mirror beside it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, create_engine

from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials, MetadataDbClient
from aind_pipelines.clients.http import SAFE_METHODS, build_session
from aind_pipelines.mirror.docdb import CollectionSource, update
from aind_pipelines.mirror.docdb.passes import Mode
from aind_pipelines_tests.clients.servers import Bastion, DocDBServer

NAME = "metadata_index.data_assets"


@contextmanager
def rest(url: str, *, page_size: int = 20) -> Iterator[CollectionSource]:
    """Through a gateway; what is worth repeating is repeated twice, without pauses."""
    session = build_session(retries=2, backoff=0, retry_methods=SAFE_METHODS | {"POST"})
    with session, MetadataDbClient(host=url, session=session) as client:
        yield CollectionSource(client, NAME, page_size=page_size)


@contextmanager
def direct(docdb: DocDBServer, bastion: Bastion, *, page_size: int = 20, **changes: Any) -> Iterator[CollectionSource]:
    """Through the bastion; `changes` to port and options of the client."""
    credentials = DocumentDbSSHCredentials(
        host="127.0.0.1",
        port=changes.pop("port", docdb.port),
        username=docdb.username,
        password=docdb.password,
        database="metadata_index",
        collection="data_assets",
        ssh_host="127.0.0.1",
        ssh_port=bastion.port,
        ssh_username=bastion.username,
        ssh_password=bastion.password,
    )
    with DocumentDbSSHClient(credentials=credentials, **changes) as client:
        yield CollectionSource(client, NAME, page_size=page_size)


def conninfo(engine: Engine) -> str:
    """The same database for psycopg."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


class Interrupted:
    """A source that lets something happen before each item that it hands over, and before each of its ends."""

    def __init__(self, source: CollectionSource, happening: Callable[[int], None]) -> None:
        self.name = source.name
        self._source = source
        self._happening = happening
        self._number = 0

    def _through(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self._happening(self._number)
            self._number += 1
            yield item
        self._happening(self._number)

    def everything(self) -> Iterator[Any]:
        return self._through(self._source.everything())

    def modified_since(self, since: datetime) -> Iterator[Any]:
        return self._through(self._source.modified_since(since))

    def listing(self, since: datetime | None = None) -> Iterator[Any]:
        return self._through(self._source.listing(since))

    def by_ids(self, ids: Sequence[Any]) -> Iterator[Any]:
        return self._through(self._source.by_ids(ids))

    def confirm_gone(self, ids: Sequence[str]) -> None:
        self._source.confirm_gone(ids)


def pass_that_dies(database: str, gateway: str, mode: Mode, dies_at: int | None, pause: float) -> None:
    """For a child process: one pass over REST that kills itself before an item, or goes on slowly until it is."""

    def happening(number: int) -> None:
        if number == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(pause)

    engine = create_engine(database)
    with rest(gateway) as source:
        update(engine, Interrupted(source, happening), mode, batch=5, reconcile_passes=1)


def iso(moment: datetime) -> str:
    """As most records write their modified time."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
