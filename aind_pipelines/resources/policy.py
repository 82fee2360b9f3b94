"""The policy file as a resource, so that a test or a deployment can name another one."""

from pathlib import Path

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import Policy, load_policy


class PolicyResource(Resource):
    """What to do with the external systems: generations, buckets, archives, deposits."""

    path: str | None = Field(default=None, description="policy file; default as AIND_PIPELINES_CONFIG says")

    def load(self) -> Policy:
        """Read the file now. Raises `aind_pipelines.settings.SettingsError` when it cannot be used."""
        return load_policy(Path(self.path) if self.path is not None else None)
