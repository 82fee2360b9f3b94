"""Real metadata records from files, and the little that the lab's other services can know from them.

Nothing is made up: the metadata-service answers with a record's own subject, Code Ocean knows a data asset under each
id that a record links to, by the record's name and location, and S3 holds the record itself at its location.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aind_pipelines.lab.seed.model import DATABASES, NOW, V1_DATABASE, V2_DATABASE
from aind_pipelines.lab.seed.objects import METADATA_FILE, json_bytes
from aind_pipelines.records.normalise import normalise, record_version

Record = dict[str, Any]

LARGEST_RECORD = 16 * 2**20
"""Bytes of BSON that a MongoDB document may take."""

_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_NAME = 240
_LONGEST_KEY = 1024
"""Bytes that a key in S3 may have."""

_REASONS = 5
"""Files that a refusal of all gives the reasons of."""


@dataclass(frozen=True)
class Unloadable:
    """A file that gave no record, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass
class RealRecords:
    """What a folder of records gave.

    Attributes:
        folder: The folder.
        records: Records by DocDB database.
        files: File name of each record by database and ``_id``.
        unloadable: Files that gave none.
        fingerprint: Changes when any file does.
    """

    folder: Path
    records: dict[str, list[Record]] = field(default_factory=lambda: {name: [] for name in DATABASES})
    files: dict[tuple[str, str], str] = field(default_factory=dict)
    unloadable: list[Unloadable] = field(default_factory=list)
    fingerprint: str = ""

    @property
    def refusal(self) -> str:
        """Why a folder that gave no record at all is refused."""
        reasons = "\n".join(f"  {one}" for one in self.unloadable[:_REASONS])
        return f"None of the {len(self.unloadable)} files in {self.folder} holds a record:\n{reasons}"


def read_folder(folder: Path) -> RealRecords:
    """Read every ``*.json`` of a folder as one DocDB record each.

    A record goes to the database of its record version. Files that hold no such record are listed; the rest load.

    Raises:
        FileNotFoundError: There is no such folder, or no ``*.json`` in it.
        OSError: The folder cannot be listed.
    """
    found, hashed = RealRecords(folder), hashlib.sha256()
    for path in _files(folder):
        name = _shown(path.name)
        try:
            content = _content(path)
            hashed.update(os.fsencode(path.name) + f"\0{hashlib.sha256(content).hexdigest()}\n".encode())
            record = _parse(content)
            database = V2_DATABASE if record_version(record) == "v2" else V1_DATABASE
            key = database, repr(record["_id"])
            if key in found.files:
                raise _NoRecord(f"duplicate _id {record['_id']!r}: {found.files[key]} has it too")  # noqa: TRY301
        except _NoRecord as error:
            found.unloadable.append(Unloadable(name, str(error)))
            continue
        found.files[key] = name
        found.records[database].append(record)
    found.fingerprint = hashed.hexdigest()
    return found


def holds_a_record(folder: Path) -> bool:
    """Whether any file of a folder holds a record; reads no further than to the first that does.

    Raises:
        FileNotFoundError: There is no such folder, or no ``*.json`` in it.
        OSError: The folder cannot be listed.
    """
    return any(_is_record(path) for path in _files(folder))


