"""What ``doctor`` looks at: settings with their origin, and one probe per external system."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.settings import (
    InboxPolicy,
    LoadedSettings,
    Policy,
    Settings,
    SettingsError,
    load_policy,
    load_settings_with_origins,
    policy_path,
    setting_names,
)

State = Literal["good", "bad", "not configured"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force; a secret's value is masked."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Connection:
    """The outcome of one probe."""

    name: str
    state: State
    detail: str
    next_step: str = ""


_LOGIN_IN_URL = re.compile(r"(://[^\s/:@]*):[^\s/]*@")


def _without_logins(text: str) -> str:
    """Mask the passwords of addresses such as ``http://USER:PASSWORD@HOST``."""
    return _LOGIN_IN_URL.sub(r"\1:********@", text)


def _displayed(value: object) -> str:
    if value is None:
        return ""
    return "********" if isinstance(value, SecretStr) else _without_logins(str(value))


def settings_table(loaded: LoadedSettings | None = None) -> list[Setting]:
    """Every setting; empty when the settings cannot be read at all (`connections` then says why)."""
    try:
        loaded = loaded or load_settings_with_origins()
    except SettingsError:
        return []
    return [
        Setting(setting_names(field)[0], _displayed(getattr(loaded.values, field)), loaded.origins[field])
        for field in Settings.model_fields
    ]


def connections() -> list[Connection]:
    """Probe every external system that is configured."""
    try:
        settings = load_settings_with_origins().values
    except SettingsError as error:
        return [Connection("settings", "bad", _without_logins(str(error)), "correct the value named")]
    policy = _policy_or_default()
    looks: list[tuple[str, object, str, Callable[[], str]]] = [
        ("DocDB REST gateway", settings.doc_db_api_host, "DOC_DB_API_HOST", lambda: _gateway(policy)),
        ("DocDB over SSH", settings.doc_db_ssh_host, "DOC_DB_SSH_HOST and the DOC_DB_* names", _direct),
        ("RDS", settings.rds_host, "RDS_HOST, RDS_USER, RDS_PASSWORD, RDS_DATABASE", lambda: _rds(settings)),
        (
            "metadata-service",
            settings.metadata_service_url,
            "METADATA_SERVICE_URL",
            _metadata_service,
        ),
        ("Code Ocean", settings.code_ocean_api_token, "CODE_OCEAN_API_TOKEN and CODE_OCEAN_DOMAIN", _code_ocean),
        (
            "S3",
            settings.aws_access_key_id or settings.aws_profile or settings.aws_endpoint_url,
            "AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION",
            lambda: _s3(settings, policy),
        ),
        ("neurobank registry", settings.nbank_registry, "NBANK_REGISTRY", _registry),
    ]
    looks += [
        (f"archive {name}", True, f"[archives.{name}] in the policy file", partial(_archive, rule.path))
        for name, rule in policy.archives.items()
    ]
    looks += [
        (f"inbox {name}", True, f"[inboxes.{name}] in the policy file", partial(_inbox, inbox))
        for name, inbox in policy.inboxes.items()
    ]
    # At once, because each that cannot be reached is tried for a while.
    with ThreadPoolExecutor(len(looks)) as pool:
        return [_policy(settings), *pool.map(lambda look: _look(*look), looks)]


def _look(name: str, configured: object, names: str, probe: Callable[[], str]) -> Connection:
    return _try(name, probe, names) if configured else Connection(name, "not configured", "", f"set {names}")


def _try(name: str, probe: Callable[[], str], names: str) -> Connection:
    """Probe one system; `names` are the settings that lead there."""
    try:
        return Connection(name, "good", probe())
    except SettingsError as error:
        detail, step = str(error), "complete the settings named"
    except ServiceError as error:
        detail = str(error)
        step = "try again later; if it lasts, ask who runs it" if error.retryable else "check the value and the rights"
    except Exception as error:  # noqa: BLE001 - a probe's boundary: whatever a library raises is the diagnosis
        detail, step = f"{type(error).__name__}: {error}".splitlines()[0], f"check {names}, and that it is up"
    return Connection(name, "bad", _without_logins(detail), step)


def _policy(settings: Settings) -> Connection:
    path = policy_path(settings)
    if path is None:
        return Connection("policy file", "not configured", "the defaults in code are in force", "see docs/settings.md")
    try:
        load_policy(path)
    except SettingsError as error:
        return Connection("policy file", "bad", str(error), "correct the file")
    return Connection("policy file", "good", str(path))


def _policy_or_default() -> Policy:
    try:
        return load_policy()
    except SettingsError:  # reported by the policy file's own row
        return Policy()


def _gateway(policy: Policy) -> str:
    from aind_pipelines.resources.docdb import DocDBResource

    docdb = DocDBResource()
    return ", ".join(
        f"{source.database}.{source.collection}: {docdb.count(source):,} records" for source in policy.docdb.sources
    )


def _direct() -> str:
    from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials

    credentials = DocumentDbSSHCredentials()
    with DocumentDbSSHClient(credentials=credentials) as client:
        return f"{client.collection.full_name}: {client.collection.estimated_document_count():,} records"


def _rds(settings: Settings) -> str:
    from aind_pipelines.clients.rds.engine import engine_from_settings
    from aind_pipelines.tables.migrate import status

    engine = engine_from_settings(settings)
    try:
        schema = status(engine)
    finally:
        engine.dispose()
    if schema.current != schema.head:
        raise SettingsError(
            f"the schema is at {schema.current or 'nothing'}, the code expects {schema.head}: "
            "run aind-pipelines db migrate"
        )
    return f"schema {schema.current}"


def _metadata_service() -> str:
    from aind_pipelines.resources.metadata_service import MetadataServiceResource

    answer = MetadataServiceResource().client().ask("project_names", "")
    return f"{len(answer.data or [])} project names"


def _code_ocean() -> str:
    from codeocean.data_asset import DataAssetSearchParams

    from aind_pipelines.resources.code_ocean import CodeOceanResource

    CodeOceanResource().client().data_assets.search_data_assets(DataAssetSearchParams(limit=1))
    return "the token may search data assets"


def _s3(settings: Settings, policy: Policy) -> str:
    from botocore.exceptions import ClientError

    from aind_pipelines.clients import s3

    client = s3.client(settings)
    missing = []
    for bucket in policy.s3.buckets:
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError:
            missing.append(bucket)
    if missing:
        raise SettingsError(f"buckets that cannot be listed: {', '.join(missing)}")
    return f"{len(policy.s3.buckets)} buckets"


def _registry() -> str:
    from aind_pipelines.resources.registry import RegistryResource

    info = RegistryResource().client().info()
    return f"{info.name} {info.version}, API {info.api_version}"


def _archive(path: Path) -> str:
    from aind_pipelines.archive.layout import Archive

    archive = Archive.open(path)
    try:
        tried = archive.probe_filesystem()
    except PermissionError:
        return f"{archive.path}; its file system was not tried, as you may not write there"
    return " ".join([f"{archive.path} on {tried.type}.", *tried.promises])


def _inbox(inbox: InboxPolicy) -> str:
    from aind_pipelines.archive.inbox import look

    found = list(look(inbox))
    return (
        f"{inbox.path}: {sum(each.ready for each in found):,} ready, {sum(not each.ready for each in found):,} waiting"
    )
