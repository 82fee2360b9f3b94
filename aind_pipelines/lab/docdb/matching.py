"""Filters: compiled once, applied to many documents.

The operators are MongoDB's, with its rules: comparisons stay within one class of types, a condition holds when any
value at its path satisfies it, negations hold when none does, null also matches a missing field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson import Regex

from aind_pipelines.lab.docdb import limits, paths, regexes
from aind_pipelines.lab.docdb.errors import CommandError, bad_value, not_implemented
from aind_pipelines.lab.docdb.values import (
    MISSING,
    TYPE_CODES,
    Document,
    bracket,
    is_document,
    is_number,
    key,
    type_name,
    whole_number,
)

Predicate = Callable[[Document], bool]
ValueTest = Callable[[Any], bool]

_COMPARISONS = ("$gt", "$gte", "$lt", "$lte")
_NOT_IMPLEMENTED = {
    "$where", "$text", "$jsonSchema", "$near", "$nearSphere", "$geoWithin", "$geoIntersects", "$bitsAllClear",
    "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet", "$rand", "$sampleRate", "$uniqueDocs", "$geoNear", "$within",
}  # fmt: skip
_REGEX_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "u": re.UNICODE}


def compile_filter(query: Mapping[str, Any]) -> Predicate:
    """A function that tells whether a document matches `query`.

    Raises:
        CommandError: The filter is malformed, or uses what is not supported.
    """
    tests = [_clause(name, condition) for name, condition in query.items() if name != "$comment"]
    if not tests:
        return lambda _: True
    if len(tests) == 1:
        return tests[0]
    return lambda document: all(test(document) for test in tests)


def _clause(name: str, condition: Any) -> Predicate:
    if not name.startswith("$"):
        return _field(tuple(name.split(".")), condition)
    if name in ("$and", "$or", "$nor"):
        if not isinstance(condition, list) or not condition:
            raise bad_value(f"{name} must be a nonempty array")
        if not all(isinstance(part, Mapping) for part in condition):
            raise bad_value(f"{name} entries need to be full objects")
        parts = [compile_filter(part) for part in condition]
        if name == "$and":
            return lambda document: all(part(document) for part in parts)
        if name == "$or":
            return lambda document: any(part(document) for part in parts)
        return lambda document: not any(part(document) for part in parts)
    if name == "$expr":
        from aind_pipelines.lab.docdb import expressions

        expression = expressions.compile_expression(condition)
        return lambda document: expressions.truthy(expression(expressions.scope(document)))
    if name == "$alwaysTrue":
        return lambda _: True
    if name == "$alwaysFalse":
        return lambda _: False
    if name in _NOT_IMPLEMENTED:
        raise not_implemented(f"the operator {name}")
    raise bad_value(f"unknown top level operator: {name}")


def is_operators(condition: Any) -> bool:
    """Whether a field's condition is made of operators, rather than a value to be equal to."""
    if not isinstance(condition, Mapping) or not condition:
        return False
    first = next(iter(condition))
    return first.startswith("$") and first not in ("$ref", "$id", "$db")


def _field(parts: tuple[str, ...], condition: Any) -> Predicate:
    if not is_operators(condition):
        return _any(parts, regex_test(condition) if isinstance(condition, Regex) else equality_test(condition))
    tests = []
    for operator, argument in condition.items():
        if operator == "$options":
            if "$regex" not in condition:
                raise bad_value("$options needs a $regex")
            continue
        if operator == "$regex":
            tests.append(_any(parts, regex_test(argument, condition.get("$options"))))
        else:
            tests.append(_operator(parts, operator, argument))
    if len(tests) == 1:
        return tests[0]
    return lambda document: all(test(document) for test in tests)


def _any(parts: tuple[str, ...], test: ValueTest) -> Predicate:
    if len(parts) == 1:
        name = parts[0]

        def shallow(document: Document) -> bool:
            value = document.get(name, MISSING)
            if isinstance(value, list):
                return any(test(item) for item in value) or test(value)
            return test(value)

        return shallow
    return lambda document: any(test(value) for value in paths.candidates(document, parts))


def _any_leaf(parts: tuple[str, ...], test: ValueTest) -> Predicate:
    return lambda document: any(test(value) for value in paths.leaves(document, parts))


def _not(predicate: Predicate) -> Predicate:
    return lambda document: not predicate(document)


