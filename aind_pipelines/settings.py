"""Every setting and the policy file, read at run time and nowhere else.

Two things configure a deployment:

* **Settings** say where the external systems are and how to log in. They come, in this order, from an argument, the
  environment, ``.env`` of the project root, ``.env`` of the home directory, and one JSON parameter of the AWS
  parameter store named by ``AWS_PARAM_STORE_NAME``. The environment names are those of the systems' own users.
* The **policy** says what to do with them: buckets, generations of records, archives, which assets are deposited. It
  is one TOML file without secrets, named by ``AIND_PIPELINES_CONFIG`` (default: ``aind-pipelines.toml`` in the
  project root, if there is one).

Nothing here runs at import, so that definitions load with nothing set.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

POLICY_FILE = "aind-pipelines.toml"
_TEXT = "utf-8-sig"
"""UTF-8, with or without the mark that some editors put at the beginning."""

PROJECT_DOTENV = ".env of the project root"
"""The one ``.env`` that Dagster's commands read too."""

NO_DOTENV = "AIND_PIPELINES_NO_DOTENV"
"""When this variable is set, no ``.env`` and no netrc is read: the lab sets it, so that nothing of the caller's
reaches it."""


class SettingsError(ValueError):
    """A setting or the policy file cannot be used; the message names it and says what to do."""


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working directory) that holds a ``workspace.yaml``.

    Without one, `start` itself.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    return here


def _setting(
    *names: str,
    default: Any = None,
    description: str,
) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*names), description=description)


def _usable_port(port: int) -> int:
    if not 1 <= port <= 65535:
        raise PydanticCustomError("port", "a port is a number from 1 to 65535")
    return port


