"""What a lab's archives and its registry say about where they are, brought up to date before the lab starts.

The registry names each archive by its absolute path, and each archive names its registry by a URL with a port. Both
change: the home is moved to another folder, and a taken port to another number.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

_BELOW = "scheme = 'neurobank' AND (root = :old OR substr(root, 1, length(:old) + 1) = :old || '/')"


def settle_archives(database: Path, *, home: tuple[Path, Path], registry: tuple[str, str]) -> None:
    """Register the archives of a home at their present place, and let them name the registry's present URL.

    Doing it again changes nothing. The registry must not be running.

    Args:
        database: The registry's SQLite file; there may be none yet.
        home: The folder in which the lab was started last, and the present one.
        registry: The registry's URL when the lab was started last, and the present one.

    Raises:
        OSError: An archive's configuration cannot be written.
        sqlite3.Error: The registry's database cannot be changed.
    """
    if not database.is_file():
        return
    old, new = (str(folder) for folder in home)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'nbank_registry_archive'").fetchone():
            return
        connection.execute(
            f"UPDATE nbank_registry_archive SET root = :new || substr(root, length(:old) + 1) WHERE {_BELOW}",  # noqa: S608
            {"old": old, "new": new},
        )
        roots = [root for (root,) in connection.execute("SELECT root FROM nbank_registry_archive")]
    for root in roots:
        _name_registry(Path(root) / "nbank.json", *registry)


def _name_registry(file: Path, old: str, new: str) -> None:
    """Replace one registry's URL in an archive's configuration; that of any other stays."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # an archive that is away or damaged is named by whoever opens it
        return
    if not isinstance(config, dict) or str(config.get("registry")).rstrip("/") != old.rstrip("/"):
        return
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(json.dumps(config | {"registry": new}, indent=4), encoding="utf-8")
    shutil.copymode(file, temporary)
    temporary.replace(file)
