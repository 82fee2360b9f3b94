"""`RegistryClient`: what may be asked of a registry and told to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import requests

from aind_pipelines.clients import http
from aind_pipelines.clients.errors import UnexpectedAnswer
from aind_pipelines.clients.registry import batches
from aind_pipelines.clients.registry.query import Query
from aind_pipelines.clients.registry.records import (
    ARCHIVE_CONTENTS,
    BATCH_FIND,
    BATCH_LOCATE,
    BATCH_REGISTER,
    SERVICE,
    Capabilities,
    DataType,
    Located,
    Location,
    RegisteredArchive,
    Registration,
    RegistryInfo,
    RegistryRefused,
    Resource,
    encode,
    no_such_archive,
)
from aind_pipelines.clients.registry.transport import Transport, json_of

BULK_CHUNK = 500
"""Names per bulk request: django-neurobank fails on SQLite beyond about 1,000."""
_SLUG = re.compile(r"[-_0-9a-zA-Z]+")
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")


class RegistryClient:
    """A registry's API: plain, and in batches where it offers them.

    Args:
        url: The registry's base address, e.g. ``http://host/neurobank/``.
        auth: User and password for what writes; reading needs none.
        session: A session of `clients.http.build_session`; None makes one.
        pause: Seconds before a write is tried again; it doubles each time.
    """

    def __init__(
        self,
        url: str,
        auth: tuple[str, str] | None = None,
        *,
        session: requests.Session | None = None,
        pause: float = 0.5,
    ) -> None:
        self._transport = Transport(url, auth, session, pause)
        self.url = self._transport.url
        self._capabilities: Capabilities | None = None

    def __repr__(self) -> str:
        return f"RegistryClient({http.place(self.url)!r})"

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    def info(self) -> RegistryInfo:
        """Name, version and API version of the server."""
        body = json_of(self._transport.send("GET", "info/"), dict)
        return RegistryInfo(str(body.get("name", "")), str(body.get("version", "")), str(body.get("api_version", "")))

    def capabilities(self) -> Capabilities:
        """What the server offers beside the plain API; asked once."""
        if self._capabilities is None:
            response = self._transport.send("GET", "capabilities/", missing_ok=True)
            known = Capabilities() if response is None else Capabilities.from_json(json_of(response, dict))
            self._capabilities = known
        return self._capabilities

    def get_resource(self, id: str) -> Resource | None:  # noqa: A002 - neurobank's word
        """The record of `id`, or None when there is none."""
        if not _SLUG.fullmatch(id):
            return None
        response = self._transport.send("GET", f"resources/{quote(id)}/", missing_ok=True)
        if response is None:
            return None
        resource = Resource.from_json(json_of(response, dict))
        if resource.id != id:
            raise UnexpectedAnswer(SERVICE, f"asked for {id}, it answered {resource.id}.")
        return resource

    def get_resources(self, ids: Iterable[str]) -> dict[str, Resource]:
        """The records of those of `ids` that are registered, by id; many in one request."""
        wanted = list(dict.fromkeys(id_ for id_ in ids if _SLUG.fullmatch(id_)))
        if not wanted:
            return {}
        found: dict[str, Resource] = {}
        if BATCH_FIND in (offered := self.capabilities()):
            asked = set(wanted)
            rows = batches.find(self._transport, offered, "names", wanted)
            return {resource.id: resource for resource in rows if resource.id in asked}
        for start in range(0, len(wanted), BULK_CHUNK):
            names = wanted[start : start + BULK_CHUNK]
            asked = set(names)
            for row in self._transport.bulk("bulk/resources/", names):
                resource = Resource.from_json(row)
                if resource.id in asked:
                    found[resource.id] = resource
        return found

    def find_by_sha1(self, sha1: str) -> list[Resource]:
        """The resources registered with `sha1` (hex); at most one on a server that keeps it unique."""
        rows = (Resource.from_json(row) for row in self._transport.pages("resources/", {"sha1": sha1.lower()}))
        return [resource for resource in rows if resource.sha1 == sha1.lower()]

    def find_by_sha1s(self, sha1s: Iterable[str]) -> dict[str, Resource]:
        """The resources registered with any of `sha1s`, by their lower-case sha1; what is no sha1 is left out."""
        wanted = dict.fromkeys(sha1.lower() for sha1 in sha1s if _SHA1.fullmatch(sha1))
        if not wanted:
            return {}
        if BATCH_FIND in (offered := self.capabilities()):
            rows = batches.find(self._transport, offered, "sha1s", list(wanted))
            return {resource.sha1: resource for resource in rows if resource.sha1 in wanted}
        found: dict[str, Resource] = {}
        for sha1 in wanted:
            for resource in self.find_by_sha1(sha1):
                found[sha1] = resource
        return found

    def search(self, query: Query) -> Iterator[Resource]:
        """The resources that match `query`, page by page, in the registry's order."""
        schemes = {} if query.scheme is None else {entry.name: entry.scheme for entry in self.archives()}
        for row in self._transport.pages("resources/", query.parameters()):
            resource = Resource.from_json(row)
            if query.matches(resource, schemes):
                yield resource

    def iter_archive_resources(self, archive: str) -> Iterator[Resource]:
        """Every resource that has a location in `archive`, in flat memory.

        Where the registry streams an archive's contents they come in the order of the identifiers' bytes, each once,
        and the end is proved by a count. From a plain registry they come page by page in its own order; a row added
        or removed meanwhile can then be missing or come twice, as pages are counted by position.

        Raises:
            RegistryRefused: There is no such archive.
            ServiceUnavailable: The list broke off; what came before it is not the whole.
        """
        if ARCHIVE_CONTENTS in self.capabilities() and _SLUG.fullmatch(archive):
            for row in batches.contents(self._transport, archive):
                resource = Resource.from_json(row)
                if archive not in resource.locations:
                    raise UnexpectedAnswer(
                        SERVICE, f"the contents of {archive} hold {resource.id}, which is not in it."
                    )
                yield resource
            return
        empty = True
        for row in self._transport.pages("resources/", {"archive": archive}):
            resource = Resource.from_json(row)
            if archive in resource.locations:
                empty = False
                yield resource
        if empty and self.get_archive(archive) is None:
            raise no_such_archive(archive)

    def locations(self, id: str) -> list[Location]:  # noqa: A002
        """Where the copies of `id` are, local ones first; empty when it has none or is not registered."""
        if not _SLUG.fullmatch(id):
            return []
        response = self._transport.send("GET", f"resources/{quote(id)}/locations/", missing_ok=True)
        if response is None:
            return []
        return [Location.from_json(row) for row in json_of(response, list)]

    def locate(self, ids: Iterable[str]) -> dict[str, Located]:
        """Where the copies of `ids` are, by id; many in one request. What has none, or is not registered, is left out.

        A data type that the registry lets be downloaded adds a location of scheme ``http`` or ``https``.
        """
        wanted = list(dict.fromkeys(id_ for id_ in ids if _SLUG.fullmatch(id_)))
        found: dict[str, Located] = {}
        for start in range(0, len(wanted), BULK_CHUNK):
            names = wanted[start : start + BULK_CHUNK]
            asked = set(names)
            for row in self._transport.bulk("bulk/locations/", names):
                located = Located.from_json(row)
                if located.id in asked and located.locations:
                    found[located.id] = located
        return found

    def download(self, location: Location) -> Iterator[bytes]:
        """The bytes of a copy that a web server has, as they come.

        This registry's own routes are asked with its login; nothing of it goes to another server.

        Args:
            location: Of scheme ``http`` or ``https``.

        Raises:
            ServiceUnavailable: The server cannot be reached, or fails.
            AnswerBrokenOff: The connection broke after it had begun to answer.
            AccessRefused: 401 or 403.
            UnexpectedAnswer: Any other answer, e.g. that the copy is a directory or not there.
        """
        return self._transport.download(location.url(self.url))

    def archives(self, *, scheme: str | None = None, root: str | None = None) -> list[RegisteredArchive]:
        """The registered archives, by name; `scheme` and `root` match exactly."""
        params = {key: value for key, value in (("scheme", scheme), ("root", root)) if value is not None}
        rows = (RegisteredArchive.from_json(row) for row in self._transport.pages("archives/", params))
        return [entry for entry in rows if scheme in (None, entry.scheme) and root in (None, entry.root)]

    def archive_url(self, name: str) -> str:
        """Where a person reads which resources the archive called `name` has."""
        return f"{self.url}resources/?{urlencode({'archive': name})}"

    def get_archive(self, name: str) -> RegisteredArchive | None:
        """The archive called `name`, or None."""
        return next((entry for entry in self.archives() if entry.name == name), None)

    def dtypes(self) -> list[DataType]:
        """The registered data types, by name."""
        return [DataType.from_json(row) for row in self._transport.pages("datatypes/", {})]

    # --- writing --------------------------------------------------------------------------------------------------

    def register(
        self,
        id: str,  # noqa: A002
        sha1: str,
        dtype: str,
        archive: str | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Resource:
        """Register a resource with its sha1 and its location in one write.

        When the reply is lost, the registry is asked before anything is sent again; a record with this sha1 (and
        location) is then what was asked for.

        Args:
            id: New identifier.
            sha1: Hex digest of its content.
            dtype: Name of a registered data type.
            archive: Name of the archive that holds it; None reserves the identifier without a location.
            metadata: JSON values by name.

        Raises:
            RegistryRefused: The identifier or sha1 is taken, or a value is not acceptable.
        """
        item = Registration(id, sha1, dtype, metadata or {}, () if archive is None else (archive,))

        def arrived() -> Resource | None:
            known = self.get_resource(id)
            if known is None or known.sha1 != sha1.lower() or not set(item.archives) <= set(known.locations):
                return None
            return known

        return self._transport.write("POST", "resources/", item.encoded(), Resource.from_json, arrived)

    def register_many(self, items: Iterable[Registration]) -> list[Resource | RegistryRefused]:
        """Register many resources; one that is registered already, equal in all, counts as done.

        Returns:
            For each item, in order, its record or why it was refused. What was refused changes nothing.

        Raises:
            ServiceError: The registry as a whole fails. What was registered before stays; ask again for all.
        """
        items = list(items)
        if items and BATCH_REGISTER in (offered := self.capabilities()):
            return batches.register(self._transport, offered, items)
        return [self._register_one(item) for item in items]

    def _register_one(self, item: Registration) -> Resource | RegistryRefused:
        def arrived() -> Resource | None:
            if item.id is not None:
                known = self.get_resource(item.id)
            else:
                known = next(iter(self.find_by_sha1(str(item.sha1))), None)
            return known if known is not None and item.describes(known) else None

        try:
            return self._transport.write("POST", "resources/", item.encoded(), Resource.from_json, arrived)
        except RegistryRefused as refusal:
            return arrived() or refusal

    def add_location(self, id: str, archive: str, key: str | None = None) -> Location:  # noqa: A002
        """Say that `archive` holds a copy of `id`; it may say so already.

        Args:
            id: Identifier.
            archive: Archive's name.
            key: Where the copy is within the archive, when its identifier does not say.

        Raises:
            RegistryRefused: There is no such resource or archive, or it is said to be there under another key.
        """

        def arrived() -> Location | None:
            return next((place for place in self.locations(id) if (place.archive, place.key) == (archive, key)), None)

        path = f"resources/{quote(id)}/locations/"
        body = {"archive_name": archive} if key is None else {"archive_name": archive, "key": key}
        try:
            return self._transport.write("POST", path, body, Location.from_json, arrived)
        except RegistryRefused:
            if (there := arrived()) is not None:
                return there
            raise

    def add_locations(
        self, pairs: Iterable[tuple[str, str] | tuple[str, str, str | None]]
    ) -> list[Location | RegistryRefused]:
        """Say of many resources that an archive holds a copy; some may say so already.

        Args:
            pairs: Identifier and archive of each; a third member is the copy's key within the archive.

        Returns:
            For each pair, in order, the location or why it was refused.

        Raises:
            ServiceError: The registry as a whole fails. What was added before stays; ask again for all.
        """
        places = [(pair[0], pair[1], pair[2] if len(pair) == 3 else None) for pair in pairs]
        if places and BATCH_LOCATE in (offered := self.capabilities()):
            return batches.locate(self._transport, offered, places)
        return [self._locate_one(*place) for place in places]

    def _locate_one(self, id: str, archive: str, key: str | None) -> Location | RegistryRefused:  # noqa: A002
        if self.get_resource(id) is None:
            return RegistryRefused.from_json(f"a location of {id}", {"resource_name": [f"no such resource '{id}'"]})
        try:
            return self.add_location(id, archive, key)
        except RegistryRefused as refusal:
            return refusal

    def delete_location(self, id: str, archive: str) -> bool:  # noqa: A002
        """Say that `archive` holds no copy of `id` any more.

        Returns:
            Whether it was said to hold one; False may also mean that the reply to a first try was lost.

        Raises:
            RegistryRefused: It is the last location, and the registry guards those. A plain registry does not.
        """
        path = f"resources/{quote(id, safe='')}/locations/{quote(archive, safe='')}/"
        return self._transport.send("DELETE", path, missing_ok=True) is not None

    def modify(self, id: str, metadata: Mapping[str, Any]) -> Resource | None:  # noqa: A002
        """Merge `metadata` into that of `id`: keys that are not named stay, those with None go.

        Returns:
            The record as it now is, or None when `id` is not registered.

        Raises:
            RegistryRefused: A value is not acceptable.
        """
        if self.get_resource(id) is None:
            return None

        def arrived() -> Resource | None:
            known = self.get_resource(id)
            same = known is not None and all(known.metadata.get(name) == value for name, value in metadata.items())
            return known if same else None

        body = encode({"metadata": dict(metadata)}, f"to modify {id}")
        return self._transport.write("PATCH", f"resources/{quote(id)}/", body, Resource.from_json, arrived)

    def add_archive(self, name: str, root: str, scheme: str = "neurobank") -> RegisteredArchive:
        """Register an archive.

        Raises:
            RegistryRefused: The name, or the root under this scheme, is taken.
        """

        def arrived() -> RegisteredArchive | None:
            entry = self.get_archive(name)
            return entry if entry is not None and (entry.scheme, entry.root) == (scheme, root) else None

        body = {"name": name, "scheme": scheme, "root": root}
        return self._transport.write("POST", "archives/", body, RegisteredArchive.from_json, arrived)

    def add_dtype(self, name: str, content_type: str) -> DataType:
        """Register a data type.

        Raises:
            RegistryRefused: The name is taken or not acceptable.
        """

        def arrived() -> DataType | None:
            return next((t for t in self.dtypes() if (t.name, t.content_type) == (name, content_type)), None)

        body = {"name": name, "content_type": content_type}
        return self._transport.write("POST", "datatypes/", body, DataType.from_json, arrived)