def _operator(parts: tuple[str, ...], operator: str, argument: Any) -> Predicate:
    if operator == "$eq":
        return _any(parts, equality_test(argument))
    if operator == "$ne":
        if isinstance(argument, Regex):
            raise bad_value("Can't have regex as arg to $ne.")
        return _not(_any(parts, equality_test(argument)))
    if operator in _COMPARISONS:
        return _any(parts, comparison_test(operator, argument))
    if operator in ("$in", "$nin"):
        found = _any(parts, membership_test(operator, argument))
        return found if operator == "$in" else _not(found)
    if operator == "$exists":
        wanted = bool(argument)
        return lambda document: paths.exists(document, parts) == wanted
    if operator == "$type":
        return _any(parts, _type_test(argument))
    if operator == "$not":
        return _not(_negated(parts, argument))
    if operator == "$elemMatch":
        return _any_leaf(parts, element_test(argument))
    if operator == "$all":
        return _all(parts, argument)
    if operator == "$size":
        size = whole_number(argument)
        if size is None or size < 0:
            raise bad_value("$size needs a whole number that is not negative")
        return _any_leaf(parts, lambda value: isinstance(value, list) and len(value) == size)
    if operator == "$mod":
        return _any(parts, _mod_test(argument))
    if operator in _NOT_IMPLEMENTED:
        raise not_implemented(f"the operator {operator}")
    raise bad_value(f"unknown operator: {operator}")


def _negated(parts: tuple[str, ...], argument: Any) -> Predicate:
    if isinstance(argument, Regex) or (is_operators(argument) and argument):
        return _field(parts, argument)
    raise bad_value("$not needs a regex or a document")


def equality_test(wanted: Any) -> ValueTest:
    """A test for being equal to a value."""
    if wanted is None:
        return lambda value: value is None or value is MISSING
    if type(wanted) is str:
        return lambda value: type(value) is str and value == wanted
    kind, encoded = bracket(wanted), key(wanted)
    return lambda value: value is not MISSING and bracket(value) == kind and key(value) == encoded


def comparison_test(operator: str, wanted: Any) -> ValueTest:
    """A test for one of ``$gt``, ``$gte``, ``$lt`` and ``$lte``."""
    if isinstance(wanted, Regex):
        raise bad_value(f"Can't have RegEx as arg to predicate over field with {operator}")
    if isinstance(wanted, float) and math.isnan(wanted):
        return equality_test(wanted) if operator in ("$gte", "$lte") else lambda _: False
    kind, encoded = bracket(wanted), key(wanted)
    not_a_number = key(math.nan)
    compare: Callable[[bytes], bool]
    if operator == "$gt":
        compare = encoded.__lt__
    elif operator == "$gte":
        compare = encoded.__le__
    elif operator == "$lt":
        compare = encoded.__gt__
    else:
        compare = encoded.__ge__
    if type_name(wanted) in ("minKey", "maxKey"):
        return lambda value: compare(key(value))

    def test(value: Any) -> bool:
        if bracket(value) != kind:
            return False
        own = key(value)
        return own != not_a_number and compare(own)

    return test


def membership_test(operator: str, wanted: Any) -> ValueTest:
    """A test for being equal to one of several values, or matching one of several regular expressions."""
    if not isinstance(wanted, list):
        raise bad_value(f"{operator} needs an array")
    for item in wanted:
        if is_operators(item):
            raise bad_value(f"cannot nest $ under {operator}")
    expressions = [regex_test(item) for item in wanted if isinstance(item, Regex)]
    keys = frozenset(key(item) for item in wanted if not isinstance(item, Regex))
    return lambda value: key(value) in keys or any(test(value) for test in expressions)


def compile_regex(pattern: Any, options: Any = None) -> regexes.Expression:
    """A MongoDB regular expression, ready to be searched for.

    Raises:
        CommandError: It is no regular expression, or not one that Python understands, or too large.
    """
    flags = 0
    if isinstance(pattern, Regex):
        flags = pattern.flags & (re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE)
        pattern = pattern.pattern
    if isinstance(pattern, bytes):
        pattern = pattern.decode()
    if not isinstance(pattern, str):
        raise bad_value("$regex has to be a string")
    if options is not None:
        if not isinstance(options, str):
            raise bad_value("$options has to be a string")
        flags = 0
        for letter in options:
            if letter not in _REGEX_FLAGS:
                raise CommandError(51108, f"invalid flag in regex options: {letter}")
            flags |= _REGEX_FLAGS[letter]
    if not flags & re.IGNORECASE:
        flags = (flags | re.ASCII) & ~re.UNICODE  # as PCRE has it: \d, \w and \b know ASCII only
    return regexes.compiled(pattern, int(flags))


