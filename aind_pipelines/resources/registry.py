"""The neurobank registry: which resources exist, their sha1, and where they are."""

from typing import TYPE_CHECKING

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from aind_pipelines.clients.registry import RegistryClient


class RegistryResource(Resource):
    """Builds a client of the registry."""

    url: str | None = Field(default=None, description="default: NBANK_REGISTRY")
    username: str | None = Field(default=None, description="default: NBANK_USERNAME")
    password: str | None = Field(default=None, description="default: NBANK_PASSWORD; give an EnvVar, never a literal")

    def client(self) -> "RegistryClient":
        """A client. Raises SettingsError when no registry is configured."""
        from aind_pipelines.clients.registry import RegistryClient

        settings = load_settings(nbank_registry=self.url, nbank_username=self.username, nbank_password=self.password)
        if settings.nbank_registry is None:
            raise SettingsError("The registry is not configured: set NBANK_REGISTRY.")
        auth = None
        if settings.nbank_username is not None and settings.nbank_password is not None:
            auth = (settings.nbank_username, settings.nbank_password.get_secret_value())
        return RegistryClient(settings.nbank_registry, auth=auth)
