"""The part of a record's text that `normalise` reads, without reading the rest.

A record is mostly data streams, trials, procedures and metrics that the one shape of records does not hold. Finding
their ends costs a fraction of making Python objects of them.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import msgspec

from aind_pipelines.records.canonical import plain_number
from aind_pipelines.records.nesting import too_deep

_WHOLE = frozenset(
    {
        "_id", "name", "location", "schema_version", "object_type", "created", "_created", "last_modified",
        "_last_modified", "external_links", "other_identifiers", "data_description", "subject", "processing",
    }
)  # fmt: skip
_STARTS = frozenset({"subject_id", "session_start_time", "acquisition_start_time", "acquisition_start_tz"})
_IN_PART = {"session": _STARTS, "acquisition": _STARTS}

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder(float_hook=lambda written: plain_number(float(written)))

# With one digit for all, one sign for all that may follow a number, and no plus signs, it is easily seen whether there
# is a number that takes hundreds of digits to write.
_OUTLINE = bytes.maketrans(b"123456789E]}\t\n\r ", b"000000000e,,,,,,")
_MANY_DIGITS = b"0" * 300
_LARGE_EXPONENT = re.compile(rb"e000+,")


def excerpt(text: bytes) -> dict[str, Any] | None:
    """What `normalise` reads of a record that can be stored as it is written.

    Args:
        text: The record, strict JSON in UTF-8.

    Returns:
        A record of which `normalise` says the same as of the whole one; None when the whole one must be read, since
        it holds, or may hold, what Postgres cannot store, hundreds of levels, or numbers of hundreds of digits.
    """
    if b"\\u0000" in text or too_deep(text):  # Postgres stores no NUL
        return None
    outline = text.translate(_OUTLINE, b"+")
    if _MANY_DIGITS in outline or _LARGE_EXPONENT.search(outline):
        return None
    try:
        members = _MEMBERS.decode(text)
        read = {
            name: _VALUE.decode(value) if name in _WHOLE else _part(value, _IN_PART[name])
            for name, value in members.items()
            if name in _WHOLE or name in _IN_PART
        }
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return None if read.get("_id") is None else read  # a record without one is named by all that it holds


def _part(value: msgspec.Raw, names: frozenset[str]) -> Any:
    """These members of an object; anything else whole."""
    if not bytes(value).startswith(b"{"):
        return _VALUE.decode(value)
    return {name: _VALUE.decode(member) for name, member in _MEMBERS.decode(value).items() if name in names}


def read_whole(text: bytes) -> Any:
    """The whole record, whatever the size of its integers.

    Raises:
        ValueError: The text is no JSON.
    """
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # more than 4,300 digits, which Python reads no faster than it must
        return int(Decimal(digits))
