"""Filling the lab, the same way for ``lab seed``, ``lab up``, ``demo`` and ``dev``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aind_pipelines.lab.home import LabHome

DEFAULT_SESSIONS = 100

LEAST_ROOM = 2 * 2**20
"""Free disk space below which it is likely that a service failed for want of it."""

_NAMED = 5
"""Files that one line names."""

_FILLED = ("postgres", "docdb", "aws", "registry")
"""Services that a seed is loaded into; the others read its files."""


def require_records(folder: Path) -> None:
    """Refuse a folder without any record before a lab is started for it.

    Raises:
        LabError: `folder` is no folder, holds no ``*.json``, or none that is a record.
    """
    from aind_pipelines.lab.home import LabError
    from aind_pipelines.lab.seed.real import holds_a_record, read_folder

    try:
        if not any(path.name.endswith(".json") for path in folder.iterdir()):
            raise LabError(f"{folder} holds no *.json file. Each file is one DocDB record.")
        if not holds_a_record(folder):
            raise LabError(read_folder(folder).refusal)
    except OSError as error:
        raise LabError(
            f"--records {folder}: {error.strerror}. It names a folder of *.json files, one DocDB record each."
        ) from None


def fill(home: LabHome, *, sessions: int | None, number: int, records: Path | None) -> list[str]:
    """Seed a lab that is up, and say on stderr what could not be loaded.

    Returns:
        The names of the record files that could not be loaded; the others are.

    Args:
        home: The lab; this process already lives in its environment.
        sessions: Sessions to generate; None generates none.
        number: Seed number of the generator.
        records: Folder of real DocDB records, or None.

    Raises:
        LabError: `records` is no folder, or holds no records; a service that is filled is held down or has failed;
            the home cannot be written.
    """
    from aind_pipelines.clients.errors import ServiceError
    from aind_pipelines.lab.home import LabError
    from aind_pipelines.lab.seed import seed

    if records is not None:
        require_records(records)
    _require_services(home)
    with home.explained():
        try:
            report = seed(home, sessions=sessions, seed=number, records=records, progress=_say)
        except LabError:
            raise
        except ServiceError:
            home.check(LEAST_ROOM)  # each service says in its own way, or not at all, that its disk is full
            raise
    for unloadable in report.unloadable:
        click.echo(f"not loaded: {unloadable}", err=True)
    for name in report.without_files:
        click.echo(f"in DocDB, but without files in S3, where its location cannot hold any: {name}", err=True)
    return [unloadable.file for unloadable in report.unloadable]


def require_loaded(unloadable: list[str]) -> None:
    """Let no command end well that was given files it could not load.

    Raises:
        LabError: `unloadable` names some; each reason was told before.
    """
    from aind_pipelines.lab.home import LabError

    if unloadable:
        shown = ", ".join(unloadable[:_NAMED]) + (" ..." if len(unloadable) > _NAMED else ".")
        count = "1 record file was" if len(unloadable) == 1 else f"{len(unloadable)} record files were"
        raise LabError(
            f"{count} not loaded: {shown} All others are loaded. Each reason stands above at 'not loaded'; mend the "
            "files or take them out of the folder, then run the same command again."
        )


def fill_if_empty(home: LabHome, *, sessions: int | None, number: int, records: Path | None) -> list[str]:
    """Seed as asked; asked for nothing, an empty lab gets `DEFAULT_SESSIONS` and a seeded one stays as it is.

    What was begun and not finished is finished first: an institute always, records only where nothing else is.

    Returns:
        As `fill` does.
    """
    from aind_pipelines.lab.home import LabError
    from aind_pipelines.lab.seed import standing

    if sessions is not None or records is not None:
        return fill(home, sessions=sessions, number=number, records=records)
    unloadable: list[str] = []
    with home.explained():
        found = standing(home)
    if found.institute is not None and number in {0, found.institute[1]}:
        sessions, number = found.institute
        _say(f"{sessions} sessions of seed {number} were begun and not finished; finishing them")
        fill(home, sessions=sessions, number=number, records=None)
    elif found.complete:
        _say("the lab is seeded already")
        for folder in found.folders:
            _say(
                f"of the records in {folder}, not all were loaded. "
                f"Load them: aind-pipelines lab seed --records '{folder}' --home '{home.root}'"
            )
    elif found.folders and found.institute is None:
        for folder in found.folders:
            _say(f"the records in {folder} were begun and not all loaded; loading them")
            try:
                require_records(folder)
            except LabError as error:
                _say(f"they cannot be loaded, and the lab stays as it is: {error.message}")
            else:
                unloadable += fill(home, sessions=None, number=number, records=folder)
    else:
        fill(home, sessions=DEFAULT_SESSIONS, number=number, records=None)
    return unloadable


def _require_services(home: LabHome) -> None:
    """Refuse to begin a seed that could not be finished.

    Raises:
        LabError: A service that it goes into stays down until somebody starts it.
    """
    from aind_pipelines.lab import control
    from aind_pipelines.lab.home import LabError

    if down := control.kept_down(home, *_FILLED):
        raise LabError(f"The seed cannot be loaded: {down}")


def _say(message: str) -> None:
    click.echo(f"seed: {message}", err=True)
