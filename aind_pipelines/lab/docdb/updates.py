"""Update operators, replacements and what an upsert begins with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson import Regex, Timestamp

from aind_pipelines.lab.docdb import paths
from aind_pipelines.lab.docdb.errors import (
    CONFLICTING_UPDATE_OPERATORS,
    DOLLAR_PREFIXED_FIELD_NAME,
    FAILED_TO_PARSE,
    IMMUTABLE_FIELD,
    PATH_NOT_VIABLE,
    TYPE_MISMATCH,
    CommandError,
    bad_value,
    not_implemented,
)
from aind_pipelines.lab.docdb.expressions import arithmetic, now
from aind_pipelines.lab.docdb.matching import compile_filter, conjuncts, is_operators, regex_test
from aind_pipelines.lab.docdb.values import MISSING, equal, is_document, is_number, key, type_name

Update = Callable[[dict[str, Any], bool], dict[str, Any]]
"""Makes the new document of a decoded old one, which it may change; the flag says whether it is being inserted."""

_MAX_PADDING = 1_500_000


def compile_update(update: Any) -> Update:
    """A function that applies an update.

    Args:
        update: A replacement, a document of update operators, or a pipeline.

    Raises:
        CommandError: The update is malformed, or uses what is not supported.
    """
    if isinstance(update, list):
        from aind_pipelines.lab.docdb.pipeline import update_pipeline

        stages = update_pipeline(update)
        return lambda document, _: dict(next(iter(stages(iter([document])))))
    if not isinstance(update, Mapping):
        raise CommandError(FAILED_TO_PARSE, "an update must be a document or a pipeline")
    if is_replacement(update):
        for name in update:
            check_field_name(name)
        return lambda document, _: _replacement(document, update)
    changes = _changes(update)

    def apply(document: dict[str, Any], inserting: bool) -> dict[str, Any]:
        for parts, change, only_on_insert in changes:
            if inserting or not only_on_insert:
                change(document, parts)
        return document

    return apply


def is_replacement(update: Any) -> bool:
    """Whether an update is a whole new document."""
    return isinstance(update, Mapping) and not any(name.startswith("$") for name in list(update)[:1])


def check_field_name(name: str) -> None:
    """Refuse a top-level field name that MongoDB would take for an operator."""
    if name.startswith("$"):
        raise CommandError(
            DOLLAR_PREFIXED_FIELD_NAME, f"The dollar ($) prefixed field '{name}' is not valid for storage."
        )


def check_same_id(old: Any, document: Mapping[str, Any]) -> None:
    """Refuse an update that changed ``_id``."""
    if "_id" not in document or not equal(document["_id"], old):
        raise CommandError(
            IMMUTABLE_FIELD, "Performing an update on the path '_id' would modify the immutable field '_id'"
        )


def upsert_seed(query: Mapping[str, Any]) -> dict[str, Any]:
    """The document that an upsert begins with: what the filter says the fields are equal to."""
    seed: dict[str, Any] = {}
    for path, operator, argument in conjuncts(query):
        values = argument if operator in ("$in", "$all") and isinstance(argument, list) else [argument]
        if path and operator in ("$eq", "$all") and len(values) == 1 and not is_operators(values[0]):
            _set(seed, path.split("."), values[0])
    return seed


def _replacement(document: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(update)
    if "_id" in document:
        if "_id" in new:
            check_same_id(document["_id"], new)
        new = {"_id": document["_id"], **new}
        new["_id"] = document["_id"]
    return new


Change = Callable[[dict[str, Any], Sequence[str]], None]


def _changes(update: Mapping[str, Any]) -> list[tuple[list[str], Change, bool]]:
    changes: list[tuple[list[str], Change, bool]] = []
    for operator, arguments in update.items():
        if not operator.startswith("$"):
            raise CommandError(FAILED_TO_PARSE, f"Unknown modifier: {operator}")
        if operator == "$bit":
            raise not_implemented("the update operator $bit")
        if operator not in _OPERATORS:
            raise CommandError(FAILED_TO_PARSE, f"Unknown modifier: {operator}")
        if not isinstance(arguments, Mapping):
            raise CommandError(
                FAILED_TO_PARSE, f"Modifiers operate on fields but we found {arguments!r} for {operator}"
            )
        for path, argument in arguments.items():
            parts = path.split(".")
            if not all(parts):
                raise CommandError(56, f"The update path '{path}' contains an empty field name")
            if any(part.startswith("$") for part in parts):
                raise not_implemented(f"the positional update path {path!r}")
            changes.append((parts, _OPERATORS[operator](path, argument), operator == "$setOnInsert"))
            if operator == "$rename":
                changes.append((str(argument).split("."), _nothing, False))
    _check_conflicts([parts for parts, _, _ in changes])
    # MongoDB adds new fields in the order of their names, numbers by size.
    return sorted(
        changes, key=lambda change: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in change[0]]
    )


def _nothing(document: dict[str, Any], parts: Sequence[str]) -> None:
    """The target of a ``$rename``: it takes part in the search for conflicts only."""


def _check_conflicts(every: Sequence[Sequence[str]]) -> None:
    seen: list[Sequence[str]] = []
    for parts in sorted(every, key=list):
        if seen and list(parts[: len(seen[-1])]) == list(seen[-1]):
            path = ".".join(parts)
            raise CommandError(
                CONFLICTING_UPDATE_OPERATORS, f"Updating the path '{path}' would create a conflict at '{path}'"
            )
        seen.append(parts)


def _get(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if is_document(value):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and (place := paths.position(part)) is not None and place < len(value):
            value = value[place]
        else:
            return MISSING
    return value


def _set(document: dict[str, Any], parts: Sequence[str], new: Any) -> None:
    container: Any = document
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if isinstance(container, dict):
            if last:
                container[part] = new
            else:
                container = container.setdefault(part, {})
        elif isinstance(container, list):
            index = paths.position(part)
            if index is None:
                raise _not_viable(part, container)
            if index - len(container) > _MAX_PADDING:
                raise bad_value(f"cannot pad an array to {index} elements")
            while len(container) <= index:
                container.append(None if last or len(container) < index else {})
            if last:
                container[index] = new
            else:
                container = container[index]
        else:
            raise _not_viable(part, container)


def _not_viable(part: str, container: Any) -> CommandError:
    return CommandError(PATH_NOT_VIABLE, f"Cannot create field '{part}' in an element of type {type_name(container)}")


def _set_change(_: str, argument: Any) -> Change:
    return lambda document, parts: _set(document, parts, argument)


def _unset_change(_: str, __: Any) -> Change:
    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        container = _get(document, parts[:-1])
        if isinstance(container, dict):
            container.pop(parts[-1], None)
        elif isinstance(container, list):
            place = paths.position(parts[-1])
            if place is not None and place < len(container):
                container[place] = None

    return change


def _arithmetic_change(operator: str) -> Callable[[str, Any], Change]:
    function = "$add" if operator == "$inc" else "$multiply"

    def compiled(path: str, argument: Any) -> Change:
        if not is_number(argument):
            raise CommandError(TYPE_MISMATCH, f"Cannot apply {operator} with a non-numeric argument at {path}")

        def change(document: dict[str, Any], parts: Sequence[str]) -> None:
            old = _get(document, parts)
            if old is MISSING:
                _set(document, parts, argument if operator == "$inc" else arithmetic("$multiply", argument, 0))
                return
            if not is_number(old):
                raise CommandError(
                    TYPE_MISMATCH, f"Cannot apply {operator} to a value of non-numeric type {type_name(old)} at {path}"
                )
            _set(document, parts, arithmetic(function, old, argument))

        return change

    return compiled


def _extreme_change(wins: Callable[[bytes, bytes], bool]) -> Callable[[str, Any], Change]:
    def compiled(_: str, argument: Any) -> Change:
        def change(document: dict[str, Any], parts: Sequence[str]) -> None:
            old = _get(document, parts)
            if old is MISSING or wins(key(argument), key(old)):
                _set(document, parts, argument)

        return change

    return compiled


def _rename_change(path: str, argument: Any) -> Change:
    if not isinstance(argument, str) or not all(argument.split(".")):
        raise bad_value(f"The 'to' field for $rename must be a path: {path}")
    target = argument.split(".")

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        for each in (parts, target):
            for length in range(1, len(each)):
                if isinstance(_get(document, each[:length]), list):
                    raise bad_value(f"$rename cannot reach into an array: {'.'.join(each)}")
        container = _get(document, parts[:-1])
        if isinstance(container, dict) and parts[-1] in container:
            value = container.pop(parts[-1])
            _unset_change(path, None)(document, target)
            _set(document, target, value)

    return change


def _current_date_change(path: str, argument: Any) -> Change:
    wanted = argument.get("$type") if isinstance(argument, Mapping) else "date"
    if wanted not in ("date", "timestamp") or (not isinstance(argument, bool | Mapping)):
        raise bad_value(f"$currentDate at {path} needs true, or a $type of date or timestamp")

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        _set(document, parts, Timestamp(int(time.time()), 1) if wanted == "timestamp" else now())

    return change


def _array_at(document: dict[str, Any], parts: Sequence[str], operator: str) -> list[Any] | None:
    value = _get(document, parts)
    if value is MISSING:
        return None
    if not isinstance(value, list):
        raise bad_value(
            f"The field '{'.'.join(parts)}' must be an array for {operator} but is of type {type_name(value)}"
        )
    return value


def _each(argument: Any, allowed: tuple[str, ...], operator: str) -> tuple[list[Any], Mapping[str, Any]]:
    if not (isinstance(argument, Mapping) and "$each" in argument):
        return [argument], {}
    if not isinstance(argument["$each"], list):
        raise CommandError(TYPE_MISMATCH, f"The argument to $each in {operator} must be an array")
    unknown = [name for name in argument if name not in allowed]
    if unknown:
        raise bad_value(f"Unrecognized clause in {operator}: {unknown[0]}")
    return argument["$each"], argument


def _push_change(_: str, argument: Any) -> Change:
    items, options = _each(argument, ("$each", "$position", "$slice", "$sort"), "$push")
    order = options.get("$sort")
    if order is not None and order not in (1, -1) and not isinstance(order, Mapping):
        raise bad_value("$sort in $push must be 1, -1 or a document")

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        array = list(_array_at(document, parts, "$push") or [])
        position = int(options.get("$position", len(array)))
        array[position:position] = items
        if isinstance(order, Mapping):
            sort = [(path.split("."), int(direction)) for path, direction in order.items()]
            array.sort(key=lambda item: paths.sort_key(item if is_document(item) else {}, sort))
        elif order is not None:
            array.sort(key=key, reverse=order < 0)
        if "$slice" in options:
            amount = int(options["$slice"])
            array = array[:amount] if amount >= 0 else array[amount:]
        _set(document, parts, array)

    return change


def _add_to_set_change(_: str, argument: Any) -> Change:
    items, _options = _each(argument, ("$each",), "$addToSet")

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        old = _array_at(document, parts, "$addToSet")
        array = list(old or [])
        known = {key(item) for item in array}
        for item in items:
            if key(item) not in known:
                known.add(key(item))
                array.append(item)
        if old is None or len(array) > len(old):
            _set(document, parts, array)

    return change


def _pop_change(path: str, argument: Any) -> Change:
    if argument not in (1, -1):
        raise CommandError(FAILED_TO_PARSE, f"$pop expects 1 or -1 at {path}")

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        array = _array_at(document, parts, "$pop")
        if array:
            array.pop(-1 if argument == 1 else 0)

    return change


def _pull_test(argument: Any) -> Callable[[Any], bool]:
    if isinstance(argument, Regex):
        return regex_test(argument)
    if not isinstance(argument, Mapping):
        return lambda item: equal(item, argument)
    if is_operators(argument):
        value = compile_filter({"value": argument})
        return lambda item: value({"value": item})
    document = compile_filter(argument)
    return lambda item: is_document(item) and document(item)


def _pull_change(_: str, argument: Any) -> Change:
    matches = _pull_test(argument)

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        array = _array_at(document, parts, "$pull")
        if array is not None:
            array[:] = [item for item in array if not matches(item)]

    return change


def _pull_all_change(path: str, argument: Any) -> Change:
    if not isinstance(argument, list):
        raise bad_value(f"$pullAll requires an array argument at {path}")

    def change(document: dict[str, Any], parts: Sequence[str]) -> None:
        array = _array_at(document, parts, "$pullAll")
        if array is not None:
            array[:] = [item for item in array if not any(equal(item, taken) for taken in argument)]

    return change


_OPERATORS: dict[str, Callable[[str, Any], Change]] = {
    "$set": _set_change,
    "$setOnInsert": _set_change,
    "$unset": _unset_change,
    "$inc": _arithmetic_change("$inc"),
    "$mul": _arithmetic_change("$mul"),
    "$min": _extreme_change(lambda new, old: new < old),
    "$max": _extreme_change(lambda new, old: new > old),
    "$rename": _rename_change,
    "$currentDate": _current_date_change,
    "$push": _push_change,
    "$addToSet": _add_to_set_change,
    "$pop": _pop_change,
    "$pull": _pull_change,
    "$pullAll": _pull_all_change,
}
