"""Records made ready to be written, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.hashing import hash_text
from aind_pipelines.records.normalise import normalise

_BATCH_CHARACTERS = 8_000_000

Identity = tuple[str, str]
"""Record version and id."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record ready to be written: its row, with the body as canonical text, and its findings."""

    row: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def identity(self) -> Identity:
        """Record version and id."""
        return self.row["record_version"], self.row["id"]

    @property
    def key(self) -> str:
        """What its findings are about."""
        return "/".join(self.identity)


def prepare(record: Mapping[str, Any]) -> Prepared:
    """Normalise a record and bring it into canonical form."""
    canonical = canonicalise(record)
    found = normalise(canonical.body)
    row = {
        "record_version": found.record_version,
        "id": found.id,
        "name": found.name,
        "location": found.location,
        "schema_version": found.schema_version,
        "created": found.created,
        "modified": found.modified,
        "content_hash": hash_text(canonical.text),
        "body": canonical.text,
    }
    return Prepared(row, (*found.findings, *canonical.findings(f"{found.record_version}/{found.id}")))


def batches(records: Iterable[Mapping[str, Any]], size: int) -> Iterator[dict[Identity, Prepared]]:
    """Batches by identity, of `size` records at most, fewer when they are large.

    Of a record that comes twice in one batch, the last counts.
    """
    held: dict[Identity, Prepared] = {}
    characters = 0
    for record in records:
        prepared = prepare(record)
        held[prepared.identity] = prepared
        characters += len(prepared.row["body"])
        if len(held) >= size or characters >= _BATCH_CHARACTERS:
            yield held
            held, characters = {}, 0
    if held:
        yield held
