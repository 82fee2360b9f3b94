"""Client of a neurobank registry: the plain API of django-neurobank 0.10 and newer.

A registry says which resources exist, their sha1 and in which archives they are. Servers ignore filters they do not
know and match some by substring, so every row is checked here before it is believed. A write is repeated only after
asking whether its first try arrived.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload
from urllib.parse import quote, urlsplit

import requests
from requests.auth import HTTPBasicAuth

from aind_pipelines.clients import http
from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable, UnexpectedAnswer

SERVICE = "registry"
BULK_CHUNK = 500
"""Names per bulk request: django-neurobank fails on SQLite beyond about 1,000."""
_WRITE_ATTEMPTS = 4
_SLUG = re.compile(r"[-_0-9a-zA-Z]+")
_T = TypeVar("_T")


class RegistryRefused(ServiceError):
    """The registry understood a request and refused what it asks (HTTP 400).

    Attributes:
        fields: The registry's messages by field name; ``detail`` and ``non_field_errors`` are about the whole.
    """

    def __init__(self, message: str, fields: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(SERVICE, message)
        self.fields = dict(fields)


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """What a registry says of itself."""

    name: str
    version: str
    api_version: str


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


@dataclass(frozen=True, slots=True)
class RegisteredArchive:
    """An archive's record; `accessibility` is ``local``, ``remote`` or ``offline``."""

    name: str
    scheme: str
    root: str
    accessibility: str


@dataclass(frozen=True, slots=True)
class DataType:
    """A data type's record."""

    name: str
    content_type: str
    extension: str


def _messages(body: Any) -> dict[str, tuple[str, ...]]:
    """A refusal's messages by field; nested ones (``{"locations": {"0": [...]}}``) are flattened."""

    def flat(value: Any) -> tuple[str, ...]:
        if isinstance(value, Mapping):
            return tuple(text for nested in value.values() for text in flat(nested))
        if isinstance(value, list | tuple):
            return tuple(text for nested in value for text in flat(nested))
        return (str(value),)

    if isinstance(body, Mapping):
        return {str(field): flat(value) for field, value in body.items()}
    return {"detail": flat(body)}


