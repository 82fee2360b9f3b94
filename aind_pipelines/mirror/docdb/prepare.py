"""Records made ready to be written, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aind_pipelines.clients.docdb.texts import RecordText
from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.excerpt import excerpt, read_whole
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.normalise import NormalisedRecord, normalise

_BATCH_BYTES = 8_000_000

Record = Mapping[str, Any] | RecordText
"""A record as a transport gives it: read, or as its text."""

Identity = tuple[str, str]
"""Record version and id."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record ready to be written.

    Attributes:
        row: Its columns but for the body.
        body: The record as JSON that JSONB accepts, UTF-8.
        findings: What is odd about it.
    """

    row: dict[str, Any]
    body: bytes
    findings: tuple[Finding, ...]

    @property
    def identity(self) -> Identity:
        """Record version and id."""
        return self.row["record_version"], self.row["id"]

    @property
    def key(self) -> str:
        """What its findings are about."""
        return "/".join(self.identity)


def prepare(record: Record) -> Prepared:
    """Normalise a record and make it such as JSONB accepts: as it is, wherever that can be."""
    if isinstance(record, RecordText):
        if (read := excerpt(record.text)) is not None:
            found = normalise(read)
            return Prepared(_row(found), record.text, found.findings)
        record = read_whole(record.text)
    canonical = canonicalise(record)
    found = normalise(canonical.body)
    odd = canonical.findings(f"{found.record_version}/{found.id}")
    return Prepared(_row(found), canonical.text.encode(), (*found.findings, *odd))


def _row(found: NormalisedRecord) -> dict[str, Any]:
    return {
        "record_version": found.record_version,
        "id": found.id,
        "name": found.name,
        "location": found.location,
        "schema_version": found.schema_version,
        "created": found.created,
        "modified": found.modified,
    }


def batches(records: Iterable[Record], size: int) -> Iterator[dict[Identity, Prepared]]:
    """Batches by identity, of `size` records at most, fewer when they are large.

    Of a record that comes twice in one batch, the last counts.
    """
    held: dict[Identity, Prepared] = {}
    size_in_bytes = 0
    for record in records:
        prepared = prepare(record)
        held[prepared.identity] = prepared
        size_in_bytes += len(prepared.body)
        if len(held) >= size or size_in_bytes >= _BATCH_BYTES:
            yield held
            held, size_in_bytes = {}, 0
    if held:
        yield held
