"""DocDB: metadata records, through the REST gateway or directly over SSH."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import (
    BASTION,
    DOC_DB_DIRECT,
    DocDBSource,
    SettingsError,
    lacking,
    load_settings,
    means_direct_connection,
)

if TYPE_CHECKING:
    from aind_pipelines.clients.docdb import DocumentDbSSHClient, MetadataDbClient


class DocDBResource(Resource):
    """Reads whole collections. The REST gateway is used when its host is configured, else the direct connection."""

    api_host: str | None = Field(default=None, description="REST gateway; default: DOC_DB_API_HOST")

    def lacks(self) -> list[str] | None:
        """The names of what is not set, None when nothing of DocDB is. Raises SettingsError for a bad setting."""
        settings = load_settings(doc_db_api_host=self.api_host)
        if settings.doc_db_api_host is not None:
            return []
        means = means_direct_connection(settings)
        return None if len(lacking(settings, means)) == len(means) else lacking(settings, (*DOC_DB_DIRECT, *BASTION))

    @contextmanager
    def client(self, source: DocDBSource) -> "Iterator[MetadataDbClient | DocumentDbSSHClient]":
        """A client of one collection, closed at the end of the block.

        Raises:
            SettingsError: Neither the gateway nor the direct connection is configured.
            ServiceError: DocDB cannot be reached or refuses.
        """
        from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials, MetadataDbClient

        settings = load_settings(doc_db_api_host=self.api_host)
        if settings.doc_db_api_host is not None:
            with MetadataDbClient(
                host=settings.doc_db_api_host,
                database=source.database,
                collection=source.collection,
                version=source.api_version or settings.doc_db_api_version,
            ) as gateway:
                yield gateway
        elif settings.doc_db_host is not None:
            credentials = DocumentDbSSHCredentials(database=source.database, collection=source.collection)
            with DocumentDbSSHClient(credentials=credentials) as direct:
                yield direct
        else:
            raise SettingsError(
                "DocDB is not configured: set DOC_DB_API_HOST (REST gateway), or DOC_DB_HOST and the other DOC_DB_* "
                "names (direct connection over SSH)."
            )

    def count(self, source: DocDBSource) -> int:
        """How many records the collection holds now; raises as `client` does."""
        with self.client(source) as client:
            return client.count()
