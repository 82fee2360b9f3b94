"""Taking values out of records that may hold anything anywhere.

A `Reader` never raises on JSON-like input: what cannot be read is None, and a finding says so.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from datetime import date, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from aind_pipelines.records.canonical import REPLACEMENT, UNSTORABLE_TEXT, plain_number
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.times import Moment, read_date, read_time

LONGEST_KEY = 600
"""Characters of a text that is indexed: an index entry of Postgres holds about 2,700 bytes."""

LONGEST_TEXT = 20_000

_LARGEST_INTEGER = 10**30
_WRITTEN_ABBREVIATION = re.compile(r"""['"]?\babbreviation['"]?\s*[=:]\s*(?P<quote>['"])(?P<text>.*?)(?P=quote)""")

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 3, 80, 80


def shown(value: object) -> str:
    """A short form of any value for a message."""
    try:
        return _short.repr(value)
    except (ValueError, RecursionError):  # Python refuses to write integers of more than 4,300 digits
        return f"<{type(value).__name__}>"


def as_text(value: object) -> str | None:
    """A text or a whole number as text, without what Postgres cannot store; None for anything else, and for blanks."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_INTEGER:
        return str(value)
    if not isinstance(value, str):
        return None
    return UNSTORABLE_TEXT.sub(REPLACEMENT, value).strip() or None


def decimal_text(value: object) -> str | None:
    """A finite decimal of BSON (or of Python) as the text that it is stored as; None for anything else."""
    if isinstance(value, Decimal) or type(value).__name__ == "Decimal128":
        written = str(value)
        return written if Decimal(written).is_finite() else None
    return None


def _version_text(value: object) -> str | None:
    """A text, or a finite number as its text: the same of BSON as of the JSON that it is stored as."""
    if isinstance(value, float) and math.isfinite(value):
        plain = plain_number(value)
        return as_text(plain if isinstance(plain, int) else str(plain))
    return decimal_text(value) or as_text(value)


def written_abbreviation(text: str) -> str | None:
    """The abbreviation in the text of an object: a Python repr, e.g. ``name='Behavior' abbreviation='behavior'``."""
    match = _WRITTEN_ABBREVIATION.search(text[:LONGEST_TEXT])
    return as_text(match["text"]) if match else None


class Reader:
    """Reads one record and collects what it finds odd.

    Attributes:
        findings: Findings so far, about `key`.
    """

    def __init__(self, record: object, key: str) -> None:
        self.key = key
        self.findings: list[Finding] = []
        self.record: Mapping[Any, Any] = record if isinstance(record, Mapping) else {}
        if not isinstance(record, Mapping):
            self.note("not_a_record", "", f"Expected an object, found {shown(record)}.")

    def note(self, code: str, field: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, self.key, field, message))

    def sorted_findings(self) -> tuple[Finding, ...]:
        """The findings in a fixed order, one per code and field."""
        once = {(finding.code, finding.field): finding for finding in sorted(self.findings, reverse=True)}
        return tuple(sorted(once.values()))

    def section(self, name: str, within: Mapping[Any, Any] | None = None) -> Mapping[Any, Any]:
        """An object of the record (or of `within`); empty when it is absent or is none."""
        value = (self.record if within is None else within).get(name)
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self.note("section_unreadable", name, f"Expected an object, found {shown(value)}.")
        return {}

    def text(self, value: object, field: str, *, longest: int = LONGEST_KEY) -> str | None:
        """A text; None when there is none. Longer than `longest` characters it is cut."""
        found = as_text(value)
        if found is None:
            if value is not None and not isinstance(value, str):
                self.note("field_unreadable", field, f"Expected text, found {shown(value)}.")
            return None
        if len(found) > longest:
            self.note("field_cut", field, f"The text has {len(found)} characters; the first {longest} are kept.")
            return found[:longest]
        return found

    def version(self, value: object, field: str) -> str | None:
        """A version: a text, or a finite number as its text, e.g. ``2.0``."""
        found = _version_text(value)
        return self.text(value if found is None else found, field)

    def label(
        self, value: object, field: str, *, prefer: str = "abbreviation", repr_code: str = "python_repr"
    ) -> str | None:
        """The abbreviation (or what `prefer` names) of an object, or a bare text in its place.

        An object that was written as text is read too; a finding `repr_code` says so.
        """
        if isinstance(value, Mapping):
            other = "name" if prefer == "abbreviation" else "abbreviation"
            found = as_text(value.get(prefer)) or as_text(value.get(other))
            if found is None:
                self.note("field_unreadable", field, f"Neither name nor abbreviation in {shown(value)}.")
            return None if found is None else self.text(found, field)
        if isinstance(value, str) and (written := written_abbreviation(value)):
            self.note(repr_code, field, f"An object was written as text: {shown(value)}.")
            return self.text(written, field)
        return self.text(value, field)

    def moment(self, value: object, field: str, code: str, *, zone: tzinfo | None = None) -> Moment | None:
        """A time; a finding `code` when there is something that is none."""
        found = read_time(value, zone=zone)
        if found is None and value not in (None, ""):
            self.note(code, field, f"Expected a time, found {shown(value)}.")
        return found

    def zone(self, value: object, field: str) -> tzinfo | None:
        """A zone as v2 states it beside a time: a name of the tz database, or hours from UTC."""
        if value is None:
            return None
        try:
            if isinstance(value, str):
                return ZoneInfo(value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return timezone(timedelta(hours=value))
        except (KeyError, ValueError, OSError, OverflowError):
            # An unknown name is a KeyError, one that is no name a ValueError, a folder of the database an OSError.
            pass
        self.note("zone_unreadable", field, f"Expected a time zone, found {shown(value)}.")
        return None

    def day(self, value: object, field: str, code: str) -> date | None:
        """A date; a finding `code` when there is something that is none."""
        found = read_date(value)
        if found is None and value not in (None, ""):
            self.note(code, field, f"Expected a date, found {shown(value)}.")
        return found
