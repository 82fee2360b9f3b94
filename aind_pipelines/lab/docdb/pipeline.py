"""Aggregation pipelines: each stage is a function from a stream of documents to a stream of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bson import Int64

from aind_pipelines.lab.docdb import expressions, paths
from aind_pipelines.lab.docdb.errors import CommandError, bad_value, not_implemented
from aind_pipelines.lab.docdb.expressions import Expression, compile_expression
from aind_pipelines.lab.docdb.matching import compile_filter
from aind_pipelines.lab.docdb.projection import compile_projection, exclude
from aind_pipelines.lab.docdb.values import MISSING, Document, is_document, is_number, key, whole_number

Documents = Iterator[Document]
Stage = Callable[[Documents], Documents]
Lookup = Callable[[str, str, Any], list[Document]]
"""Finds the documents of a collection whose field equals a value (or, for a list, one of its elements)."""

_UNSUPPORTED = {
    "$bucket", "$bucketAuto", "$changeStream", "$collStats", "$currentOp", "$densify", "$documents", "$facet",
    "$fill", "$geoNear", "$graphLookup", "$indexStats", "$listLocalSessions", "$listSessions", "$merge", "$out",
    "$planCacheStats", "$redact", "$sample", "$search", "$setWindowFields", "$unionWith",
}  # fmt: skip


@dataclass(slots=True)
class Question:
    """The beginning of a pipeline that an index can answer.

    Attributes:
        query: All conditions of the leading ``$match`` stages.
        sort: Paths with 1 or -1.
        skip: Documents to leave out.
        limit: Documents wanted; 0 means all.
        rest: The stages that follow.
    """

    query: dict[str, Any] = field(default_factory=dict)
    sort: list[tuple[str, int]] = field(default_factory=list)
    skip: int = 0
    limit: int = 0
    rest: list[Mapping[str, Any]] = field(default_factory=list)


def split(stages: Sequence[Any]) -> Question:
    """Take ``$match``, ``$sort``, ``$skip`` and ``$limit`` off the front of a pipeline, in this order at most once.

    Raises:
        CommandError: A stage is not one document with one name, or one of these is malformed.
    """
    question = Question()
    matches: list[Any] = []
    reached = 0
    for position, stage in enumerate(stages):
        name, argument = stage_of(stage)
        order = {"$match": 0, "$sort": 1, "$skip": 2, "$limit": 3}.get(name)
        if order is None or order < reached or (order == reached and order > 0):
            question.rest = list(stages[position:])
            break
        if name == "$match":
            if not isinstance(argument, Mapping):
                raise CommandError(15959, "the match filter must be an expression in an object")
            matches.append(argument)
        elif name == "$sort":
            question.sort = sort_of(argument)
        elif name == "$skip":
            question.skip = _whole(name, argument, least=0)
        else:
            question.limit = _whole(name, argument, least=1)
        reached = order
    question.query = dict(matches[0]) if len(matches) == 1 else ({"$and": matches} if matches else {})
    return question


def stage_of(stage: Any) -> tuple[str, Any]:
    """The name and argument of a stage."""
    if not isinstance(stage, Mapping) or len(stage) != 1:
        raise CommandError(40323, "A pipeline stage specification object must contain exactly one field.")
    return next(iter(stage.items()))


def counts_only(stages: Sequence[Mapping[str, Any]]) -> tuple[Any, str] | None:
    """The ``_id`` and the name of the number, when stages do nothing but count what reaches them.

    That is what drivers send for ``count_documents``.
    """
    if len(stages) != 1 or list(stages[0]) != ["$group"]:
        return None
    group = stages[0]["$group"]
    if not isinstance(group, Mapping) or len(group) != 2 or next(iter(group)) != "_id":
        return None
    name = list(group)[1]
    constant = group["_id"] is None or is_number(group["_id"])
    if constant and isinstance(group[name], Mapping) and dict(group[name]) == {"$sum": 1} and "." not in name:
        return group["_id"], name
    return None


def sort_of(argument: Any) -> list[tuple[str, int]]:
    """A sort document as paths with 1 or -1."""
    if not isinstance(argument, Mapping):
        raise CommandError(15973, "the sort must be an object")
    order = []
    for path, direction in argument.items():
        if isinstance(direction, Mapping):
            raise not_implemented("sorting by $meta")
        if direction not in (1, -1) or isinstance(direction, bool):
            raise CommandError(15975, "a sort order must be 1 or -1")
        if not path or path.startswith("$") or not all(path.split(".")):
            raise bad_value(f"{path!r} is no path to sort by")
        order.append((path, int(direction)))
    return order


def compile_stages(stages: Sequence[Any], lookup: Lookup | None = None) -> Stage:
    """A function that puts a stream of documents through several stages.

    Raises:
        CommandError: A stage is malformed or not supported.
    """
    compiled = [_compile(*stage_of(stage), lookup) for stage in stages]

    def run(documents: Documents) -> Documents:
        for stage in compiled:
            documents = stage(documents)
        return documents

    return run


def update_pipeline(stages: Sequence[Any]) -> Stage:
    """The stages of an update by pipeline."""
    for stage in stages:
        name, _ = stage_of(stage)
        if name not in ("$addFields", "$set", "$project", "$unset", "$replaceRoot", "$replaceWith"):
            raise CommandError(72, f"{name} is not allowed to be used within an update")
    return compile_stages(stages)


def _compile(name: str, argument: Any, lookup: Lookup | None) -> Stage:
    if name == "$lookup":
        return _lookup(argument, lookup)
    if name in _STAGES:
        return _STAGES[name](argument)
    if name in _UNSUPPORTED:
        raise not_implemented(f"the stage {name}")
    raise CommandError(40324, f"Unrecognized pipeline stage name: '{name}'")


def _whole(name: str, argument: Any, *, least: int) -> int:
    number = whole_number(argument)
    if number is None or number < least:
        raise CommandError(15957, f"the argument to {name} must be a whole number of at least {least}")
    return number


def _match(argument: Any) -> Stage:
    if not isinstance(argument, Mapping):
        raise CommandError(15959, "the match filter must be an expression in an object")
    matches = compile_filter(argument)
    return lambda documents: (document for document in documents if matches(document))


def _project(argument: Any) -> Stage:
    if not isinstance(argument, Mapping):
        raise CommandError(15969, "$project specification must be an object")
    transform = compile_projection(argument, stage=True)
    assert transform is not None
    return lambda documents: (transform(document) for document in documents)


def _unset(argument: Any) -> Stage:
    names = argument if isinstance(argument, list) else [argument]
    if not names or not all(isinstance(name, str) and name and not name.startswith("$") for name in names):
        raise CommandError(31002, "$unset specification must be a string or an array of strings")
    transform = exclude(names)
    return lambda documents: (transform(document) for document in documents)


def _add_fields(argument: Any) -> Stage:
    if not isinstance(argument, Mapping):
        raise CommandError(40272, "$addFields specification stage must be an object")
    fields = [(path.split("."), compile_expression(value)) for path, value in _flat(argument)]

    def added(document: Document) -> Document:
        variables = expressions.scope(document)
        result: Any = document
        for parts, expression in fields:
            result = _put(result, parts, expression(variables))
        return dict(result)

    return lambda documents: (added(document) for document in documents)


def _flat(argument: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in argument.items():
        if not prefix and (name.startswith("$") or not all(name.split("."))):
            raise bad_value(f"{name!r} is no field name")
        if isinstance(value, Mapping) and value and not any(inner.startswith("$") for inner in value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _put(value: Any, parts: Sequence[str], new: Any) -> Any:
    """A copy with a field set; arrays on the way are entered, other values on the way replaced."""
    if isinstance(value, list):
        return [_put(item, parts, new) for item in value]
    copy = dict(value) if is_document(value) else {}
    if len(parts) > 1:
        copy[parts[0]] = _put(copy.get(parts[0], {}), parts[1:], new)
    elif new is MISSING:
        copy.pop(parts[0], None)
    else:
        copy[parts[0]] = new
    return copy


def _replace_root(argument: Any) -> Stage:
    if not isinstance(argument, Mapping) or list(argument) != ["newRoot"]:
        raise CommandError(40229, "$replaceRoot needs exactly the field newRoot")
    return _replace_with(argument["newRoot"])


def _replace_with(argument: Any) -> Stage:
    expression = compile_expression(argument)

    def replaced(document: Document) -> Document:
        new = expression(expressions.scope(document))
        if not is_document(new):
            raise CommandError(40228, "'newRoot' expression must evaluate to an object")
        root: Document = new
        return root

    return lambda documents: (replaced(document) for document in documents)


def _unwind(argument: Any) -> Stage:
    options = {"path": argument} if isinstance(argument, str) else argument
    if not isinstance(options, Mapping) or not isinstance(options.get("path"), str):
        raise CommandError(28812, "$unwind needs a path")
    unknown = set(options) - {"path", "includeArrayIndex", "preserveNullAndEmptyArrays"}
    if unknown or not options["path"].startswith("$") or options["path"].startswith("$$"):
        raise CommandError(28811, f"unrecognized option or path of $unwind: {', '.join(sorted(unknown))}")
    parts = options["path"][1:].split(".")
    keep = bool(options.get("preserveNullAndEmptyArrays"))
    number = options.get("includeArrayIndex")

    def unwound(documents: Documents) -> Documents:
        for document in documents:
            value: Any = document
            for part in parts:
                value = value.get(part, MISSING) if is_document(value) else MISSING
            if isinstance(value, list) and value:
                for position, item in enumerate(value):
                    single = _put(document, parts, item)
                    yield single if number is None else _put(single, number.split("."), Int64(position))
            elif isinstance(value, list) or value is None or value is MISSING:
                if keep:
                    kept = _put(document, parts, MISSING) if isinstance(value, list) else document
                    yield kept if number is None else _put(kept, number.split("."), None)
            else:
                yield document if number is None else _put(document, number.split("."), None)

    return unwound


def _sort(argument: Any) -> Stage:
    order = [(tuple(path.split(".")), direction) for path, direction in sort_of(argument)]
    if not order:
        raise CommandError(15976, "$sort stage must have at least one sort key")
    return lambda documents: iter(sorted(documents, key=lambda document: paths.sort_key(document, order)))


def _skip(argument: Any) -> Stage:
    amount = _whole("$skip", argument, least=0)
    return lambda documents: islice(documents, amount, None)


def _limit(argument: Any) -> Stage:
    amount = _whole("$limit", argument, least=1)
    return lambda documents: islice(documents, amount)


def _count(argument: Any) -> Stage:
    if not isinstance(argument, str) or not argument or argument.startswith("$") or "." in argument:
        raise CommandError(40156, "the count field must be a non-empty string without $ and dots")

    def counted(documents: Documents) -> Documents:
        amount = sum(1 for _ in documents)
        if amount:
            yield {argument: amount}

    return counted


class _Accumulator:
    """One output field of a group, fed document by document."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.value: Any = MISSING
        self.seen: dict[bytes, Any] = {}
        self.items: list[Any] = []
        self.number = 0

    def feed(self, value: Any) -> None:
        operator = self.operator
        if operator == "$sum":
            self.value = expressions.total([0 if self.value is MISSING else self.value, value])
        elif operator == "$avg":
            if is_number(value):
                self.number += 1
                self.value = expressions.total([0 if self.value is MISSING else self.value, value])
        elif operator in ("$min", "$max"):
            self.value = expressions.extreme([self.value, value], largest=operator == "$max")
        elif operator == "$first":
            if self.value is MISSING:
                self.value = None if value is MISSING else value
        elif operator == "$last":
            self.value = None if value is MISSING else value
        elif operator == "$push":
            if value is not MISSING:
                self.items.append(value)
        elif operator == "$addToSet":
            if value is not MISSING:
                self.seen.setdefault(key(value), value)
        elif operator == "$mergeObjects":
            if is_document(value):
                self.value = {**({} if self.value is MISSING else self.value), **value}
            elif value is not None and value is not MISSING:
                raise CommandError(40400, "$mergeObjects requires object inputs")
        else:
            self.number += 1

    def result(self) -> Any:
        operator = self.operator
        if operator == "$push":
            return self.items
        if operator == "$addToSet":
            return list(self.seen.values())
        if operator == "$count":
            return expressions.whole(self.number)
        if operator == "$avg":
            return self.value / self.number if self.number else None
        if self.value is MISSING:
            return {"$sum": 0, "$mergeObjects": {}}.get(operator)
        return self.value


