"""Findings: what was read but is not as it should be.

A finding never stops what it is about: the record, session or copy still arrives, and the finding says by a stable
code what is odd about it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One oddity of one thing.

    Attributes:
        code: Stable, machine-readable, lower case with underscores; what kind of oddity it is.
        key: What it is about: a record id, session id, subject id or resource id.
        field: Which part of it, as a dotted path; empty when it is about the whole.
        message: One sentence for a person, with the values that matter.
    """

    code: str
    key: str
    field: str = ""
    message: str = ""
