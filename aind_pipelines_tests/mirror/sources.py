"""The embedded DocDB as the passes reach it, through either transport, and the mirror beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials, MetadataDbClient
from aind_pipelines.clients.http import SAFE_METHODS, build_session
from aind_pipelines.mirror.docdb import CollectionSource
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
