"""``archive deposit`` and ``archive recover``."""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aind_pipelines.cli import fail
from aind_pipelines.cli.archive.common import (
    Row,
    archive_errors,
    client,
    dry_run_option,
    emit,
    files_given,
    json_option,
    metadata_from,
    print_json,
    stdin_option,
    threads_option,
)
from aind_pipelines.cli.progress import bar

if TYPE_CHECKING:
    from aind_pipelines.archive.deposit import DepositItem, DepositResult
    from aind_pipelines.archive.intake import Sink
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.archive.naming import Naming
    from aind_pipelines.clients.registry import RegistryClient, Resource

    Item = tuple[Path, DepositItem | str]

_LOOK = 500


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("-d", "--dtype", help="registered data type of what is deposited")
@click.option("-k", "metadata", multiple=True, metavar="KEY=VALUE", help="metadata; VALUE is read as JSON if it is")
@click.option("-H", "--hash", "_hash", is_flag=True, help="has no effect: digests are always computed and registered")
@click.option(
    "-A", "--auto-id", is_flag=True, help="identifiers that are assigned, whatever the archive's policy says"
)
@click.option("-j", "--json-out", "json_lines", is_flag=True, help="print JSON lines instead of one JSON list")
@click.option("--json", "_as_json", is_flag=True, help="print one JSON list; so it does unless -j is given")
@stdin_option("file names")
@dry_run_option
@click.option("--copy", is_flag=True, help="keep the sources; otherwise each is removed once it is safely deposited")
@threads_option(4, "copies")
def deposit(
    directory: Path,
    files: tuple[Path, ...],
    dtype: str | None,
    metadata: tuple[str, ...],
    _hash: bool,
    auto_id: bool,
    json_lines: bool,
    _as_json: bool,
    from_stdin: bool,
    dry_run: bool,
    copy: bool,
    threads: int,
) -> None:
    """Deposit FILES (files or directories) into the archive at DIRECTORY.

    Each gets its name without the last suffix as identifier, or an assigned one where the archive's policy or -A says
    so. Prints a JSON list of sources and identifiers. Exit code 1 when one was refused.
    """
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.archive.naming import name_items, naming_of

    values, named = metadata_from(metadata), files_given(files, from_stdin)
    with archive_errors():
        target = Archive.open(directory)
        naming = naming_of(target, auto=auto_id)
        with client(target.config.registry) as registry:
            known_dtype = _known_dtype(registry, dtype)
            with bar("deposit", len(named)) as shown:
                if dry_run:
                    rows = _look(registry, target, naming, named)
                else:
                    items = name_items(
                        target, registry, naming, named, known_dtype, values, keep_source=copy, threads=threads
                    )
                    rows = _deposit(registry, target, items, naming, threads, shown.read)
                emit(_told(rows), json_lines=json_lines, as_json=True, after=shown.advance)


def _told(rows: Iterable[Row]) -> Iterator[Row]:
    """`rows`; what a person should know of them is also said on stderr."""
    for row in rows:
        for said in ("error", "note"):
            if said in row:
                click.echo(f"{row['source']}: {row[said]}", err=True)
        yield row


def _known_dtype(registry: RegistryClient, dtype: str | None) -> str:
    """The data type, which the registry knows."""
    from aind_pipelines.archive.dtypes import require_dtype

    if dtype is None:
        names = ", ".join(sorted(entry.name for entry in registry.dtypes())) or "none"
        fail(f"name the data type of what is deposited: -d DTYPE (registered: {names})")
    require_dtype(registry, dtype)
    return dtype


def _deposit(
    registry: RegistryClient, target: Archive, items: Iterable[Item], naming: Naming, threads: int, sink: Sink
) -> Iterator[Row]:
    from aind_pipelines.archive.deposit import deposit as run

    waiting: deque[Item] = deque()

    def wanted() -> Iterator[DepositItem]:
        for file, item in items:
            waiting.append((file, item))
            if not isinstance(item, str):
                yield item

    for result in run(target, registry, wanted(), threads=threads, sink=sink):
        yield from _refusals(waiting)
        file, _ = waiting.popleft()
        yield _row(file, result, naming)
    yield from _refusals(waiting)


