"""``aind-pipelines archive``: make archives, deposit, find and check; options mean what they mean to ``nbank``."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aind_pipelines.cli import fail

if TYPE_CHECKING:
    from aind_pipelines.archive.deposit import DepositItem
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.clients.registry import Location, RegistryClient

_json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON document")


@click.group()
def archive() -> None:
    """Keep files and directories in neurobank archives.

    \b
    Make an archive and deposit into it:
        aind-pipelines archive init /data/live
        aind-pipelines archive deposit /data/live -d session-raw --copy SESSION...
    Read every byte and compare it with the registry:
        aind-pipelines archive check /data/live
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")


def _client(default_url: str | None = None) -> RegistryClient:
    """The registry of ``-r``, else the archive's own (`default_url`), else NBANK_REGISTRY; with the login to use."""
    from aind_pipelines.clients.registry import RegistryClient
    from aind_pipelines.clients.registry.login import login_for
    from aind_pipelines.settings import load_settings

    given: dict[str, Any] = click.get_current_context().obj or {}
    settings = load_settings()
    url = given.get("registry_url") or default_url or settings.nbank_registry
    if not url:
        raise click.UsageError("name the registry: aind-pipelines -r URL archive ..., or set NBANK_REGISTRY")
    if not given.get("auth"):
        return RegistryClient(url, login_for(url, settings))
    user, colon, password = str(given["auth"]).partition(":")
    if not colon:
        raise click.UsageError("-a takes USER:PASSWORD")
    return RegistryClient(url, (user, password))


@contextlib.contextmanager
def _archive_errors() -> Iterator[None]:
    from aind_pipelines.archive.errors import ArchiveError

    try:
        yield
    except ArchiveError as error:
        fail(str(error))


def _print(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, default=str))


