"""``archive info``, ``archive search`` and ``archive modify``: the registry's records."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from aind_pipelines.cli.archive.common import (
    Row,
    by_registry,
    client,
    emit,
    ids_given,
    json_option,
    lines_option,
    metadata_from,
    stdin_option,
)

if TYPE_CHECKING:
    from aind_pipelines.clients.registry import RegistryClient, Resource


@click.command()
@click.argument("ids", nargs=-1)
@lines_option
@json_option
@stdin_option("identifiers")
def info(ids: tuple[str, ...], json_lines: bool, as_json: bool, from_stdin: bool) -> None:
    """Print the registry's records of IDS, short identifiers or full ones (URLs), as JSON.

    Exit code 1 when one is not registered.
    """
    texts = ids_given(ids, from_stdin)
    with contextlib.ExitStack() as stack:
        known: dict[str, Resource] = {}
        for registry, named in by_registry(texts, stack):
            records = registry.get_resources(one.id for one in named)
            known |= {one.text: records[one.id] for one in named if one.id in records}
    rows = (asdict(known[text]) if text in known else {"id": text, "error": "not found"} for text in texts)
    emit(rows, json_lines=json_lines, as_json=as_json)


@click.command()
@click.argument("name", required=False)
@click.option("-d", "--dtype", help="part of the data type's name")
@click.option("-H", "--hash", "sha1", help="sha1, whole or a part of it")
@click.option("-n", "--archive", "archive_name", help="name of an archive that holds it")
@click.option("-s", "--scheme", help="start of the scheme of an archive that holds it, e.g. tape")
@click.option("-k", "metadata", multiple=True, metavar="KEY=VALUE", help="metadata that it has")
@click.option("-K", "without", multiple=True, metavar="KEY=VALUE", help="metadata that it has not")
@click.option("-j", "--json-out", "json_lines", is_flag=True, help="print the records as JSON lines, not identifiers")
@json_option
def search(
    name: str | None,
    dtype: str | None,
    sha1: str | None,
    archive_name: str | None,
    scheme: str | None,
    metadata: tuple[str, ...],
    without: tuple[str, ...],
    json_lines: bool,
    as_json: bool,
) -> None:
    """Print the identifiers of the resources that match every filter; NAME is a part of the identifier.

    NAME may be a full identifier (URL), which is looked for in the registry that it names. A VALUE is read as JSON if
    it is some.
    """
    from aind_pipelines.clients.registry import Query

    with contextlib.ExitStack() as stack:
        registry, part = _registry_of(name, stack)
        try:
            query = Query(
                name=part,
                dtype=dtype,
                sha1=sha1,
                archive=archive_name,
                scheme=scheme,
                metadata=metadata_from(metadata),
                without=metadata_from(without, "-K"),
            )
        except ValueError as problem:
            raise click.UsageError(str(problem)) from None
        emit(
            (asdict(resource) for resource in registry.search(query)),
            lambda row: click.echo(row["id"]),
            json_lines=json_lines,
            as_json=as_json,
        )


def _registry_of(name: str | None, stack: contextlib.ExitStack) -> tuple[RegistryClient, str | None]:
    """The registry to search, and the part of the identifier to look for."""
    if name is None or "://" not in name:
        return stack.enter_context(client()), name
    [(registry, [one])] = by_registry([name], stack)
    return registry, one.id


@click.command()
@click.argument("ids", nargs=-1)
@click.option("-k", "metadata", multiple=True, metavar="KEY=VALUE", help="set; VALUE is read as JSON if it is")
@click.option("-K", "removed", multiple=True, metavar="KEY", help="remove")
@lines_option
@json_option
@stdin_option("identifiers")
def modify(
    ids: tuple[str, ...],
    metadata: tuple[str, ...],
    removed: tuple[str, ...],
    json_lines: bool,
    as_json: bool,
    from_stdin: bool,
) -> None:
    """Change the metadata of IDS, and print the records as they are then, as JSON.

    Keys that are not named stay. Exit code 1 when a record was not changed.
    """
    changes: dict[str, Any] = metadata_from(metadata)
    if both := changes.keys() & set(removed):
        raise click.UsageError(f"{min(both)} cannot be both set and removed")
    changes |= dict.fromkeys(removed)
    if not changes:
        raise click.UsageError("name a change: -k KEY=VALUE or -K KEY")
    texts = ids_given(ids, from_stdin)
    with contextlib.ExitStack() as stack:
        [(registry, named)] = by_registry(texts, stack, foreign=False)
        rows = (_modify(registry, one.id, changes) for one in named)
        emit(rows, json_lines=json_lines, as_json=as_json)


def _modify(registry: RegistryClient, id_: str, changes: dict[str, Any]) -> Row:
    from aind_pipelines.clients.registry import RegistryRefused

    try:
        record = registry.modify(id_, changes)
    except RegistryRefused as refusal:
        return {"id": id_, "error": str(refusal)}
    return {"id": id_, "error": "not found"} if record is None else asdict(record)