def _refusals(waiting: deque[Item]) -> Iterator[Row]:
    """The files before the next deposit, for which there was none."""
    while waiting and isinstance(reason := waiting[0][1], str):
        yield {"source": str(waiting.popleft()[0]), "error": reason}


def _row(file: Path, result: DepositResult, naming: Naming) -> Row:
    row: Row = {"source": str(file), "id": result.id}
    if result.status == "refused":
        reserved = f" ({result.id} stays reserved for this content)" if naming == "registry" else ""
        return row | {"error": result.reason + reserved}
    row |= {"status": result.status, "sha1": result.sha1, "size": result.size}
    return row | {"note": result.reason} if result.reason else row


def _look(registry: RegistryClient, target: Archive, naming: Naming, files: Iterable[Path]) -> Iterator[Row]:
    """What a deposit would begin with: names, kinds, and what is there of the identifiers. No byte is read."""
    from aind_pipelines.archive.ids import InvalidId, id_from_name

    name = target.name_in(registry)
    remaining = iter(files)
    while chunk := list(itertools.islice(remaining, _LOOK)):
        ids: dict[Path, str | None] = {}
        problems: dict[Path, str] = {}
        for file in chunk:
            try:
                ids[file] = id_from_name(file.name) if naming == "name" else None
            except InvalidId as problem:
                problems[file] = str(problem)
        known = registry.get_resources(id_ for id_ in ids.values() if id_ is not None)
        for file in chunk:
            row: Row = {"source": str(file), "dry_run": True}
            if file in problems:
                yield row | {"error": problems[file]}
            else:
                yield row | _look_at(target, name, file, ids[file], known)


def _look_at(target: Archive, name: str, file: Path, id_: str | None, known: Mapping[str, Resource]) -> Row:
    from aind_pipelines.archive.intake import SourceRefused, local_source

    row: Row = {"id": id_}
    try:
        source = local_source(file)
        row["size"] = source.scan().size
    except SourceRefused as problem:
        return row | {"error": str(problem)}
    if source.kind == "directory" and not target.config.policy.allow_directories:
        return row | {"error": "the archive's policy does not allow directories"}
    if id_ is not None and (record := known.get(id_)) is not None:
        if name not in record.locations:
            row["status"] = "registered elsewhere"
        else:
            row["status"] = "already_there" if _is_on_disk(target, id_, file) else "to_restore"
    return row


def _is_on_disk(target: Archive, id_: str, file: Path) -> bool:
    """Whether anything lies in the archive under an identifier; its folder is listed only where names tell nothing."""
    usual = (target.stub_path(id_) / name for name in (id_, id_ + file.suffix))
    return any(os.path.lexists(path) for path in usual) or bool(target.entries(id_))


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--of", "hosts", multiple=True, metavar="HOST", help="also those of this machine, which deposits nothing now"
)
@json_option
def recover(directory: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Finish or roll back deposits into DIRECTORY that were interrupted. Every deposit begins with this.

    Exit code 1 when some were left: those of another user, who has to recover them; those of another machine whose
    locks are not seen here (SSHFS); and registered copies that the crash damaged.
    """
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.archive.recovery import recover as run

    with archive_errors():
        target = Archive.open(directory)
        with client(target.config.registry) as registry:
            result = run(target, registry, hosts=hosts)
    if as_json:
        print_json(asdict(result))
    else:
        for one in result.recovered:
            click.echo(f"{one.id:<20}\t{one.status}\t{one.reason}")
    for left in result.blocked:
        click.echo(f"{left.journal}: blocked; {left.reason}", err=True)
    counts = Counter(one.status for one in result.recovered)
    damaged = f", {counts['damaged']} damaged" if counts["damaged"] else ""
    click.echo(
        f"{counts['finished']} finished, {counts['rolled_back']} rolled back{damaged}, {len(result.blocked)} blocked",
        err=True,
    )
    if result.blocked or counts["damaged"]:
        raise SystemExit(1)
