"""Projections: which part of a document is returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aind_pipelines.lab.docdb import expressions
from aind_pipelines.lab.docdb.errors import CommandError, bad_value, not_implemented
from aind_pipelines.lab.docdb.matching import element_test
from aind_pipelines.lab.docdb.values import MISSING, Document, is_document, is_number

Transform = Callable[[Document], Document]
_Tree = dict[str, Any]
_LEAF = object()

_INCLUSION_IN_EXCLUSION = 31253
_EXCLUSION_IN_INCLUSION = 31254
_PATH_COLLISION = 31249


class _Computed:
    """A leaf of a projection whose value is computed; in arrays on the way, once for each element."""

    def __init__(self, expression: expressions.Expression) -> None:
        self.expression = expression


def compile_projection(spec: Mapping[str, Any], *, stage: bool = False) -> Transform | None:
    """A function that makes the returned document of a stored one, or None when that is the document itself.

    Args:
        spec: As in ``find``, or of a ``$project`` stage.
        stage: Whether it is a ``$project``, which knows no ``$slice`` and ``$elemMatch`` of ``find``.

    Raises:
        CommandError: The projection is malformed, or uses what is not supported.
    """
    if not spec:
        if stage:
            raise CommandError(
                51272, "Invalid $project :: caused by :: projection specification must have at least one field"
            )
        return None
    include: bool | None = None
    id_wanted: bool | None = None
    tree: _Tree = {}
    arrays: list[tuple[tuple[str, ...], Callable[[Any], Any]]] = []
    computed = False
    for name, value in _flattened(spec, stage=stage):
        parts = tuple(name.split("."))
        if not all(parts):
            raise bad_value(f"the projected path {name!r} has an empty field name")
        if any(part.startswith("$") for part in parts):
            raise not_implemented(f"the positional projection {name!r}")
        if not stage and isinstance(value, Mapping) and list(value) in (["$slice"], ["$elemMatch"]):
            if "$elemMatch" in value:
                include = _agree(include, True, name)
            arrays.append((parts, _array_operator(value)))
            continue
        if isinstance(value, bool) or is_number(value):
            wanted = bool(value)
            if name == "_id":
                id_wanted = wanted
                continue
            include = _agree(include, wanted, name)
            _insert(tree, parts, _LEAF, name)
            continue
        include = _agree(include, True, name)
        computed = True
        _insert(tree, parts, _Computed(expressions.compile_expression(value)), name)
        if name == "_id":
            id_wanted = True
    if include is None:
        include = id_wanted is True and not arrays
    if include:
        for parts, _ in arrays:
            _insert(tree, parts, _LEAF, ".".join(parts))
        if id_wanted is not False and "_id" not in tree:
            tree = {"_id": _LEAF, **tree}
        if computed:
            return _with_arrays(lambda document: _include(document, tree, expressions.scope(document)), arrays)
        return _with_arrays(lambda document: _include(document, tree, None), arrays)
    if id_wanted is False:
        tree["_id"] = _LEAF
    return _with_arrays(lambda document: _exclude(document, tree) if tree else document, arrays)


def exclude(names: list[str]) -> Transform:
    """A function that leaves out some paths; what ``$unset`` does as a stage."""
    tree: _Tree = {}
    for name in names:
        _insert(tree, tuple(name.split(".")), _LEAF, name)
    return lambda document: _exclude(document, tree)


def _flattened(spec: Mapping[str, Any], *, stage: bool, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested projections written as dotted paths."""
    flat: list[tuple[str, Any]] = []
    for name, value in spec.items():
        nested = isinstance(value, Mapping) and not any(inner.startswith("$") for inner in value)
        if nested:
            if not value:
                raise CommandError(51270, "an empty object is not a valid value; found empty object at path " + name)
            flat.extend(_flattened(value, stage=stage, prefix=f"{prefix}{name}."))
        else:
            flat.append((f"{prefix}{name}", value))
    return flat


def _agree(include: bool | None, wanted: bool, name: str) -> bool:
    if include is None or include == wanted:
        return wanted
    if wanted:
        raise CommandError(_INCLUSION_IN_EXCLUSION, f"Cannot do inclusion on field {name} in exclusion projection")
    raise CommandError(_EXCLUSION_IN_INCLUSION, f"Cannot do exclusion on field {name} in inclusion projection")