@archive.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-n", "--name", help="name in the registry (default: the folder's)")
@click.option("-u", "--umask", default="002", show_default=True, help="mode bits that nothing may have, octal")
@click.option("-g", "--group", help="owning group (default: yours)")
@click.option("--shared", is_flag=True, help="several people deposit under their own accounts")
def init(directory: Path, name: str | None, umask: str, group: str | None, shared: bool) -> None:
    """Make an archive in the new folder DIRECTORY and register it."""
    from aind_pipelines.archive.layout import init_archive

    try:
        bits = int(umask, 8)
    except ValueError:
        raise click.BadParameter(f"{umask!r} is not octal", param_hint="-u") from None
    with _archive_errors(), _client() as registry:
        made = init_archive(directory, registry, name, bits, group=group, shared=shared)
        click.echo(f"made {made.path}, registered as archive {made.name_in(registry)}", err=True)
        for weaker in made.filesystem().promises:
            click.echo(f"warning: {weaker}", err=True)


def _metadata(pairs: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts; a value that reads as JSON is that, any other is text."""
    metadata: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="-k")
        try:
            metadata[key] = json.loads(value)
        except ValueError:
            metadata[key] = value
    return metadata


def _items(
    files: Iterable[Path], dtype: str, metadata: dict[str, Any], target: Archive, keep: bool
) -> Iterator[tuple[Path, DepositItem | str]]:
    """What to deposit per file, or why it cannot be."""
    import uuid

    from aind_pipelines.archive.deposit import DepositItem
    from aind_pipelines.archive.ids import InvalidId, id_from_name
    from aind_pipelines.archive.intake import SourceRefused, local_source

    for file in files:
        try:
            id_ = str(uuid.uuid4()) if target.config.policy.auto_identifiers else id_from_name(file.name)
            yield file, DepositItem(id_, local_source(file), dtype, metadata, keep)
        except (InvalidId, SourceRefused) as problem:
            yield file, str(problem)


@archive.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("-d", "--dtype", required=True, help="registered data type of what is deposited")
@click.option("-k", "metadata", multiple=True, metavar="KEY=VALUE", help="metadata; VALUE is read as JSON if it is")
@click.option("-H", "--hash", "_hash", is_flag=True, help="has no effect: digests are always computed and registered")
@click.option("-j", "--json-out", is_flag=True, help="print JSON lines instead of one JSON list")
@click.option("-@", "from_stdin", is_flag=True, help="read more file names from standard input")
@click.option("-y", "--dry-run", is_flag=True, help="look at everything, change nothing")
@click.option("--copy", is_flag=True, help="keep the sources; otherwise each is removed once it is safely deposited")
@click.option("--threads", default=4, show_default=True, type=click.IntRange(1, 64), help="copies at the same time")
def deposit(
    directory: Path,
    files: tuple[Path, ...],
    dtype: str,
    metadata: tuple[str, ...],
    _hash: bool,
    json_out: bool,
    from_stdin: bool,
    dry_run: bool,
    copy: bool,
    threads: int,
) -> None:
    """Deposit FILES (files or directories) into the archive at DIRECTORY.

    Each gets its name without the last suffix as identifier. Prints a JSON list of sources and identifiers.
    """
    from aind_pipelines.archive.layout import Archive

    named = [str(file) for file in files]
    if from_stdin:
        named += [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not named:
        raise click.UsageError("name at least one file to deposit")
    with _archive_errors():
        target = Archive.open(directory)
        policy = target.config.policy
        if policy.auto_identifiers and policy.auto_id_type != "uuid":
            fail(
                f"{target.path} wants identifiers assigned by the registry, which is not offered here. "
                'Set policy.auto_id_type to "uuid" in its nbank.json, or deposit with nbank.'
            )
        with _client(target.config.registry) as registry:
            if dtype not in {known.name for known in registry.dtypes()}:
                fail(f"{dtype!r} is no registered data type; see `aind-pipelines archive dtype list`")
            items = _items(map(Path, named), dtype, _metadata(metadata), target, copy)
            outcomes = _look(registry, target, list(items)) if dry_run else _deposit(registry, target, items, threads)
            failed = False
            printed = []
            for row in outcomes:
                failed = failed or "error" in row
                if json_out:
                    click.echo(json.dumps(row))
                else:
                    printed.append(row)
            if not json_out:
                _print(printed)
    if failed:
        raise SystemExit(1)


def _deposit(
    registry: RegistryClient, target: Archive, items: Iterable[tuple[Path, DepositItem | str]], threads: int
) -> Iterator[dict[str, Any]]:
    """A row per file, in order; of many files only those under way are held in memory."""
    from aind_pipelines.archive.deposit import deposit as run

    waiting: deque[tuple[Path, str | None]] = deque()

    def accepted() -> Iterator[DepositItem]:
        for file, item in items:
            waiting.append((file, item if isinstance(item, str) else None))
            if not isinstance(item, str):
                yield item

    def not_accepted() -> Iterator[dict[str, Any]]:
        while waiting and (problem := waiting[0][1]) is not None:
            file, _ = waiting.popleft()
            click.echo(f"{file}: {problem}", err=True)
            yield {"source": str(file), "error": problem}

    for result in run(target, registry, accepted(), threads=threads):
        yield from not_accepted()
        file, _ = waiting.popleft()
        row: dict[str, Any] = {"source": str(file), "id": result.id}
        if result.status == "refused":
            click.echo(f"{file}: {result.reason}", err=True)
            row["error"] = result.reason
        else:
            row |= {"status": result.status, "sha1": result.sha1, "size": result.size}
            if result.reason:
                click.echo(f"{file}: {result.reason}", err=True)
                row["note"] = result.reason
        yield row
    yield from not_accepted()


def _look(
    registry: RegistryClient, target: Archive, items: list[tuple[Path, DepositItem | str]]
) -> Iterator[dict[str, Any]]:
    """What a deposit would begin with: names, kinds, and whether the identifiers are free."""
    from aind_pipelines.archive.intake import SourceRefused

    name = target.name_in(registry)
    known = registry.get_resources(item.id for _, item in items if not isinstance(item, str))
    for file, item in items:
        row: dict[str, Any] = {"source": str(file), "dry_run": True}
        if isinstance(item, str):
            yield row | {"error": item}
            continue
        row["id"] = item.id
        record = known.get(item.id)
        try:
            row["size"] = item.source.scan().size
        except SourceRefused as problem:
            row["error"] = str(problem)
        if item.source.kind == "directory" and not target.config.policy.allow_directories:
            row["error"] = "the archive's policy does not allow directories"
        elif record is not None:
            row["status"] = "already_there" if name in record.locations else "registered elsewhere"
        yield row


@archive.command("list")
@click.option("-n", "--name", default="", help="only those whose names start so")
@click.option("--scheme", help="only those of this scheme, e.g. neurobank or tape")
@_json_option
def list_archives(name: str, scheme: str | None, as_json: bool) -> None:
    """List the registered archives and where they are."""
    with _client() as registry:
        found = [entry for entry in registry.archives(scheme=scheme) if entry.name.startswith(name)]
    if as_json:
        _print([asdict(entry) for entry in found])
        return
    for entry in found:
        root = entry.root if entry.scheme == "neurobank" else f"{entry.scheme}://{entry.root}"
        click.echo(f"{entry.name:<25}\t{root}")


def _reachable(location: Location) -> str | None:
    """Path or address of a copy, or None when this machine cannot reach it."""
    from aind_pipelines.archive.layout import id_stub

    if location.scheme in ("http", "https"):
        return f"{location.scheme}://{location.root.strip('/')}/{location.resource}/"
    if location.scheme != "neurobank":
        return None
    folder = Path(location.root) / "resources" / id_stub(location.resource)
    exact = folder / location.resource
    if os.path.lexists(exact):
        return str(exact)
    try:
        return next((str(path) for path in sorted(folder.iterdir()) if path.stem == location.resource), None)
    except OSError:
        return None


@archive.command()
@click.argument("ids", nargs=-1, required=True)
@_json_option
def locate(ids: tuple[str, ...], as_json: bool) -> None:
    """Say where the copies of IDS are: short identifiers, or full ones (URLs)."""
    from aind_pipelines.archive.ids import InvalidId, split_url

    found: dict[str, list[str]] = {}
    with contextlib.ExitStack() as stack:
        clients: dict[str | None, RegistryClient] = {}
        for text in ids:
            try:
                base, id_ = split_url(text)
            except InvalidId as problem:
                raise click.BadParameter(str(problem)) from None
            if base not in clients:
                clients[base] = stack.enter_context(_client() if base is None else _client_of(base))
            places = [_reachable(location) for location in clients[base].locations(id_)]
            found[text] = [place for place in places if place]
    if as_json:
        _print([{"id": text, "locations": places} for text, places in found.items()])
    else:
        for text, known in found.items():
            for place in known or ["(not found)"]:
                click.echo(f"{text:<20}\t{place}")
    if not all(found.values()):
        raise SystemExit(1)


def _client_of(url: str) -> RegistryClient:
    """A reader of the registry that a full identifier names: no credentials of ours go there."""
    from aind_pipelines.clients.registry import RegistryClient

    return RegistryClient(url)


@archive.command()
@click.argument("ids", nargs=-1, required=True)
@_json_option
def info(ids: tuple[str, ...], as_json: bool) -> None:
    """Print the registry's records of IDS."""
    with _client() as registry:
        known = registry.get_resources(ids)
    rows = [asdict(known[id_]) if id_ in known else {"id": id_, "error": "not found"} for id_ in dict.fromkeys(ids)]
    if as_json:
        _print(rows)
    else:
        for row in rows:
            _print(row)
    if any("error" in row for row in rows):
        raise SystemExit(1)


@archive.command()
@click.argument("which", metavar="DIR|NAME")
@click.option("--tier", type=click.Choice(["full", "exists"]), default="full", show_default=True)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1, 64), help="reads at the same time")
@_json_option
def check(which: str, tier: Any, threads: int, as_json: bool) -> None:
    """Compare an archive with its registry; by default every byte of it is read.

    Exit code 1 when anything is missing, corrupt or out of place.
    """
    from aind_pipelines.archive.fixity import check as run

    with _archive_errors(), contextlib.ExitStack() as stack:
        target, registry = _find(which, stack)
        report = run(target, registry, tier, _progress(), threads=threads)
    if as_json:
        rows = [asdict(finding) for finding in report.findings]
        _print(
            {
                "archive": report.archive,
                "tier": report.tier,
                "started_at": report.started_at.isoformat(),
                "ended_at": report.ended_at.isoformat(),
                "resources": report.resources,
                "bytes": report.bytes,
                "ok": report.ok,
                "findings": rows,
            }
        )
    else:
        for finding in report.findings:
            click.echo(f"{finding.code:<14}\t{finding.key}\t{finding.message}")
        click.echo(
            f"{report.archive}: {report.resources} resources, {report.bytes} bytes read, "
            f"{len(report.failures)} bad, {len(report.findings) - len(report.failures)} warnings",
            err=True,
        )
    if not report.ok:
        raise SystemExit(1)


