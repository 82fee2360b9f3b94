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
    username: str | None = Field(default=None, description="default: NBANK_USERNAME, else the netrc")
    password: str | None = Field(default=None, description="default: NBANK_PASSWORD; give an EnvVar, never a literal")

    def client(self) -> "RegistryClient":
        """A client. Raises SettingsError when no registry is configured."""
        from aind_pipelines.clients.registry import RegistryClient
        from aind_pipelines.clients.registry.login import login_for

        settings = load_settings(nbank_registry=self.url, nbank_username=self.username, nbank_password=self.password)
        if settings.nbank_registry is None:
            raise SettingsError("The registry is not configured: set NBANK_REGISTRY.")
        return RegistryClient(settings.nbank_registry, login_for(settings.nbank_registry, settings))
