"""Aggregation expressions: ``"$subject.subject_id"``, ``{"$cond": [...]}`` and their like.

An expression is compiled to a function of a scope (the document as ``ROOT`` and ``CURRENT``, and variables). It gives
`MISSING` where MongoDB's gives nothing. Operators that are not in the table are refused.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from bson import Int64

from aind_pipelines.lab.docdb import limits
from aind_pipelines.lab.docdb.errors import BAD_VALUE, OVERFLOW, CommandError, not_implemented
from aind_pipelines.lab.docdb.matching import compile_regex
from aind_pipelines.lab.docdb.values import (
    MISSING,
    Document,
    equal,
    is_document,
    is_number,
    key,
    type_name,
)

Scope = Mapping[str, Any]
Expression = Callable[[Scope], Any]

_LONG = 1 << 63
_INT = 1 << 31


def scope(document: Document) -> dict[str, Any]:
    """The scope in which a stage sees a document."""
    return {"ROOT": document, "CURRENT": document}


def now() -> dt.datetime:
    """The time as a stored date has it: UTC without a zone, whole milliseconds."""
    moment = dt.datetime.now(dt.UTC)
    return moment.replace(tzinfo=None, microsecond=moment.microsecond // 1000 * 1000)


def truthy(value: Any) -> bool:
    """MongoDB's idea of true: everything but false, null, nothing and zero."""
    if value is None or value is MISSING or value is False:
        return False
    return not (is_number(value) and value == 0)


def compile_expression(source: Any) -> Expression:
    """Compile an expression.

    Raises:
        CommandError: It is malformed, or uses an operator that is not supported.
    """
    if isinstance(source, str) and source.startswith("$"):
        return _path(source)
    if isinstance(source, Mapping):
        names = list(source)
        if names and names[0].startswith("$"):
            if len(names) != 1:
                raise CommandError(15983, "an object representing an expression must have exactly one field")
            return _operator(names[0], source[names[0]])
        if any(name.startswith("$") for name in names):
            raise CommandError(15983, "an object cannot mix fields and operators")
        fields = {name: compile_expression(value) for name, value in source.items()}

        def document(variables: Scope) -> dict[str, Any]:
            made = ((name, expression(variables)) for name, expression in fields.items())
            return {name: value for name, value in made if value is not MISSING}

        return document
    if isinstance(source, list):
        items = [compile_expression(item) for item in source]
        return lambda variables: [_or_null(item(variables)) for item in items]
    return lambda _: source


def _or_null(value: Any) -> Any:
    return None if value is MISSING else value


def _nullish(value: Any) -> bool:
    return value is None or value is MISSING


def _path(source: str) -> Expression:
    if not source.startswith("$$"):
        parts = source[1:].split(".")
        if not all(parts):
            raise CommandError(15998, f"FieldPath {source!r} has an empty field name")
        return lambda variables: _descend(variables["CURRENT"], parts)
    name, *parts = source[2:].split(".")
    if name == "REMOVE":
        return lambda _: MISSING
    if name == "NOW":
        return lambda _: now()
    if name in ("CLUSTER_TIME", "SEARCH_META", "USER_ROLES"):
        raise not_implemented(f"the variable $${name}")

    def variable(variables: Scope) -> Any:
        if name not in variables:
            raise CommandError(17276, f"Use of undefined variable: {name}")
        return _descend(variables[name], parts)

    return variable


def _descend(value: Any, parts: list[str]) -> Any:
    for position, part in enumerate(parts):
        if is_document(value):
            value = value.get(part, MISSING)
        elif isinstance(value, list):
            inner = (_descend(item, parts[position:]) for item in value if isinstance(item, list) or is_document(item))
            return [item for item in inner if item is not MISSING]
        else:
            return MISSING
    return value


def _operator(name: str, argument: Any) -> Expression:
    if name in _SPECIAL:
        return _SPECIAL[name](argument)
    if name in _FUNCTIONS:
        least, most, function = _FUNCTIONS[name]
        sources = argument if isinstance(argument, list) else [argument]
        if not least <= len(sources) <= (most or len(sources)):
            raise CommandError(
                16020, f"Expression {name} takes {least} to {most} arguments, {len(sources)} were given"
            )
        compiled = [compile_expression(item) for item in sources]
        return lambda variables: function(*(item(variables) for item in compiled))
    raise not_implemented(f"the expression {name}")


