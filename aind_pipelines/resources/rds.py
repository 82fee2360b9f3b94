"""RDS: the Postgres database that holds the analysts' tables and our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine


class RDSResource(Resource):
    """Builds an engine, checks that the schema is the one this code expects, and closes the pool afterwards."""

    host: str | None = Field(default=None, description="default: RDS_HOST")
    port: int | None = Field(default=None, description="default: RDS_PORT, 5432")
    user: str | None = Field(default=None, description="default: RDS_USER or RDS_USERNAME")
    password: str | None = Field(default=None, description="default: RDS_PASSWORD; give an EnvVar, never a literal")
    database: str | None = Field(default=None, description="default: RDS_DATABASE or RDS_DBNAME")

    @contextmanager
    def engine(self) -> "Iterator[Engine]":
        """An engine on a database whose schema is current.

        Raises:
            SettingsError: Something needed to connect is not configured.
            ServiceError: The database cannot be reached, or its schema is behind (``aind-pipelines db migrate``).
        """
        from aind_pipelines.clients.rds.engine import engine_from_settings
        from aind_pipelines.tables.migrate import require_current

        settings = load_settings(
            rds_host=self.host,
            rds_port=self.port,
            rds_user=self.user,
            rds_password=self.password,
            rds_database=self.database,
        )
        engine = engine_from_settings(settings)
        try:
            require_current(engine)
            yield engine
        finally:
            engine.dispose()
