"""What is deployed. Thin: `build_defs` assembles it, with overrides for tests."""

from collections.abc import Mapping
from typing import Any

import dagster as dg


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Assemble the definitions.

    Args:
        overrides: Resources by key that replace the configured ones.
    """
    return dg.Definitions(resources=dict(overrides or {}))


defs = build_defs()
