"""Where this machine finds the copies that a registry knows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from aind_pipelines.archive.layout import SCHEME, id_stub
from aind_pipelines.clients.registry import Located, Location

WEB = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A copy in an archive on a file system of this machine.

    Attributes:
        archive: The archive's registered name.
        path: The file or directory.
    """

    archive: str
    path: Path


@dataclass(frozen=True, slots=True)
class Places:
    """The copies of one resource that this machine may reach.

    Attributes:
        local: Those on its file systems, looked at now; several of one archive are a fault of that archive.
        web: Those that a web server offers, not looked at.
        elsewhere: Names of the archives that are not reached from here: offline, or not mounted.
    """

    local: tuple[LocalCopy, ...] = ()
    web: tuple[Location, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @property
    def out_of_reach(self) -> str:
        """The message for a resource of which nothing is within reach."""
        return f"no copy is within reach, only in {', '.join(self.elsewhere)}" if self.elsewhere else "no locations"


def find_copies(located: Mapping[str, Located]) -> dict[str, Places]:
    """Look for the copies of many resources; each folder of an archive is listed once.

    Args:
        located: What the registry says, by identifier.

    Returns:
        What of it is within reach, by identifier.
    """
    wanted: dict[Path, set[str]] = {}
    for record in located.values():
        for location in record.locations:
            if location.scheme == SCHEME:
                wanted.setdefault(_folder(location), set()).add(location.resource)
    here = {folder: _entries(folder, ids) for folder, ids in wanted.items()}
    return {id_: _places(record, here) for id_, record in located.items()}


def _places(record: Located, here: Mapping[Path, Mapping[str, list[Path]]]) -> Places:
    local: list[LocalCopy] = []
    web: list[Location] = []
    elsewhere: list[str] = []
    for location in record.locations:
        if location.scheme in WEB:
            web.append(location)
        elif location.scheme == SCHEME and (paths := here[_folder(location)].get(record.id)):
            local += [LocalCopy(location.archive, path) for path in paths]
        else:
            elsewhere.append(location.archive)
    return Places(tuple(local), tuple(web), tuple(elsewhere))


def _folder(location: Location) -> Path:
    return Path(location.root) / "resources" / id_stub(location.resource)


def _entries(folder: Path, ids: Iterable[str]) -> dict[str, list[Path]]:
    """What lies in `folder` under each of `ids`, whatever its suffix; nothing where it cannot be listed."""
    wanted = set(ids)
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return {}
    for name in names:
        id_ = name if name in wanted else PurePath(name).stem
        if id_ in wanted:
            found.setdefault(id_, []).append(folder / name)
    return found
