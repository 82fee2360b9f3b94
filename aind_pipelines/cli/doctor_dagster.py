"""Dagster's own instance as ``doctor`` sees it: its ``dagster.yaml`` read as Dagster reads it, its storage tried.

A `DagsterInstance` is not opened for that: it would make its folders and tables, and try a Postgres that is not there
again and again, telling each time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aind_pipelines.settings import PROJECT_DOTENV

if TYPE_CHECKING:
    from dagster._core.instance.ref import InstanceRef
    from dagster._serdes import ConfigurableClassData
    from sqlalchemy import URL

_FILE = "dagster.yaml"
_UNSET = re.compile(r'environment variable "([^"]*)" which is not set')
_PARTS = ("local_artifact_storage", "compute_logs", "scheduler", "run_coordinator", "run_launcher")
_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db", "runs.db", "index.db")
"""Where Dagster's SQLite storage has them, below the folder of all its storages or of one."""

_SQLITE_HEADER = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html#the_database_header


class InstanceUnusable(Exception):
    """Dagster cannot use its instance.

    Attributes:
        cause: Why.
        next_step: What to do about it.
        secrets: What must not show in the cause.
    """

    def __init__(self, cause: str, next_step: str, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step
        self.secrets = secrets


def look(given: Path, origin: str, dotenv: Mapping[str, str], patience: float) -> str:
    """What the instance keeps its runs in.

    Args:
        given: ``DAGSTER_HOME``.
        origin: Where that came from.
        dotenv: What ``.env`` of the project root sets, which Dagster's commands take over the environment.
        patience: Seconds to wait for a connection.

    Raises:
        InstanceUnusable: Dagster could not use it.
    """
    if not origin.startswith(("argument", "environment", PROJECT_DOTENV)):
        raise InstanceUnusable(
            f"DAGSTER_HOME is from {origin}, where Dagster itself does not look",
            "set DAGSTER_HOME in the environment or in .env of the project root",
        )
    home = Path(os.path.expanduser(given))  # noqa: PTH111 - as Dagster does: what is no user's home stays as it is
    if not home.is_absolute():
        raise InstanceUnusable(
            f"{home} is a relative path, which Dagster refuses", "set DAGSTER_HOME to an absolute path"
        )
    if not home.is_dir():
        raise InstanceUnusable(f"{home} is no directory", f"create {home}, or correct DAGSTER_HOME")
    file = home / _FILE
    if not file.exists():
        return f"{_sqlite(home)}: Dagster's defaults, as there is no {_FILE}"
    return ", ".join(dict.fromkeys(_looks(home, file, dotenv, patience)))


def _looks(home: Path, file: Path, dotenv: Mapping[str, str], patience: float) -> Iterator[str]:
    ref = _read(home, file)
    defaults = ref.config_defaults(str(home))
    for part in _PARTS:
        data: ConfigurableClassData | None = getattr(ref, f"{part}_data")
        if data is not None and data != defaults[part]:
            _checked(file, part, _schema(file, part, data), data.config_dict, dotenv)
    if ref.storage_data is not None:
        yield from _storages(file, ref.storage_data, dotenv, patience)


def _read(home: Path, file: Path) -> InstanceRef:
    """The file as Dagster reads it. What it holds does not show in an error: a password may be anywhere in it."""
    import yaml  # type: ignore[import-untyped]

    wrong, step = f"{file} cannot be read", f"correct {file}"
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InstanceUnusable(f"{wrong}: {error.strerror}", f"check {file} and its rights") from None
    except UnicodeDecodeError:
        raise InstanceUnusable(f"{wrong}: it is not UTF-8 text", step) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InstanceUnusable(f"{wrong}: no YAML{f' in line {mark.line + 1}' if mark else ''}", step) from None
    if not isinstance(document, dict | None) or not isinstance((document or {}).get("storage", {}), dict):
        what = "it" if not isinstance(document, dict | None) else "its storage"
        raise InstanceUnusable(f"{wrong}: {what} is no mapping of names to values", step)

    from dagster._core.errors import DagsterInvalidConfigError
    from dagster._core.instance.ref import InstanceRef
    from dagster_shared.check import CheckError

    try:
        return InstanceRef.from_dir(str(home))
    except DagsterInvalidConfigError as error:
        raise _refused(file, "", error.errors or [], str(error)) from None
    except CheckError as error:  # instance_class names what is not installed
        raise InstanceUnusable(
            f"{file} cannot be used: {_first_line(error).removeprefix('Failure condition: ')}", step
        ) from None


def _first_line(error: BaseException) -> str:
    return f"{error}".strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _refused(file: Path, part: str, errors: Collection[Any], message: str = "") -> InstanceUnusable:
    """Dagster's errors, without the values that its messages quote."""
    if unset := _unset(errors):
        names = ", ".join(dict.fromkeys(unset))
        return InstanceUnusable(f"{file} names environment variables that are not set: {names}", f"set {names}")
    said = "; ".join(_refusal(part, error) for error in errors) or message.partition("\n")[0].rstrip(".")
    return InstanceUnusable(f"{file} cannot be used: {said}", f"correct {file}")


def _unset(errors: Collection[Any]) -> list[str]:
    """The environment variables that errors say are not set."""
    return [name for error in errors for name in _UNSET.findall(str(getattr(error.error_data, "message", "")))]


def _refusal(part: str, error: Any) -> str:
    place = ".".join(str(level) for level in (*filter(None, [part]), *error.stack.levels)) or "the top level"
    data = error.error_data
    names = getattr(data, "field_names", None) or [name for name in [getattr(data, "field_name", None)] if name]
    return ": ".join(filter(None, [place, error.reason.value.lower().replace("_", " "), ", ".join(names)]))


def _filled(value: Any, dotenv: Mapping[str, str], kind: type = str) -> Any:
    """A storage's configuration in which ``{env: NAME}`` is replaced by what ``.env`` sets; ports are numbers."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"env"} and value["env"] in dotenv:
        text = dotenv[value["env"]]
        return int(text) if kind is int and text.isascii() and text.isdecimal() else text
    return {key: _filled(each, dotenv, int if key == "port" else str) for key, each in value.items()}


def _checked(
    file: Path, part: str, schema: Any, config: Mapping[str, Any], dotenv: Mapping[str, str]
) -> Mapping[str, Any]:
    """A configuration with its variables and defaults filled in, as Dagster does when it opens the instance."""
    from dagster._config import process_config, resolve_to_config_type

    result = process_config(resolve_to_config_type(schema), config)
    errors = [error for error in result.errors or [] if not _unset([error]) or _unset([error])[0] not in dotenv]
    if errors:
        raise _refused(file, part, errors)
    value: Mapping[str, Any] = result.value or {}
    return value


def _schema(file: Path, part: str, data: ConfigurableClassData) -> Any:
    from importlib import import_module

    try:
        return getattr(import_module(data.module_name), data.class_name).config_type()
    except (ImportError, AttributeError) as error:
        raise InstanceUnusable(
            f"{file}: {part} names {data.module_name}.{data.class_name}: {_first_line(error)}",
            f"install it, or correct {file}",
        ) from None


def _storages(file: Path, data: ConfigurableClassData, dotenv: Mapping[str, str], patience: float) -> Iterator[str]:
    from dagster._config import StringSource
    from dagster._core.storage.config import pg_config
    from dagster._serdes import ConfigurableClassData

    config = _filled(dict(data.config_dict), dotenv)
    if data.class_name == "CompositeStorage":  # run_storage, event_log_storage and schedule_storage each its own
        for part in config.values():
            yield from _storages(file, ConfigurableClassData(**part), dotenv, patience)
    elif data.module_name.partition(".")[0] == "dagster_postgres":
        if find_spec("dagster_postgres") is None:
            raise InstanceUnusable(
                f"{file} keeps runs in Postgres, but dagster-postgres is not installed", "install it"
            )
        yield _postgres(file, _checked(file, "storage", pg_config(), config, dotenv), patience)
    elif data.module_name.startswith("dagster._core.storage.") and "Sqlite" in data.class_name:
        yield _sqlite(Path(_checked(file, "storage", {"base_dir": StringSource}, config, dotenv)["base_dir"]))
    else:
        _checked(file, "storage", _schema(file, "storage", data), config, dotenv)
        yield f"{data.class_name} of {data.module_name}, which is not tried"


def _sqlite(folder: Path) -> str:
    """Look at the files alone: a connection would make more of them beside those of a Dagster that runs."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InstanceUnusable(
            f"Dagster may not write in {existing}, where it keeps its SQLite files", f"check the rights of {existing}"
        )
    for path in (folder / name for name in _DATABASES):
        if not path.exists():
            continue
        try:
            with path.open("r+b") as database:
                header = database.read(len(_SQLITE_HEADER))
        except OSError as error:
            raise InstanceUnusable(f"{path} cannot be used: {error.strerror}", "check its rights") from None
        if header not in (b"", _SQLITE_HEADER):
            raise InstanceUnusable(f"{path} is no SQLite database", "restore it, or move it away")
    return f"SQLite below {folder}"


