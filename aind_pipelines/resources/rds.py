"""RDS: the Postgres database that holds the analysts' tables and our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict, cast

from pydantic import Field

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import RDS, Settings, SettingsError, lacking, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from aind_pipelines.clients.rds.bastion import SSHBastion
    from aind_pipelines.clients.rds.engine import SslMode


class _Options(TypedDict):
    application_name: str
    pool_size: int
    sslmode: "SslMode"
    sslrootcert: "Path | None"
    statement_timeout: float | None
    bastion: "SSHBastion | None"


class RDSResource(Resource):
    """Builds an engine, checks that the schema is the one this code expects, and closes the pool afterwards."""

    host: str | None = Field(default=None, description="default: RDS_HOST")
    port: int | None = Field(default=None, description="default: RDS_PORT, 5432")
    user: str | None = Field(default=None, description="default: RDS_USER or RDS_USERNAME")
    password: str | None = Field(default=None, description="default: RDS_PASSWORD; give an EnvVar, never a literal")
    database: str | None = Field(default=None, description="default: RDS_DATABASE or RDS_DBNAME")
    aws_secrets_name: str | None = Field(
        default=None,
        description="name or ARN of a secret of AWS Secrets Manager to log in with, instead of RDS_*; the fields "
        "above win over it",
    )
    application_name: str = Field(default="aind_pipelines", description="what the server's pg_stat_activity shows")
    pool_size: int = Field(default=5, ge=1, description="connections kept; as many more may be opened for a while")
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
            ServiceError: The secret cannot be read, the database cannot be reached, or its schema is behind
                (``aind-pipelines db migrate``).
        """
        from aind_pipelines.tables.migrate import require_current

        engine = self._engine()
        try:
            require_current(engine)
            yield engine
        finally:
            engine.dispose()

    def _engine(self) -> "Engine":
        from pathlib import Path
        from typing import get_args

        from aind_pipelines.clients.rds.bastion import SSHBastion
        from aind_pipelines.clients.rds.engine import SslMode, engine_from_settings, make_engine

        settings = self._settings()
        if self.sslmode not in get_args(SslMode):
            raise SettingsError(f"RDS: sslmode {self.sslmode!r} is none of {', '.join(get_args(SslMode))}.")
        options: _Options = {
            "application_name": self.application_name,
            "pool_size": self.pool_size,
            "sslmode": cast("SslMode", self.sslmode),
            "sslrootcert": None if self.sslrootcert is None else Path(self.sslrootcert),
            "statement_timeout": self.statement_timeout,
            "bastion": SSHBastion(settings=settings, key_file=self.ssh_key_file) if self.through_bastion else None,
        }
        if self.aws_secrets_name is None:
            return engine_from_settings(settings, **options)
        from aind_pipelines.clients.rds.credentials import RDSCredentials

        credentials = RDSCredentials(
            username=self.user,
            password=self.password,
            host=self.host,
            port=self.port,
            database=self.database,
            aws_secrets_name=self.aws_secrets_name,
        )
        return make_engine(credentials.url(), **options)
