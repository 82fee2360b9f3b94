"""Many resources, or many locations, at once: all that is acceptable, in the caller's transaction, or nothing.

What is in the way is looked up by a few ``IN`` questions and the rest is inserted in bulk. Another writer may come
between the two; its rows are then in the way at the next try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, transaction
from nbank_registry.models import Archive, DataType, Location, Resource, get_animal_model
from nbank_registry.tools import random_id
from rest_framework.exceptions import APIException

from aind_pipelines.services.registry.batch.checking import Errors, Place, Wanted, check_location, check_resource
from aind_pipelines.services.registry.batch.records import Known, chunks, read_by

_ATTEMPTS = 5
_T = TypeVar("_T")


class Busy(APIException):  # type: ignore[misc] # rest_framework has no types
    """Other writers came between every try."""

    status_code = 503
    default_detail = "Other requests are registering the same things. Send this one again."


def settle(work: Callable[[], _T]) -> _T:
    """Do `work` in a savepoint, again when another writer was faster.

    Raises:
        Busy: It was so at every try.
    """
    for _ in range(_ATTEMPTS):
        try:
            with transaction.atomic():
                return work()
        except IntegrityError:
            continue
        except OperationalError as error:
            # 40P01, deadlock_detected: this one was chosen to give way.
            if getattr(error.__cause__, "sqlstate", None) != "40P01":
                raise
    raise Busy


def created(name: str) -> dict[str, Any]:
    """The result of an item that is new."""
    return {"status": "created", "name": name}


def refused(errors: Errors) -> dict[str, Any]:
    """The result of an item that was left out."""
    return {"status": "refused", "errors": errors}


# --- resources ----------------------------------------------------------------------------------------------------


def register(items: Sequence[Any], user: Any) -> list[dict[str, Any]]:
    """Register what can be, of ``{"name"?, "sha1"?, "dtype", "metadata"?, "locations"?}``, as `user`.

    Returns:
        For each item, in order: ``created`` with its name; ``exists`` with its record when it was there, equal in all
        (it may have further locations); ``refused`` with messages by field.
    """
    checked = [check_resource(item) for item in items]
    return settle(lambda: _Registering([one for one in checked if isinstance(one, Wanted)], user).results(checked))


class _Registering:
    """One try: everything known that bears on `wanted`, and what is to be inserted."""

    def __init__(self, wanted: Sequence[Wanted], user: Any) -> None:
        self._user = user
        self._dtypes = {dtype.name: dtype for dtype in DataType.objects.all()}
        self._archives = _archives(place.archive for one in wanted for place in one.places)
        self._users = {
            found.username: found
            for chunk in chunks({one.experimenter for one in wanted} - {None})
            for found in User.objects.filter(username__in=chunk)
        }
        self._animals = _animals({one.animal for one in wanted if one.animal is not None})
        names = {one.name for one in wanted if one.name is not None}
        self._by_name = {known.record["name"]: known for known in read_by("name", names)}
        sha1s = {one.sha1 for one in wanted if one.sha1 is not None}
        met = {known.record["sha1"]: known for known in self._by_name.values()}
        self._by_sha1 = {known.record["sha1"]: known for known in read_by("sha1", sha1s - met.keys())} | met
        self._keys = _used_keys(place for one in wanted for place in one.places)
        self._fresh = iter(_fresh_names(sum(one.name is None for one in wanted)))
        self._resources: list[Any] = []
        self._locations: list[Any] = []

    def results(self, checked: Sequence[Wanted | Errors]) -> list[dict[str, Any]]:
        """Insert what can be; a result for each of `checked`."""
        results = [self._decide(one) if isinstance(one, Wanted) else refused(one) for one in checked]
        # In one order for everybody, so that two batches wait for each other instead of both waiting.
        Resource.objects.bulk_create(sorted(self._resources, key=lambda resource: resource.name))
        Location.objects.bulk_create(self._locations)
        return results

    def _decide(self, one: Wanted) -> dict[str, Any]:
        in_the_way = self._by_name.get(one.name) if one.name is not None else self._by_sha1.get(one.sha1)
        if in_the_way is not None and _is_same(one, in_the_way):
            return {"status": "exists", "resource": in_the_way.record}
        if errors := self._errors(one):
            return refused(errors)
        return self._add(one)

    def _errors(self, one: Wanted) -> Errors:
        errors: Errors = {}
        if one.name is not None and one.name in self._by_name:
            errors["name"] = ["a resource with this name already exists"]
        if one.sha1 is not None and one.sha1 in self._by_sha1:
            errors["sha1"] = ["a resource with this sha1 already exists"]
        if one.dtype not in self._dtypes:
            errors["dtype"] = [f"no such dtype '{one.dtype}'"]
        if one.experimenter is not None and one.experimenter not in self._users:
            errors["experimenter"] = [f"no such user '{one.experimenter}'"]
        if one.animal is not None and one.animal not in self._animals:
            errors["animal"] = [f"no such animal '{one.animal}'"]
        unknown = {
            str(position): [f"no such archive '{place.archive}'"]
            for position, place in enumerate(one.places)
            if place.archive not in self._archives
        }
        taken = [
            f"key '{place.key}' is already used in archive '{place.archive}'"
            for place in one.places
            if place.key is not None and (place.archive, place.key) in self._keys
        ]
        if unknown or taken:
            errors["locations"] = unknown or taken[:1]
        return errors

    def _add(self, one: Wanted) -> dict[str, Any]:
        name = next(self._fresh) if one.name is None else one.name
        resource = Resource(
            name=name,
            sha1=one.sha1,
            dtype=self._dtypes[one.dtype],
            metadata=one.metadata,
            experimenter=self._users.get(one.experimenter),
            animal=self._animals.get(one.animal),
            created_by=self._user,
        )
        self._resources.append(resource)
        for place in one.places:
            self._locations.append(Location(resource=resource, archive=self._archives[place.archive], key=place.key))
            if place.key is not None:
                self._keys.add((place.archive, place.key))
        # What comes later in this batch meets it as it meets what was registered before.
        known = Known(_record_of(one, name), {place.archive: place.key for place in one.places})
        self._by_name[name] = known
        if one.sha1 is not None:
            self._by_sha1[one.sha1] = known
        return created(name)


def _record_of(one: Wanted, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "sha1": one.sha1,
        "dtype": one.dtype,
        "metadata": one.shown_metadata(),
        "experimenter": one.experimenter,
        "animal": one.animal,
        "locations": sorted(place.archive for place in one.places),
    }


def _is_same(one: Wanted, known: Known) -> bool:
    record = known.record
    return (
        one.name in (None, record["name"])
        and (one.sha1, one.dtype) == (record["sha1"], record["dtype"])
        and one.shown_metadata() == (record["metadata"] or {})
        and (one.experimenter, one.animal) == (record["experimenter"], record["animal"])
        and all(known.keys.get(place.archive, place) == place.key for place in one.places)
    )


def _animals(wanted: set[str]) -> dict[str | None, Any]:
    model = get_animal_model()
    return {str(found.pk): found for chunk in chunks(wanted) for found in model.objects.filter(pk__in=chunk)}


def _archives(names: Iterable[str]) -> dict[str, Any]:
    return {found.name: found for chunk in chunks(set(names)) for found in Archive.objects.filter(name__in=chunk)}


def _used_keys(places: Iterable[Place]) -> set[tuple[str, str]]:
    """Those of the keys of `places` that some location of any archive has, with the archive's name."""
    return {
        found
        for chunk in chunks({place.key for place in places if place.key is not None})
        for found in Location.objects.filter(key__in=chunk).order_by().values_list("archive__name", "key")
    }


