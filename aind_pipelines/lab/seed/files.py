"""The seed as files: what the lab's services read, under ``<home>/seed``.

Everything is added to what is there, so that real records can be loaded beside a made-up institute. Each file is
replaced whole or not at all, and left alone when it would not change: services re-read what has a new time.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SUFFIX_WHILE_WRITING = ".tmp~"
"""Files of this suffix are not part of the seed."""

Objects = Mapping[str, Mapping[str, Mapping[str, bytes]]]
"""S3 objects by bucket, folder, and key within that folder."""


def write(path: Path, content: bytes) -> bool:
    """Make a file hold `content`, whole or not at all.

    Returns:
        Whether it was written; False when it held that already.
    """
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + SUFFIX_WHILE_WRITING)
    temporary.write_bytes(content)
    temporary.replace(path)
    return True


def write_private(path: Path, content: bytes) -> bool:
    """As `write`, for a file with secrets in it: only its owner can read it."""
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + SUFFIX_WHILE_WRITING)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
    return True


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is no such file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(document, dict):
        raise ValueError(f"{path} must hold one JSON object, not {type(document).__name__}")  # noqa: TRY004
    return document


def as_json(document: Any) -> bytes:
    """JSON as the seed's own files are written."""
    # A byte of a path that is no UTF-8 is a lone surrogate, for which this writes JSON's own escape.
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


_NO_PLACE = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG})


def add_objects(folder: Path, objects: Objects) -> list[tuple[str, str]]:
    """Add S3 objects to ``<folder>/aws/s3``.

    Returns:
        Bucket and folder of those that files cannot stand for: a key that goes on where another one ends, or is too
        long for a path. The rest is added.

    Raises:
        OSError: A file cannot be written.
    """
    left_out = []
    for bucket, prefixes in objects.items():
        for prefix, bodies in prefixes.items():
            try:
                for key, body in bodies.items():
                    write(folder / "aws" / "s3" / bucket / prefix / key, body)
            except OSError as error:
                if error.errno not in _NO_PLACE:
                    raise
                left_out.append((bucket, prefix))
    return left_out


def hold_objects(folder: Path, objects: Objects) -> bool:
    """Whether ``<folder>/aws/s3`` holds these S3 objects, apart from those that files cannot stand for."""
    return all(
        _holds(folder / "aws" / "s3" / bucket / prefix / key, body)
        for bucket, prefixes in objects.items()
        for prefix, bodies in prefixes.items()
        for key, body in bodies.items()
    )


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        return True


def add_named(path: Path, values: Mapping[str, Any]) -> bool:
    """Add named secrets or parameters to a file of them."""
    return write_private(path, as_json({**read_json(path), **values}))


def add_code_ocean(path: Path, added: Mapping[str, Iterable[Mapping[str, Any]]]) -> bool:
    """Add data assets, capsules and computations to Code Ocean's state; what is there under the same id stays."""
    state = {"data_assets": [], "capsules": [], "computations": []} | read_json(path)
    for kind, items in added.items():
        known = {item["id"] for item in state[kind]}
        state[kind] += [item for item in items if item["id"] not in known]
    return write(path, as_json(state))


def add_answers(path: Path, added: Mapping[str, Any]) -> bool:
    """Add to the metadata-service's tables; an answer that is there stays."""
    tables = read_json(path)
    for name, table in added.items():
        tables[name] = _merged(tables.get(name), table)
    return write(path, as_json(tables))


def _merged(present: Any, added: Any) -> Any:
    if isinstance(added, Mapping):
        merged = dict(present or {})
        for key, value in added.items():
            merged[key] = (
                _merged(merged[key], value) if isinstance(merged.get(key), Mapping) else merged.get(key, value)
            )
        return merged
    return [*(present or []), *(row for row in added if row not in (present or []))]
