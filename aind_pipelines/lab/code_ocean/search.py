"""Searching data assets, capsules and pipelines: filters, order and pages over what is kept in memory."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aind_pipelines.lab.code_ocean.query import Query, Term, parse

Item = dict[str, Any]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_KEPT_RESULTS = 8
_SORT_FIELDS = frozenset({"created", "type", "name", "size", "last_accessed"})
_PAGING = frozenset({"next_token", "offset", "limit"})


class BadSearch(Exception):
    """The parameters cannot be used; the message is what the caller is told."""


@dataclass(frozen=True)
class Page:
    """One page of a search.

    Attributes:
        ids: Of the items found, in order.
        next_token: Asks for the next page; None on the last one.
    """

    ids: list[str]
    next_token: str | None


class Searcher:
    """Searches one kind of item. Build a new one when the items have changed.

    Args:
        items: By id.
    """

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._items = items
        self._custom_fields = {
            str(name).lower() for item in items.values() for name in item.get("custom_metadata") or {}
        }
        self._names = sorted(
            {(word, key) for key, item in items.items() for word in _words(str(item.get("name", "")))}
        )
        self._results: OrderedDict[str, list[str]] = OrderedDict()

    def search(self, parameters: Mapping[str, Any]) -> Page:
        """One page of what `parameters`, as the SDK sends them, ask for.

        Raises:
            BadSearch: A parameter has the wrong form, or the token belongs to another search.
        """
        asked = {name: value for name, value in parameters.items() if value is not None}
        limit = _number(asked, "limit", DEFAULT_LIMIT)
        if not 1 <= limit <= MAX_LIMIT:
            raise BadSearch(f"limit must be between 1 and {MAX_LIMIT}")
        condition = {name: value for name, value in asked.items() if name not in _PAGING}
        digest = hashlib.sha256(json.dumps(condition, sort_keys=True).encode()).hexdigest()[:16]
        found = self._found(digest, condition)
        start = _number(asked, "offset", 0)
        if token := asked.get("next_token"):
            start = _continue_at(token, digest, found)
        if start < 0:
            raise BadSearch("offset must not be negative")
        ids = found[start : start + limit]
        end = start + len(ids)
        return Page(ids, _token(digest, end, ids[-1]) if ids and end < len(found) else None)

    def _found(self, digest: str, condition: Mapping[str, Any]) -> list[str]:
        if digest in self._results:
            self._results.move_to_end(digest)
            return self._results[digest]
        query = parse(_text(condition, "query"), self._custom_fields)
        checks = [*_field_checks(query), *_parameter_checks(condition)]
        found = [key for key in self._candidates(query) if all(check(self._items[key]) for check in checks)]
        order = _sort_key(condition, self._items)
        if order is not None:
            found.sort(key=order, reverse=condition.get("sort_order") == "desc")
        self._results[digest] = found
        if len(self._results) > _KEPT_RESULTS:
            self._results.popitem(last=False)
        return found

    def _candidates(self, query: Query) -> Iterable[str]:
        terms = query.fields.get("name")
        if terms is None:
            return self._items
        keys: set[str] = set()
        for term in terms:
            if term.phrase:
                keys |= {key for key, item in self._items.items() if _has_phrase(str(item.get("name", "")), term.text)}
            elif term.text and not term.too_long:
                keys |= self._with_prefix(term.text)
        return [key for key in self._items if key in keys] if len(keys) > 1 else keys

    def _with_prefix(self, prefix: str) -> set[str]:
        keys = set()
        for position in range(bisect_left(self._names, (prefix, "")), len(self._names)):
            word, key = self._names[position]
            if not word.startswith(prefix):
                break
            keys.add(key)
        return keys


def _words(text: str) -> list[str]:
    lower = text.lower()
    return [lower, *lower.split()]


def _has_phrase(text: str, phrase: str) -> bool:
    return f" {' '.join(phrase.split())} " in f" {' '.join(text.lower().split())} "


def _number(parameters: Mapping[str, Any], name: str, default: int) -> int:
    value = parameters.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadSearch(f"{name} must be an integer")
    return value


def _text(parameters: Mapping[str, Any], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        raise BadSearch(f"{name} must be a string")
    return value


def _token(digest: str, end: int, last: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([digest, end, last]).encode()).decode()


def _continue_at(token: Any, digest: str, found: list[str]) -> int:
    """Where the next page begins: after the last item seen, wherever it is now, so that a change skips nothing."""
    try:
        of, end, last = json.loads(base64.urlsafe_b64decode(str(token).encode()))
    except (ValueError, TypeError, binascii.Error):
        of, end, last = None, None, None
    if of != digest or not isinstance(end, int):
        raise BadSearch("next_token is invalid for this search")
    if 0 < end <= len(found) and found[end - 1] == last:
        return end
    return found.index(last) + 1 if last in found else end


Check = Callable[[Item], bool]


def _field_checks(query: Query) -> list[Check]:
    checks: list[Check] = []
    for name, terms in query.fields.items():
        if name != "name":  # answered by the index
            checks.append(_field_check(name, terms))
    checks += [_word_check(term) for term in query.words]
    return checks


def _field_check(name: str, terms: list[Term]) -> Check:
    wanted = {term.text for term in terms}
    if name == "tag":
        return lambda item: any(str(tag).lower() in wanted for tag in item.get("tags") or [])
    if name == "contained_data_id":
        return lambda item: any(
            str(part.get("id", "")).lower() in wanted for part in item.get("contained_data_assets") or []
        )
    if name in ("run_script", "commit_id"):
        key = name.removesuffix("_id")
        return lambda item: str((item.get("provenance") or {}).get(key, "")).lower() in wanted

    def custom(item: Item) -> bool:
        metadata = item.get("custom_metadata") or {}
        return any(str(key).lower() == name and str(value).lower() in wanted for key, value in metadata.items())

    return custom


def _word_check(term: Term) -> Check:
    def found(item: Item) -> bool:
        custom = item.get("custom_metadata") or {}
        places = [item.get("name"), item.get("description"), *(item.get("tags") or []), *custom.values()]
        texts = [str(place) for place in places if place is not None]
        if term.phrase:
            return any(_has_phrase(text, term.text) for text in texts)
        return not term.too_long and any(word.startswith(term.text) for text in texts for word in _words(text))

    return found


def _parameter_checks(condition: Mapping[str, Any]) -> list[Check]:
    checks: list[Check] = []
    archived = condition.get("archived", False)
    if not isinstance(archived, bool):
        raise BadSearch("archived must be true or false")
    checks.append(lambda item: bool(item.get("archived")) is archived)
    if "type" in condition:
        checks.append(lambda item: item.get("type") == condition["type"])
    if "status" in condition:
        checks.append(lambda item: item.get("status") == condition["status"])
    if condition.get("favorite"):
        checks.append(lambda item: bool(item.get("favorite")))
    if (origin := condition.get("origin")) is not None:
        if origin not in ("internal", "external"):
            raise BadSearch("origin must be internal or external")
        external = origin == "external"
        checks.append(lambda item: bool((item.get("source_bucket") or {}).get("external")) is external)
    if (ownership := condition.get("ownership")) is not None:
        if ownership not in ("private", "created", "shared"):
            raise BadSearch("ownership must be private, created or shared")
        checks.append(lambda item: bool(item.get("shared")) is (ownership == "shared"))
    filters = condition.get("filters", [])
    if not isinstance(filters, list) or not all(isinstance(each, dict) and each.get("key") for each in filters):
        raise BadSearch("filters must be a list of objects with a key")
    checks += [_filter_check(each) for each in filters]
    return checks


def _filter_check(wish: Mapping[str, Any]) -> Check:
    key = str(wish["key"]).lower()
    values = [value for value in (wish.get("value"), *(wish.get("values") or [])) if value is not None]
    wanted = {str(value).lower() for value in values}
    bounds = wish.get("range") or {}
    low, high = bounds.get("min"), bounds.get("max")
    exclude = bool(wish.get("exclude"))

    def within(value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (low is None or value >= low) and (high is None or value <= high)

    def passes(item: Item) -> bool:
        values = _values(item, key)
        hit = any(within(value) for value in values) if bounds else any(str(v).lower() in wanted for v in values)
        return hit is not exclude

    return passes


def _values(item: Item, key: str) -> list[Any]:
    if key == "tags":
        return item.get("tags") or []
    if key in ("name", "description"):
        return [item[key]] if item.get(key) is not None else []
    return [value for name, value in (item.get("custom_metadata") or {}).items() if str(name).lower() == key]


def _sort_key(condition: Mapping[str, Any], items: Mapping[str, Item]) -> Callable[[str], Any] | None:
    field, order = condition.get("sort_field"), condition.get("sort_order", "asc")
    if order not in ("asc", "desc"):
        raise BadSearch("sort_order must be asc or desc")
    if field is None:
        if "sort_order" in condition:
            raise BadSearch("sort_order needs a sort_field")
        return None
    if field not in _SORT_FIELDS:
        raise BadSearch(f"sort_field must be one of {', '.join(sorted(_SORT_FIELDS))}")
    if field in ("name", "type"):
        return lambda key: (str(items[key].get(field) or "").lower(), key)
    return lambda key: (items[key].get(field) or 0, key)
