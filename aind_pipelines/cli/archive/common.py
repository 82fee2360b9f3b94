"""What the archive's commands share: registries, identifiers, names from standard input, and the printing of rows."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aind_pipelines.cli import fail

if TYPE_CHECKING:
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.clients.registry import RegistryClient

_Command = TypeVar("_Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON document")
lines_option = click.option("-j", "--json-out", "json_lines", is_flag=True, help="print JSON lines")
dry_run_option = click.option("-y", "--dry-run", is_flag=True, help="look at everything, change nothing")


def stdin_option(what: str) -> Callable[[_Command], _Command]:
    """``-@``, which reads more of `what` from standard input."""
    return click.option(
        "-@", "from_stdin", is_flag=True, help=f"read more {what} from standard input: lines, or separated by NUL"
    )


def threads_option(default: int, what: str) -> Callable[[_Command], _Command]:
    """``--threads``: how many of `what` at the same time."""
    return click.option(
        "--threads",
        default=default,
        show_default=True,
        type=click.IntRange(1, 64),
        help=f"{what} at the same time",
    )


def read_stdin() -> list[str]:
    """Names from standard input: separated by NUL when there is one (``find -print0``), else one per line."""
    data = sys.stdin.buffer.read()
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(part) for part in parts if part.strip()]


def files_given(files: Iterable[Path], from_stdin: bool) -> list[Path]:
    """The files that a command is about.

    Raises:
        UsageError: There is none.
    """
    named = [*files, *(map(Path, read_stdin()) if from_stdin else ())]
    if not named:
        raise click.UsageError("name at least one file, or give names by -@")
    return named


def _given() -> dict[str, Any]:
    """The options before the subcommand: ``registry_url`` and ``auth``."""
    return click.get_current_context().obj or {}


def _registry_url(default_url: str | None = None) -> str | None:
    from aind_pipelines.settings import load_settings

    return _given().get("registry_url") or default_url or load_settings().nbank_registry


def client(default_url: str | None = None) -> RegistryClient:
    """The registry of ``-r``, else the archive's own (`default_url`), else NBANK_REGISTRY; with the login to use."""
    from aind_pipelines.clients.registry import RegistryClient
    from aind_pipelines.clients.registry.login import login_for
    from aind_pipelines.settings import load_settings

    given, url = _given(), _registry_url(default_url)
    if not url:
        raise click.UsageError("name the registry: aind-pipelines -r URL archive ..., or set NBANK_REGISTRY")
    if not given.get("auth"):
        return RegistryClient(url, login_for(url, load_settings()))
    user, colon, password = str(given["auth"]).partition(":")
    if not colon:
        raise click.UsageError("-a takes USER:PASSWORD")
    return RegistryClient(url, (user, password))


@dataclass(frozen=True, slots=True)
class NamedId:
    """An identifier as a person wrote it, and what it says."""

    text: str
    id: str


def ids_given(ids: Iterable[str], from_stdin: bool, from_file: Path | None = None) -> list[str]:
    """The identifiers that a command is about, each once; lines of lists that begin with ``#`` are comments.

    Raises:
        UsageError: There is none, or the file cannot be read.
    """
    listed = read_stdin() if from_stdin else []
    if from_file is not None:
        try:
            listed += from_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{from_file} cannot be read: {getattr(error, 'strerror', error)}") from None
    words = (line.strip() for line in listed)
    named = list(dict.fromkeys([*ids, *(word for word in words if word and not word.startswith("#"))]))
    if not named:
        raise click.UsageError("name at least one identifier, or give some by -@")
    return named


