"""Many resources, or many locations, at once: all that is acceptable, in the caller's transaction, or nothing.

What is in the way is looked up by a few ``IN`` questions and the rest is inserted many rows at a time. Another writer
may come between the two; its rows are then in the way at the next try. No model object is made: they are most of the
cost of Django's own ``bulk_create``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from nbank_registry.models import Archive, DataType, Location, Resource, get_animal_model
from nbank_registry.tools import random_id
from rest_framework.exceptions import APIException

from aind_pipelines.services.registry.batch.checking import Errors, Place, Wanted, check_location, check_resource
from aind_pipelines.services.registry.batch.records import CHUNK, Known, chunks, read_by

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
        self._dtypes = dict(DataType.objects.order_by().values_list("name", "pk"))
        self._archives = dict(_archives(place.archive for one in wanted for place in one.places))
        self._users = {
            name: pk
            for chunk in chunks({one.experimenter for one in wanted} - {None})
            for name, pk in User.objects.filter(username__in=chunk).values_list("username", "pk")
        }
        self._animals = _animals({one.animal for one in wanted if one.animal is not None})
        found = list(read_by("name", {one.name for one in wanted if one.name is not None}))
        sha1s = {one.sha1 for one in wanted if one.sha1 is not None}
        found += read_by("sha1", sha1s - {known.record["sha1"] for known in found})
        self._by_name: dict[str | None, Known | Wanted] = {known.record["name"]: known for known in found}
        self._by_sha1: dict[str | None, Known | Wanted] = {
            known.record["sha1"]: known for known in found if known.record["sha1"] is not None
        }
        self._keys = _used_keys(place for one in wanted for place in one.places)
        self._fresh = iter(_fresh_names(sum(one.name is None for one in wanted)))
        self._new: list[Wanted] = []

    def results(self, checked: Sequence[Wanted | Errors]) -> list[dict[str, Any]]:
        """Insert what can be; a result for each of `checked`."""
        results = [self._decide(one) if isinstance(one, Wanted) else refused(one) for one in checked]
        # In one order for everybody, so that two batches wait for each other instead of both waiting.
        self._new.sort(key=lambda one: str(one.name))
        self._insert()
        return results

    def _decide(self, one: Wanted) -> dict[str, Any]:
        in_the_way = self._by_name.get(one.name) if one.name is not None else self._by_sha1.get(one.sha1)
        if isinstance(in_the_way, Wanted):  # an earlier item of this batch
            in_the_way = _known(in_the_way)
        if in_the_way is not None and _is_same(one, in_the_way):
            return {"status": "exists", "resource": in_the_way.record}
        if errors := self._errors(one):
            return refused(errors)
        if one.name is None:
            one = replace(one, name=next(self._fresh))
        self._new.append(one)
        self._by_name[one.name] = one
        if one.sha1 is not None:
            self._by_sha1[one.sha1] = one
        self._keys.update((place.archive, place.key) for place in one.places if place.key is not None)
        return {"status": "created", "name": one.name}

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

    def _insert(self) -> None:
        if not self._new:
            return
        prepare = Resource._meta.get_field("metadata").get_db_prep_save
        now = Resource._meta.get_field("created_on").get_db_prep_save(timezone.now(), connection)
        rows = (
            (
                one.name,
                one.sha1,
                self._dtypes[one.dtype],
                now,
                self._user.pk,
                None if one.metadata is None else prepare(one.metadata, connection),
                self._users.get(one.experimenter),
                self._animals.get(one.animal),
            )
            for one in self._new
        )
        _insert(
            "INSERT INTO nbank_registry_resource"
            " (name, sha1, dtype_id, created_on, created_by_id, metadata, experimenter_id, animal_id) VALUES {rows}",
            "(%s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
        _insert_locations(
            (self._archives[place.archive], place.key, one.name) for one in self._new for place in one.places
        )


def _insert(statement: str, row: str, rows: Iterable[Sequence[Any]]) -> None:
    """Run `statement`, with `row` for each of `rows` in the place of ``{rows}``, for as many at once as may be."""
    remaining = iter(rows)
    with connection.cursor() as cursor:
        while chunk := list(islice(remaining, CHUNK // row.count("%s"))):
            sql = statement.format(rows=", ".join([row] * len(chunk)))
            cursor.execute(sql, [value for values in chunk for value in values])


def _insert_locations(places: Iterable[tuple[int, str | None, str | None]]) -> None:
    """Insert `places`, each an archive's primary key, a key or None, and a resource's name."""
    _insert(
        "WITH place (archive_id, key, name) AS (VALUES {rows})"
        " INSERT INTO nbank_registry_location (resource_id, archive_id, key)"
        " SELECT r.id, place.archive_id, place.key"
        " FROM place JOIN nbank_registry_resource r ON r.name = place.name",
        "(CAST(%s AS integer), CAST(%s AS text), CAST(%s AS text))",
        places,
    )


def _known(one: Wanted) -> Known:
    """An item of this batch, as it would be met had it been registered before."""
    record = {
        "name": one.name,
        "sha1": one.sha1,
        "dtype": one.dtype,
        "metadata": one.shown_metadata(),
        "experimenter": one.experimenter,
        "animal": one.animal,
        "locations": sorted(place.archive for place in one.places),
    }
    return Known(record, {place.archive: place.key for place in one.places})


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
    return {str(pk): pk for chunk in chunks(wanted) for (pk,) in model.objects.filter(pk__in=chunk).values_list("pk")}


def _archives(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    for chunk in chunks(set(names)):
        yield from Archive.objects.filter(name__in=chunk).order_by().values_list("name", "pk")


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
    archives = {
        found.name: found
        for chunk in chunks({place.archive for _, place in wanted})
        for found in Archive.objects.filter(name__in=chunk)
    }
    names = {
        name
        for chunk in chunks({name for name, _ in wanted})
        for name in Resource.objects.filter(name__in=chunk).order_by().values_list("name", flat=True)
    }
    there = {
        (resource, archive): key
        for chunk in chunks(names)
        for resource, archive, key in Location.objects.filter(resource__name__in=chunk)
        .order_by()
        .values_list("resource__name", "archive__name", "key")
    }
    keys = _used_keys(place for _, place in wanted)
    new: list[tuple[int, str | None, str | None]] = []

    def decide(name: str, place: Place) -> dict[str, Any]:
        errors: Errors = {}
        if name not in names:
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
        new.append((archives[place.archive].pk, place.key, name))
        there[pair] = place.key
        if place.key is not None:
            keys.add((place.archive, place.key))
        return {"status": "created"}

    results = [decide(*one) if isinstance(one, tuple) else refused(one) for one in checked]
    _insert_locations(sorted(new, key=lambda place: str(place[2])))
    shown = {name: {"scheme": archive.scheme, "root": archive.root} for name, archive in archives.items()}
    return Located(results, shown)
