"""Reading a collection whole, by `_id` keyset: how pages are asked for, and when the walk is really at its end.

The walk asks for the records after the last ``_id`` it has seen, in ``_id`` order. A page may be shorter than asked
for (the REST gateway cuts pages at its payload limit), so only an empty page ends it, and only after the lowest and
the highest ``_id`` have been asked for too: an empty page before the highest one is a fault, not the end. Records that
are there from beginning to end are read exactly once, whatever is inserted and deleted meanwhile.

A comparison in MongoDB only finds values of the same type, so the walk goes through the ``_id`` values that are text
(as all of the institute's are), and then reads what has another ``_id`` in one answer, if there is any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from aind_pipelines.clients.errors import UnexpectedAnswer

Record = dict[str, Any]
Query = Mapping[str, Any]

SERVICE = "DocDB"
_EMPTY_PAGES = 3
NOT_TEXT: Query = {"_id": {"$not": {"$gte": ""}}}
"""Filter of the records whose ``_id`` is no text."""


class OversizedRecord(dict[str, Any]):
    """Stands, with its ``_id`` alone, for a record that is too large for the gateway to hand over."""


_Item = TypeVar("_Item")
_Item_co = TypeVar("_Item_co", covariant=True)


class PageSource(Protocol[_Item_co]):
    """What the walk needs of a transport; every answer is complete or an error."""

    def page(self, bound: Query) -> Sequence[_Item_co]:
        """Some of the records, at least one if there is any, with ``_id`` in `bound`, lowest ``_id`` first.

        One that cannot be handed over is there as an `OversizedRecord`.
        """

    def end(self, direction: int) -> list[Any]:
        """The lowest (1) or highest (-1) ``_id`` of all, or nothing."""

    def others(self) -> Iterator[_Item_co]:
        """The records whose ``_id`` is no text."""


def id_of(record: Any) -> Any:
    """A record's ``_id``.

    Raises:
        UnexpectedAnswer: It has none, or is no record.
    """
    if not isinstance(record, dict) or "_id" not in record:
        raise UnexpectedAnswer(SERVICE, "a record came without its _id.")
    return record["_id"]


def walk(
    source: PageSource[_Item], after_id: str | None = None, identify: Callable[[_Item], Any] = id_of
) -> Iterator[_Item]:
    """Every record of a source, once.

    Args:
        source: Transport and filter.
        after_id: Go on after this ``_id``, the last one of an earlier walk.
        identify: Tells the ``_id`` of what the source gives.

    Raises:
        UnexpectedAnswer: Pages are not in order, or end before the last record.
        ServiceError: As raised by the source.
    """
    last = after_id
    others: set[str] | None = None
    for _ in range(_EMPTY_PAGES):
        for record in _text_ids(source, last, identify):
            last = identify(record)
            yield record
        highest = source.end(-1)
        if not highest:
            return
        if others is None:
            others = set()
            lowest = source.end(1)
            if highest[0] != last or not lowest or not isinstance(lowest[0], str):
                for record in source.others():
                    others.add(str(identify(record)))
                    yield record
        if str(highest[0]) in others or (last is not None and str(highest[0]) <= last):
            return
    raise UnexpectedAnswer(
        SERVICE,
        f"no more records come after _id {last!r}, although {highest[0]!r} exists. Repeat the read; if it fails "
        "again, look at what is between here and DocDB.",
    )


def _text_ids(source: PageSource[_Item], last: str | None, identify: Callable[[_Item], Any]) -> Iterator[_Item]:
    """Pages until an empty one."""
    while page := source.page({"$gte": ""} if last is None else {"$gt": last}):
        for record in page:
            identity = identify(record)
            if not isinstance(identity, str):
                raise UnexpectedAnswer(SERVICE, f"a page of records whose _id is text holds the _id {identity!r}.")
            if last is not None and identity <= last:
                raise UnexpectedAnswer(
                    SERVICE,
                    f"a page asked for after _id {last!r} holds {identity!r}: records would be read twice or missed. "
                    "Something between here and DocDB repeats or reorders pages.",
                )
            last = identity
            yield record


def with_id(query: Query | None, bound: Query) -> dict[str, Any]:
    """A filter together with a condition on ``_id``."""
    if not query:
        return {"_id": dict(bound)}
    if "_id" in query:
        return {"$and": [dict(query), {"_id": dict(bound)}]}
    return {**query, "_id": dict(bound)}


def with_id_shown(projection: Query | None) -> tuple[dict[str, Any] | None, bool]:
    """A projection that shows ``_id``, and whether ``_id`` must be taken out again afterwards."""
    if not projection:
        return None, False
    hidden = "_id" in projection and not projection["_id"]
    shown = {name: value for name, value in projection.items() if name != "_id"}
    if not hidden:
        return dict(projection), False
    return shown or None, True