def by_registry(
    texts: Iterable[str], stack: contextlib.ExitStack, *, url: str | None = None, foreign: bool = True
) -> list[tuple[RegistryClient, list[NamedId]]]:
    """Identifiers with the registry that each belongs to: short ones to ours, full ones (URLs) to the one they name.

    A registry that is not ours is only read, without credentials.

    Args:
        texts: Identifiers.
        stack: Closes the clients.
        url: The registry to use unless ``-r`` names one; None takes that of the settings.
        foreign: Whether other registries than ours are allowed.

    Raises:
        BadParameter: A text is no identifier, or belongs to another registry.
    """
    from aind_pipelines.archive.ids import InvalidId, split_url
    from aind_pipelines.clients.registry import RegistryClient

    named: list[tuple[str | None, NamedId]] = []
    for text in texts:
        try:
            base, id_ = split_url(text)
        except InvalidId as problem:
            raise click.BadParameter(str(problem)) from None
        named.append((base, NamedId(text, id_)))
    needed = any(base is None for base, _ in named) or not foreign
    own = stack.enter_context(client(url)) if needed or _registry_url(url) else None
    clients: dict[str, RegistryClient] = {} if own is None else {own.url: own}
    groups: dict[str, list[NamedId]] = {}
    for base, one in named:
        if base is None:
            assert own is not None
            base = own.url
        if base not in clients and not foreign:
            raise click.BadParameter(f"{one.text} belongs to another registry; name that one by -r")
        if base not in clients:
            clients[base] = stack.enter_context(RegistryClient(base))
        groups.setdefault(base, []).append(one)
    return [(clients[base], ours) for base, ours in groups.items()]


def find_archive(which: str, stack: contextlib.ExitStack) -> tuple[Archive, RegistryClient]:
    """The archive in the folder `which`, or registered under that name, and its registry."""
    from aind_pipelines.archive.layout import SCHEME, Archive

    if Path(which).is_dir() or os.sep in which:
        target = Archive.open(which)
        return target, stack.enter_context(client(target.config.registry))
    registry = stack.enter_context(client())
    entry = registry.get_archive(which)
    if entry is None or entry.scheme != SCHEME:
        fail(f"{which!r} is neither a folder nor a registered archive on a file system")
    return Archive.open(entry.root), registry


def metadata_from(pairs: Iterable[str], option: str = "-k") -> dict[str, Any]:
    """``KEY=VALUE`` texts; a value that reads as JSON is that, any other is text."""
    metadata: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint=option)
        try:
            metadata[key] = json.loads(value)
        except ValueError:
            metadata[key] = value
    return metadata


@contextlib.contextmanager
def archive_errors() -> Iterator[None]:
    """End the command with what is wrong with an archive."""
    from aind_pipelines.archive.errors import ArchiveError

    try:
        yield
    except ArchiveError as error:
        fail(str(error))


def print_json(document: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, indent=2, default=str))


Row = dict[str, Any]


def emit(
    rows: Iterable[Row],
    show: Callable[[Row], None] = print_json,
    *,
    json_lines: bool = False,
    as_json: bool = False,
    good: Callable[[Row], bool] = lambda row: "error" not in row,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Print rows as they come, and end the command with exit code 1 when one is not good.

    Args:
        rows: What to print.
        show: Prints one for people.
        json_lines: Whether each is printed as a line of JSON instead.
        as_json: Whether all are printed as one JSON list, which is closed whatever happens.
        good: Whether a row is as it should be.
        after: Is called after each.
    """
    printed = _lines(rows) if json_lines else _list(rows) if as_json else _shown(rows, show)
    bad = False
    for row in printed:
        bad = not good(row) or bad
        after()
    if bad:
        raise SystemExit(1)


def _shown(rows: Iterable[Row], show: Callable[[Row], None]) -> Iterator[Row]:
    for row in rows:
        show(row)
        yield row


_encode = json.JSONEncoder(default=str).encode


def _lines(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        _say(_encode(row) + "\n")
        yield row


def _list(rows: Iterable[Row]) -> Iterator[Row]:
    before = "[\n"
    try:
        for row in rows:
            text = json.dumps(row, indent=2, default=str).replace("\n", "\n  ")
            _say(f"{before}  {text}")
            before = ",\n"
            yield row
    finally:
        _say("[]\n" if before == "[\n" else "\n]\n")


def _say(text: str) -> None:
    """What `click.echo` does, without its look at the kind of standard output for each of thousands of rows."""
    sys.stdout.write(text)
    sys.stdout.flush()
