"""Options that ``lab``, ``demo`` and ``dev`` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from aind_pipelines.lab.home import LabHome

_Command = TypeVar("_Command", bound=Callable[..., Any])


def home_option(command: _Command) -> _Command:
    """``--home DIR``: where the lab keeps everything. Whether it can be used is for `LabHome` to say."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, readable=False),
        default=Path(".lab"),
        show_default=True,
        help="folder of the lab",
    )(command)


def records_option(command: _Command) -> _Command:
    """``--records DIR``, made absolute. Whether it can be used is for `seeding.require_records` to say."""
    return click.option(
        "--records",
        metavar="DIR",
        callback=_absolute,
        help="load real metadata records: a folder of *.json, one DocDB record each",
    )(command)


def _absolute(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Path | None:
    if value == "":  # of a shell variable that is not set; made absolute it would be the working directory
        raise click.BadParameter("names no folder")
    return None if value is None else Path(os.path.realpath(value))


def service_uri_options(command: _Command) -> _Command:
    """``--docdb-uri`` and ``--postgres-url``: real servers in place of the embedded ones."""
    command = click.option("--docdb-uri", metavar="URI", help="a real MongoDB, DocumentDB or FerretDB instead")(
        command
    )
    return click.option("--postgres-url", metavar="URL", help="a real Postgres server instead")(command)


def open_home(path: Path) -> LabHome:
    """Open or create the lab's home and make this process live in the lab's environment alone."""
    from aind_pipelines.lab.environment import enter
    from aind_pipelines.lab.home import LabHome

    home = LabHome(path)
    enter(home)
    return home
