"""Deriving rows in tests as a pass does: from the record as the mirror stores it."""

from __future__ import annotations

import json
from typing import Any

from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.normalise import normalise
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations import DERIVATIONS

BY_NAME = {derivation.name: derivation for derivation in DERIVATIONS}


def derived_with_findings(record: Any, name: str) -> tuple[list[dict[str, Any]], tuple[Finding, ...]]:
    """A record's rows of one table, and what was odd about them."""
    body = json.loads(canonicalise(record).text)
    found = normalise(body)
    reader = Reader(body, f"{found.record_version}/{found.id}")
    rows = BY_NAME[name].rows(found, reader)
    # What is odd about the record as a whole is told by ingestion.
    return rows, tuple(finding for finding in reader.sorted_findings() if finding.code != "not_a_record")


def derived(record: Any, name: str) -> list[dict[str, Any]]:
    """A record's rows of one table."""
    return derived_with_findings(record, name)[0]