def _find(which: str, stack: contextlib.ExitStack) -> tuple[Archive, RegistryClient]:
    """The archive in the folder `which`, or registered under that name, and its registry."""
    from aind_pipelines.archive.layout import SCHEME, Archive

    if Path(which).is_dir() or os.sep in which:
        target = Archive.open(which)
        return target, stack.enter_context(_client(target.config.registry))
    registry = stack.enter_context(_client())
    entry = registry.get_archive(which)
    if entry is None or entry.scheme != SCHEME:
        fail(f"{which!r} is neither a folder nor a registered archive on a file system")
    return Archive.open(entry.root), registry


def _progress() -> Any:
    """Shows progress on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int, read: int) -> None:
        end = "\n" if done == total else ""
        click.echo(f"\r{done}/{total} resources, {read / 1e6:,.0f} MB read{end}", err=True, nl=False)

    return show


@archive.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_json_option
def recover(directory: Path, as_json: bool) -> None:
    """Finish or roll back deposits into DIRECTORY that were interrupted. Every deposit begins with this."""
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.archive.recovery import recover as run

    with _archive_errors():
        target = Archive.open(directory)
        with _client(target.config.registry) as registry:
            result = run(target, registry)
    if as_json:
        _print(asdict(result))
    else:
        for one in result.recovered:
            click.echo(f"{one.id:<20}\t{one.status}\t{one.reason}")
    for name in result.blocked:
        click.echo(f"{name}: belongs to another user, who has to recover it", err=True)
    if result.blocked:
        raise SystemExit(1)


@archive.group()
def dtype() -> None:
    """Data types of the registry."""


@dtype.command("list")
@_json_option
def list_dtypes(as_json: bool) -> None:
    """List the registered data types."""
    with _client() as registry:
        known = registry.dtypes()
    if as_json:
        _print([asdict(entry) for entry in known])
        return
    for entry in known:
        click.echo(f"{entry.name:<25}\t({entry.content_type})")


@dtype.command("add")
@click.argument("name")
@click.argument("content_type")
def add_dtype(name: str, content_type: str) -> None:
    """Register the data type NAME with the MIME type CONTENT_TYPE."""
    with _client() as registry:
        registry.add_dtype(name, content_type)
    click.echo(f"added data type {name} ({content_type})", err=True)
