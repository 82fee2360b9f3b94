"""What the stand-in knows, kept in one JSON file.

The file holds ``data_assets``, ``capsules``, ``pipelines`` and ``computations`` as lists of objects as Code Ocean
describes them. Whoever writes the file is heard: it is read again when it has changed. Our own changes replace it
atomically. Keys that Code Ocean does not show (``archived``, ``favorite``, ``shared``, ``permissions``, ``capsule_id``
and those that begin with an underscore) are kept there too and never sent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aind_pipelines.lab.code_ocean.search import Item, Searcher

KINDS = ("data_assets", "capsules", "pipelines", "computations")
_HIDDEN = frozenset({"archived", "favorite", "shared", "permissions", "capsule_id", "pipeline_id"})

Signature = tuple[int, int, int]


class StateUnreadable(Exception):
    """The state file holds something else than a state; nothing is answered from a guess."""


class State:
    """The items of every kind, by id.

    Args:
        path: The state file; a missing one is an empty state.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.items: dict[str, dict[str, Item]] = {kind: {} for kind in KINDS}
        self._other: dict[str, Any] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._moving: set[tuple[str, str]] = set()
        self._searchers: dict[str, Searcher] = {}
        self._signature: Signature | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it is not the one that was read or written last.

        Raises:
            StateUnreadable: It is no JSON object of lists of objects with ids.
        """
        signature = self._present()
        if signature == self._signature:
            return
        if signature is None:
            content: Any = {}
        else:
            try:
                content = json.loads(self.path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise StateUnreadable(f"the state file {self.path} cannot be read: {error}") from error
        self.items = {kind: self._by_id(kind, content) for kind in KINDS}
        self._other = {name: value for name, value in content.items() if name not in KINDS}
        self._texts.clear()
        self._searchers.clear()
        self._moving = {(kind, key) for kind in KINDS for key, item in self.items[kind].items() if item.get("_steps")}
        self._signature = signature

    def advance(self, now: float) -> None:
        """Let drafts become ready and computations run, as far as `now` (seconds since the epoch).

        What will happen to an item is written in its ``_steps``, a list of (time, changes), so that nothing is lost
        when the stand-in is restarted.
        """
        for kind, key in list(self._moving):
            item = self.items[kind].get(key, {})
            while (steps := item.get("_steps")) and steps[0][0] <= now:
                item |= steps.pop(0)[1]
                self._texts.pop((kind, key), None)
            if not item.get("_steps"):
                self._moving.discard((kind, key))

    def _present(self) -> Signature | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _by_id(self, kind: str, content: Any) -> dict[str, Item]:
        listed = content.get(kind, []) if isinstance(content, dict) else None
        if not isinstance(listed, list) or not all(
            isinstance(item, dict) and isinstance(item.get("id"), str) for item in listed
        ):
            raise StateUnreadable(f"the state file {self.path} must hold an object whose {kind} is a list of objects")
        return {item["id"]: item for item in listed}

    def save(self) -> None:
        """Replace the file by what is known now. A reader sees the old file or the new one, never half."""
        content = self._other | {kind: list(items.values()) for kind, items in self.items.items() if items}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with staged.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.path)
        self._signature = self._present()

    def put(self, kind: str, item: Item) -> None:
        """Keep a new or changed item, in the file too."""
        self.items[kind][item["id"]] = item
        if item.get("_steps"):
            self._moving.add((kind, item["id"]))
        self._changed(kind, item["id"])

    def remove(self, kind: str, key: str) -> None:
        """Forget an item, in the file too."""
        del self.items[kind][key]
        self._changed(kind, key)

    def _changed(self, kind: str, key: str) -> None:
        self._texts.pop((kind, key), None)
        self._searchers.pop(kind, None)
        self.save()

    def text(self, kind: str, key: str) -> str:
        """An item as JSON, as callers see it; kept, because pages of a thousand are asked for again and again."""
        text = self._texts.get((kind, key))
        if text is None:
            text = self._texts[kind, key] = json.dumps(visible(self.items[kind][key]))
        return text

    def searcher(self, kind: str) -> Searcher:
        """The index over the items of a kind as they are now."""
        if kind not in self._searchers:
            self._searchers[kind] = Searcher(self.items[kind])
        return self._searchers[kind]


def visible(item: Item) -> Item:
    """An item without what Code Ocean does not show."""
    return {name: value for name, value in item.items() if name not in _HIDDEN and not name.startswith("_")}