def _fresh_names(count: int) -> list[str]:
    """`count` identifiers that nothing has yet, as django-neurobank makes them up."""
    fresh: set[str] = set()
    while len(fresh) < count:
        fresh |= {random_id() for _ in range(count - len(fresh))}
        for chunk in chunks(list(fresh)):
            fresh -= set(Resource.objects.filter(name__in=chunk).order_by().values_list("name", flat=True))
    return list(fresh)


# --- locations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Located:
    """What ``batch/locate/`` did: a result per item, and the archives that the results name."""

    results: list[dict[str, Any]]
    archives: dict[str, dict[str, str]]


def locate(items: Sequence[Any]) -> Located:
    """Add what can be, of ``{"resource_name", "archive_name", "key"?}``.

    Returns:
        For each item, in order, ``created``, ``exists`` (with this very key) or ``refused``.
    """
    checked = [check_location(item) for item in items]
    return settle(lambda: _locate(checked))


def _locate(checked: Sequence[tuple[str, Place] | Errors]) -> Located:
    wanted = [one for one in checked if isinstance(one, tuple)]
    archives = _archives(place.archive for _, place in wanted)
    resources = {
        name: id_
        for chunk in chunks({name for name, _ in wanted})
        for id_, name in Resource.objects.filter(name__in=chunk).order_by().values_list("id", "name")
    }
    there = {
        (resource, archive): key
        for chunk in chunks(resources.values())
        for resource, archive, key in Location.objects.filter(resource_id__in=chunk)
        .order_by()
        .values_list("resource__name", "archive__name", "key")
    }
    keys = _used_keys(place for _, place in wanted)
    new: list[Any] = []

    def decide(name: str, place: Place) -> dict[str, Any]:
        errors: Errors = {}
        if name not in resources:
            errors["resource_name"] = [f"no such resource '{name}'"]
        if place.archive not in archives:
            errors["archive_name"] = [f"no such archive '{place.archive}'"]
        pair = (name, place.archive)
        if pair in there:
            if there[pair] == place.key:
                return {"status": "exists"}
            errors["key"] = ["the location has another key"]
        elif place.key is not None and (place.archive, place.key) in keys:
            errors["key"] = ["another resource in this archive already has this key"]
        if errors:
            return refused(errors)
        new.append(Location(resource_id=resources[name], archive=archives[place.archive], key=place.key))
        there[pair] = place.key
        if place.key is not None:
            keys.add((place.archive, place.key))
        return {"status": "created"}

    results = [decide(*one) if isinstance(one, tuple) else refused(one) for one in checked]
    Location.objects.bulk_create(sorted(new, key=lambda location: location.resource_id))
    shown = {name: {"scheme": archive.scheme, "root": archive.root} for name, archive in archives.items()}
    return Located(results, shown)