def _postgres(file: Path, config: Mapping[str, Any], patience: float) -> str:
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url = _url(file, config)
    place = f"Postgres at {url.host or 'its socket'}:{url.port or 5432}/{url.database or ''}"
    if config.get("auth_provider"):
        return f"{place}, which is not tried, as its auth_provider makes the login"
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": max(2, int(patience))})
        with engine.connect() as connection:
            tables = inspect(connection).get_table_names()
    except (SQLAlchemyError, ImportError) as error:
        cause = _first_line(getattr(error, "orig", None) or error)
        raise InstanceUnusable(
            f"{place}: {cause}",
            f"check storage in {file} and the variables it names, and that it is up",
            (str(url.password or ""),),
        ) from None
    return place if "alembic_version" in tables else f"{place}, where Dagster will make its tables"


def _url(file: Path, config: Mapping[str, Any]) -> URL:
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    login = config.get("postgres_db")
    if bool(login) == bool(config.get("postgres_url")):
        raise InstanceUnusable(
            f"{file} cannot be used: storage.postgres needs postgres_db or postgres_url, one of them",
            f"correct {file}",
        )
    if login:
        parameters = {name: str(value) for name, value in login["params"].items()}
        return URL.create(
            login["scheme"],
            login["username"],
            login["password"] or None,
            login["hostname"],
            login["port"],
            login["db_name"],
            parameters,
        )
    try:
        url = make_url(config["postgres_url"])
    except (ArgumentError, ValueError):
        url = None
    if url is None or "@" in (url.host or ""):  # said without a part of it, which may be one of the password
        raise InstanceUnusable(
            f"{file} cannot be used: storage.postgres.postgres_url is no address of a database",
            "write it as postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in a password",
        )
    return url
