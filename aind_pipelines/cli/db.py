"""``aind-pipelines db``: the RDS schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from aind_pipelines.tables.reader import ReaderStatus

_as_json = click.option("--json", "as_json", is_flag=True, help="print one JSON document on stdout")


@click.group()
def db() -> None:
    """The schema of the analysts' database (RDS)."""


@contextmanager
def _engine() -> Iterator[Engine]:
    from aind_pipelines.clients.rds import engine_from_settings
    from aind_pipelines.settings import load_settings

    engine = engine_from_settings(load_settings(), application_name="aind-pipelines db")
    try:
        yield engine
    finally:
        engine.dispose()


def _readers(engine: Engine) -> ReaderStatus:
    from aind_pipelines.clients.rds.errors import translated
    from aind_pipelines.tables import reader

    with translated("asking what the reading role may do"), engine.connect() as connection:
        return reader.status(connection)


@db.command()
@_as_json
def migrate(as_json: bool) -> None:
    """Bring the schema to the version of this code, and let the role aind_pipelines_reader read it."""
    from aind_pipelines.tables import migrate as schema

    with _engine() as engine:
        before = schema.status(engine).current
        after = schema.migrate(engine)
        readers = _readers(engine)
    if as_json:
        found = {"before": before, "current": after.current, "head": after.head, "reader": asdict(readers)}
        click.echo(json.dumps(found))
        return
    if before == after.current:
        click.echo(f"The schema was at version {after.current} already.")
    else:
        click.echo(f"The schema is at version {after.current} now (before: {before or 'none'}).")
    click.echo(readers.summary)


@db.command()
@_as_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Say which version the schema is at; exit 1 when it is not that of this code, or has drifted from it."""
    from aind_pipelines.tables import migrate as schema

    with _engine() as engine:
        found = schema.status(engine)
        differences = schema.drift(engine) if found.is_current else []
        readers = _readers(engine)
    if as_json:
        answer = {"current": found.current, "head": found.head, "drift": differences, "reader": asdict(readers)}
        click.echo(json.dumps(answer))
    else:
        click.echo(f"current {found.current or 'none'}, needed {found.head}")
        for line in differences:
            click.echo(f"drift: {line}")
        if found.is_current:
            click.echo(readers.summary)
    if not found.is_current:
        click.echo("The schema is not the one this code needs. Run: aind-pipelines db migrate", err=True)
    elif differences:
        click.echo("The schema was changed outside the migrations: undo that, or write a migration.", err=True)
    ctx.exit(0 if found.is_current and not differences else 1)
