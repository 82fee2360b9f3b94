"""Reading many records at the cost of a few questions, in the form of django-neurobank's own serializer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.utils.timezone import get_current_timezone
from nbank_registry.models import Location, Resource

CHUNK = 900
"""Values of one ``IN``: SQLite may have been built for at most 999 parameters in a statement."""
_FIELDS = (
    "id", "name", "sha1", "dtype__name", "dtype__extension", "metadata", "experimenter__username", "animal_id",
    "created_by__username", "created_on",
)  # fmt: skip


@dataclass(slots=True)
class Known:
    """A registered resource.

    Attributes:
        record: As the plain API shows it.
        keys: The key, or None, by the name of each archive that holds it.
    """

    record: dict[str, Any]
    keys: dict[str, str | None]


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """`values` in lists of at most `CHUNK`."""
    remaining = iter(values)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def read_by(field: str, values: Iterable[Any]) -> Iterator[Known]:
    """The resources whose `field` (``id``, ``name`` or ``sha1``) is one of `values`, in no order."""
    for chunk in chunks(values):
        yield from _read(list(Resource.objects.filter(**{f"{field}__in": chunk}).order_by().values_list(*_FIELDS)))


def _read(rows: Sequence[Any]) -> Iterator[Known]:
    keys: defaultdict[int, dict[str, str | None]] = defaultdict(dict)
    found = Location.objects.filter(resource_id__in=[row[0] for row in rows]).order_by("archive__name")
    for resource, archive, key in found.values_list("resource_id", "archive__name", "key"):
        keys[resource][archive] = key
    zone = get_current_timezone()
    for id_, name, sha1, dtype, extension, metadata, experimenter, animal, author, created in rows:
        shown_animal = None if animal is None else str(animal)
        core = {"animal": shown_animal, "experimenter": experimenter}
        if shown_animal is not None or experimenter is not None:
            metadata = {**(metadata or {}), **{field: value for field, value in core.items() if value is not None}}
        yield Known(
            {
                "name": name,
                "sha1": sha1,
                "dtype": dtype,
                "filename": f"{name}.{extension.lstrip('.')}" if extension else name,
                "metadata": metadata,
                "experimenter": experimenter,
                "animal": shown_animal,
                "locations": list(keys[id_]),
                "created_by": author,
                "created_on": created.astimezone(zone).isoformat().replace("+00:00", "Z"),
            },
            keys[id_],
        )