_ACCUMULATORS = {"$sum", "$avg", "$min", "$max", "$first", "$last", "$push", "$addToSet", "$mergeObjects", "$count"}


def _group(argument: Any) -> Stage:
    if not isinstance(argument, Mapping) or "_id" not in argument:
        raise CommandError(15955, "a group specification must include an _id")
    identity = compile_expression(argument["_id"])
    outputs: list[tuple[str, str, Expression]] = []
    for name, accumulator in argument.items():
        if name == "_id":
            continue
        if "." in name or name.startswith("$"):
            raise CommandError(40235, f"The field name '{name}' cannot contain '.' or start with '$'")
        if not isinstance(accumulator, Mapping) or len(accumulator) != 1:
            raise CommandError(40234, f"The field '{name}' must be an accumulator object")
        operator, source = next(iter(accumulator.items()))
        if operator not in _ACCUMULATORS:
            raise not_implemented(f"the accumulator {operator}")
        outputs.append((name, operator, compile_expression(source)))

    def grouped(documents: Documents) -> Documents:
        groups: dict[bytes, tuple[Any, list[_Accumulator]]] = {}
        for document in documents:
            variables = expressions.scope(document)
            value = identity(variables)
            value = None if value is MISSING else value
            encoded = key(value)
            if encoded not in groups:
                groups[encoded] = (value, [_Accumulator(operator) for _, operator, _ in outputs])
            for accumulator, (_, _, expression) in zip(groups[encoded][1], outputs, strict=True):
                accumulator.feed(expression(variables))
        for value, accumulators in groups.values():
            results = zip(outputs, accumulators, strict=True)
            yield {"_id": value, **{name: accumulator.result() for (name, _, _), accumulator in results}}

    return grouped


