"""Records as canonical JSON: one text per content, which JSONB accepts whatever the record holds."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from aind_pipelines.records.findings import Finding
from aind_pipelines.records.nesting import DEEPEST, too_deep

UNSTORABLE_TEXT = re.compile("[\x00\ud800-\udfff]")
"""What no Postgres text can hold: the NUL character and halves of surrogate pairs."""

REPLACEMENT = "\ufffd"

# Python itself writes no larger integer as decimal text.
_LARGEST = 10**4300
# Numbers whose text JSONB would change: a large power of ten and the negative zero.
_RESTYLED_NUMBER = re.compile(r"(?:\A|[:,\[])-?(?:[0-9](?:\.[0-9]+)?e\+|(?<=-)0\.0(?![0-9]))")


@dataclass(frozen=True, slots=True)
class Canonical:
    """A record in its canonical form.

    Attributes:
        text: JSON with sorted keys and no blanks.
        body: What the text says; the record itself, BSON's own types included, where nothing had to be replaced.
        oddities: What had to be replaced: code, and dotted path of the first place.
    """

    text: str
    body: Any
    oddities: tuple[tuple[str, str], ...] = ()

    def findings(self, key: str) -> list[Finding]:
        """The oddities as findings about `key`."""
        return [Finding(code, key, path, _MESSAGES[code]) for code, path in self.oddities]


_MESSAGES = {
    "nul_character": "The text holds characters that Postgres cannot store; each is replaced by U+FFFD.",
    "number_not_finite": "The number is not finite, which JSON cannot say; it is stored as text.",
    "number_too_large": "The number has more than 4,300 digits; it is stored as hexadecimal text.",
    "nested_too_deeply": f"The record is nested more than {DEEPEST} levels deep; what lies deeper is left out.",
    "key_replaced": "A key is no text that can be stored; it is written differently.",
    "type_unknown": "The value has a type that JSON does not have; it is stored as its text.",
}


def canonicalise(record: object) -> Canonical:
    """Bring a record into canonical JSON, whatever it holds.

    BSON dates become ISO 8601 text in UTC with milliseconds (microseconds where there are any), ObjectIds their hex
    digits, binary data base64.

    Args:
        record: A record as a client gave it.

    Returns:
        Its canonical form; never raises on JSON-like or BSON-like input.
    """
    try:
        text = _dump(record)
        deep = too_deep(text.encode())
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Not finite, a half surrogate, keys of mixed types, too deep, or a date that has no UTC.
        return _replaced(record)
    if deep or "\\u0000" in text or _restyled_number(text):
        return _replaced(record)
    return Canonical(text, record)


def _restyled_number(text: str) -> bool:
    # The plain searches rule nearly every text out at a fraction of the pattern's cost.
    return ("e+" in text or "-0.0" in text) and _RESTYLED_NUMBER.search(text) is not None


def _dump(value: object) -> str:
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_known_type
    )


def _known_type(value: object) -> object:
    """The JSON of the BSON types; for `json.dumps`.

    Raises:
        TypeError: The type is none of them.
    """
    if isinstance(value, datetime):
        utc = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
        precision = "microseconds" if utc.microsecond % 1000 else "milliseconds"
        return utc.isoformat(timespec=precision).replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, UUID | Decimal) or type(value).__name__ in ("ObjectId", "Decimal128"):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def _replaced(record: object) -> Canonical:
    oddities: dict[str, str] = {}
    body = _storable(record, "", 0, oddities)
    return Canonical(_dump(body), body, tuple(sorted(oddities.items())))


def _storable(value: object, path: str, depth: int, oddities: dict[str, str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _storable_text(value, path, oddities)
    if isinstance(value, int):
        if -_LARGEST < value < _LARGEST:
            return int(value)
        oddities.setdefault("number_too_large", path)
        return hex(value)
    if isinstance(value, float):
        return _storable_float(value, path, oddities)
    if isinstance(value, Mapping):
        return _storable_mapping(value, path, depth, oddities)
    if isinstance(value, list | tuple | set | frozenset):
        return _storable_list(value, path, depth, oddities)
    try:
        return _storable(_known_type(value), path, depth, oddities)
    except (TypeError, OverflowError):
        oddities.setdefault("type_unknown", path)
        return _storable_text(f"{type(value).__module__}.{type(value).__qualname__}: {value}", path, oddities)


def _storable_text(value: str, path: str, oddities: dict[str, str]) -> str:
    cleaned = UNSTORABLE_TEXT.sub(REPLACEMENT, value)
    if cleaned != value:
        oddities.setdefault("nul_character", path)
    return cleaned


def _storable_float(value: float, path: str, oddities: dict[str, str]) -> float | int | str:
    if not math.isfinite(value):
        oddities.setdefault("number_not_finite", path)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return plain_number(value)


def plain_number(value: float) -> float | int:
    """A finite number as JSONB keeps it: from 1e16 on without fraction, and zero without a sign."""
    return int(Decimal(repr(value))) if abs(value) >= 1e16 else value + 0.0


def _storable_mapping(
    value: Mapping[Any, Any], path: str, depth: int, oddities: dict[str, str]
) -> dict[str, Any] | None:
    if depth >= DEEPEST:
        oddities.setdefault("nested_too_deeply", path)
        return None
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = UNSTORABLE_TEXT.sub(REPLACEMENT, key if isinstance(key, str) else str(key))
        if name != key:
            oddities.setdefault("key_replaced", path)
            while name in result or name in value:
                name += REPLACEMENT
        result[name] = _storable(item, f"{path}.{name}" if path else name, depth + 1, oddities)
    return result


def _storable_list(value: Iterable[Any], path: str, depth: int, oddities: dict[str, str]) -> list[Any] | None:
    if depth >= DEEPEST:
        oddities.setdefault("nested_too_deeply", path)
        return None
    return [_storable(item, f"{path}.{index}", depth + 1, oddities) for index, item in enumerate(value)]
