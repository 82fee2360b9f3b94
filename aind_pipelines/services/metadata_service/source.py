"""Where the models come from: a small protocol, and one source that reads a JSON file of tables."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Model = Any
"""JSON of one model, or one name of a list of names."""

KEYED_TABLES: frozenset[str] = frozenset(
    {
        "subjects",
        "procedures",
        "intended_measurements",
        "injection_materials",
        "protocols",
        "mgi_alleles",
        "perfusions",
        "funding",
        "instruments",
        "rigs",
    }
)
LISTED_TABLES: frozenset[str] = frozenset(
    {
        "project_names",
        "ecephys_sessions",
        "smartspim_imaging",
        "histology",
        "water_restriction",
        "viral_injections",
    }
)


class SourceUnreachable(Exception):
    """The source of a table cannot be reached: nobody knows whether there is data."""


@dataclass(frozen=True)
class Found:
    """What a source has under a key.

    Attributes:
        models: In the shape of v1; empty when there is nothing.
        problem: What is wrong with them, when they do not follow their schema.
    """

    models: list[Model]
    problem: str | None = None


class Source(Protocol):
    """Answers from tables by name. Must be safe to call from several threads."""

    def find(self, table: str, key: str) -> Found:
        """The models of a keyed table under `key`. Raises SourceUnreachable."""

    def keys(self, table: str) -> list[str]:
        """Every key of a keyed table. Raises SourceUnreachable."""

    def rows(self, table: str) -> list[Model]:
        """Every row of a listed table. Raises SourceUnreachable."""


class JsonTables:
    """Tables from one JSON file, read again when it has changed.

    Keyed tables map a key to a list of models, listed tables are lists. ``outages`` lists tables whose source is to
    be unreachable; ``invalid`` maps tables to keys to what is wrong with the models there.

    Args:
        path: The file; a missing one holds nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._signature: tuple[int, int, int] | None = None
        self._tables: Mapping[str, Any] = {}

    def find(self, table: str, key: str) -> Found:
        """The models of a keyed table under `key`."""
        tables = self._present(table)
        models = tables.get(table, {}).get(key, [])
        return Found(list(models), tables.get("invalid", {}).get(table, {}).get(key))

    def keys(self, table: str) -> list[str]:
        """Every key of a keyed table."""
        return list(self._present(table).get(table, {}))

    def rows(self, table: str) -> list[Model]:
        """Every row of a listed table."""
        return list(self._present(table).get(table, []))

    def _present(self, table: str) -> Mapping[str, Any]:
        with self._lock:
            try:
                status = self._path.stat()
            except FileNotFoundError:
                self._signature, self._tables = None, {}
            else:
                signature = (status.st_mtime_ns, status.st_size, status.st_ino)
                if signature != self._signature:
                    self._tables = self._read()
                    self._signature = signature
            if table in self._tables.get("outages", []):
                raise SourceUnreachable(f"{self._path} lists {table} under outages")
            return self._tables

    def _read(self) -> Mapping[str, Any]:
        try:
            tables = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceUnreachable(f"{self._path} cannot be read: {error}") from error
        if not isinstance(tables, dict):
            raise SourceUnreachable(f"{self._path} must hold a JSON object of tables")
        for name in KEYED_TABLES & set(tables):
            keyed = tables[name]
            if not isinstance(keyed, dict) or not all(isinstance(models, list) for models in keyed.values()):
                raise SourceUnreachable(f"{self._path}: {name} must map keys to lists of models")
        for name in LISTED_TABLES & set(tables):
            if not isinstance(tables[name], list):
                raise SourceUnreachable(f"{self._path}: {name} must be a list")
        return tables
