"""What a registry holds and says, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from aind_pipelines.clients.errors import ServiceError, UnexpectedAnswer

SERVICE = "registry"

BATCH_REGISTER = "batch-register"
BATCH_LOCATE = "batch-locate"
BATCH_FIND = "batch-find"
ARCHIVE_CONTENTS = "archive-contents"
LAST_LOCATION_GUARD = "last-location-guard"
FEATURES = frozenset({BATCH_REGISTER, BATCH_LOCATE, BATCH_FIND, ARCHIVE_CONTENTS, LAST_LOCATION_GUARD})
"""What `aind_pipelines.services.registry` offers beside the plain API, by the names in its capabilities."""


class RegistryRefused(ServiceError):
    """The registry understood a request and refused what it asks (HTTP 400).

    Attributes:
        fields: The registry's messages by field name; ``detail`` and ``non_field_errors`` are about the whole.
    """

    def __init__(self, message: str, fields: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(SERVICE, message)
        self.fields = dict(fields)

    @classmethod
    def from_json(cls, asked: str, body: Any) -> RegistryRefused:
        """Read the messages of a refusal.

        Args:
            asked: What was asked, for the message.
            body: Messages by field, or one message.
        """
        fields = _messages(body)
        said = "; ".join(
            text if name in ("detail", "non_field_errors") else f"{name}: {text}"
            for name, texts in fields.items()
            for text in texts
        )
        return cls(f"refused {asked}: {said}", fields)


def _messages(body: Any) -> dict[str, tuple[str, ...]]:
    """A refusal's messages by field; nested ones (``{"locations": {"0": [...]}}``) are flattened."""

    def flat(value: Any) -> tuple[str, ...]:
        if isinstance(value, Mapping):
            return tuple(text for nested in value.values() for text in flat(nested))
        if isinstance(value, list | tuple):
            return tuple(text for nested in value for text in flat(nested))
        return (str(value),)

    if isinstance(body, Mapping):
        return {str(name): flat(value) for name, value in body.items()}
    return {"detail": flat(body)}


def no_such_archive(name: str) -> RegistryRefused:
    """The refusal to say anything of an archive that is not registered."""
    return RegistryRefused.from_json(f"to list {name}", {"archive": [f"no such archive '{name}'"]})


_encode = json.JSONEncoder(allow_nan=False).encode


def encode(body: Any, asked: str) -> bytes:
    """`body` as JSON.

    Raises:
        RegistryRefused: A value of its metadata is not JSON. `asked` says what was to be done.
    """
    try:
        return _encode(body).encode()
    except (TypeError, ValueError) as error:
        raise RegistryRefused.from_json(asked, {"metadata": [f"not JSON: {error}"]}) from None


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """What a registry says of itself."""

    name: str
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a registry offers beside the plain API; a plain one offers nothing.

    Attributes:
        features: Some of `FEATURES`; a newer registry may have others.
        items: Most items of one batch.
        bytes: Most bytes of one batch's body.
    """

    features: frozenset[str] = frozenset()
    items: int = 0
    bytes: int = 0

    def __contains__(self, feature: str) -> bool:
        return feature in self.features

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Capabilities:
        """Read the answer of ``capabilities/``."""
        try:
            made = cls(frozenset(map(str, body["features"])), int(body["items"]), int(body["bytes"]))
        except (KeyError, TypeError, ValueError):
            raise UnexpectedAnswer(SERVICE, "its capabilities have another form. Check the address.") from None
        if made.items < 1 or made.bytes < 1:
            raise UnexpectedAnswer(SERVICE, "its capabilities allow no item. Check the registry.")
        return made


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource's record.

    Attributes:
        id: Identifier, unique in the registry.
        sha1: 40 lower-case hex digits, or None when it was registered without.
        dtype: Data type's name.
        metadata: What its depositor said of it.
        locations: Names of the archives that hold it.
    """

    id: str
    sha1: str | None
    dtype: str
    metadata: dict[str, Any]
    locations: tuple[str, ...]

    @classmethod
    def from_json(cls, row: Any) -> Resource:
        """Read one record of the API."""
        try:
            name, sha1, dtype = row["name"], row["sha1"], row["dtype"]
            metadata, locations = row["metadata"] or {}, tuple(row["locations"])
        except (KeyError, TypeError) as error:
            raise UnexpectedAnswer(
                SERVICE, f"a resource record without {error}. Is this a neurobank registry?"
            ) from None
        if not isinstance(name, str) or not isinstance(metadata, dict):
            raise UnexpectedAnswer(SERVICE, "a resource record of another form. Is this a neurobank registry?")
        return cls(name, sha1.lower() if isinstance(sha1, str) else None, str(dtype), metadata, locations)


