"""How what is deposited gets its identifier: from its name, as a random UUID, or from the registry.

A registry assigns an identifier when a resource is registered, and takes a sha1 only then. So the content is digested
first, and its identifier reserved with the sha1, without a location; what is deposited must then have this content. A
call that was killed meanwhile finds its reservation again by the sha1.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from aind_pipelines.archive.deposit import DepositItem
from aind_pipelines.archive.digests import Digests
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.ids import InvalidId, id_from_name
from aind_pipelines.archive.intake import Sink, Source, SourceRefused, local_source, read_digests
from aind_pipelines.archive.layout import MARKER, Archive
from aind_pipelines.archive.steps import same_content
from aind_pipelines.clients.registry import Registration, RegistryClient, RegistryRefused, Resource

Naming = Literal["name", "uuid", "registry"]
_CHUNK = 100


def naming_of(archive: Archive, *, auto: bool = False) -> Naming:
    """How `archive` wants identifiers to be made; `auto`: not from names, whatever its policy says.

    Raises:
        ArchiveError: Its policy asks for a kind of identifier that is not known here.
    """
    policy = archive.config.policy
    if not (auto or policy.auto_identifiers):
        return "name"
    if policy.auto_id_type is None:
        return "registry"
    if policy.auto_id_type == "uuid":
        return "uuid"
    raise ArchiveError(f'{archive.path / MARKER}: policy.auto_id_type is neither null nor "uuid". Correct it.')


def name_items(
    archive: Archive,
    registry: RegistryClient,
    naming: Naming,
    paths: Iterable[Path],
    dtype: str,
    metadata: Mapping[str, Any],
    *,
    keep_source: bool,
    threads: int = 4,
    sink: Sink | None = None,
    source_at: Callable[[Path], Source] = local_source,
) -> Iterator[tuple[Path, DepositItem | str]]:
    """Give each of `paths` an identifier, as they are asked for.

    Args:
        archive: Where they are to be deposited.
        registry: Its registry; for identifiers of its own with credentials that may write.
        naming: How; only ``registry`` reads the sources and writes into the registry.
        paths: Files and directories.
        dtype: Registered data type of all.
        metadata: JSON values of all.
        keep_source: Whether the sources stay.
        threads: How many are read at the same time.
        sink: Is handed each piece that is read.
        source_at: Gives the source at a path, or raises `SourceRefused`.

    Yields:
        Each path, in order, with what to deposit, or why that cannot be.

    Raises:
        ServiceError: The registry fails.
    """
    if naming == "registry":
        assigned = _Assigned(archive, registry, dtype, metadata, keep_source, threads, sink, source_at)
        remaining = iter(paths)
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            yield from assigned.chunk(chunk)
        return
    for path in paths:
        try:
            id_ = str(uuid.uuid4()) if naming == "uuid" else id_from_name(path.name)
            yield path, DepositItem(id_, source_at(path), dtype, metadata, keep_source)
        except (InvalidId, SourceRefused) as problem:
            yield path, str(problem)


_Read = tuple[Source, Digests]


class _Assigned:
    def __init__(
        self,
        archive: Archive,
        registry: RegistryClient,
        dtype: str,
        metadata: Mapping[str, Any],
        keep_source: bool,
        threads: int,
        sink: Sink | None,
        source_at: Callable[[Path], Source],
    ) -> None:
        self.archive = archive
        self.registry = registry
        self.name = archive.name_in(registry)
        self.dtype = dtype
        self.metadata = dict(metadata)
        self.keep_source = keep_source
        self.threads = threads
        self.sink = sink
        self.source_at = source_at

    def chunk(self, paths: list[Path]) -> Iterator[tuple[Path, DepositItem | str]]:
        with ThreadPoolExecutor(self.threads, thread_name_prefix="naming") as pool:
            read = list(pool.map(self._read, paths))
        ids = self._ids({one[1].sha1 for one in read if not isinstance(one, str)})
        for path, one in zip(paths, read, strict=True):
            if isinstance(one, str):
                yield path, one
                continue
            source, digests = one
            id_ = ids[digests.sha1]
            if isinstance(id_, RegistryRefused):
                yield path, str(id_)
            else:
                yield path, DepositItem(id_, source, self.dtype, self.metadata, self.keep_source)

    def _read(self, path: Path) -> _Read | str:
        """Digest a source, unless it is one that the archive will not take."""
        try:
            source = self.source_at(path)
            if source.kind == "directory" and not self.archive.config.policy.allow_directories:
                return f"{source.uri} is a directory, and this archive's policy does not allow directories"
            digests = read_digests(source, self.sink)
        except SourceRefused as problem:
            return str(problem)
        if not digests.files:
            return f"{source.uri} holds no files: its digest would be that of every empty file and directory"
        return source, digests

    def _ids(self, sha1s: set[str]) -> dict[str, str | RegistryRefused]:
        """The identifier of each content: the one it has, or a new one; or why it gets none."""
        known = self.registry.find_by_sha1s(sha1s)
        found: dict[str, str | RegistryRefused] = {sha1: self._reuse(record) for sha1, record in known.items()}
        new = sorted(sha1s - known.keys())
        reserved = self.registry.register_many(Registration(None, sha1, self.dtype, self.metadata) for sha1 in new)
        for sha1, said in zip(new, reserved, strict=True):
            found[sha1] = said if isinstance(said, RegistryRefused) else said.id
        return found

    def _reuse(self, record: Resource) -> str | RegistryRefused:
        """The identifier of content that is registered: when it is here already, or reserved for just this."""
        if self.name in record.locations:
            return record.id
        if record.locations:
            return RegistryRefused("refused a second identifier: " + same_content(record), {})
        if (record.dtype, record.metadata) != (self.dtype, self.metadata):
            return RegistryRefused(
                f"refused a second identifier: {record.id} is reserved for this content, with another data type or "
                f"other metadata. Deposit it under the name {record.id}",
                {},
            )
        return record.id
