"""DocDB: metadata records, through the REST gateway or directly over SSH."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import DocDBSource, SettingsError, load_settings


class DocDBResource(Resource):
    """Reads whole collections. The REST gateway is used when its host is configured, else the direct connection."""

    api_host: str | None = Field(default=None, description="REST gateway; default: DOC_DB_API_HOST")

    def iter_records(self, source: DocDBSource, *, page_size: int) -> Iterator[Mapping[str, Any]]:
        """Every record of one collection in ``_id`` order, each exactly once.

        Raises:
            SettingsError: Neither the gateway nor the direct connection is configured.
            ServiceError: DocDB cannot be reached or refuses; an outage is never an empty collection.
        """
        settings = load_settings(doc_db_api_host=self.api_host)
        if settings.doc_db_api_host is not None:
            from aind_pipelines.clients.docdb import MetadataDbClient

            client = MetadataDbClient(
                host=settings.doc_db_api_host, database=source.database, collection=source.collection
            )
            yield from client.iter_records(page_size=page_size)
        elif settings.doc_db_host is not None:
            from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials

            credentials = DocumentDbSSHCredentials(database=source.database, collection=source.collection)
            with DocumentDbSSHClient(credentials=credentials) as direct:
                yield from direct.iter_records(page_size=page_size)
        else:
            raise SettingsError(
                "DocDB is not configured: set DOC_DB_API_HOST (REST gateway), or DOC_DB_HOST and the other DOC_DB_* "
                "names (direct connection over SSH)."
            )

    def count(self, source: DocDBSource) -> int:
        """How many records the collection holds now."""
        settings = load_settings(doc_db_api_host=self.api_host)
        if settings.doc_db_api_host is not None:
            from aind_pipelines.clients.docdb import MetadataDbClient

            return MetadataDbClient(
                host=settings.doc_db_api_host, database=source.database, collection=source.collection
            ).count()
        from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials

        credentials = DocumentDbSSHCredentials(database=source.database, collection=source.collection)
        with DocumentDbSSHClient(credentials=credentials) as direct:
            return int(direct.collection.count_documents({}))