def regex_test(pattern: Any, options: Any = None) -> ValueTest:
    """A test for strings that a regular expression finds something in."""
    compiled = compile_regex(pattern, options)
    of_command = limits.current.get()
    same = key(pattern) if isinstance(pattern, Regex) else None
    return lambda value: (
        compiled.finds(value, of_command)
        if type(value) is str
        else same is not None and isinstance(value, Regex) and key(value) == same
    )


def _type_test(argument: Any) -> ValueTest:
    wanted: set[str] = set()
    for item in argument if isinstance(argument, list) else [argument]:
        name = TYPE_CODES.get(int(item)) if is_number(item) else item
        if name == "number":
            wanted |= {"int", "long", "double", "decimal"}
        elif name in TYPE_CODES.values():
            wanted.add(str(name))
        elif name in ("undefined", "dbPointer", "symbol"):
            raise not_implemented(f"the type {name}")
        else:
            raise bad_value(f"Unknown type name alias: {item}")
    return lambda value: type_name(value) in wanted


def element_test(argument: Any) -> ValueTest:
    """A test for arrays with an element that satisfies everything in `argument` at once."""
    if not isinstance(argument, Mapping):
        raise bad_value("$elemMatch needs an Object")
    if is_operators(argument) and next(iter(argument)) not in ("$and", "$or", "$nor", "$expr"):
        element = _field(("value",), argument)

        def by_value(value: Any) -> bool:
            # An element that is itself an array is one value here: it is wrapped, not entered.
            return isinstance(value, list) and any(
                element({"value": [item]} if isinstance(item, list) else {"value": item}) for item in value
            )

        return by_value
    document = compile_filter(argument)
    return lambda value: isinstance(value, list) and any(is_document(item) and document(item) for item in value)


def _all(parts: tuple[str, ...], argument: Any) -> Predicate:
    if not isinstance(argument, list):
        raise bad_value("$all needs an array")
    if not argument:
        return lambda _: False
    tests: list[Predicate] = []
    for item in argument:
        if is_operators(item):
            if list(item) != ["$elemMatch"]:
                raise bad_value("no $ expressions in $all")
            tests.append(_any_leaf(parts, element_test(item["$elemMatch"])))
        else:
            tests.append(_any(parts, regex_test(item) if isinstance(item, Regex) else equality_test(item)))
    return lambda document: all(test(document) for test in tests)


def _mod_test(argument: Any) -> ValueTest:
    if not isinstance(argument, list) or len(argument) != 2 or not all(is_number(item) for item in argument):
        raise bad_value("malformed mod, needs to be an array of two numbers")
    divisor, remainder = (int(item) for item in argument)
    if divisor == 0:
        raise bad_value("divisor cannot be 0")

    def test(value: Any) -> bool:
        if not is_number(value) or not math.isfinite(value):
            return False
        whole = int(value)
        rest = abs(whole) % abs(divisor)
        return (-rest if whole < 0 else rest) == remainder

    return test


def conjuncts(query: Mapping[str, Any]) -> Sequence[tuple[str, str, Any]]:
    """The conditions of a filter that all have to hold, as (path, operator, argument); others are left out.

    A regular expression comes as ``$regex`` with a compiled pattern.
    """
    found: list[tuple[str, str, Any]] = []
    for name, condition in query.items():
        if name == "$and" and isinstance(condition, list):
            for part in condition:
                found.extend(conjuncts(part))
        elif name.startswith("$"):
            found.append(("", name, condition))
        elif isinstance(condition, Regex):
            found.append((name, "$regex", compile_regex(condition)))
        elif not is_operators(condition):
            found.append((name, "$eq", condition))
        else:
            for operator, argument in condition.items():
                if operator == "$regex":
                    found.append((name, "$regex", compile_regex(argument, condition.get("$options"))))
                elif operator != "$options":
                    found.append((name, operator, argument))
    return found