def _named(
    operator: str, argument: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    if not isinstance(argument, Mapping):
        raise CommandError(28646, f"{operator} only supports an object as its argument")
    for name in required:
        if name not in argument:
            raise CommandError(28648, f"Missing {name!r} parameter to {operator}")
    for name in argument:
        if name not in required + optional:
            raise CommandError(28647, f"Unrecognized parameter to {operator}: {name}")
    return argument


def _cond(argument: Any) -> Expression:
    if isinstance(argument, list):
        if len(argument) != 3:
            raise CommandError(16020, "Expression $cond takes exactly 3 arguments")
        argument = dict(zip(("if", "then", "else"), argument, strict=True))
    parts = _named("$cond", argument, ("if", "then", "else"))
    test, then, other = (compile_expression(parts[name]) for name in ("if", "then", "else"))
    return lambda variables: then(variables) if truthy(test(variables)) else other(variables)


def _switch(argument: Any) -> Expression:
    parts = _named("$switch", argument, ("branches",), ("default",))
    branches = []
    for branch in parts["branches"]:
        named = _named("$switch", branch, ("case", "then"))
        branches.append((compile_expression(named["case"]), compile_expression(named["then"])))
    default = compile_expression(parts["default"]) if "default" in parts else None

    def chosen(variables: Scope) -> Any:
        for case, then in branches:
            if truthy(case(variables)):
                return then(variables)
        if default is None:
            raise CommandError(40066, "$switch could not find a matching branch, and no default was specified")
        return default(variables)

    return chosen


def _let(argument: Any) -> Expression:
    parts = _named("$let", argument, ("vars", "in"))
    variables_made = {name: compile_expression(value) for name, value in parts["vars"].items()}
    body = compile_expression(parts["in"])
    return lambda variables: body({**variables, **{name: value(variables) for name, value in variables_made.items()}})


def _array_argument(operator: str, value: Any) -> list[Any] | None:
    if _nullish(value):
        return None
    if not isinstance(value, list):
        raise CommandError(28651, f"input to {operator} must be an array not {type_name(value)}")
    return value


def _filter(argument: Any) -> Expression:
    parts = _named("$filter", argument, ("input", "cond"), ("as",))
    source, test, name = compile_expression(parts["input"]), compile_expression(parts["cond"]), parts.get("as", "this")

    def kept(variables: Scope) -> Any:
        items = _array_argument("$filter", source(variables))
        if items is None:
            return None
        return [item for item in items if truthy(test({**variables, name: item}))]

    return kept


def _map(argument: Any) -> Expression:
    parts = _named("$map", argument, ("input", "in"), ("as",))
    source, body, name = compile_expression(parts["input"]), compile_expression(parts["in"]), parts.get("as", "this")

    def mapped(variables: Scope) -> Any:
        items = _array_argument("$map", source(variables))
        return None if items is None else [_or_null(body({**variables, name: item})) for item in items]

    return mapped


def _reduce(argument: Any) -> Expression:
    parts = _named("$reduce", argument, ("input", "initialValue", "in"))
    source, start, body = (compile_expression(parts[name]) for name in ("input", "initialValue", "in"))

    def reduced(variables: Scope) -> Any:
        items = _array_argument("$reduce", source(variables))
        if items is None:
            return None
        value = start(variables)
        for item in items:
            value = body({**variables, "value": value, "this": item})
        return value

    return reduced


def _regex_match(argument: Any) -> Expression:
    parts = _named("$regexMatch", argument, ("input", "regex"), ("options",))
    source, pattern = compile_expression(parts["input"]), compile_regex(parts["regex"], parts.get("options"))
    of_command = limits.current.get()

    def found(variables: Scope) -> bool:
        text = source(variables)
        if _nullish(text):
            return False
        return pattern.finds(_text("$regexMatch", text), of_command)

    return found


def _and(argument: Any) -> Expression:
    parts = [compile_expression(item) for item in (argument if isinstance(argument, list) else [argument])]
    return lambda variables: all(truthy(part(variables)) for part in parts)


def _or(argument: Any) -> Expression:
    parts = [compile_expression(item) for item in (argument if isinstance(argument, list) else [argument])]
    return lambda variables: any(truthy(part(variables)) for part in parts)


def _trim(name: str, left: bool, right: bool) -> Callable[[Any], Expression]:
    def compiled(argument: Any) -> Expression:
        parts = _named(name, argument, ("input",), ("chars",))
        source = compile_expression(parts["input"])
        chars = compile_expression(parts.get("chars"))

        def trimmed(variables: Scope) -> Any:
            text, letters = source(variables), chars(variables)
            if _nullish(text) or ("chars" in parts and _nullish(letters)):
                return None
            return _stripped(_text(name, text), _text(name, letters) if "chars" in parts else None, left, right)

        return trimmed

    return compiled


def _stripped(text: str, letters: str | None, left: bool, right: bool) -> str:
    """A text without the letters at its ends; None for them means white space.

    Not `str.strip`, which looks through all of `letters` for each one of a text and lets no thread run meanwhile.
    """
    among = None if letters is None else frozenset(letters)
    start, end = 0, len(text)
    while left and start < end and (text[start].isspace() if among is None else text[start] in among):
        start += 1
    while right and end > start and (text[end - 1].isspace() if among is None else text[end - 1] in among):
        end -= 1
    return text[start:end]


def _text(operator: str, value: Any) -> str:
    if not isinstance(value, str):
        raise CommandError(16702, f"{operator} only supports strings, not {type_name(value)}")
    return value


def _text_or_empty(operator: str, value: Any) -> str:
    return "" if _nullish(value) else _text(operator, value)


def whole(value: int) -> int:
    """An integer in the type that MongoDB would give it.

    Raises:
        CommandError: It needs more than 64 bits.
    """
    if not -_LONG <= value < _LONG:
        raise CommandError(OVERFLOW, f"{value} is out of the range of a 64-bit integer")
    return value if -_INT <= value < _INT else Int64(value)


def arithmetic(operator: str, one: Any, other: Any) -> Any:
    """Add, subtract or multiply two numbers, by MongoDB's rules for their types."""
    for value in (one, other):
        if type_name(value) not in ("int", "long", "double"):
            raise CommandError(14, f"{operator} only supports numeric types, not {type_name(value)}")
    if operator == "$add":
        result = one + other
    elif operator == "$subtract":
        result = one - other
    else:
        result = one * other
    if isinstance(result, float):
        return result
    if isinstance(one, Int64) or isinstance(other, Int64):
        return Int64(whole(result))
    return whole(result)


def _date_arithmetic(operator: str, one: Any, other: Any) -> Any:
    if operator == "$subtract" and isinstance(one, dt.datetime) and isinstance(other, dt.datetime):
        return Int64((one - other) // dt.timedelta(milliseconds=1))
    if isinstance(one, dt.datetime) and is_number(other):
        step = dt.timedelta(milliseconds=round(other))
        return one - step if operator == "$subtract" else one + step
    if operator == "$add" and isinstance(other, dt.datetime) and is_number(one):
        return other + dt.timedelta(milliseconds=round(one))
    return arithmetic(operator, one, other)


def _fold(operator: str) -> Callable[..., Any]:
    def folded(*values: Any) -> Any:
        if any(_nullish(value) for value in values):
            return None
        result = values[0]
        if len(values) == 1 and not isinstance(result, dt.datetime):
            return arithmetic("$multiply", result, 1)
        for value in values[1:]:
            result = _date_arithmetic(operator, result, value)
        return result

    return folded


def _divide(one: Any, other: Any) -> Any:
    if _nullish(one) or _nullish(other):
        return None
    if not is_number(one) or not is_number(other):
        raise CommandError(16609, "$divide only supports numeric types")
    if other == 0:
        raise CommandError(BAD_VALUE, "can't $divide by zero")
    return one / other


def _mod(one: Any, other: Any) -> Any:
    if _nullish(one) or _nullish(other):
        return None
    if not is_number(one) or not is_number(other):
        raise CommandError(16611, "$mod only supports numeric types")
    if other == 0:
        raise CommandError(16610, "can't $mod by zero")
    if isinstance(one, float) or isinstance(other, float):
        return math.fmod(one, other)
    rest = abs(one) % abs(other)
    return -rest if one < 0 else rest


def _rounding(name: str, function: Callable[[float], int]) -> Callable[[Any], Any]:
    def applied(value: Any) -> Any:
        if _nullish(value):
            return None
        if not is_number(value):
            raise CommandError(28765, f"{name} only supports numeric types, not {type_name(value)}")
        return float(function(value)) if isinstance(value, float) and math.isfinite(value) else value

    return applied


def _absolute(value: Any) -> Any:
    if _nullish(value):
        return None
    if not is_number(value):
        raise CommandError(28765, f"$abs only supports numeric types, not {type_name(value)}")
    return abs(value) if isinstance(value, float) else whole(abs(value))


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1, in BSON's order across types; nothing sorts below null here."""
    if one is MISSING or other is MISSING:
        return (one is not MISSING) - (other is not MISSING)
    a, b = key(one), key(other)
    return (a > b) - (a < b)


def _if_null(*values: Any) -> Any:
    for value in values[:-1]:
        if not _nullish(value):
            return value
    return values[-1]


def _concat(*values: Any) -> Any:
    if any(_nullish(value) for value in values):
        return None
    return "".join(_text("$concat", value) for value in values)


def _split(text: Any, separator: Any) -> Any:
    if _nullish(text) or _nullish(separator):
        return None
    if not separator:
        raise CommandError(40087, "$split requires a non-empty separator")
    return _text("$split", text).split(_text("$split", separator))


def _substring(text: Any, start: Any, length: Any) -> str:
    value = _text_or_empty("$substrCP", text)
    if not is_number(start) or not is_number(length) or start < 0 or length < 0:
        raise CommandError(34450, "$substrCP needs a start and a length that are not negative")
    return value[int(start) : int(start) + int(length)]


def _size(value: Any) -> int:
    if not isinstance(value, list):
        raise CommandError(17124, f"The argument to $size must be an array, but was of type: {type_name(value)}")
    return len(value)


def _element(items: Any, position: Any) -> Any:
    if _nullish(items) or _nullish(position):
        return None
    if not isinstance(items, list):
        raise CommandError(28689, f"$arrayElemAt's first argument must be an array, but is {type_name(items)}")
    if not is_number(position) or position != int(position):
        raise CommandError(28690, "$arrayElemAt's second argument must be a whole number")
    index = int(position)
    return items[index] if -len(items) <= index < len(items) else MISSING


def _end(position: int) -> Callable[[Any], Any]:
    return lambda items: _element(items, position)


def _member(value: Any, items: Any) -> bool:
    if not isinstance(items, list):
        raise CommandError(40081, f"$in requires an array as a second argument, found: {type_name(items)}")
    return any(equal(_or_null(value), item) for item in items)


def _concat_arrays(*values: Any) -> Any:
    joined: list[Any] = []
    for value in values:
        items = _array_argument("$concatArrays", value)
        if items is None:
            return None
        joined.extend(items)
    return joined


def _slice(items: Any, first: Any, amount: Any = MISSING) -> Any:
    values = _array_argument("$slice", items)
    if values is None or _nullish(first) or amount is None:
        return None
    if amount is MISSING:
        return values[: int(first)] if first >= 0 else values[int(first) :]
    if amount <= 0:
        raise CommandError(28729, "Third argument to $slice must be positive")
    start = max(0, len(values) + int(first)) if first < 0 else int(first)
    return values[start : start + int(amount)]


def _reverse(items: Any) -> Any:
    values = _array_argument("$reverseArray", items)
    return None if values is None else values[::-1]


def _distinct(values: list[Any]) -> list[Any]:
    return list({key(value): value for value in reversed(values)}.values())[::-1]


def _set_union(*values: Any) -> Any:
    joined = _concat_arrays(*values)
    return None if joined is None else _distinct(joined)


def _set_intersection(*values: Any) -> Any:
    arrays = [_array_argument("$setIntersection", value) for value in values]
    known = [items for items in arrays if items is not None]
    if len(known) < len(arrays):
        return None
    common = set.intersection(*({key(item) for item in items} for items in known))
    return [item for item in _distinct(known[0]) if key(item) in common]


def _set_difference(one: Any, other: Any) -> Any:
    first, second = _array_argument("$setDifference", one), _array_argument("$setDifference", other)
    if first is None or second is None:
        return None
    taken = {key(item) for item in second}
    return [item for item in _distinct(first) if key(item) not in taken]


def _merge(*values: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values:
        if _nullish(value):
            continue
        if not is_document(value):
            raise CommandError(40400, f"$mergeObjects requires object inputs, but input is of type {type_name(value)}")
        merged.update(value)
    return merged


def _object_to_array(value: Any) -> Any:
    if _nullish(value):
        return None
    if not is_document(value):
        raise CommandError(40390, f"$objectToArray requires a document input, found: {type_name(value)}")
    return [{"k": name, "v": item} for name, item in value.items()]


def _array_to_object(value: Any) -> Any:
    items = _array_argument("$arrayToObject", value)
    if items is None:
        return None
    made: dict[str, Any] = {}
    for item in items:
        pair = [item["k"], item["v"]] if is_document(item) and set(item) == {"k", "v"} else item
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise CommandError(40386, "$arrayToObject needs documents with k and v, or pairs of a name and a value")
        made[pair[0]] = pair[1]
    return made


def _to_string(value: Any) -> Any:
    if _nullish(value):
        return None
    kind = type_name(value)
    if kind == "string":
        return value
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("int", "long", "objectId"):
        return str(value)
    if kind == "date" and isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    raise not_implemented(f"$toString of a {kind}")


def numbers_in(values: tuple[Any, ...]) -> list[Any]:
    """What an accumulator used as an expression works on: its arguments, or the one array that it was given."""
    return values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)


def total(values: list[Any]) -> Any:
    """The sum of the numbers among some values."""
    result: Any = 0
    for value in values:
        if is_number(value):
            result = arithmetic("$add", result, value)
    return result


def average(values: list[Any]) -> float | None:
    """The mean of the numbers among some values; None when there is none."""
    numbers = [value for value in values if is_number(value)]
    return sum(numbers) / len(numbers) if numbers else None


def extreme(values: list[Any], *, largest: bool) -> Any:
    """The smallest or largest value in BSON's order; null and nothing are passed over."""
    present = [value for value in values if not _nullish(value)]
    if not present:
        return None
    return max(present, key=key) if largest else min(present, key=key)


_SPECIAL: dict[str, Callable[[Any], Expression]] = {
    "$literal": lambda argument: lambda _: argument,
    "$cond": _cond,
    "$switch": _switch,
    "$let": _let,
    "$filter": _filter,
    "$map": _map,
    "$reduce": _reduce,
    "$regexMatch": _regex_match,
    "$and": _and,
    "$or": _or,
    "$trim": _trim("$trim", left=True, right=True),
    "$ltrim": _trim("$ltrim", left=True, right=False),
    "$rtrim": _trim("$rtrim", left=False, right=True),
}
_FUNCTIONS: dict[str, tuple[int, int | None, Callable[..., Any]]] = {
    "$not": (1, 1, lambda value: not truthy(value)),
    "$eq": (2, 2, lambda one, other: compare(one, other) == 0),
    "$ne": (2, 2, lambda one, other: compare(one, other) != 0),
    "$gt": (2, 2, lambda one, other: compare(one, other) > 0),
    "$gte": (2, 2, lambda one, other: compare(one, other) >= 0),
    "$lt": (2, 2, lambda one, other: compare(one, other) < 0),
    "$lte": (2, 2, lambda one, other: compare(one, other) <= 0),
    "$cmp": (2, 2, compare),
    "$ifNull": (2, None, _if_null),
    "$add": (1, None, _fold("$add")),
    "$subtract": (2, 2, _fold("$subtract")),
    "$multiply": (1, None, _fold("$multiply")),
    "$divide": (2, 2, _divide),
    "$mod": (2, 2, _mod),
    "$abs": (1, 1, _absolute),
    "$ceil": (1, 1, _rounding("$ceil", math.ceil)),
    "$floor": (1, 1, _rounding("$floor", math.floor)),
    "$concat": (1, None, _concat),
    "$toLower": (1, 1, lambda value: _ascii_case(_text_or_empty("$toLower", value), upper=False)),
    "$toUpper": (1, 1, lambda value: _ascii_case(_text_or_empty("$toUpper", value), upper=True)),
    "$split": (2, 2, _split),
    "$substrCP": (3, 3, _substring),
    "$strLenCP": (1, 1, lambda value: len(_text("$strLenCP", value))),
    "$strLenBytes": (1, 1, lambda value: len(_text("$strLenBytes", value).encode())),
    "$size": (1, 1, _size),
    "$isArray": (1, 1, lambda value: isinstance(value, list)),
    "$isNumber": (1, 1, is_number),
    "$type": (1, 1, type_name),
    "$arrayElemAt": (2, 2, _element),
    "$first": (1, 1, _end(0)),
    "$last": (1, 1, _end(-1)),
    "$in": (2, 2, _member),
    "$concatArrays": (1, None, _concat_arrays),
    "$slice": (2, 3, _slice),
    "$reverseArray": (1, 1, _reverse),
    "$setUnion": (1, None, _set_union),
    "$setIntersection": (1, None, _set_intersection),
    "$setDifference": (2, 2, _set_difference),
    "$mergeObjects": (1, None, lambda *values: _merge(*numbers_in(values))),
    "$objectToArray": (1, 1, _object_to_array),
    "$arrayToObject": (1, 1, _array_to_object),
    "$toString": (1, 1, _to_string),
    "$sum": (1, None, lambda *values: total(numbers_in(values))),
    "$avg": (1, None, lambda *values: average(numbers_in(values))),
    "$min": (1, None, lambda *values: extreme(numbers_in(values), largest=False)),
    "$max": (1, None, lambda *values: extreme(numbers_in(values), largest=True)),
}


def _ascii_case(text: str, *, upper: bool) -> str:
    """Change the case of ASCII letters only, as MongoDB does."""
    return "".join((letter.upper() if upper else letter.lower()) if letter.isascii() else letter for letter in text)
