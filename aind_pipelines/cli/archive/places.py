"""``archive list`` and ``archive locate``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aind_pipelines.cli import fail
from aind_pipelines.cli.archive.common import (
    Row,
    by_registry,
    client,
    emit,
    ids_given,
    json_option,
    lines_option,
    print_json,
    stdin_option,
)

if TYPE_CHECKING:
    from aind_pipelines.archive.places import Places
    from aind_pipelines.clients.registry import RegistryClient


@click.command("list")
@click.option("-n", "--name", default="", help="only those whose names start so")
@click.option("--scheme", help="only those of this scheme, e.g. neurobank or tape")
@json_option
def list_archives(name: str, scheme: str | None, as_json: bool) -> None:
    """List the registered archives and where they are."""
    with client() as registry:
        found = [entry for entry in registry.archives(scheme=scheme) if entry.name.startswith(name)]
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    for entry in found:
        root = entry.root if entry.scheme == "neurobank" else f"{entry.scheme}://{entry.root}"
        click.echo(f"{entry.name:<25}\t{root}")


@dataclass(frozen=True, slots=True)
class _Found:
    """An identifier, as it was given, and where its copies are."""

    text: str
    registry: RegistryClient
    places: Places
    registered: bool

    @property
    def shown(self) -> list[str]:
        return [
            *(str(copy.path) for copy in self.places.local),
            *(location.url(self.registry.url) for location in self.places.web),
        ]

    @property
    def problem(self) -> str:
        """Why there is nothing to show."""
        return self.places.out_of_reach if self.registered else "not found"


@click.command()
@click.argument("ids", nargs=-1)
@click.option(
    "-L",
    "--link",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="make symbolic links to the copies in DIR; nothing there is replaced",
)
@click.option("-0", "--print0", is_flag=True, help="print local paths only, each followed by NUL, for xargs -0")
@lines_option
@json_option
@stdin_option("identifiers")
def locate(
    ids: tuple[str, ...], folder: Path | None, print0: bool, json_lines: bool, as_json: bool, from_stdin: bool
) -> None:
    """Say where the copies of IDS are: short identifiers, or full ones (URLs).

    Exit code 1 when one has no copy within reach: for -L and -0, on a file system of this machine.
    """
    if print0 and (folder is not None or json_lines or as_json):
        raise click.UsageError("-0 prints paths and nothing else: leave out -L, -j and --json")
    if folder is not None and not folder.is_dir():
        fail(f"{folder} is no folder. Make it first.")
    with contextlib.ExitStack() as stack:
        found = _find(ids_given(ids, from_stdin), stack)
        if print0:
            _print_paths(found)
        else:
            emit((_row(one, folder) for one in found), _show, json_lines=json_lines, as_json=as_json)


def _find(texts: list[str], stack: contextlib.ExitStack) -> Iterator[_Found]:
    """What is known of each, in their order; the registry is asked in bulk."""
    from aind_pipelines.archive.places import Places, find_copies

    found: dict[str, _Found] = {}
    for registry, named in by_registry(texts, stack):
        located = registry.locate(one.id for one in named)
        known = registry.get_resources(one.id for one in named if one.id not in located)
        places = find_copies(located)
        for one in named:
            registered = one.id in located or one.id in known
            found[one.text] = _Found(one.text, registry, places.get(one.id, Places()), registered)
    yield from (found[text] for text in texts)


def _print_paths(found: Iterator[_Found]) -> None:
    bad = False
    for one in found:
        for copy in one.places.local[:1]:
            sys.stdout.buffer.write(os.fsencode(copy.path) + b"\0")
        if not one.places.local:
            click.echo(f"{one.text}: {one.problem}", err=True)
            bad = True
    sys.stdout.buffer.flush()
    if bad:
        raise SystemExit(1)


def _show(row: Row) -> None:
    places = row["locations"]
    if "link" in row:
        places = [f"-> {row['link']}"]
    elif "error" in row:
        places = [f"({row['error']})"]
    for place in places:
        click.echo(f"{row['id']:<20}\t{place}")


def _row(one: _Found, folder: Path | None) -> Row:
    row: Row = {"id": one.text, "locations": one.shown, "elsewhere": list(one.places.elsewhere)}
    if folder is None:
        return row if one.shown else row | {"error": one.problem}
    if not one.places.local:
        return row | {"error": one.problem if not one.shown else "no copy on a file system of this machine"}
    return row | _link(one.places.local[0].path, folder)


def _link(copy: Path, folder: Path) -> Row:
    link = folder / copy.name
    try:
        link.symlink_to(copy)
    except FileExistsError:
        if not link.is_symlink() or link.readlink() != copy:
            return {"error": f"{link} exists; it was left as it is"}
    except OSError as error:
        return {"error": f"{link} cannot be made: {error.strerror}"}
    return {"link": str(link)}
