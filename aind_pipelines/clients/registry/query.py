"""What to search a registry for: the filters of ``nbank search``, each looked at here again in every row.

A server drops the filters that it does not know and answers everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aind_pipelines.clients.registry.records import Resource

_WHOLE_SHA1 = re.compile(r"[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class Query:
    """Filters that a resource must all match; there must be one.

    Attributes:
        name: Part of the identifier, in any case.
        dtype: Part of the data type's name, in any case.
        sha1: The whole sha1, or a part of it.
        archive: Name of an archive that holds it.
        scheme: Start of the scheme of an archive that holds it, in any case.
        metadata: Values that the metadata must have. A key is a key, never a path or a comparison.
        without: Values that the metadata must not have; a missing key is another value.
    """

    name: str | None = None
    dtype: str | None = None
    sha1: str | None = None
    archive: str | None = None
    scheme: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.metadata or self.without or any((self.name, self.dtype, self.sha1, self.archive, self.scheme))):
            raise ValueError("A search needs a filter: name, dtype, sha1, archive, scheme or metadata.")

    def parameters(self) -> dict[str, str]:
        """The query's parameters for ``resources/``, as far as every server reads them as they are meant."""
        whole = self.sha1 is not None and _WHOLE_SHA1.fullmatch(self.sha1)
        given = {
            "name": self.name,
            "dtype": self.dtype,
            "sha1" if whole else "sha1_contains": self.sha1.lower() if self.sha1 else None,
            "archive": self.archive,
            "scheme": self.scheme,
        }
        # Two underscores begin a path or a comparison in a key, which are for the server's database to understand.
        values = {f"metadata__{key}": _text(value) for key, value in self.metadata.items() if "__" not in key}
        return {name: value for name, value in given.items() if value} | values

    def matches(self, resource: Resource, schemes: Mapping[str, str]) -> bool:
        """Whether `resource` is looked for. `schemes`: of the archives by name, needed to look for a scheme."""
        return (
            _within(self.name, resource.id)
            and _within(self.dtype, resource.dtype)
            and _within(self.sha1, resource.sha1 or "")
            and self.archive in (None, "", *resource.locations)
            and (
                not self.scheme
                or any(schemes.get(name, "").lower().startswith(self.scheme.lower()) for name in resource.locations)
            )
            and all(_has(resource.metadata, key, value) for key, value in self.metadata.items())
            and not any(_has(resource.metadata, key, value) for key, value in self.without.items())
        )


def _within(part: str | None, whole: str) -> bool:
    return not part or part.lower() in whole.lower()


def _has(metadata: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether `metadata` has this JSON value under `key`: True is not 1 there."""
    return key in metadata and metadata[key] == value and isinstance(metadata[key], bool) == isinstance(value, bool)


def _text(value: Any) -> str:
    """A value as a parameter: servers read JSON where it is some, else text."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)
