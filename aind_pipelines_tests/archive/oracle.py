"""What must hold of an archive at any moment, read from the disk and the registry's tables, without our code."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

Content = dict[str, bytes]
"""A directory's files by relative path; a file's only content has the path ``""``."""


def read(path: Path) -> Content:
    if path.is_dir():
        return {found.relative_to(path).as_posix(): found.read_bytes() for found in path.rglob("*") if found.is_file()}
    return {"": path.read_bytes()}


def sha1(content: Content) -> str:
    if list(content) == [""]:
        return hashlib.sha1(content[""]).hexdigest()
    ordered = sorted(content, key=lambda name: name.split("/"))
    lines = [f"{name}={hashlib.sha1(content[name]).hexdigest()}" for name in ordered]
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()


@dataclass
class Oracle:
    """What was given to an archive, and whether it still is somewhere.

    Attributes:
        root: The archive's folder.
        database: The registry's SQLite file.
        claims: Whether an empty file or folder may have a name for a moment.
        given: Each identifier's content and where it came from.
    """

    root: Path
    database: Path
    claims: bool = False
    given: dict[str, tuple[Content, Path]] = field(default_factory=dict)

    def registered(self) -> dict[str, str]:
        """The sha1 of each resource that has a location here."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=20)) as tables:
            rows = tables.execute(
                "select r.name, r.sha1 from nbank_registry_resource r join nbank_registry_location l on "
                "l.resource_id = r.id join nbank_registry_archive a on a.id = l.archive_id where a.root = ?",
                (str(self.root),),
            ).fetchall()
        assert len(rows) == len(dict(rows)), "a resource has two locations in one archive"
        return dict(rows)

    def stored(self) -> dict[str, Path]:
        """What has its final name, by identifier; never two of one."""
        found: dict[str, Path] = {}
        for path in self.root.glob("resources/*/*"):
            assert path.stem not in found, f"{path} and {found[path.stem]}"
            assert path.parent.name == path.stem[:2]
            found[path.stem] = path
        return found

    def holds(self) -> None:
        """No location without its bytes, nothing half under a final name, nothing lost."""
        registered, stored = self.registered(), self.stored()
        for id_, digest in registered.items():
            assert id_ in stored, f"{id_} has a location, but no bytes"
            assert sha1(read(stored[id_])) == digest, f"{id_} is not what its location says"
        for id_, path in stored.items():
            content = read(path)
            empty = self.claims and id_ not in registered and content in ({"": b""}, {})
            assert empty or content == self.given[id_][0], f"{path} is half made"
        for id_, (content, source) in self.given.items():
            if not (source.exists() and read(source) == content):
                assert id_ in registered, f"{id_} has lost its source and is not registered"

    def settled(self, *, all_there: bool) -> None:
        """Besides: nothing is under way or unregistered any more."""
        self.holds()
        assert self.stored().keys() == self.registered().keys()
        assert list((self.root / "staging").iterdir()) == []
        assert list((self.root / ".journal").glob("*.jsonl")) == []
        if all_there:
            assert self.given.keys() <= self.registered().keys()
