"""``archive verify`` and ``archive check``: comparing bytes with what is registered."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from aind_pipelines.cli.archive.common import (
    Row,
    archive_errors,
    client,
    emit,
    files_given,
    find_archive,
    json_option,
    lines_option,
    print_json,
    stdin_option,
    threads_option,
)
from aind_pipelines.cli.progress import bar


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@lines_option
@json_option
@stdin_option("file names")
@threads_option(2, "reads")
def verify(files: tuple[Path, ...], json_lines: bool, as_json: bool, from_stdin: bool, threads: int) -> None:
    """Compare the contents of FILES (files or directories) with the registry.

    A file whose name is no registered identifier is looked for by its sha1, so that a renamed one is named. Exit code
    1 when a file is not what its name says, or not registered at all.
    """
    from aind_pipelines.archive.verify import verify as run

    named = files_given(files, from_stdin)
    with client() as registry, bar("verify", len(named)) as shown:
        found = run(registry, named, threads=threads, sink=shown.read)
        emit(
            (asdict(one) | {"path": str(one.path), "ok": one.ok} for one in found),
            lambda row: click.echo(f"{row['path']}: {_sentence(row)}"),
            json_lines=json_lines,
            as_json=as_json,
            good=lambda row: bool(row["ok"]),
            after=shown.advance,
        )


def _sentence(row: Row) -> str:
    elsewhere = f"; it matches registry resource {row['same_as']}" if row["same_as"] else ""
    match row["outcome"]:
        case "ok":
            return "OK"
        case "renamed":
            return f"matches registry resource {row['id']}"
        case "differs":
            return f"FAILED to match record for {row['id']}{elsewhere}"
        case "unverifiable":
            return f"cannot be verified: {row['id']} is registered without a sha1{elsewhere}"
        case "unknown":
            return "no matches in registry"
        case _:
            return str(row["reason"])


@click.command()
@click.argument("which", metavar="DIR|NAME")
@click.option("--tier", type=click.Choice(["full", "exists"]), default="full", show_default=True)
@threads_option(2, "reads")
@json_option
def check(which: str, tier: Any, threads: int, as_json: bool) -> None:
    """Compare an archive with its registry; by default every byte of it is read.

    Exit code 1 when anything is missing, corrupt or out of place.
    """
    from aind_pipelines.archive.fixity import check as run

    with archive_errors(), contextlib.ExitStack() as stack:
        target, registry = find_archive(which, stack)
        shown = stack.enter_context(bar("check"))
        report = run(target, registry, tier, shown.set, threads=threads)
    if as_json:
        rows = [asdict(finding) for finding in report.findings]
        print_json(
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
