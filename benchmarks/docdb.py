"""DocDB into RDS: a full ingest beside the published client's, and a watermark tick beside a full pass."""

from __future__ import annotations

from benchmarks import docdb_ingest, docdb_tick
from benchmarks.rows import Row

_LIGHT_PER_RECORD = 5


def measure(records: int = 20_000) -> list[Row]:
    """Full ingests of so many records, and ticks over five times as many light ones.

    Raises:
        RuntimeError: As `docdb_ingest.measure` and `docdb_tick.measure`.
    """
    return [*docdb_ingest.measure(records), *docdb_tick.measure(_LIGHT_PER_RECORD * records)]
