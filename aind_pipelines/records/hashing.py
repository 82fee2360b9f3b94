"""The content hash of a record."""

from __future__ import annotations

from blake3 import blake3

from aind_pipelines.records.canonical import canonicalise


def hash_text(text: str) -> str:
    """The blake3 digest of a canonical text, hex."""
    return blake3(text.encode()).hexdigest()


def content_hash(record: object) -> str:
    """A digest that is equal exactly when two records say the same.

    The order of keys does not matter, and a record read back from JSONB has the hash it was stored with.

    Args:
        record: A record as a client gave it, BSON types included.

    Returns:
        blake3 of the canonical JSON, 64 hex digits.
    """
    return hash_text(canonicalise(record).text)
