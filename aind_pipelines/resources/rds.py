"""RDS: the Postgres database that holds the analysts' tables and our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import RDS, Settings, SettingsError, lacking, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine


class RDSResource(Resource):
    """Builds an engine, checks that the schema is the one this code expects, and closes the pool afterwards."""

    host: str | None = Field(default=None, description="default: RDS_HOST")
    port: int | None = Field(default=None, description="default: RDS_PORT, 5432")
    user: str | None = Field(default=None, description="default: RDS_USER or RDS_USERNAME")
    password: str | None = Field(default=None, description="default: RDS_PASSWORD; give an EnvVar, never a literal")
    database: str | None = Field(default=None, description="default: RDS_DATABASE or RDS_DBNAME")
    sslmode: str = Field(default="prefer", description="libpq's TLS mode, disable to verify-full")
    sslrootcert: str | None = Field(default=None, description="CA bundle for the verify- modes of sslmode")
    statement_timeout: float | None = Field(
        default=None, gt=0, description="seconds after which a statement is cancelled; publishing is not bound by it"
    )
    through_bastion: bool = Field(default=False, description="go through the SSH bastion of DOC_DB_SSH_HOST")
    ssh_key_file: str | None = Field(default=None, description="private key for the bastion, instead of a password")

    def _settings(self) -> Settings:
        return load_settings(
            rds_host=self.host,
            rds_port=self.port,
            rds_user=self.user,
            rds_password=self.password,
            rds_database=self.database,
        )

    def lacks(self) -> list[str] | None:
        """The names of what is not set, None when nothing of RDS is. Raises SettingsError for a bad setting."""
        missing = lacking(self._settings(), RDS)
        return None if len(missing) == len(RDS) else missing

    @contextmanager
    def engine(self) -> "Iterator[Engine]":
        """An engine on a database whose schema is current.

        Raises:
            SettingsError: Something needed to connect is not configured.
            ServiceError: The database cannot be reached, or its schema is behind (``aind-pipelines db migrate``).
        """
        from pathlib import Path
        from typing import get_args

        from aind_pipelines.clients.rds.bastion import SSHBastion
        from aind_pipelines.clients.rds.engine import SslMode, engine_from_settings
        from aind_pipelines.tables.migrate import require_current

        settings = self._settings()
        if self.sslmode not in get_args(SslMode):
            raise SettingsError(f"RDS: sslmode {self.sslmode!r} is none of {', '.join(get_args(SslMode))}.")
        engine = engine_from_settings(
            settings,
            sslmode=cast("SslMode", self.sslmode),
            sslrootcert=None if self.sslrootcert is None else Path(self.sslrootcert),
            statement_timeout=self.statement_timeout,
            bastion=SSHBastion(settings=settings, key_file=self.ssh_key_file) if self.through_bastion else None,
        )
        try:
            require_current(engine)
            yield engine
        finally:
            engine.dispose()
