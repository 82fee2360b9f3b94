"""Namespaces: what only some sessions have, or what comes from one source, kept off `Session` itself.

``session.ecephys``, ``session.metadata``. Further ones register themselves:

    @register_namespace("lims")
    class Lims(Namespace): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from aind_pipelines.sessions import live

if TYPE_CHECKING:
    from codeocean.data_asset import DataAsset
    from upath import UPath

    from aind_pipelines.sessions.session import Session


class NotFound(AttributeError, LookupError):
    """The session has no such thing. An AttributeError, so that ``getattr(session, name, None)`` works."""


class Namespace:
    """What all namespaces share.

    Args:
        base: The session it belongs to.
    """

    def __init__(self, base: Session) -> None:
        self._base = base
        self._session = base

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"


N = TypeVar("N", bound=Namespace)


class NamespaceDescriptor:
    """Makes a namespace on first access and keeps it on its session."""

    def __init__(self, name: str, namespace: type[Namespace]) -> None:
        self._name = name
        self._namespace = namespace

    @overload
    def __get__(self, instance: None, owner: type) -> type[Namespace]: ...

    @overload
    def __get__(self, instance: Session, owner: type) -> Namespace: ...

    def __get__(self, instance: Session | None, owner: type) -> type[Namespace] | Namespace:
        if instance is None:
            return self._namespace
        made = self._namespace(instance)
        instance.__dict__[self._name] = made
        return made


def register_namespace(name: str, cls: type | None = None) -> Callable[[type[N]], type[N]]:
    """Register a class as a namespace.

    Args:
        name: The attribute.
        cls: Class that gets it; `Session` when not given.

    Raises:
        ValueError: The class has something else of that name.
    """

    def register(namespace: type[N]) -> type[N]:
        from aind_pipelines.sessions.session import Session

        target = cls or Session
        present = target.__dict__.get(name)
        if present is not None and not isinstance(present, NamespaceDescriptor):
            raise ValueError(f"{target.__name__}.{name} exists and is no namespace.")
        setattr(target, name, NamespaceDescriptor(name, namespace))
        return namespace

    return register


class Ecephys(Namespace):
    """Electrophysiology: sorted assets."""

    @property
    def sorted_data_assets(self) -> tuple[DataAsset, ...]:
        """Assets named ``<session id>_sorted...``, ascending by creation."""
        return tuple(a for a in self._base.data_assets if a.name.startswith(f"{self._base.id}_sorted"))

    @property
    def is_sorted(self) -> bool:
        """Whether there is any sorted asset."""
        return bool(self.sorted_data_assets)

    @property
    def sorted_data_asset(self) -> DataAsset:
        """The sorted asset created last.

        Raises:
            NotFound: There is none.
        """
        found = self.sorted_data_assets
        if not found:
            raise NotFound(f"{self._base.id} has no sorted data asset in Code Ocean.")
        return found[-1]


class Metadata(Namespace):
    """Metadata files of the raw data: ``session.metadata.subject`` is the content of ``subject.json``.

    A section without a file is taken from the session's record in DocDB. Fields of a subject are found on its first
    level whatever the schema version.
    """

    @cached_property
    def json_files(self) -> tuple[UPath, ...]:
        """JSON files directly in the raw data directory, by name."""
        return tuple(sorted(file for file in self._base.raw_data_dir.iterdir() if file.name.endswith(".json")))

    @property
    def json_dir(self) -> UPath:
        """The directory that the files are in."""
        return self._base.raw_data_dir

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        files = {file.name.removesuffix(".json"): file for file in self.json_files} if self._has_raw_data else {}
        if name in files:
            content = live.read_json(files[name])
        elif self._base.docdb.get(name) is not None:
            content = self._base.docdb[name]
        else:
            available = sorted({*files, *self._base.docdb})
            raise NotFound(
                f"{self._base.id} has no metadata {name!r}. Available: {', '.join(available) or 'nothing'}."
            )
        content = flat_subject(content) if name == "subject" else content
        self.__dict__[name] = content
        return content

    @property
    def _has_raw_data(self) -> bool:
        return self._base.raw_data_uri is not None


def flat_subject(subject: Any) -> Any:
    """A subject with its own fields on the first level; schema version 2 keeps them in ``subject_details``."""
    details = subject.get("subject_details") if isinstance(subject, Mapping) else None
    return {**details, **subject} if isinstance(details, Mapping) else subject
