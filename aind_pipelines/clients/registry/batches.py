"""The batch routes: many items in one request, a result for each, and an archive's contents as a stream."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import requests

from aind_pipelines.clients.errors import ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.registry.records import (
    SERVICE,
    Capabilities,
    Location,
    Registration,
    RegistryRefused,
    Resource,
    no_such_archive,
)
from aind_pipelines.clients.registry.transport import Transport, json_of

_OVERHEAD = 64
"""Bytes of a batch's body beside its items."""
_STREAM_ATTEMPTS = 4
_STREAM_CHUNK = 2**16


def register(
    transport: Transport, limits: Capabilities, items: Sequence[Registration]
) -> list[Resource | RegistryRefused]:
    """Register `items` in batches; a result for each, in order."""
    results: dict[int, Resource | RegistryRefused] = {}
    encoded: list[tuple[int, bytes]] = []
    for position, item in enumerate(items):
        try:
            encoded.append((position, item.encoded()))
        except RegistryRefused as refusal:
            results[position] = refusal
    for batch in _batches(encoded, limits):
        answer = _post(transport, "batch/register/", [text for _, text in batch])
        for (position, _), result in zip(batch, answer["results"], strict=True):
            results[position] = _registered(items[position], result)
    return [results[position] for position in range(len(items))]


def _registered(item: Registration, result: Any) -> Resource | RegistryRefused:
    status = result.get("status")
    if status == "refused":
        return RegistryRefused.from_json(f"to register {item.id or item.sha1}", result.get("errors"))
    if status == "created" and isinstance(name := result.get("name"), str) and item.id in (None, name):
        return item.as_registered(name)
    if status == "exists" and item.describes(known := Resource.from_json(result.get("resource"))):
        return known
    raise UnexpectedAnswer(SERVICE, f"the batch's result for {item.id or item.sha1} is not about it.")


def locate(
    transport: Transport, limits: Capabilities, places: Sequence[tuple[str, str, str | None]]
) -> list[Location | RegistryRefused]:
    """Add `places`, each an identifier, an archive and a key or None, in batches; a result for each, in order."""
    encoded = [
        (position, json.dumps({"resource_name": id_, "archive_name": archive, "key": key}).encode())
        for position, (id_, archive, key) in enumerate(places)
    ]
    results: list[Location | RegistryRefused] = []
    for batch in _batches(encoded, limits):
        answer = _post(transport, "batch/locate/", [text for _, text in batch])
        archives = answer.get("archives") or {}
        for (position, _), result in zip(batch, answer["results"], strict=True):
            id_, archive, key = places[position]
            if result.get("status") == "refused":
                results.append(RegistryRefused.from_json(f"{archive} as a location of {id_}", result.get("errors")))
            elif result.get("status") in ("created", "exists"):
                shown = {"archive_name": archive, "resource_name": id_, "key": key, **archives.get(archive, {})}
                results.append(Location.from_json(shown))
            else:
                raise UnexpectedAnswer(SERVICE, f"the batch's result for {id_} in {archive} has no known status.")
    return results


def find(transport: Transport, limits: Capabilities, name: str, values: Sequence[str]) -> Iterator[Resource]:
    """The records whose identifier (`name` is ``names``) or sha1 (``sha1s``) is one of `values`."""
    for start in range(0, len(values), limits.items):
        body = {name: values[start : start + limits.items]}
        rows = json_of(transport.send("POST", "batch/find/", body=body), dict).get("resources")
        if not isinstance(rows, list):
            raise UnexpectedAnswer(SERVICE, "batch/find/ was answered without resources.")
        yield from map(Resource.from_json, rows)


def _batches(encoded: Iterable[tuple[int, bytes]], limits: Capabilities) -> Iterator[list[tuple[int, bytes]]]:
    """`encoded` in lists that keep to the `limits`; an item too large for any goes alone and is refused there."""
    batch: list[tuple[int, bytes]] = []
    size = _OVERHEAD
    for position, text in encoded:
        if batch and (len(batch) == limits.items or size + len(text) + 1 > limits.bytes):
            yield batch
            batch, size = [], _OVERHEAD
        batch.append((position, text))
        size += len(text) + 1
    if batch:
        yield batch


def _post(transport: Transport, route: str, items: Sequence[bytes]) -> Mapping[str, Any]:
    """Send a batch under a key of its own, so that it may be sent again; the answer has a result for each item."""

    def read(body: Mapping[str, Any]) -> Mapping[str, Any]:
        results = body.get("results")
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            raise UnexpectedAnswer(SERVICE, f"{route} was answered without results.")
        if len(results) != len(items):
            raise UnexpectedAnswer(SERVICE, f"{route} gave {len(results)} results for {len(items)} items.")
        return body

    body = b'{"items":[' + b",".join(items) + b"]}"
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return transport.write("POST", route, body, read, lambda: None, headers=headers)


def contents(transport: Transport, archive: str) -> Iterator[Mapping[str, Any]]:
    """Every row of an archive's contents, in the order of the identifiers' bytes.

    A stream that breaks off is taken up again behind its last row. It ends only with the registry's own count.

    Raises:
        RegistryRefused: There is no such archive.
        ServiceUnavailable: It breaks off again and again.
        UnexpectedAnswer: A row is out of order or missing.
    """
    after, failures = "", 0
    while True:
        before = after
        try:
            for row in _stream(transport, archive, after):
                name = row.get("name")
                if not isinstance(name, str) or name <= after:
                    raise UnexpectedAnswer(SERVICE, f"the contents of {archive} are not in order after {after!r}.")
                after = name
                yield row
        except ServiceUnavailable:
            failures = failures + 1 if after == before else 1
            if failures >= _STREAM_ATTEMPTS:
                raise
            transport.wait(failures)
        else:
            return


def _stream(transport: Transport, archive: str, after: str) -> Iterator[Mapping[str, Any]]:
    """The rows of one answer, as they come."""
    cut_off = ServiceUnavailable(SERVICE, f"the contents of {archive} broke off after {after!r}. Ask again.")
    count = 0
    path, params = f"archives/{archive}/contents/", {"after": after}
    answer = transport.send("GET", path, params=params, stream=True, missing_ok=True)
    if answer is None:
        raise no_such_archive(archive)
    with answer as response:
        try:
            for line in response.iter_lines(_STREAM_CHUNK):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UnexpectedAnswer(SERVICE, f"the contents of {archive} have a row of another form.")
                if row.get("end") is True:
                    if row.get("count") != count:
                        raise UnexpectedAnswer(
                            SERVICE, f"the contents of {archive} came with {count} of {row.get('count')} rows."
                        )
                    return
                count += 1
                yield row
        except (requests.RequestException, ValueError):  # the connection broke, or a line was cut
            raise cut_off from None
    raise cut_off
