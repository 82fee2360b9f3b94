"""Values of records as values of columns: numbers in one unit, lists of texts, times, modalities."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

from aind_pipelines.records.reading import Reader, as_text, shown
from aind_pipelines.records.vocabulary import modality_abbreviation

GRAMS = {"gram": 1.0, "milligram": 1e-3, "kilogram": 1e3}
MINUTES = {"minute": 1.0, "second": 1 / 60, "hour": 60.0}
NANOLITRES = {"nanoliter": 1.0, "microliter": 1e3, "milliliter": 1e6}
MICROLITRES = {"microliter": 1.0, "milliliter": 1e3, "nanoliter": 1e-3}
"""Factors to the unit of the name, by the field's words for units."""

LARGEST_INTEGER = 2**31 - 1
LONGEST_JSON = 10_000


def mappings(reader: Reader, value: object, field: str, code: str) -> Iterator[tuple[int, Mapping[Any, Any]]]:
    """The objects of a list with their places; one object stands for a list of one.

    Anything else is a finding `code`; None is nothing.
    """
    if isinstance(value, Mapping):
        yield 0, value
        return
    if value is None:
        return
    if not isinstance(value, list | tuple):
        reader.note(code, field, f"Expected a list of objects, found {shown(value)}.")
        return
    for index, item in enumerate(value):
        if isinstance(item, Mapping):
            yield index, item
        elif item is not None:
            reader.note(code, f"{field}.{index}", f"Expected an object, found {shown(item)}.")


def number(reader: Reader, value: object, field: str) -> float | None:
    """A finite number, written as one or as text."""
    if isinstance(value, str):
        if not value.strip():
            return None
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
    if value is not None:
        reader.note("number_unreadable", field, f"Expected a number, found {shown(value)}.")
    return None


def first(source: Mapping[Any, Any], *keys: str) -> Any:
    """The value of the first of these keys that says anything."""
    return next((value for key in keys if (value := source.get(key)) is not None and value != ""), None)


def whole(reader: Reader, value: object, field: str) -> int | None:
    """A whole number that an integer column holds."""
    found = number(reader, value, field)
    if found is None:
        return None
    if found.is_integer() and abs(found) <= LARGEST_INTEGER:
        return int(found)
    reader.note("number_unreadable", field, f"Expected a whole number, found {shown(value)}.")
    return None


def measure(reader: Reader, value: object, unit: object, factors: Mapping[str, float], field: str) -> float | None:
    """A quantity in the unit of `factors`; null with a finding where the record's unit is none of theirs."""
    found = number(reader, value, field)
    if found is None:
        return None
    word = as_text(unit)
    factor = None if word is None else factors.get(word.casefold())
    if factor is None:
        reader.note("unit_unknown", field, f"The unit of {shown(value)} is {shown(unit)}; it is left out.")
        return None
    return found * factor


def flag(reader: Reader, value: object, field: str) -> bool | None:
    """True or false."""
    if value is None or isinstance(value, bool):
        return value
    reader.note("field_unreadable", field, f"Expected true or false, found {shown(value)}.")
    return None


def time(
    reader: Reader, value: object, field: str, *, zone: tzinfo | None = None, not_utc: str | None = None
) -> datetime | None:
    """A time in UTC; a finding where it states no zone and `zone` does not either, and where it is none.

    Such a time is taken for UTC, unless `not_utc` says why it cannot be: then it is null.
    """
    moment = reader.moment(value, field, "time_unreadable", zone=zone)
    if moment is None:
        return None
    if moment.has_zone:
        return moment.value
    taken = "is taken for UTC" if not_utc is None else f"is left out: {not_utc}"
    reader.note("time_without_zone", field, f"{shown(value)} states no zone; it {taken}.")
    return moment.value if not_utc is None else None


def texts(reader: Reader, value: object, field: str) -> list[str]:
    """The texts of a list, or one text, in order; objects stand for their name."""
    found = []
    for item in value if isinstance(value, list | tuple) else (value,):
        text = reader.text(item.get("name") if isinstance(item, Mapping) else item, field)
        if text is not None:
            found.append(text)
    return found


def people(reader: Reader, value: object, field: str) -> int | None:
    """How many people a list names, or one text; None when it says nothing."""
    if value is None:
        return None
    if isinstance(value, str):
        return 1 if value.strip() else None
    if isinstance(value, list | tuple):
        return sum(1 for person in value if isinstance(person, Mapping | str) and person)
    reader.note("people_unreadable", field, f"Expected a list of people, found {type(value).__name__}.")
    return None


def modality(reader: Reader, value: object, field: str) -> str | None:
    """A modality's abbreviation; a word that is no known modality stands as it is."""
    word = None if value is None else reader.label(value, field, repr_code="modality_as_repr")
    return None if word is None else modality_abbreviation(word) or word


def modality_list(reader: Reader, value: object, field: str) -> list[str]:
    """Abbreviations, sorted, each once."""
    values: Iterable[object] = value if isinstance(value, list | tuple) else (value,)
    return sorted({word for item in values if (word := modality(reader, item, field)) is not None})


def structure(reader: Reader, value: object, field: str) -> str | None:
    """The acronym of a brain structure, or else its name, or a bare text."""
    if isinstance(value, Mapping):
        return reader.text(value.get("acronym") or value.get("name"), field)
    return None if value is None or value == [] else reader.text(value, field)


def as_json(reader: Reader, value: object, field: str, code: str) -> Any:
    """The value as it is, for a JSONB column; null with a finding `code` when it is long."""
    if value is None or isinstance(value, bool | int | float):
        return value
    length = len(json.dumps(value, default=str))
    if length <= LONGEST_JSON:
        return value
    reader.note(code, field, f"The value has {length:,} characters; those of more than {LONGEST_JSON:,} are left out.")
    return None
