"""The mirror beside its source, compared by code of its own: pymongo, psycopg and what JSON and BSON mean.

It shares nothing with what writes the mirror, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from bson import Binary, DatetimeMS, Decimal128, ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.collection import Collection

Document = Mapping[str, Any]

_OPEN_ARE_THE_RECORDS = """
SELECT coalesce(r.id, v.id) FROM docdb.records AS r
FULL JOIN (SELECT * FROM docdb.record_versions WHERE valid_to IS NULL) AS v USING (record_version, id)
WHERE (r.body, r.content_hash, r.source) IS DISTINCT FROM (v.body, v.content_hash, v.source)
"""
_EMPTY_OR_BACKWARDS = "SELECT id FROM docdb.record_versions WHERE valid_to <= valid_from"
_OVERLAPS = """
SELECT a.id FROM docdb.record_versions AS a JOIN docdb.record_versions AS b USING (record_version, id)
WHERE a.ctid <> b.ctid AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)
"""
_REPEATS = """
SELECT a.id FROM docdb.record_versions AS a JOIN docdb.record_versions AS b
ON (a.record_version, a.id, a.valid_to) = (b.record_version, b.id, b.valid_from)
WHERE a.content_hash = b.content_hash AND a.source = b.source
"""


@dataclass(frozen=True)
class Snapshot:
    """What a source held at a time when the mirror had caught up with it."""

    time: datetime
    documents: list[dict[str, Any]]


def documents_of(collection: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every document, as BSON has it."""
    options: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    return list(collection.with_options(options).find({}))


def snapshot(collection: Collection[dict[str, Any]], conninfo: str) -> Snapshot:
    """The source as it is, and Postgres' time."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return Snapshot(row[0], documents_of(collection))


def differences(
    collection: Collection[dict[str, Any]],
    conninfo: str,
    settled: Iterable[Snapshot] = (),
    *,
    unreadable: Iterable[str] = (),
) -> list[str]:
    """What is not as it must be, a line each: mirror and source, history, and every settled state of the past.

    Args:
        collection: The source.
        conninfo: Of the database with the mirror.
        settled: States of the source that the mirror had caught up with.
        unreadable: Ids that cannot be read at present: the mirror may have them as they were, or not at all.
    """
    source = f"{collection.database.name}.{collection.name}"
    left_out = set(unreadable)
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT id, body FROM docdb.records WHERE source = %s", [source]).fetchall()
        lines = _apart("mirror", documents_of(collection), rows, left_out)
        for name, query in (
            ("the open version is not the record", _OPEN_ARE_THE_RECORDS),
            ("a version without time", _EMPTY_OR_BACKWARDS),
            ("versions overlap", _OVERLAPS),
            ("a version that changes nothing", _REPEATS),
        ):
            lines += [f"history: {name}: {identity}" for (identity,) in connection.execute(query)]
        for number, state in enumerate(settled):
            past = connection.execute(
                "SELECT id, body FROM docdb.records_as_of(%s) WHERE source = %s", [state.time, source]
            ).fetchall()
            lines += _apart(f"settled state {number}", state.documents, past, left_out)
    return lines


def _apart(what: str, documents: Iterable[Document], rows: Iterable[tuple[str, Any]], left_out: set[str]) -> list[str]:
    expected = {_storable(str(document["_id"])): document for document in documents}
    found: dict[str, Any] = {}
    lines = []
    for identity, body in rows:
        if identity in found:
            lines.append(f"{what}: {identity} is there twice")
        found[identity] = body
    for identity in sorted((expected.keys() | found.keys()) - left_out):
        if identity not in found:
            lines.append(f"{what}: {identity} is missing")
        elif identity not in expected:
            lines.append(f"{what}: {identity} is not in the source")
        elif not same(expected[identity], found[identity]):
            lines.append(f"{what}: {identity} differs: {expected[identity]!r:.300} is {found[identity]!r:.300}")
    return lines


def same(value: Any, stored: Any) -> bool:
    """Whether JSON from JSONB says what a value of BSON says, read over either transport."""
    if isinstance(value, Mapping):
        return isinstance(stored, dict) and _same_fields(value, stored)
    if isinstance(value, list):
        return (
            isinstance(stored, list)
            and len(value) == len(stored)
            and all(same(one, other) for one, other in zip(value, stored, strict=True))
        )
    if value is None or isinstance(value, bool):
        return stored is value
    if isinstance(value, str):
        return bool(stored == _storable(value))
    if isinstance(value, int | float):
        return _same_number(value, stored)
    if isinstance(value, datetime):
        return isinstance(stored, str) and abs(_moment(stored) - value.replace(tzinfo=UTC)) < timedelta(milliseconds=1)
    if isinstance(value, bytes | Binary):
        return stored in (base64.b64encode(value).decode(), str(bytes(value)))
    if isinstance(value, DatetimeMS):  # in a year that Python does not have
        return isinstance(stored, str) and str(int(value)) in stored
    assert isinstance(value, ObjectId | Decimal128), type(value)
    return bool(stored == str(value))


def _same_fields(value: Mapping[str, Any], stored: dict[str, Any]) -> bool:
    if len(value) != len(stored):
        return False
    plain = {name for name in value if _storable(name) == name}
    if any(name not in stored or not same(value[name], stored[name]) for name in plain):
        return False
    # Names that Postgres cannot hold come with replacement characters; two of one spelling are told apart somehow.
    others = [stored[name] for name in stored if name not in plain]
    return all(any(same(value[name], other) for other in others) for name in value if name not in plain)


def _same_number(value: float, stored: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return bool(stored == ("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"))
    if isinstance(stored, bool) or not isinstance(stored, int | float):
        return False
    return bool(stored == value) or (isinstance(value, float) and float(json.dumps(stored)) == value)


def _storable(text: str) -> str:
    return "".join("\ufffd" if letter == "\0" or "\ud800" <= letter <= "\udfff" else letter for letter in text)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
