"""How much a randomised test tries: small in ``make test``, long in ``make soak``."""

from __future__ import annotations

import os

SOAK = bool(os.environ.get("AIND_PIPELINES_SOAK"))
_LONGER = 50


def examples(number: int) -> int:
    """The number of tries of a test that makes `number` in ``make test``."""
    return number * _LONGER if SOAK else number
