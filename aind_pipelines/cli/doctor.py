"""``aind-pipelines doctor``: every setting and connection, and what to do about the bad ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from aind_pipelines.cli.diagnosis import Connection, Setting

_MARKS = {"good": "[green]good[/]", "bad": "[red]bad[/]", "not configured": "[dim]not configured[/]"}
_PIPE_WIDTH = 400


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print one JSON document")
def doctor(as_json: bool) -> int:
    """Show every setting with its origin, and try every connection.

    Secrets are masked. Exits 1 when a setting, the policy file or a configured connection is bad; whatever does not
    need what is bad is shown and tried all the same.

    \b
    Examples:
        aind-pipelines doctor
        eval "$(aind-pipelines lab env)"; aind-pipelines doctor
    """
    from aind_pipelines.cli.diagnosis import connections, settings_table
    from aind_pipelines.settings import read_settings

    read = read_settings()
    settings, connected = settings_table(read), connections(read)
    if as_json:
        document = {"settings": [asdict(row) for row in settings], "connections": [asdict(row) for row in connected]}
        click.echo(json.dumps(document, indent=2))
    else:
        _print(settings, connected)
    bad = any(row.problem for row in settings) or any(row.state == "bad" for row in connected)
    return 1 if bad else 0


def _print(settings: list[Setting], connected: list[Connection]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not console.is_terminal:  # in a file or a pipe each row is one line
        console = Console(width=_PIPE_WIDTH)
    wrong = any(setting.problem for setting in settings)
    table = _table("Settings", "setting", "value", "origin", *(["problem", "next step"] if wrong else []))
    for setting in settings:
        value = escape(setting.value) if setting.value else "[dim]not set[/]"
        problem = [f"[red]bad[/]: {escape(setting.problem)}", escape(setting.next_step)] if setting.problem else []
        table.add_row(setting.name, value, f"[dim]{escape(setting.origin)}[/]", *problem)
    console.print(table)
    table = _table("Connections", "connection", "state", "what it says", "next step")
    for row in connected:
        table.add_row(row.name, _MARKS[row.state], escape(row.detail), escape(row.next_step))
    console.print(table)


def _table(title: str, *headings: str) -> Table:
    """A table that breaks long words rather than cutting them: a name, a path, a reason must be readable whole."""
    from rich.table import Column, Table

    return Table(*(Column(heading, overflow="fold") for heading in headings), title=title, title_justify="left")
