"""``archive fetch`` and ``archive copy``: verified copies, outside of archives and in a second one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from aind_pipelines.cli.archive.common import (
    Row,
    archive_errors,
    by_registry,
    dry_run_option,
    emit,
    ids_given,
    json_option,
    lines_option,
    stdin_option,
    threads_option,
)
from aind_pipelines.cli.progress import bar


@click.command()
@click.argument("ids", nargs=-1)
@click.option(
    "-d", "--dest", metavar="DIR", default=".", type=click.Path(path_type=Path), help="where to (default: here)"
)
@click.option("-f", "--force", is_flag=True, help="replace what has the name already, once the new copy is verified")
@click.option("-e", "--extension", metavar="EXT", help="another extension for files")
@lines_option
@json_option
@stdin_option("identifiers")
@threads_option(4, "copies")
def fetch(
    ids: tuple[str, ...],
    dest: Path,
    force: bool,
    extension: str | None,
    json_lines: bool,
    as_json: bool,
    from_stdin: bool,
    threads: int,
) -> None:
    """Fetch the resources IDS, short identifiers or full ones (URLs), from an archive or a web server.

    Each is verified before it gets its name. Exit code 1 when one was not fetched.
    """
    from aind_pipelines.archive.fetch import fetch as run

    texts = ids_given(ids, from_stdin)
    with archive_errors(), contextlib.ExitStack() as stack:
        groups = by_registry(texts, stack)
        shown = stack.enter_context(bar("fetch", len(texts)))

        def rows() -> Iterator[Row]:
            for registry, named in groups:
                given = {one.id: one.text for one in named}
                found = run(
                    registry, given, dest, replace=force, extension=extension, threads=threads, sink=shown.read
                )
                for one in found:
                    yield asdict(one) | {"id": given[one.id], "path": _text(one.path)}

        emit(
            rows(),
            lambda row: click.echo(f"{row['id']:<20}\t{_fetched(row)}"),
            json_lines=json_lines,
            as_json=as_json,
            good=lambda row: row["status"] == "fetched",
            after=shown.advance,
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _fetched(row: Row) -> str:
    if row["status"] == "fetched":
        return f"-> {row['path']}" + (f" ({row['reason']})" if row["reason"] else "")
    if row["status"] == "exists":
        return f"(target {row['path']} already exists)"
    return f"({row['reason']})"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("ids", nargs=-1)
@click.option("-a", "--archive", "only_from", metavar="NAME", help="only read copies in this archive")
@click.option(
    "-f",
    "--from-file",
    "from_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="read more identifiers from FILE",
)
@click.option("--verify", "reread", is_flag=True, help="read and verify copies that are there already, too")
@dry_run_option
@lines_option
@json_option
@stdin_option("identifiers")
@threads_option(4, "copies")
def copy(
    directory: Path,
    ids: tuple[str, ...],
    only_from: str | None,
    from_file: Path | None,
    reread: bool,
    dry_run: bool,
    json_lines: bool,
    as_json: bool,
    from_stdin: bool,
    threads: int,
) -> None:
    """Copy the resources IDS from other archives on this machine into the one at DIRECTORY.

    Each is compared with the registered sha1 while it is read; its location is added last. Exit code 1 when one is not
    there in the end.
    """
    from aind_pipelines.archive.copy import copy as run
    from aind_pipelines.archive.layout import Archive

    texts = ids_given(ids, from_stdin, from_file)
    with archive_errors(), contextlib.ExitStack() as stack:
        target = Archive.open(directory)
        [(registry, named)] = by_registry(texts, stack, url=target.config.registry, foreign=False)
        shown = stack.enter_context(bar("copy", len(texts)))
        found = run(
            registry,
            [one.id for one in named],
            target,
            only_from=only_from,
            reread=reread,
            dry_run=dry_run,
            threads=threads,
            sink=shown.read,
        )
        emit(
            (asdict(one) | {"source": _text(one.source)} for one in found),
            lambda row: click.echo(f"{row['id']:<20}\t{_copied(row)}"),
            json_lines=json_lines,
            as_json=as_json,
            good=lambda row: row["status"] != "failed",
            after=shown.advance,
        )


def _copied(row: Row) -> str:
    note = f" ({row['reason']})" if row["reason"] else ""
    match row["status"]:
        case "copied" | "restored":
            return f"-> {row['path']}, verified{note}"
        case "already_there":
            return f"already there: {row['path']}, {'verified' if row['verified'] else 'not read again'}{note}"
        case "to_copy":
            return f"to be copied from {row['source']}, {row['size']} bytes{note}"
        case _:
            return f"({row['reason']})"