def _is_record(path: Path) -> bool:
    try:
        _parse(_content(path))
    except _NoRecord:
        return False
    return True


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. --records names a folder of *.json files.")
    paths = sorted(path for path in folder.iterdir() if path.name.endswith(".json"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no *.json file. Each file is one DocDB record.")
    return paths


class _NoRecord(Exception):
    """A file holds no record that DocDB takes."""


def _shown(name: str) -> str:
    """A file name as it can be printed and stored: bytes that are no UTF-8, and control characters, as escapes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for who writes to it
            raise _NoRecord("no regular file")
        return path.read_bytes()
    except OSError as error:
        raise _NoRecord(f"cannot be read: {error.strerror}") from None


def _parse(content: bytes) -> Record:
    import bson
    from bson.errors import InvalidDocument

    try:
        record = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _NoRecord(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _NoRecord(f"bad JSON: {error}") from None
    except RecursionError:
        raise _NoRecord("bad JSON: nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise _NoRecord(f"bad JSON: {error}") from None
    if not isinstance(record, dict):
        raise _NoRecord(f"not an object but {type(record).__name__}")
    if record.get("_id") in (None, ""):
        raise _NoRecord("no _id")
    if not isinstance(record["_id"], str | int) or isinstance(record["_id"], bool):
        raise _NoRecord(f"its _id is neither text nor an integer but {type(record['_id']).__name__}")
    try:
        size = len(bson.encode(record))
    except (InvalidDocument, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise _NoRecord(f"DocDB cannot hold it: {error}") from None
    if size > LARGEST_RECORD:
        raise _NoRecord(f"too large: {size} bytes of BSON, {LARGEST_RECORD} at most")
    return record


@dataclass
class Known:
    """What the lab's services can know from records alone.

    Attributes:
        objects: S3 objects by bucket, folder and key.
        data_assets: Data assets of Code Ocean.
        subjects: Subject answers of the metadata-service, by subject id.
        names: Names of the records at each location, by bucket and folder.
        without_files: Names of records at whose location nothing can be kept.
    """

    objects: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    data_assets: list[dict[str, Any]] = field(default_factory=list)
    subjects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    names: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    without_files: list[str] = field(default_factory=list)


def known_from(records: Mapping[str, list[Record]]) -> Known:
    """Derive what S3, Code Ocean and the metadata-service can know from records, given by DocDB database."""
    known = Known()
    for database in DATABASES:  # where both generations have a record, the newer one's file stays
        for record in records[database]:
            normalised = normalise(record)
            place = _place(record.get("location"))
            name = str(record.get("name") or record["_id"])
            if place is None:
                known.without_files.append(name)
            else:
                bucket, prefix = place
                known.names.setdefault(place, []).append(name)
                known.objects.setdefault(bucket, {})[prefix] = {METADATA_FILE: json_bytes(record)}
            for linked in normalised.code_ocean_ids:
                known.data_assets.append(_data_asset(linked, record, normalised.data_level, place))
            subject = record.get("subject")
            # The lab's tables hold v1 models; a v2 subject has another shape, and v1 records are preferred to it.
            if database == V1_DATABASE and isinstance(subject, dict) and normalised.subject_id:
                known.subjects[normalised.subject_id] = [subject]
    for record in records[V2_DATABASE]:
        normalised = normalise(record)
        subject = record.get("subject")
        if isinstance(subject, dict) and normalised.subject_id:
            known.subjects.setdefault(normalised.subject_id, [_v1_subject(subject)])
    return known


def _v1_subject(subject: dict[str, Any]) -> dict[str, Any]:
    """A v2 subject with its details at the top, as v1 has them."""
    details = subject.get("subject_details")
    flat = {key: value for key, value in subject.items() if key != "subject_details"}
    return flat | (
        {key: value for key, value in details.items() if key != "object_type"} if isinstance(details, dict) else {}
    )


def _place(location: object) -> tuple[str, str] | None:
    """Bucket and folder of a location at which files can be kept, here as in S3."""
    if not isinstance(location, str) or not location.startswith("s3://"):
        return None
    bucket, _, prefix = location.removeprefix("s3://").rstrip("/").partition("/")
    parts = prefix.split("/")
    usable = all(
        part not in ("", ".", "..") and len(part.encode()) <= _LONGEST_NAME and "\0" not in part for part in parts
    )
    usable = usable and len(f"{prefix}/{METADATA_FILE}".encode()) <= _LONGEST_KEY
    return (bucket, prefix) if _BUCKET.fullmatch(bucket) and usable else None


def _data_asset(linked: str, record: Record, data_level: str | None, place: tuple[str, str] | None) -> dict[str, Any]:
    name = str(record.get("name") or linked)
    created = int(_created(record).timestamp())
    asset: dict[str, Any] = {
        "id": linked,
        "created": created,
        "name": name,
        "mount": name,
        "last_used": created,
        "owner": "",
        "state": "ready",
        "type": "result" if data_level == "derived" else "dataset",
        "tags": [data_level] if data_level else [],
        "custom_metadata": {"data level": f"{data_level} data"} if data_level else {},
    }
    if place is not None:
        bucket, prefix = place
        asset["source_bucket"] = {"origin": "aws", "bucket": bucket, "prefix": prefix, "external": prefix != linked}
    return asset


def _created(record: Record) -> datetime:
    created = normalise(record).created
    return created.astimezone(UTC) if created is not None else NOW
