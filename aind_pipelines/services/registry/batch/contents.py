"""An archive's resources and locations as JSON lines in the order of their ids, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from django.db import connection

from aind_pipelines.services.registry.batch.records import CHUNK, read_by

# The order is that of the bytes of the ids, whatever the database's language: callers merge the list with others.
# Each walks the index on the names and looks up the location, so that a page costs the same wherever it begins;
# CROSS JOIN keeps SQLite to that order. The operators with tildes are those of Postgres' text_pattern_ops index, which
# Django makes for every slug.
_PAGE = {
    "sqlite": """
        SELECT r.id FROM nbank_registry_resource r
        CROSS JOIN nbank_registry_location l ON l.resource_id = r.id AND l.archive_id = %s
        WHERE r.name > %s ORDER BY r.name LIMIT %s""",
    "postgresql": """
        SELECT r.id FROM nbank_registry_resource r
        JOIN nbank_registry_location l ON l.resource_id = r.id AND l.archive_id = %s
        WHERE r.name ~>~ %s ORDER BY r.name USING ~<~ LIMIT %s""",
}  # fmt: skip


def page_of_ids(archive: int, after: str) -> list[int]:
    """Primary keys of the next resources of an archive whose names come after `after`."""
    with connection.cursor() as cursor:
        cursor.execute(_PAGE[connection.vendor], [archive, after, CHUNK])
        return [id_ for (id_,) in cursor.fetchall()]


def lines(archive: Any, after: str) -> Iterator[bytes]:
    """The records of `archive` past the name `after`, with their key there, in pages of JSON lines.

    No snapshot is held: what is registered or removed meanwhile may or may not be listed, all else is, once. The last
    line, ``{"end": true, "count": N}``, proves that nothing was cut off.
    """
    count = 0
    while ids := page_of_ids(archive.pk, after):
        found = sorted(read_by("id", ids), key=lambda known: known.record["name"])
        rows = [{**known.record, "key": known.keys[archive.name]} for known in found if archive.name in known.keys]
        if found:
            after = found[-1].record["name"]
            count += len(rows)
            yield msgspec.json.Encoder().encode_lines(rows)
        if len(ids) < CHUNK:
            break
    yield msgspec.json.Encoder().encode_lines([{"end": True, "count": count}])
