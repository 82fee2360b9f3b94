"""``aind-pipelines doctor``: every setting and connection, and what to do about the bad ones."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from aind_pipelines.cli.diagnosis import Connection, Setting

_STYLES = {"good": "green", "bad": "red", "not configured": "dim"}
_PIPE_WIDTH = 400


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print one JSON document")
def doctor(as_json: bool) -> int:
    """Show every setting with its origin, and try every connection.

    Secrets are masked. Exits 1 when a setting, the policy file or a configured connection is bad; whatever does not
    need what is bad is shown and tried all the same. What does not answer within 12 seconds is bad.

    \b
    Examples:
        aind-pipelines doctor
        eval "$(aind-pipelines lab env)"; aind-pipelines doctor
    """
    from aind_pipelines.cli.diagnosis import still_looking

    try:
        code = _diagnose(as_json)
    except KeyboardInterrupt:
        click.echo("\ninterrupted", err=True)
        code = 130
    if still_looking():
        # Not by Python's own end: it aborts where a thread is in the midst of a library's C++.
        sys.stdout.flush()
        os._exit(code)
    return code


def _diagnose(as_json: bool) -> int:
    from aind_pipelines.cli.diagnosis import connections, settings_table
    from aind_pipelines.settings import read_settings

    read = read_settings()
    settings = settings_table(read)
    if not as_json:  # at once: a system that does not answer is waited for
        _print_settings(settings)
    connected = connections(read)
    if as_json:
        document = {"settings": [asdict(row) for row in settings], "connections": [asdict(row) for row in connected]}
        click.echo(json.dumps(document, indent=2))
    else:
        _print_connections(connected)
    bad = any(row.problem for row in settings) or any(row.state == "bad" for row in connected)
    return 1 if bad else 0


def _print_settings(settings: list[Setting]) -> None:
    from rich.text import Text

    wrong = any(setting.problem for setting in settings)
    table = _table("Settings", "setting", "value", "origin", *(["problem", "next step"] if wrong else []))
    for setting in settings:
        value = Text(setting.value) if setting.value else Text("not set", "dim")
        problem = [Text.assemble(("bad", "red"), f": {setting.problem}"), Text(setting.next_step)]
        table.add_row(setting.name, value, Text(setting.origin, "dim"), *(problem if setting.problem else []))
    _console().print(table)


def _print_connections(connected: list[Connection]) -> None:
    from rich.text import Text

    table = _table("Connections", "connection", "state", "what it says", "next step")
    for row in connected:
        table.add_row(Text(row.name), Text(row.state, _STYLES[row.state]), Text(row.detail), Text(row.next_step))
    _console().print(table)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)  # in a file or a pipe each row is one line


def _table(title: str, *headings: str) -> Table:
    """A table that breaks long words rather than cutting them: a name, a path, a reason must be readable whole."""
    from rich.table import Column, Table

    return Table(*(Column(heading, overflow="fold") for heading in headings), title=title, title_justify="left")
