"""Digests of texts."""

from __future__ import annotations

from blake3 import blake3


def hash_text(text: str) -> str:
    """The blake3 digest of a text, hex."""
    return blake3(text.encode()).hexdigest()
