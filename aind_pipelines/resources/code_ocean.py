"""Code Ocean: the platform that computes on data assets and holds many of them."""

from typing import TYPE_CHECKING

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from codeocean import CodeOcean


class CodeOceanResource(Resource):
    """Builds the official SDK's client, with retries and timeouts."""

    domain: str | None = Field(default=None, description="default: CODE_OCEAN_DOMAIN")
    token: str | None = Field(
        default=None, description="default: CODE_OCEAN_API_TOKEN, or any COP_ value; give an EnvVar, never a literal"
    )

    def client(self) -> "CodeOcean":
        """A client. Raises SettingsError when no token is configured."""
        from aind_pipelines.clients.code_ocean import get_client

        settings = load_settings(code_ocean_domain=self.domain, code_ocean_api_token=self.token)
        if settings.code_ocean_api_token is None:
            raise SettingsError("Code Ocean is not configured: set CODE_OCEAN_API_TOKEN (scope: Datasets, read).")
        return get_client(domain=settings.code_ocean_domain, token=settings.code_ocean_api_token.get_secret_value())
