"""An archive's resources and locations as JSON lines in the order of their ids, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from django.db import connection

from aind_pipelines.services.registry.batch.pages import PAGE
from aind_pipelines.services.registry.batch.records import CHUNK, read_by


def page_of_ids(archive: int, after: str) -> list[int]:
    """Primary keys of the next resources of an archive whose names come after `after`."""
    with connection.cursor() as cursor:
        cursor.execute(PAGE[connection.vendor], [archive, after, CHUNK])
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
