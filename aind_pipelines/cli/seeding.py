"""Filling the lab, the same way for ``lab seed``, ``lab up``, ``demo`` and ``dev``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aind_pipelines.lab.home import LabHome

DEFAULT_SESSIONS = 100


def require_records(folder: Path) -> None:
    """Refuse a folder without record files before a lab is started for it.

    Raises:
        LabError: `folder` is no folder, or holds no ``*.json``.
    """
    from aind_pipelines.lab.home import LabError

    try:
        if not any(path.name.endswith(".json") for path in folder.iterdir()):
            raise LabError(f"{folder} holds no *.json file. Each file is one DocDB record.")
    except OSError as error:
        raise LabError(
            f"--records {folder}: {error.strerror}. It names a folder of *.json files, one DocDB record each."
        ) from None


def fill(home: LabHome, *, sessions: int | None, number: int, records: Path | None) -> None:
    """Seed a lab that is up, and say on stderr what could not be loaded.

    Args:
        home: The lab; this process already lives in its environment.
        sessions: Sessions to generate; None generates none.
        number: Seed number of the generator.
        records: Folder of real DocDB records, or None.

    Raises:
        LabError: `records` is no folder, or holds no records.
    """
    from aind_pipelines.lab.home import LabError
    from aind_pipelines.lab.seed import seed

    try:
        report = seed(home, sessions=sessions, seed=number, records=records, progress=_say)
    except FileNotFoundError as error:
        raise LabError(str(error)) from None
    for unloadable in report.unloadable:
        click.echo(f"not loaded: {unloadable}", err=True)
    for name in report.without_files:
        click.echo(f"no files could be put at the location of {name}", err=True)


def fill_if_empty(home: LabHome, *, sessions: int | None, number: int, records: Path | None) -> None:
    """Seed as asked; asked for nothing, an empty lab gets `DEFAULT_SESSIONS` and a seeded one stays as it is."""
    from aind_pipelines.lab.seed import is_seeded

    if sessions is None and records is None:
        if is_seeded(home):
            _say("the lab is seeded already")
            return
        sessions = DEFAULT_SESSIONS
    fill(home, sessions=sessions, number=number, records=records)


def _say(message: str) -> None:
    click.echo(f"seed: {message}", err=True)
