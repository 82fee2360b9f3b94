"""The rules of django-neurobank's serializers for one item, without a serializer and without asking the database.

Messages are those of django-neurobank 0.12, so that a caller reads the same whichever way it came.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbank_registry.serializers import CORE_FIELDS, split_metadata

_SLUG = re.compile(r"[-a-zA-Z0-9_]+")
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_NAME_LENGTH = 255
_KEY_LENGTH = 1024
_NO_STRING = "Not a valid string."

Errors = dict[str, Any]
"""Messages by field, as a refusal's body has them."""


@dataclass(slots=True)
class Place:
    """An archive that holds the item, and the key of the item within it."""

    archive: str
    key: str | None = None


@dataclass(slots=True)
class Wanted:
    """One resource to register, as far as it can be checked by itself.

    Attributes:
        name: Identifier, or None for one that is made up.
        sha1: Lower-case hex digest, or None.
        dtype: Name of its data type.
        metadata: JSON values, without the core fields; None when none was given.
        experimenter: User name, or None.
        animal: Primary key of an animal as text, or None.
        places: Where it is.
    """

    name: str | None
    sha1: str | None
    dtype: str
    metadata: dict[str, Any] | None
    experimenter: str | None
    animal: str | None
    places: list[Place] = field(default_factory=list)

    def shown_metadata(self) -> dict[str, Any]:
        """The metadata as a record shows it: with the core fields."""
        core = {"animal": self.animal, "experimenter": self.experimenter}
        return {**(self.metadata or {}), **{name: value for name, value in core.items() if value is not None}}


def check_resource(item: Any) -> Wanted | Errors:
    """Read one item of ``batch/register/``, or say what is wrong with it."""
    if not isinstance(item, Mapping):
        return {"non_field_errors": ["Invalid data. Expected a dictionary."]}
    errors: Errors = {}
    name, sha1, dtype = item.get("name"), item.get("sha1"), item.get("dtype")
    if "name" in item and (message := _wrong_name(name)):
        errors["name"] = [message]
    if sha1 is not None and (message := _wrong_sha1(sha1)):
        errors["sha1"] = [message]
    if dtype is None:
        errors["dtype"] = ["This field may not be null." if "dtype" in item else "This field is required."]
    elif not isinstance(dtype, str):
        errors["dtype"] = ["invalid dtype name"]
    metadata, core, core_errors = _metadata(item)
    errors.update(core_errors)
    places, wrong = _places(item.get("locations") if "locations" in item else [])
    if wrong:
        errors["locations"] = wrong
    if errors:
        return errors
    return Wanted(
        name,
        None if sha1 is None else sha1.lower(),
        str(dtype),
        metadata,
        core.get("experimenter"),
        core.get("animal"),
        places,
    )


def check_location(item: Any) -> tuple[str, Place] | Errors:
    """Read one item of ``batch/locate/``: the resource's name and its place, or what is wrong with it."""
    if not isinstance(item, Mapping):
        return {"non_field_errors": ["Invalid data. Expected a dictionary."]}
    errors: Errors = {}
    for name in ("resource_name", "archive_name"):
        if item.get(name) is None:
            errors[name] = ["This field may not be null." if name in item else "This field is required."]
        elif not isinstance(item[name], str):
            errors[name] = [f"invalid {name.removesuffix('_name')} name"]
    if message := _wrong_key(item.get("key")):
        errors["key"] = [message]
    return errors or (item["resource_name"], Place(item["archive_name"], item.get("key") or None))


def _wrong_name(name: Any) -> str | None:
    if name is None:
        return "This field may not be null."
    if not isinstance(name, str):
        return _NO_STRING
    if not name:
        return "This field may not be blank."
    if len(name) > _NAME_LENGTH:
        return f"Ensure this field has no more than {_NAME_LENGTH} characters."
    return None if _SLUG.fullmatch(name) else "can only contain letters, numbers, underscores, and hyphens"


def _wrong_sha1(sha1: Any) -> str | None:
    if not isinstance(sha1, str):
        return _NO_STRING
    if len(sha1) > 40:
        return "Ensure this field has no more than 40 characters."
    return None if _SHA1.fullmatch(sha1) else "invalid sha1 value"


def _wrong_key(key: Any) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        return _NO_STRING
    if len(key) > _KEY_LENGTH:
        return f"Ensure this field has no more than {_KEY_LENGTH} characters."
    return _unstorable(key)


def _metadata(item: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, str], Errors]:
    """The metadata without the core fields, the core fields, and what is wrong with them."""
    given = item.get("metadata")
    if "metadata" in item and given is None:
        return None, {}, {"metadata": ["This field may not be null."]}
    if given is not None and not isinstance(given, dict):
        return None, {}, {"metadata": ["metadata must be a dictionary"]}
    try:
        rest, core = split_metadata(given or {})
        if message := _unstorable(rest):
            return None, {}, {"metadata": [message]}
    except ValueError as error:
        return None, {}, {"metadata": [str(error)]}
    except RecursionError:
        return None, {}, {"metadata": ["is nested too deeply"]}
    errors: Errors = {}
    for name in CORE_FIELDS:
        if name in item and name in core and item[name] != core[name]:
            errors[name] = ["differs from the value in metadata"]
        value = core.setdefault(name, item.get(name))
        if value is not None and (not isinstance(value, str) or _unstorable(value)):
            errors[name] = ["invalid username" if name == "experimenter" else "invalid animal identifier"]
    return (None if given is None else rest), core, errors


def _unstorable(value: Any) -> str | None:
    """Why a value cannot be kept as JSON by every database; None when it can."""
    if isinstance(value, str):
        if "\0" in value:
            return "Null characters are not allowed."
        return None if value.isascii() or _encodes(value) else "Surrogate characters are not allowed."
    if isinstance(value, float):
        return None if math.isfinite(value) else "Numbers must be finite."
    if isinstance(value, dict):
        return next((message for pair in value.items() for part in pair if (message := _unstorable(part))), None)
    if isinstance(value, list):
        return next((message for part in value if (message := _unstorable(part))), None)
    return None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _places(given: Any) -> tuple[list[Place], Any]:
    """The places of ``locations``, or the messages about it."""
    if not isinstance(given, list):
        problem = "This field may not be null." if given is None else "Expected a list of items."
        return [], [problem]
    places: list[Place] = []
    wrong: dict[str, list[str]] = {}
    for position, entry in enumerate(given):
        if isinstance(entry, str):
            places.append(Place(entry))
        elif (
            isinstance(entry, dict)
            and isinstance(entry.get("archive"), str)
            and set(entry) <= {"archive", "key"}
            and _wrong_key(entry.get("key")) is None
        ):
            places.append(Place(entry["archive"], entry.get("key") or None))
        else:
            wrong[str(position)] = ['invalid location: give an archive name or {"archive", "key"}']
    if not wrong and len({place.archive for place in places}) < len(places):
        return [], ["an archive is given more than once"]
    return places, wrong
