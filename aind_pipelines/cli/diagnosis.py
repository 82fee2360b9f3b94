"""What ``doctor`` looks at: settings with their origin, and one probe per external system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote, unquote

from pydantic import SecretStr

from aind_pipelines.cli import doctor_dagster
from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.settings import (
    ADDRESSES,
    AWS_KEYS,
    BASTION,
    DOC_DB_DIRECT,
    RDS,
    InboxPolicy,
    Policy,
    ReadSettings,
    Settings,
    SettingsError,
    lacking,
    load_policy,
    means_direct_connection,
    policy_path,
    project_dotenv,
    read_settings,
    secret_values,
    setting_names,
)

if TYPE_CHECKING:
    import requests

State = Literal["good", "bad", "not configured"]

DEADLINE = 12.0
"""Seconds within which every probe is to be through."""

_PATIENCE = (4.0, 10.0)
"""Seconds that a probe waits for (a connection, the next byte): less than the deadline, so that the client can say
what is wrong, and enough for a service that is slow."""

_RETRIES = 1
_PROBE = "probe"
"""Name of the threads that look."""

_MASK = "********"
_S3 = (*AWS_KEYS, "aws_profile", "aws_endpoint_url")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force; a secret's value is masked.

    Attributes:
        name: Its preferred name.
        value: Its value, or the one that was given and cannot be used.
        origin: Where the value came from.
        problem: Why it cannot be used; empty when it can.
        next_step: What to do about that.
    """

    name: str
    value: str
    origin: str
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """The outcome of one probe."""

    name: str
    state: State
    detail: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class _Service:
    """An external system.

    Attributes:
        name: As it is shown.
        own: Settings of which one that is set says that the system is meant to be used.
        needed: Settings without which it cannot be.
        also: Further settings that lead there.
        names: The settings as a next step names them.
        probe: Asks it; gives what it says.
        always: Whether it is asked although none of its own settings is set; it may raise `_NotConfigured` then.
    """

    name: str
    own: tuple[str, ...]
    needed: tuple[str, ...]
    also: tuple[str, ...]
    names: str
    probe: Callable[[], str]
    always: bool = False


class _NotConfigured(Exception):
    """Nothing says that the system is meant to be used; the message says what holds then."""


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LOGIN_IN_URL = re.compile(r"://\S*@")
_DELIMITERS = re.compile(r"[/?#@:&=%\\\s\[\]]+")
_SHORTEST_FRAGMENT = 3
_SHORTEST_SECRET = 6
"""A shorter secret may be part of any word; nothing that is tried says its secret on purpose."""


def _login(address: str) -> tuple[str, str, str]:
    """Scheme, login and the rest of an address, with or without scheme: a password may hold any character."""
    scheme = found[0] if (found := _SCHEME.match(address)) else ""
    login, at, rest = address[len(scheme) :].rpartition("@")
    return scheme, login, at + rest


def _masked_address(address: str) -> str:
    scheme, login, rest = _login(address)
    return f"{scheme}{_MASK if login else ''}{rest}"


def _is_secret(field: str) -> bool:
    return SecretStr in get_args(Settings.model_fields[field].annotation)


def _secrets(read: ReadSettings) -> Iterator[str]:
    """What must not show in any message: secrets, and logins in addresses, whole and as a URL's parts."""
    yield from (secret for secret in secret_values(read.values) if len(secret) >= _SHORTEST_SECRET)
    for field, value in read.given.items():
        if not isinstance(value, str):
            continue
        if field in read.problems and field in Settings.model_fields and _is_secret(field):
            yield value
        if field in ADDRESSES and (login := _login(value)[1]):
            password = login.partition(":")[2] or login
            # What reads an address may take a part of the password for the host, the port or the path.
            fragments = [part for part in _DELIMITERS.split(password) if len(part) >= _SHORTEST_FRAGMENT]
            yield from (login, *([password] if len(password) >= _SHORTEST_FRAGMENT else []), *fragments)


def _spellings(secret: str) -> set[str]:
    """How libraries write a text that they were given in an address."""
    plain = {secret, unquote(secret), re.sub(r"[\t\r\n]", "", secret), unicodedata.normalize("NFKC", secret)}
    as_bytes = {text: text.encode("utf-8", "surrogateescape") for text in plain}
    quoted = {quote(as_bytes[text], safe=safe) for text in plain for safe in ("", "!#$%&'()*+,/:;=?@[]~")}
    return {*plain, *quoted, *(repr(text)[1:-1] for text in plain)}


def _mask(read: ReadSettings) -> Callable[[str], str]:
    """A function that takes secrets and logins out of a message."""
    return _hide(_secrets(read))