@dataclass(frozen=True, slots=True)
class Registration:
    """A resource to be registered.

    Attributes:
        id: New identifier; None lets the registry make one up, which needs a sha1 to be found again by.
        sha1: Hex digest of its content, or None. Only a superuser may add one later.
        dtype: Name of a registered data type.
        metadata: JSON values by name.
        archives: Names of the archives that hold it; none reserves the identifier.
    """

    id: str | None
    sha1: str | None
    dtype: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    archives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.id is None and self.sha1 is None:
            raise ValueError("A registration needs an id or a sha1: without both it cannot be found again.")

    def body(self) -> dict[str, Any]:
        """The registration as the API takes it."""
        parts = {"name": self.id, "sha1": self.sha1, "locations": list(self.archives) or None}
        given = {name: value for name, value in parts.items() if value is not None}
        return {**given, "dtype": self.dtype, "metadata": dict(self.metadata)}

    def encoded(self) -> bytes:
        """`body` as JSON.

        Raises:
            RegistryRefused: A value of the metadata is not JSON.
        """
        return encode(self.body(), f"to register {self.id or self.sha1}")

    def describes(self, resource: Resource) -> bool:
        """Whether `resource` is what this would register; it may have further locations."""
        return (
            self.id in (None, resource.id)
            and (self.sha1.lower() if self.sha1 else None) == resource.sha1
            and self.dtype == resource.dtype
            and self.metadata == resource.metadata
            and set(self.archives) <= set(resource.locations)
        )

    def as_registered(self, id: str) -> Resource:  # noqa: A002 - neurobank's word
        """The record that registering this made, under `id`."""
        sha1 = self.sha1.lower() if self.sha1 else None
        return Resource(id, sha1, self.dtype, dict(self.metadata), tuple(sorted(self.archives)))


@dataclass(frozen=True, slots=True)
class Location:
    """Where one copy of a resource is.

    Attributes:
        archive: Archive's registered name.
        scheme: ``neurobank`` for a folder, ``tape``, ``http`` ...
        root: What the scheme needs to find the archive; the folder's path for ``neurobank``.
        resource: The resource's identifier.
        key: Where it is within the archive, when its identifier does not say.
    """

    archive: str
    scheme: str
    root: str
    resource: str
    key: str | None = None

    @classmethod
    def from_json(cls, row: Any) -> Location:
        """Read one record of the API."""
        try:
            return cls(row["archive_name"], row["scheme"], row["root"], row["resource_name"], row.get("key"))
        except (KeyError, TypeError, AttributeError):
            raise UnexpectedAnswer(SERVICE, "a location record of another form.") from None

    def url(self, registry: str) -> str:
        """The address of a copy of scheme ``http`` or ``https``.

        Args:
            registry: The registry's address. Behind a proxy it may name its own downloads by another scheme.
        """
        base, address = urlsplit(registry), f"{self.scheme}://{self.root.strip('/')}/{quote(self.resource)}/"
        same = urlsplit(address).netloc == base.netloc
        return urlsplit(address)._replace(scheme=base.scheme).geturl() if same else address


@dataclass(frozen=True, slots=True)
class Located:
    """Where all copies of a resource are.

    Attributes:
        id: Identifier.
        sha1: 40 lower-case hex digits, or None when it was registered without.
        filename: The identifier with its data type's extension, for a copy that leaves the archive.
        locations: Its copies, as the registry orders them: local ones first.
    """

    id: str
    sha1: str | None
    filename: str
    locations: tuple[Location, ...]

    @classmethod
    def from_json(cls, row: Any) -> Located:
        """Read one record of ``bulk/locations/``."""
        try:
            name, sha1, places = row["name"], row["sha1"], tuple(map(Location.from_json, row["locations"]))
        except (KeyError, TypeError):
            raise UnexpectedAnswer(SERVICE, "a record of locations of another form.") from None
        filename = row.get("filename")
        return cls(name, sha1.lower() if isinstance(sha1, str) else None, str(filename or name), places)


@dataclass(frozen=True, slots=True)
class RegisteredArchive:
    """An archive's record; `accessibility` is ``local``, ``remote`` or ``offline``."""

    name: str
    scheme: str
    root: str
    accessibility: str

    @classmethod
    def from_json(cls, row: Any) -> RegisteredArchive:
        """Read one record of the API."""
        try:
            return cls(row["name"], row["scheme"], row["root"], row.get("accessibility", "local"))
        except (KeyError, TypeError, AttributeError):
            raise UnexpectedAnswer(SERVICE, "an archive record of another form.") from None


@dataclass(frozen=True, slots=True)
class DataType:
    """A data type's record."""

    name: str
    content_type: str
    extension: str

    @classmethod
    def from_json(cls, row: Any) -> DataType:
        """Read one record of the API."""
        try:
            return cls(row["name"], row.get("content_type") or "", row.get("extension") or "")
        except (KeyError, TypeError, AttributeError):
            raise UnexpectedAnswer(SERVICE, "a data type record of another form.") from None