class RegistryClient:
    """A registry's plain API.

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
        if urlsplit(url).scheme not in ("http", "https"):
            raise UnexpectedAnswer(SERVICE, f"{url!r} is no http or https address. Check NBANK_REGISTRY or -r.")
        self.url = url.rstrip("/") + "/"
        self._pause = pause
        if session is None:
            session = http.build_session()
            # The bulk routes are POSTs that only ask, so they may be repeated.
            session.mount(f"{self.url}bulk/", http.RetryingAdapter(retry_methods={*http.SAFE_METHODS, "POST"}))
        self._session = session
        if auth is not None:
            # requests would encode text as latin-1.
            self._session.auth = HTTPBasicAuth(auth[0].encode(), auth[1].encode())

    def __repr__(self) -> str:
        return f"RegistryClient({http.place(self.url)!r})"

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    def info(self) -> RegistryInfo:
        """Name, version and API version of the server."""
        body = self._json(self._send("GET", "info/"), dict)
        return RegistryInfo(str(body.get("name", "")), str(body.get("version", "")), str(body.get("api_version", "")))

    def get_resource(self, id: str) -> Resource | None:  # noqa: A002 - neurobank's word
        """The record of `id`, or None when there is none."""
        if not _SLUG.fullmatch(id):
            return None
        response = self._send("GET", f"resources/{quote(id)}/", missing_ok=True)
        if response is None:
            return None
        resource = Resource.from_json(self._json(response, dict))
        if resource.id != id:
            raise UnexpectedAnswer(SERVICE, f"asked for {id}, it answered {resource.id}.")
        return resource

    def get_resources(self, ids: Iterable[str]) -> dict[str, Resource]:
        """The records of those of `ids` that are registered, by id, in requests of `BULK_CHUNK` names."""
        wanted = list(dict.fromkeys(id_ for id_ in ids if _SLUG.fullmatch(id_)))
        found: dict[str, Resource] = {}
        for start in range(0, len(wanted), BULK_CHUNK):
            names = wanted[start : start + BULK_CHUNK]
            asked = set(names)
            for row in self._bulk("bulk/resources/", names):
                resource = Resource.from_json(row)
                if resource.id in asked:
                    found[resource.id] = resource
        return found

    def find_by_sha1(self, sha1: str) -> list[Resource]:
        """The resources registered with `sha1` (hex); at most one on a server that keeps it unique."""
        rows = (Resource.from_json(row) for row in self._pages("resources/", {"sha1": sha1.lower()}))
        return [resource for resource in rows if resource.sha1 == sha1.lower()]

    def iter_archive_resources(self, archive: str) -> Iterator[Resource]:
        """Every resource that has a location in `archive`, page by page.

        A row added or removed meanwhile can be missing or come twice, as pages are counted by position.
        """
        for row in self._pages("resources/", {"archive": archive}):
            resource = Resource.from_json(row)
            if archive in resource.locations:
                yield resource

    def locations(self, id: str) -> list[Location]:  # noqa: A002
        """Where the copies of `id` are, local ones first; empty when it has none or is not registered."""
        if not _SLUG.fullmatch(id):
            return []
        response = self._send("GET", f"resources/{quote(id)}/locations/", missing_ok=True)
        if response is None:
            return []
        return [self._location(row) for row in self._json(response, list)]

    def archives(self, *, scheme: str | None = None, root: str | None = None) -> list[RegisteredArchive]:
        """The registered archives, by name; `scheme` and `root` match exactly."""
        params = {key: value for key, value in (("scheme", scheme), ("root", root)) if value is not None}
        found = []
        for row in self._pages("archives/", params):
            try:
                entry = RegisteredArchive(row["name"], row["scheme"], row["root"], row.get("accessibility", "local"))
            except (KeyError, TypeError, AttributeError):
                raise UnexpectedAnswer(SERVICE, "an archive record of another form.") from None
            if scheme in (None, entry.scheme) and root in (None, entry.root):
                found.append(entry)
        return found

    def get_archive(self, name: str) -> RegisteredArchive | None:
        """The archive called `name`, or None."""
        return next((entry for entry in self.archives() if entry.name == name), None)

    def dtypes(self) -> list[DataType]:
        """The registered data types, by name."""
        try:
            return [
                DataType(row["name"], row.get("content_type") or "", row.get("extension") or "")
                for row in self._pages("datatypes/", {})
            ]
        except (KeyError, TypeError, AttributeError):
            raise UnexpectedAnswer(SERVICE, "a data type record of another form.") from None

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
        body: dict[str, Any] = {"name": id, "sha1": sha1, "dtype": dtype, "metadata": dict(metadata or {})}
        if archive is not None:
            body["locations"] = [archive]

        def arrived() -> Resource | None:
            known = self.get_resource(id)
            if known is None or known.sha1 != sha1.lower() or (archive is not None and archive not in known.locations):
                return None
            return known

        return self._write("resources/", body, Resource.from_json, arrived)

    def add_location(self, id: str, archive: str) -> Location:  # noqa: A002
        """Say that `archive` holds a copy of `id`; it may say so already.

        Raises:
            RegistryRefused: There is no such resource or archive.
        """

        def arrived() -> Location | None:
            return next((place for place in self.locations(id) if place.archive == archive), None)

        try:
            return self._write(f"resources/{quote(id)}/locations/", {"archive_name": archive}, self._location, arrived)
        except RegistryRefused:
            if (there := arrived()) is not None:
                return there
            raise

    def add_archive(self, name: str, root: str, scheme: str = "neurobank") -> RegisteredArchive:
        """Register an archive.

        Raises:
            RegistryRefused: The name, or the root under this scheme, is taken.
        """

        def arrived() -> RegisteredArchive | None:
            entry = self.get_archive(name)
            return entry if entry is not None and (entry.scheme, entry.root) == (scheme, root) else None

        def read(row: Any) -> RegisteredArchive:
            return RegisteredArchive(row["name"], row["scheme"], row["root"], row.get("accessibility", "local"))

        return self._write("archives/", {"name": name, "scheme": scheme, "root": root}, read, arrived)

    def add_dtype(self, name: str, content_type: str) -> DataType:
        """Register a data type.

        Raises:
            RegistryRefused: The name is taken or not acceptable.
        """

        def arrived() -> DataType | None:
            return next((t for t in self.dtypes() if (t.name, t.content_type) == (name, content_type)), None)

        def read(row: Any) -> DataType:
            return DataType(row["name"], row.get("content_type") or "", row.get("extension") or "")

        return self._write("datatypes/", {"name": name, "content_type": content_type}, read, arrived)

    # --- how ------------------------------------------------------------------------------------------------------

    def _write(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], _T], arrived: Callable[[], _T | None]
    ) -> _T:
        """POST `body`; after a lost reply, ask with `arrived` before each further attempt, and before a refusal."""
        lost = False
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            if lost and (known := arrived()) is not None:
                return known
            try:
                response = self._send("POST", path, body=body)
            except ServiceUnavailable:
                if attempt == _WRITE_ATTEMPTS:
                    raise
                lost = True
                time.sleep(self._pause * 2 ** (attempt - 1))
                continue
            except RegistryRefused:
                # The lost try may have arrived between the question and this one.
                if lost and (known := arrived()) is not None:
                    return known
                raise
            try:
                return read(self._json(response, dict))
            except (KeyError, TypeError, AttributeError):
                raise UnexpectedAnswer(SERVICE, f"POST {path} was answered with a record of another form.") from None
        raise AssertionError("unreachable")

    @staticmethod
    def _location(row: Any) -> Location:
        try:
            return Location(row["archive_name"], row["scheme"], row["root"], row["resource_name"], row.get("key"))
        except (KeyError, TypeError, AttributeError):
            raise UnexpectedAnswer(SERVICE, "a location record of another form.") from None

    @overload
    def _send(self, method: str, path: str, *, body: Any = None, params: Any = None) -> requests.Response: ...

    @overload
    def _send(self, method: str, path: str, *, missing_ok: Literal[True]) -> requests.Response | None: ...

    def _send(
        self, method: str, path: str, *, body: Any = None, params: Any = None, missing_ok: bool = False
    ) -> requests.Response | None:
        url = path if path.startswith(("http://", "https://")) else self.url + path
        headers = {"Accept": "application/json"}
        response = http.request(
            self._session, SERVICE, method, url, params=params, json=body, headers=headers, allow_redirects=False
        )
        status = response.status_code
        if status == 400:
            fields = _messages(self._json(response, None))
            said = "; ".join(
                text if field in ("detail", "non_field_errors") else f"{field}: {text}"
                for field, texts in fields.items()
                for text in texts
            )
            raise RegistryRefused(f"refused {method} {http.place(url)}: {said}", fields)
        # Only a registry's own "not found" (JSON with a detail) means that the thing does not exist.
        if status == 404 and missing_ok and "detail" in self._json(response, dict):
            return None
        if status not in (200, 201):
            raise UnexpectedAnswer(
                SERVICE, f"{method} {http.place(url)} answered {status}. Check that the address is a registry's."
            )
        return response

    @staticmethod
    def _json(response: requests.Response, kind: type | None) -> Any:
        try:
            body = response.json()
        except ValueError:
            body = response
        if body is response or (kind is not None and not isinstance(body, kind)):
            raise UnexpectedAnswer(
                SERVICE,
                f"{http.place(response.url)} answered {response.status_code} with something that is not a registry's. "
                "Check the address.",
            )
        return body

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[Any]:
        response = self._send("GET", path, params=params)
        seen = {response.url}
        while True:
            yield from self._json(response, list)
            following = response.links.get("next", {}).get("url")
            if not following:
                return
            following = self._on_this_host(following)
            if following in seen:
                raise UnexpectedAnswer(SERVICE, f"the pages of {path} go round in a circle.")
            seen.add(following)
            response = self._send("GET", following)

    def _on_this_host(self, url: str) -> str:
        """A page's address as we reach the server: behind a proxy it may name itself by another scheme or host."""
        base, parts = urlsplit(self.url), urlsplit(url)
        return parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()

    def _bulk(self, path: str, names: Sequence[str]) -> Iterator[Any]:
        response = self._send("POST", path, body={"names": list(names)})
        for line in response.content.splitlines():
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    raise UnexpectedAnswer(SERVICE, f"{path} was answered with a broken line. Ask again.") from None