def _insert(tree: _Tree, parts: tuple[str, ...], leaf: Any, name: str) -> None:
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise CommandError(_PATH_COLLISION, f"Path collision at {name}")
    if parts[-1] in tree:
        raise CommandError(_PATH_COLLISION, f"Path collision at {name}")
    tree[parts[-1]] = leaf


def _include(document: Document, tree: _Tree, variables: expressions.Scope | None) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in document.items():
        branch = tree.get(name)
        if branch is _LEAF:
            kept[name] = value
        elif isinstance(branch, dict):
            inner = _include_value(value, branch, variables)
            if inner is not MISSING:
                kept[name] = inner
    if variables is None:
        return kept
    for name, branch in tree.items():
        if isinstance(branch, _Computed):
            value = branch.expression(variables)
            if value is not MISSING:
                kept[name] = value
        elif isinstance(branch, dict) and name not in kept and _has_computed(branch):
            kept[name] = _include({}, branch, variables)
    return kept


def _include_value(value: Any, tree: _Tree, variables: expressions.Scope | None) -> Any:
    if is_document(value):
        return _include(value, tree, variables)
    if isinstance(value, list):
        inner = (_include_value(item, tree, variables) for item in value)
        return [item for item in inner if item is not MISSING]
    return MISSING


def _has_computed(tree: _Tree) -> bool:
    return any(
        isinstance(branch, _Computed) or (isinstance(branch, dict) and _has_computed(branch))
        for branch in tree.values()
    )


def _exclude(document: Document, tree: _Tree) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in document.items():
        branch = tree.get(name)
        if branch is None:
            kept[name] = value
        elif branch is not _LEAF:
            kept[name] = _exclude_value(value, branch)
    return kept


def _exclude_value(value: Any, tree: _Tree) -> Any:
    if is_document(value):
        return _exclude(value, tree)
    if isinstance(value, list):
        return [_exclude_value(item, tree) for item in value]
    return value


def _array_operator(value: Mapping[str, Any]) -> Callable[[Any], Any]:
    if "$elemMatch" in value:
        test = element_test(value["$elemMatch"])

        def first(items: Any) -> Any:
            if not isinstance(items, list):
                return MISSING
            found = [item for item in items if test([item])][:1]
            return found or MISSING

        return first
    argument = value["$slice"]
    bounds = argument if isinstance(argument, list) else [argument]
    if not 1 <= len(bounds) <= 2 or not all(is_number(bound) for bound in bounds):
        raise not_implemented("a $slice projection other than with one or two numbers")
    if len(bounds) == 1:
        amount = int(bounds[0])
        return lambda items: _cut(items, 0 if amount >= 0 else amount, amount if amount >= 0 else None)
    start, amount = int(bounds[0]), int(bounds[1])
    if amount <= 0:
        raise bad_value("$slice limit must be positive")

    def middle(items: Any) -> Any:
        begin = max(0, len(items) + start) if start < 0 and isinstance(items, list) else start
        return _cut(items, begin, begin + amount)

    return middle


def _cut(items: Any, begin: int, end: int | None) -> Any:
    return items[begin:end] if isinstance(items, list) else items


def _with_arrays(transform: Transform, arrays: list[tuple[tuple[str, ...], Callable[[Any], Any]]]) -> Transform:
    if not arrays:
        return transform

    def applied(document: Document) -> Document:
        result: Document = transform(document)
        for parts, operator in arrays:
            result = _replace_array(result, parts, operator)
        return result

    return applied


def _replace_array(value: Any, parts: tuple[str, ...], operator: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [_replace_array(item, parts, operator) for item in value]
    if not is_document(value) or parts[0] not in value:
        return value
    copy = dict(value)
    inner = copy[parts[0]]
    if len(parts) > 1:
        copy[parts[0]] = _replace_array(inner, parts[1:], operator)
    else:
        replaced = operator(inner)
        if replaced is MISSING:
            del copy[parts[0]]
        else:
            copy[parts[0]] = replaced
    return copy