def _hide(secrets: Iterable[str]) -> Callable[[str], str]:
    hidden = {text for secret in secrets for text in _spellings(secret) if text}
    known = re.compile("|".join(map(re.escape, sorted(hidden, key=len, reverse=True))) or r"(?!)", re.IGNORECASE)
    return lambda text: _LOGIN_IN_URL.sub(f"://{_MASK}@", known.sub(_MASK, text))


def _displayed(field: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr) or _is_secret(field):
        return _MASK
    if not isinstance(value, str | int | float | Path):
        return f"a {type(value).__name__}"
    return _masked_address(str(value)) if field in ADDRESSES else _LOGIN_IN_URL.sub(f"://{_MASK}@", str(value))


def settings_table(read: ReadSettings | None = None) -> list[Setting]:
    """Every setting, also those that cannot be used."""
    read = read or read_settings()
    mask = _mask(read)

    def row(field: str) -> Setting:
        name, problem = setting_names(field)[0], read.problems.get(field)
        if problem is None:
            return Setting(name, _displayed(field, getattr(read.values, field)), read.origins[field])
        value = _displayed(field, read.given.get(field))
        return Setting(name, value, read.origins[field], mask(problem), f"correct or unset {name}")

    return [row(field) for field in Settings.model_fields]


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at one external system, whose name and settings are known before it says anything."""

    name: str
    names: str
    call: Callable[[], Connection]


def connections(read: ReadSettings | None = None, within: float = DEADLINE) -> list[Connection]:
    """Probe every external system that is configured, whatever is wrong with the settings of the others.

    Args:
        read: The settings; None reads them.
        within: Seconds after which a system that has not answered is bad.
    """
    read = read or read_settings()
    mask = _mask(read)
    state, policy = _policy(read.values)
    looks = [_Look(service.name, service.names, partial(_look, service, read)) for service in _services(read, policy)]
    looks += [
        _folder(f"archive {name}", f"archives.{name}", partial(_archive, rule.path))
        for name, rule in policy.archives.items()
    ]
    looks += [
        _folder(f"inbox {name}", f"inboxes.{name}", partial(_inbox, inbox)) for name, inbox in policy.inboxes.items()
    ]
    unread = [
        Connection("settings", "bad", str(error), "correct what is named")
        for error in read.unread
        if str(error) not in read.problems.values()  # those are told with their setting
    ]
    rows = [*unread, state, *_in_time(looks, within)]
    return [Connection(row.name, row.state, mask(row.detail), row.next_step) for row in rows]


def _folder(name: str, table: str, probe: Callable[[], str]) -> _Look:
    names = f"[{table}] in the policy file"
    return _Look(name, names, partial(_try, name, probe, names))


def _in_time(looks: list[_Look], seconds: float) -> Iterator[Connection]:
    """Look everywhere at once, because each that cannot be reached is tried for a while; in the order of `looks`."""
    # It mutes a warning about itself while it is imported, which in a thread another library's import may undo.
    import_module("requests")
    begun = [_begin(look.call) for look in looks]
    ended, _ = wait(begun, seconds)
    for look, outcome in zip(looks, begun, strict=True):
        yield (
            outcome.result()
            if outcome in ended
            else Connection(
                look.name, "bad", f"no answer within {seconds:g} s", f"check {look.names}, and that it is up"
            )
        )


def _begin(call: Callable[[], Connection]) -> Future[Connection]:
    """Call it in a thread that nothing waits for: a look that hangs must hold up neither the end nor Ctrl-C."""
    outcome: Future[Connection] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            outcome.set_exception(error)

    Thread(target=work, name=_PROBE, daemon=True).start()
    return outcome


def still_looking() -> bool:
    """Whether a look hangs still."""
    return any(thread.name == _PROBE for thread in enumerate_threads())


def _services(read: ReadSettings, policy: Policy) -> list[_Service]:
    settings = read.values
    # Where the direct connection is used the version may stay set, and does not mean the gateway.
    version = ("doc_db_api_version",) if settings.doc_db_host is None else ()
    keys = AWS_KEYS if any(getattr(settings, field) is not None for field in AWS_KEYS) else ()
    endpoint = "" if settings.aws_endpoint_url is None else "AWS_ENDPOINT_URL, "
    return [
        _Service(
            "DocDB REST gateway",
            own=("doc_db_api_host", *version),
            needed=("doc_db_api_host",),
            also=("doc_db_api_version",),
            names="DOC_DB_API_HOST",
            probe=lambda: _gateway(settings, policy),
        ),
        _Service(
            "DocDB over SSH",
            own=means_direct_connection(settings),
            needed=(*DOC_DB_DIRECT, *BASTION),
            also=("doc_db_port", "doc_db_ssh_port", "doc_db_database", "doc_db_collection"),
            names="DOC_DB_SSH_HOST and the DOC_DB_* names",
            probe=lambda: _direct(settings),
        ),
        _Service(
            "RDS",
            own=RDS,
            needed=RDS,
            also=("rds_port",),
            names="RDS_HOST, RDS_USER, RDS_PASSWORD, RDS_DATABASE",
            probe=lambda: _rds(settings),
        ),
        _Service(
            "metadata-service",
            own=("metadata_service_url", "metadata_service_version"),
            needed=("metadata_service_url",),
            also=(),
            names="METADATA_SERVICE_URL",
            probe=lambda: _metadata_service(settings),
        ),
        _Service(
            "Code Ocean",
            own=("code_ocean_api_token", "code_ocean_domain"),
            needed=("code_ocean_api_token",),
            also=(),
            names="CODE_OCEAN_API_TOKEN and CODE_OCEAN_DOMAIN",
            probe=lambda: _code_ocean(settings),
        ),
        _Service(
            "S3",
            own=_S3,
            needed=keys,
            also=("aws_region", "aws_session_token"),
            names=f"{endpoint}AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION",
            probe=lambda: _s3(settings, policy),
            always=True,
        ),
        _Service(
            "neurobank registry",
            own=("nbank_registry", "nbank_username", "nbank_password"),
            needed=("nbank_registry", *_login_needed(settings)),
            also=(),
            names="NBANK_REGISTRY",
            probe=lambda: _registry(settings),
        ),
        _Service(
            "Dagster instance",
            own=("dagster_home",),
            needed=(),
            also=(),
            names="DAGSTER_HOME",
            probe=lambda: _dagster(settings.dagster_home, read.origins["dagster_home"]),
            always=True,
        ),
    ]


def _login_needed(settings: Settings) -> tuple[str, ...]:
    """Reading needs no login, and the netrc may have it; half of one is a mistake."""
    login = ("nbank_username", "nbank_password")
    return login if any(getattr(settings, field) is not None for field in login) else ()


def _names(fields: list[str]) -> str:
    return ", ".join(setting_names(field)[0] for field in fields)


def _look(service: _Service, read: ReadSettings) -> Connection:
    """Probe a system if its settings are complete; a half of them is no less bad than a wrong one."""
    leading = dict.fromkeys((*service.own, *service.needed, *service.also))
    if wrong := [field for field in leading if field in read.problems]:
        said = "; ".join(f"{setting_names(field)[0]} cannot be used: {read.problems[field]}" for field in wrong)
        return Connection(service.name, "bad", said, f"correct {_names(wrong)}")
    default = Settings.model_construct()
    given = [field for field in service.own if getattr(read.values, field) != getattr(default, field)]
    missing = ", ".join(lacking(read.values, service.needed))
    if given and not missing:
        return _try(service.name, service.probe, service.names)
    if read.unread:  # it may be configured there
        said = "; ".join(str(error) for error in read.unread)
        return Connection(
            service.name, "bad", f"its settings may be where nothing can be read: {said}", "correct that"
        )
    if not given and service.always:
        return _try(service.name, service.probe, service.names)
    if not given:
        return Connection(service.name, "not configured", "", f"set {service.names}")
    detail = f"{_names(given)} set, but not {missing}"
    return Connection(service.name, "bad", detail, f"set {missing}, or unset the others")


def _try(name: str, probe: Callable[[], str], names: str) -> Connection:
    """Probe one system; `names` are the settings that lead there."""
    try:
        return Connection(name, "good", probe())
    except _NotConfigured as said:
        return Connection(name, "not configured", str(said), f"set {names}")
    except doctor_dagster.InstanceUnusable as error:
        hide = _hide(secret for secret in error.secrets if len(secret) >= _SHORTEST_SECRET)
        return Connection(name, "bad", hide(error.cause), error.next_step)
    except SettingsError as error:
        detail, step = str(error), "complete or correct the settings named"
    except ServiceError as error:
        detail = str(error)
        outage = "; if that is right, try again later or ask who runs it"
        step = f"check {names}{outage if error.retryable else ', and the rights'}"
    except Exception as error:  # noqa: BLE001 - a probe's boundary: whatever a library raises is the diagnosis
        detail, step = f"{type(error).__name__}: {error}".splitlines()[0], f"check {names}, and that it is up"
    return Connection(name, "bad", detail, step)


def _policy(settings: Settings) -> tuple[Connection, Policy]:
    name = "policy file"
    try:
        path = policy_path(settings)
    except SettingsError as error:
        return Connection(name, "bad", str(error), "correct or unset AIND_PIPELINES_CONFIG"), Policy()
    if path is None:
        said = "the defaults in code are in force"
        return Connection(name, "not configured", said, "see docs/settings.md"), Policy()
    try:
        return Connection(name, "good", str(path)), load_policy(path)
    except SettingsError as error:
        return Connection(name, "bad", str(error), "correct the file"), Policy()


def _session() -> requests.Session:
    from aind_pipelines.clients import http

    return http.build_session(retries=_RETRIES, timeout=_PATIENCE)


def _gateway(settings: Settings, policy: Policy) -> str:
    from aind_pipelines.clients.docdb import MetadataDbClient

    assert settings.doc_db_api_host is not None
    counts = []
    with _session() as session:
        for source in policy.docdb.sources:
            version = source.api_version or settings.doc_db_api_version
            client = MetadataDbClient(
                settings.doc_db_api_host, source.database, source.collection, version, session=session
            )
            counts.append(f"{source.database}.{source.collection}: {client.count():,} records")
    return ", ".join(counts)


def _direct(settings: Settings) -> str:
    from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials

    credentials = DocumentDbSSHCredentials(
        host=settings.doc_db_host,
        port=settings.doc_db_port,
        username=settings.doc_db_username,
        password=settings.doc_db_password,
        database=settings.doc_db_database,
        collection=settings.doc_db_collection,
        ssh_host=settings.doc_db_ssh_host,
        ssh_port=settings.doc_db_ssh_port,
        ssh_username=settings.doc_db_ssh_username,
        ssh_password=settings.doc_db_ssh_password,
    )
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


def _metadata_service(settings: Settings) -> str:
    from aind_pipelines.clients.metadata_service import AindMetadataServiceClient

    assert settings.metadata_service_url is not None
    version = settings.metadata_service_version
    with AindMetadataServiceClient(settings.metadata_service_url, _session(), _PATIENCE, version) as client:
        answer = client.ask("project_names", "")
    return f"{len(answer.data or [])} project names"


def _code_ocean(settings: Settings) -> str:
    from codeocean.data_asset import DataAssetSearchParams

    from aind_pipelines.clients.code_ocean import get_client, mapped_errors

    assert settings.code_ocean_api_token is not None
    token = settings.code_ocean_api_token.get_secret_value()
    client = get_client(settings.code_ocean_domain, token, retries=_RETRIES, timeout=_PATIENCE)
    with mapped_errors():
        client.data_assets.search_data_assets(DataAssetSearchParams(limit=1))
    return "the token may search data assets"


def _s3(settings: Settings, policy: Policy) -> str:
    from aind_pipelines.clients import s3

    if all(getattr(settings, field) is None for field in _S3) and not _boto3_finds_credentials():
        raise _NotConfigured("boto3 finds no credentials either")
    client = s3.client(settings, timeout=_PATIENCE, attempts=_RETRIES + 1)
    bad: dict[str, ServiceError] = {}
    for bucket in policy.s3.buckets:
        try:
            next(s3.iter_listing_pages(client, bucket, page_size=1), None)
        except ServiceError as error:
            if error.retryable:  # so it would be for each of them
                raise
            bad[bucket] = error
    if bad:
        first = str(next(iter(bad.values()))).removeprefix(f"{s3.SERVICE}: ")
        raise ServiceError(s3.SERVICE, f"buckets that cannot be listed: {', '.join(bad)}; of the first: {first}")
    return f"{len(policy.s3.buckets)} buckets"


def _boto3_finds_credentials() -> bool:
    """Whether its own chain finds any: in shared files, of a container, a web identity or the instance's role.

    It asks the instance's metadata service last, once, and waits a second for a connection.
    """
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        return Session().get_credentials() is not None
    except BotoCoreError as error:
        raise ServiceError("S3", f"the AWS credentials that boto3 finds cannot be used: {error}") from None


def _registry(settings: Settings) -> str:
    from aind_pipelines.clients.registry import RegistryClient
    from aind_pipelines.clients.registry.login import login_for

    assert settings.nbank_registry is not None
    login = login_for(settings.nbank_registry, settings)
    with RegistryClient(settings.nbank_registry, login, session=_session()) as client:
        info = client.info()
    return f"{info.name} {info.version}, API {info.api_version}"


def _dagster(home: Path | None, origin: str) -> str:
    if home is None:
        raise _NotConfigured(
            "`dagster dev` keeps its runs in a temporary folder until it ends, and dagster-daemon does not start"
        )
    return doctor_dagster.look(home, origin, project_dotenv(), _PATIENCE[0])


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
