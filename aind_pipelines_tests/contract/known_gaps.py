"""Where an engine that nobody here wrote answers otherwise than MongoDB documents: case by case, with the reason.

A listed case must really differ: a gap that was closed fails the test, so that this list stays true.
"""

_ELEMENTS = "FerretDB 1.24 finds nothing with $elemMatch over documents in an array below another field"

FERRETDB: dict[str, str] = {
    "find by one element of an array": _ELEMENTS,
    "count by one element of an array": _ELEMENTS,
    "aggregate unwind and group": "FerretDB 1.24 groups by null when the field grouped by was inside an array",
    "aggregate max and min": "FerretDB 1.24 has no accumulator $max",
    "aggregate add to set": "FerretDB 1.24 has no accumulator $addToSet",
    "aggregate a computed field": "FerretDB 1.24 takes the path of another field in $project for a text",
    "aggregate a size": "FerretDB 1.24 has no expression $size",
    "arrays in arrays are kept": "FerretDB 1.24 refuses arrays in arrays",
    "keys with dots are kept when whole documents are written": "FerretDB 1.24 refuses keys with dots",
}
"""Of version 1.24.0 with the SQLite backend, by the name of the case."""

MINGO: dict[str, str] = {
    "sort mixed types downwards": "mingo sorts downwards by the lowest element of an array, MongoDB by the highest",
    "aggregate count of nothing": "mingo's $count of nothing is one document with 0, MongoDB's is no document",
}
"""Of version 7.2.6, by the name of the case."""