def _with_scheme(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")):
        raise PydanticCustomError("scheme", "it does not begin with http:// or https://, one of which is missing")
    return url


_Port = Annotated[int, AfterValidator(_usable_port)]
_Url = Annotated[str, AfterValidator(_with_scheme)]


class Settings(BaseModel):
    """Where the external systems are, and the credentials for them.

    A value of None means "not configured". Use `load_settings`, which also says where each value came from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    doc_db_host: str | None = _setting("DOC_DB_HOST", description="DocDB server, as the bastion sees it")
    doc_db_port: _Port = _setting("DOC_DB_PORT", default=27017, description="DocDB port")
    doc_db_username: str | None = _setting("DOC_DB_USERNAME", description="DocDB user")
    doc_db_password: SecretStr | None = _setting("DOC_DB_PASSWORD", description="DocDB password")
    doc_db_database: str = _setting(
        "DOC_DB_DATABASE", default="metadata_index", description="DocDB database of the direct client"
    )
    doc_db_collection: str = _setting(
        "DOC_DB_COLLECTION", default="data_assets", description="DocDB collection of the direct client"
    )
    doc_db_ssh_host: str | None = _setting("DOC_DB_SSH_HOST", description="SSH bastion in front of DocDB and RDS")
    doc_db_ssh_port: _Port = _setting("DOC_DB_SSH_PORT", default=22, description="SSH bastion's port")
    doc_db_ssh_username: str | None = _setting("DOC_DB_SSH_USERNAME", description="SSH user")
    doc_db_ssh_password: SecretStr | None = _setting("DOC_DB_SSH_PASSWORD", description="SSH password")
    doc_db_api_host: str | None = _setting(
        "DOC_DB_API_HOST",
        description="DocDB REST gateway; a host without scheme means https, with scheme it is taken as it is",
    )
    doc_db_api_version: Literal["v1", "v2"] = _setting(
        "DOC_DB_API_VERSION", default="v1", description="API version in the gateway's paths"
    )

    rds_host: str | None = _setting("RDS_HOST", description="Postgres server of the analysts' tables")
    rds_port: _Port = _setting("RDS_PORT", default=5432, description="Postgres port")
    rds_user: str | None = _setting("RDS_USER", "RDS_USERNAME", description="Postgres user")
    rds_password: SecretStr | None = _setting("RDS_PASSWORD", description="Postgres password")
    rds_database: str | None = _setting("RDS_DATABASE", "RDS_DBNAME", description="Postgres database")

    code_ocean_domain: _Url = _setting(
        "CODE_OCEAN_DOMAIN",
        default="https://codeocean.allenneuraldynamics.org",
        description="Code Ocean deployment",
    )
    code_ocean_api_token: SecretStr | None = _setting(
        "CODE_OCEAN_API_TOKEN",
        description="Code Ocean access token; else any variable whose value starts COP_",
    )
    os_capsule_id: str | None = _setting("OS_CAPSULE_ID", description="the Code Ocean capsule this runs in")

    metadata_service_url: _Url | None = _setting("METADATA_SERVICE_URL", description="metadata-service")
    metadata_service_version: Literal["v1", "v2"] = _setting(
        "METADATA_SERVICE_VERSION", default="v1", description="API generation of the metadata-service"
    )

    nbank_registry: _Url | None = _setting("NBANK_REGISTRY", description="neurobank registry")
    nbank_username: str | None = _setting("NBANK_USERNAME", description="registry user")
    nbank_password: SecretStr | None = _setting("NBANK_PASSWORD", description="registry password")

    aws_endpoint_url: _Url | None = _setting(
        "AWS_ENDPOINT_URL", description="AWS endpoint other than Amazon's own (boto3 reads it too)"
    )
    aws_profile: str | None = _setting("AWS_PROFILE", description="AWS profile (boto3 reads it)")
    aws_region: str | None = _setting("AWS_REGION", "AWS_DEFAULT_REGION", description="AWS region (boto3 reads it)")
    aws_access_key_id: str | None = _setting("AWS_ACCESS_KEY_ID", description="AWS access key (boto3 reads it)")
    aws_secret_access_key: SecretStr | None = _setting(
        "AWS_SECRET_ACCESS_KEY", description="AWS secret key (boto3 reads it)"
    )
    aws_session_token: SecretStr | None = _setting(
        "AWS_SESSION_TOKEN",
        description="AWS session token of temporary keys, which goes with keys of the same place (boto3 reads it)",
    )
    aws_param_store_name: str | None = _setting(
        "AWS_PARAM_STORE_NAME", description="parameter that holds settings as one JSON object"
    )

    dagster_home: Path | None = _setting("DAGSTER_HOME", description="folder of Dagster's own dagster.yaml")
    config: Path | None = _setting("AIND_PIPELINES_CONFIG", description=f"policy file (default: {POLICY_FILE})")


ADDRESSES = (
    "doc_db_host",
    "doc_db_ssh_host",
    "doc_db_api_host",
    "rds_host",
    "code_ocean_domain",
    "metadata_service_url",
    "nbank_registry",
    "aws_endpoint_url",
)
"""The settings that are addresses, in which people may have written a login."""


DOC_DB_DIRECT = ("doc_db_host", "doc_db_username", "doc_db_password")
BASTION = ("doc_db_ssh_host", "doc_db_ssh_username", "doc_db_ssh_password")
RDS = ("rds_host", "rds_user", "rds_password", "rds_database")
"""The settings without which the direct connection, the bastion and RDS cannot be used."""

AWS_KEYS = ("aws_access_key_id", "aws_secret_access_key")
"""The key pair to which a session token belongs."""


def means_direct_connection(settings: Settings) -> tuple[str, ...]:
    """The settings that say that DocDB is meant to be reached directly.

    The bastion is not among them where RDS is configured, to which it leads too.
    """
    return DOC_DB_DIRECT if settings.rds_host is not None else (*DOC_DB_DIRECT, *BASTION)


def lacking(settings: Settings, needed: Iterable[str]) -> list[str]:
    """The environment names of those settings that are not set."""
    return [setting_names(field)[0] for field in needed if getattr(settings, field) is None]


def reads_files_of_the_caller() -> bool:
    """Whether ``.env`` files and the netrc are read."""
    return not os.environ.get(NO_DOTENV)


def dotenv_files() -> list[tuple[str, Path]]:
    """The ``.env`` files that are read, first wins, each with the name it is reported under."""
    if not reads_files_of_the_caller():
        return []
    candidates = [(PROJECT_DOTENV, project_root() / ".env")]
    with contextlib.suppress(RuntimeError):  # no HOME and no passwd entry: there is no such file then
        candidates.append((".env of the home directory", Path.home() / ".env"))
    return [(label, path) for label, path in candidates if path.is_file()]


def setting_names(field: str) -> list[str]:
    """The environment names of a setting, the preferred one first."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return [str(choice) for choice in alias.choices]


@dataclass(frozen=True)
class LoadedSettings:
    """Settings together with the origin of each value (``argument``, ``environment RDS_USER``, ``default``, ...)."""

    values: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True)