def _sort_by_count(argument: Any) -> Stage:
    group, sort = _group({"_id": argument, "count": {"$sum": 1}}), _sort({"count": -1})
    return lambda documents: sort(group(documents))


def _lookup(argument: Any, lookup: Lookup | None) -> Stage:
    wanted = {"from", "localField", "foreignField", "as"}
    if not isinstance(argument, Mapping) or lookup is None:
        raise CommandError(9, "the $lookup specification must be an object")
    if set(argument) != wanted or not all(isinstance(value, str) for value in argument.values()):
        raise not_implemented("$lookup other than with exactly from, localField, foreignField and as")
    local = argument["localField"].split(".")

    def joined(documents: Documents) -> Documents:
        for document in documents:
            values = [value for value in paths.leaves(document, local) if value is not MISSING]
            value = values[0] if len(values) == 1 else values
            if not values:
                value = None
            found = lookup(argument["from"], argument["foreignField"], value)
            yield _put(document, argument["as"].split("."), found)

    return joined


_STAGES: dict[str, Callable[[Any], Stage]] = {
    "$match": _match,
    "$project": _project,
    "$addFields": _add_fields,
    "$set": _add_fields,
    "$unset": _unset,
    "$replaceRoot": _replace_root,
    "$replaceWith": _replace_with,
    "$unwind": _unwind,
    "$sort": _sort,
    "$skip": _skip,
    "$limit": _limit,
    "$count": _count,
    "$group": _group,
    "$sortByCount": _sort_by_count,
}
