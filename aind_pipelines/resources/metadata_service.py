"""The metadata-service: what the institute's own databases say about a subject."""

from typing import TYPE_CHECKING

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from aind_pipelines.clients.metadata_service import AindMetadataServiceClient


class MetadataServiceResource(Resource):
    """Builds a client of the metadata-service."""

    url: str | None = Field(default=None, description="default: METADATA_SERVICE_URL")
    version: str | None = Field(default=None, description="v1 or v2; default: METADATA_SERVICE_VERSION")

    def client(self) -> "AindMetadataServiceClient":
        """A client. Raises SettingsError when no service is configured."""
        from aind_pipelines.clients.metadata_service import AindMetadataServiceClient

        settings = load_settings(metadata_service_url=self.url, metadata_service_version=self.version)
        if settings.metadata_service_url is None:
            raise SettingsError("The metadata-service is not configured: set METADATA_SERVICE_URL.")
        return AindMetadataServiceClient(
            domain=settings.metadata_service_url, version=settings.metadata_service_version
        )
