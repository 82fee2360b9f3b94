"""The real metadata records beside the repository, for tests that skip visibly without them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

REAL_RECORDS = Path(
    os.environ.get("AIND_PIPELINES_RECORDS")
    or Path(__file__).parents[3] / "shared" / "data" / "docdb_records"
)  # fmt: skip


def real_records() -> list[dict[str, Any]]:
    """Each record as it is; skips the test when they are not there."""
    if not REAL_RECORDS.is_dir():
        pytest.skip(f"The real records are not at {REAL_RECORDS}; AIND_PIPELINES_RECORDS names their folder.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(REAL_RECORDS.glob("*.json"))]