class ReadSettings(LoadedSettings):
    """Every setting as far as it can be read.

    Attributes:
        values: Those that can be used; the others have their default here.
        given: What was given for each that was, whether it can be used or not. Holds secrets in clear.
        problems: Why a setting that was given cannot be used, by its name in `Settings`.
        unread: Why a source that may hold more settings could not be read.
    """

    given: Mapping[str, Any]
    problems: Mapping[str, str]
    unread: tuple[SettingsError, ...]


def project_dotenv() -> dict[str, str]:
    """What ``.env`` of the project root sets; nothing where there is none.

    Raises:
        SettingsError: It cannot be read.
    """
    found = dict(dotenv_files()).get(PROJECT_DOTENV)
    return {} if found is None else {name: value for name, value in _dotenv(found).items() if value is not None}


def _dotenv(path: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, encoding=_TEXT)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{path} cannot be read: {reason}. Correct or remove it.") from None


def _parameter_store(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    # Whatever reads settings waits for this, so that a store which does not answer has to be told soon.
    patience = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
    try:
        # Given here because boto3 knows nothing of .env, and no AWS_REGION.
        session = boto3.Session(
            profile_name=known.get("aws_profile"),
            region_name=known.get("aws_region"),
            aws_access_key_id=known.get("aws_access_key_id"),
            aws_secret_access_key=known.get("aws_secret_access_key"),
            aws_session_token=known.get("aws_session_token"),
        )
        client = session.client("ssm", endpoint_url=known.get("aws_endpoint_url"), config=patience)
        body = json.loads(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except (BotoCoreError, ClientError, ValueError) as error:
        raise SettingsError(
            f"AWS_PARAM_STORE_NAME names {name!r}, which cannot be read: {str(error).rstrip('.')}. "
            "Check the name, AWS_REGION, AWS_ENDPOINT_URL and the AWS credentials, or unset the variable."
        ) from error
    if not isinstance(body, dict):
        raise SettingsError(f"The AWS parameter {name!r} must hold one JSON object, not {type(body).__name__}.")
    return body


_SESSION = "aws_session_token"


def _without_keys(origin: str) -> str:
    return f"default; {origin} is left out, since the key pair in force is not from there"


def _named_values(source: Mapping[str, Any], field: str) -> tuple[str, Any] | None:
    upper = {str(key).upper(): value for key, value in source.items()}
    for name in setting_names(field):
        if upper.get(name.upper()) not in (None, ""):
            return name, upper[name.upper()]
    return None


def _token_by_value(source: Mapping[str, Any]) -> tuple[str, str] | None:
    """Code Ocean's convention in capsules: the first variable whose value starts with ``COP_``, in any case."""
    for name, value in source.items():
        if isinstance(value, str) and value.upper().startswith("COP_"):
            return name, value
    return None


def read_settings(**arguments: Any) -> ReadSettings:
    """Read every source as far as it can be read, and say where each value came from and what is wrong with it.

    Args:
        arguments: Values by field name; they win over every source. None means "not given".
    """
    values: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
    origins: dict[str, str] = dict.fromkeys(values, "argument")
    if _SESSION in values and not values.keys() >= set(AWS_KEYS):
        del values[_SESSION]
        origins[_SESSION] = _without_keys("argument")
    problems: dict[str, str] = {}
    unread: list[SettingsError] = []
    sources: list[tuple[str, Mapping[str, Any]]] = [("environment", os.environ)]
    for label, path in dotenv_files():
        try:
            sources.append((label, _dotenv(path)))
        except SettingsError as error:
            unread.append(error)

    def look_in(label: str, source: Mapping[str, Any]) -> None:
        taken = set[str]()
        for field in Settings.model_fields:
            if field in values or not (found := _named_values(source, field)):
                continue
            origin = f"{label} ({found[0]})"
            if field == _SESSION and not taken.issuperset(AWS_KEYS):  # AWS refuses it beside any other pair
                origins.setdefault(field, _without_keys(origin))
                continue
            taken.add(field)
            origins[field], values[field] = origin, found[1]

    for label, source in sources:
        look_in(label, source)
    if (parameter := values.get("aws_param_store_name")) is not None:
        try:
            look_in(f"AWS parameter {parameter}", _parameter_store(parameter, values))
        except SettingsError as error:
            problems["aws_param_store_name"] = str(error)
            unread.append(error)
    if "code_ocean_api_token" not in values:
        for label, source in sources:
            if found := _token_by_value(source):
                values["code_ocean_api_token"] = found[1]
                origins["code_ocean_api_token"] = f"{label} ({found[0]}, by its value)"
                break
    try:
        settings = Settings(**values)
    except ValidationError as error:
        wrong = {_field(problem["loc"]): problem["msg"] for problem in _errors(error)}
        settings = Settings(**{name: value for name, value in values.items() if name not in wrong})
        problems |= wrong
    return ReadSettings(
        settings,
        {name: origins.get(name, "default") for name in (*Settings.model_fields, *problems)},
        values,
        problems,
        tuple(unread),
    )


def load_settings_with_origins(**arguments: Any) -> LoadedSettings:
    """Every setting, of which each can be used, and where it came from.

    Args:
        arguments: Values by field name; they win over every source. None means "not given".

    Raises:
        SettingsError: A value has the wrong form, or a `.env` file or the AWS parameter cannot be read.
    """
    read = read_settings(**arguments)
    if read.unread:
        raise read.unread[0]
    if read.problems:
        named = "; ".join(f"{_name(field)} ({read.origins[field]}): {said}" for field, said in read.problems.items())
        raise SettingsError(f"Settings that cannot be used: {named}")
    return LoadedSettings(read.values, read.origins)


def load_settings(**arguments: Any) -> Settings:
    """The settings alone; see `load_settings_with_origins`."""
    return load_settings_with_origins(**arguments).values


def _errors(error: ValidationError) -> list[Any]:
    return error.errors(include_input=False, include_url=False)


def _field(place: tuple[int | str, ...]) -> str:
    """The setting that a validation error is about, by its name in `Settings`; a name that is none as it is."""
    name = str(place[0]) if place else "settings"
    return next((field for field in Settings.model_fields if name == field or name in setting_names(field)), name)


def _name(field: str) -> str:
    return setting_names(field)[0] if field in Settings.model_fields else field


class _PolicyModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _PathPolicy(_PolicyModel):
    path: Path

    @field_validator("path", mode="before")
    @classmethod
    def _is_given(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():  # otherwise it would be the folder of the file
            raise ValueError("The path is empty.")
        return value

    @field_validator("path")
    @classmethod
    def _is_relative_to_the_file(cls, value: Path, info: ValidationInfo) -> Path:
        if info.context is None:  # made in code
            return value
        try:
            return Path(info.context["folder"], value.expanduser()).resolve()
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{value} cannot be resolved: {error}.") from None


class DocDBSource(_PolicyModel):
    """One generation of records in DocDB."""

    database: str = "metadata_index"
    collection: str = "data_assets"
    api_version: Literal["v1", "v2"] | None = Field(
        default=None, description="API version in the gateway's paths; default: DOC_DB_API_VERSION"
    )


class DocDBPolicy(_PolicyModel):
    """Which collections are ingested. A record's own content decides its record version, not its collection."""

    sources: tuple[DocDBSource, ...] = (
        DocDBSource(database="metadata_index"),
        DocDBSource(database="metadata_index_v2"),
    )
    page_size: int = Field(default=500, ge=1, le=10_000, description="records asked for per page")
    watermark_overlap_minutes: float = Field(
        default=10.0, ge=0, description="how far before the highest modified time seen a tick reads again"
    )
    max_deleted_share: float = Field(
        default=0.05, ge=0, le=1, description="share of a collection that may vanish in one pass"
    )
    max_deleted_floor: int = Field(
        default=20, ge=0, description="so many records may vanish in one pass, whatever share they are"
    )
    reconcile_passes: int = Field(
        default=24, ge=1, description="manifest passes within which every record is read again whole"
    )

    @field_validator("sources")
    @classmethod
    def _each_source_once(cls, sources: tuple[DocDBSource, ...]) -> tuple[DocDBSource, ...]:
        for number, source in enumerate(sources):
            if source in sources[:number]:
                raise ValueError(f"{source.database}.{source.collection} is listed twice. Remove one.")
        return sources


class MetadataServicePolicy(_PolicyModel):
    """How hard the metadata-service may be asked."""

    requests_per_second: float = Field(default=20.0, gt=0, description="upper bound on requests per second")
    max_age_days: float = Field(default=7.0, ge=0, description="an answer younger than this is not asked for again")


class S3Policy(_PolicyModel):
    """Which buckets hold assets, in the order in which they are searched."""

    buckets: tuple[str, ...] = Field(
        default=(
            "codeocean-s3datasetsbucket-1u41qdg42ur9",
            "aind-private-data-prod-o5171v",
            "aind-open-data-prod-o5171v",
            "aind-open-data",
            "aibs-behavior-data",
            "aind-ephys-data",
            "aind-ophys-data",
        ),
        min_length=1,
    )


class ArchivePolicy(_PathPolicy):
    """One neurobank archive on a file system that this deployment can reach."""


RAW = "raw"
"""The role of a session's raw asset; a derived asset's role is its process, e.g. ``sorted``."""


class DepositRule(_PolicyModel):
    """Where the assets of one role go."""

    archive: str = Field(default="live", description="registered name of the archive")
    dtype: str = Field(description="data type they are registered with")
    zip_directories: bool = Field(default=False, description="deposit each asset as one zip file")


class DepositPolicy(_PolicyModel):
    """Which assets of a session go to which archive, and under which data type: the raw one, and others by process."""

    archive: str = Field(default="live", description="registered name of the archive of raw assets")
    dtype: str = Field(default="session-raw", description="data type of raw assets")
    zip_directories: bool = Field(default=False, description="deposit each raw asset as one zip file")
    derived: dict[str, DepositRule] = Field(
        default_factory=dict, description="where derived assets go, by process; others are not deposited"
    )

    def rules(self) -> dict[str, DepositRule]:
        """Where the assets of each role go."""
        raw = DepositRule(archive=self.archive, dtype=self.dtype, zip_directories=self.zip_directories)
        return {RAW: raw, **self.derived}

    def archives(self) -> list[str]:
        """The archives that assets go to."""
        return sorted({rule.archive for rule in self.rules().values()})


class InboxPolicy(_PathPolicy):
    """A directory whose files, once ready, are moved into an archive."""

    archive: str = Field(description="registered name of the archive they go to")
    dtype: str = Field(description="data type they are registered with")
    zip_directories: bool = Field(default=False, description="deposit each directory as one zip file")
    metadata: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="registered with each of them"
    )
    ready_marker: str | None = Field(
        default=None,
        min_length=2,
        description="NAME is ready when NAME with this suffix lies beside it, e.g. .ready; default: when it is quiet",
    )
    quiet_seconds: float = Field(default=300.0, ge=0, description="without marker: unchanged for so long is ready")
    forgotten_hours: float = Field(default=24.0, gt=0, description="what is not ready after so long is a finding")


class Policy(_PolicyModel):
    """The policy file as a whole."""

    docdb: DocDBPolicy = DocDBPolicy()
    metadata_service: MetadataServicePolicy = MetadataServicePolicy()
    s3: S3Policy = S3Policy()
    archives: dict[str, ArchivePolicy] = Field(default_factory=dict, description="archives by registered name")
    deposits: DepositPolicy = DepositPolicy()
    inboxes: dict[str, InboxPolicy] = Field(default_factory=dict, description="inboxes by a name of their own")

    @model_validator(mode="after")
    def _files_go_to_archives_that_are_named(self) -> Self:
        destinations = {
            f"deposits.derived.{process}.archive": rule.archive for process, rule in self.deposits.derived.items()
        }
        if "archive" in self.deposits.model_fields_set:  # else nothing says that anything is deposited at all
            destinations["deposits.archive"] = self.deposits.archive
        destinations |= {f"inboxes.{name}.archive": inbox.archive for name, inbox in self.inboxes.items()}
        for place, archive in destinations.items():
            try:
                self.archive(archive)
            except SettingsError as error:
                raise SettingsError(f"{place}: {error}") from None
        return self

    @model_validator(mode="after")
    def _every_directory_has_one_name(self) -> Self:
        for kind, named in (("archives", self.archives), ("inboxes", self.inboxes)):
            names: dict[Path, str] = {}
            for name, each in named.items():
                if (other := names.setdefault(each.path, name)) != name:
                    raise SettingsError(f"The {kind} {other!r} and {name!r} are the same directory, {each.path}.")
        return self

    def inboxes_of(self, archive: str) -> dict[str, InboxPolicy]:
        """The inboxes whose files go to `archive`, by name."""
        return {name: inbox for name, inbox in self.inboxes.items() if inbox.archive == archive}

    def archive(self, name: str) -> ArchivePolicy:
        """The archive registered as `name`. Raises SettingsError when the policy names no such archive."""
        try:
            return self.archives[name]
        except KeyError:
            known = ", ".join(sorted(self.archives)) or "none"
            raise SettingsError(
                f"The policy names no archive {name!r} (it names: {known}). Add [archives.{name}] with its path."
            ) from None


def policy_path(settings: Settings | None = None) -> Path | None:
    """The policy file in force, or None when the defaults in code are.

    Raises:
        SettingsError: ``AIND_PIPELINES_CONFIG`` names a home directory that there is not.
    """
    settings = settings or load_settings()
    if settings.config is not None:
        try:
            return settings.config.expanduser()
        except RuntimeError as error:
            raise SettingsError(
                f"AIND_PIPELINES_CONFIG is {settings.config}, which cannot be resolved: {str(error).rstrip('.')}. "
                "Give the whole path."
            ) from None
    default = project_root() / POLICY_FILE
    return default if default.is_file() else None


def load_policy(path: Path | None = None) -> Policy:
    """Read and validate the policy file; without one, the defaults.

    Args:
        path: The file; None finds it as `policy_path` does. Relative paths in it are relative to the file.

    Raises:
        SettingsError: The file is missing, is no TOML, or holds a value that cannot be used.
    """
    path = path or policy_path()
    if path is None:
        return Policy()
    try:
        document = tomllib.loads(path.read_text(encoding=_TEXT))
    except FileNotFoundError:
        raise SettingsError(
            f"The policy file {path} does not exist. Create it or unset AIND_PIPELINES_CONFIG."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The policy file {path} cannot be read: {error}") from error
    try:
        return Policy.model_validate(document, context={"folder": path.parent})
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(filter(None, (".".join(str(part) for part in problem["loc"]), problem["msg"])))
            for problem in _errors(error)
        )
        raise SettingsError(f"The policy file {path} cannot be used: {problems}") from None


def secret_values(settings: Settings) -> Iterator[str]:
    """The plain text of every secret that is set; for redaction, never for display."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
