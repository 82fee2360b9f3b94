"""The layout of an archive on disk: neurobank's, readable by its command and by ours, plus our journal.

::

    ARCHIVE/
      nbank.json      configuration; its presence marks the archive
      README.md       what this is, for a person
      .gitignore      keeps data out of version control
      resources/      <first two characters of the id>/<id>[.suffix]: one file or one directory each
      staging/        what is being deposited
      .journal/       our intents (*.jsonl), the facts of finished deposits (done/*.jsonl), the lock file, and what
                      the file system can do (filesystem.json)

Format of ``nbank.json``: neurobank 0.11 to 0.13, https://melizalab.github.io/neurobank/config.json#.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import secrets
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from aind_pipelines.archive import fsops
from aind_pipelines.archive.acl import set_default_acl
from aind_pipelines.archive.errors import ArchiveError, ArchiveWriteFailed, NotAnArchive
from aind_pipelines.archive.filesystem import Filesystem, probe, read_record, write_record
from aind_pipelines.archive.locks import ArchiveLocks
from aind_pipelines.clients.registry import RegistryClient, RegistryRefused

MARKER = "nbank.json"
SCHEME = "neurobank"
DEFAULT_UMASK = 0o002
_README = "README.md"
_GITIGNORE = ".gitignore"
_SCHEMA = "https://melizalab.github.io/neurobank/config.json#"
_PENDING = "init.json"
_PROBE_WAIT = 10.0
# Linux needs the bit on a folder so that what is made in it gets its group; BSD and macOS always do that.
_SETGID = stat.S_ISGID if sys.platform.startswith("linux") else 0

_README_TEXT = """\
# {name}

This folder is a [neurobank](https://github.com/melizalab/neurobank) archive.

- `nbank.json`: which registry it belongs to, and its rules
- `resources/`: the deposited files and directories, by the first two characters of their identifiers
- `staging/`: what is being deposited; between deposits it is empty
- `.journal/`: makes deposits recoverable, and keeps what was deposited from where

Do not change files below `resources/` by hand. Deposit with `aind-pipelines archive deposit` or `nbank deposit`, check
with `aind-pipelines archive check` or `nbank archive check`.

## Contents

Describe the data here.
"""


class Access(BaseModel):
    """Who owns what is deposited, and which mode bits it may not have."""

    model_config = ConfigDict(extra="allow")

    user: str | None = None
    group: str | None = None
    umask: int = DEFAULT_UMASK
    read_only_resources: bool = False

    @field_validator("umask", mode="before")
    @classmethod
    def _octal(cls, value: Any) -> Any:
        """People write the umask as an octal text; the command writes an integer."""
        return int(value, 8) if isinstance(value, str) else value

    @field_validator("umask")
    @classmethod
    def _bits(cls, value: int) -> int:
        if not 0 <= value <= 0o777:
            raise ValueError("must be between 0 and 0777 (octal)")
        if value & 0o700:
            raise ValueError("must leave the owner all rights")
        return value


class Policies(BaseModel):
    """What may be deposited, and how it is named."""

    model_config = ConfigDict(extra="allow")

    auto_identifiers: bool = False
    auto_id_type: str | None = None
    keep_extensions: bool = True
    allow_directories: bool = False
    require_hash: bool = True
    access: Access = Field(default_factory=Access)


class _Described(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str | None = None


class Project(_Described):
    """The project that the archive belongs to."""

    description: str | None = None


class Owner(_Described):
    """The person to ask."""

    email: str | None = None


class ArchiveConfig(BaseModel):
    """``nbank.json``; unknown keys are kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    schema_url: str = Field(default=_SCHEMA, alias="$schema")
    project: Project = Field(default_factory=Project)
    owner: Owner = Field(default_factory=Owner)
    registry: str
    policy: Policies = Field(default_factory=Policies)

    @field_serializer("registry")
    def _with_slash(self, value: str) -> str:
        return value.rstrip("/") + "/"

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(by_alias=True), indent=4)


def id_stub(id: str) -> str:  # noqa: A002 - neurobank's word
    """The folder below ``resources`` that holds `id`."""
    return id[:2]


def entry_name(id: str, source_name: str, *, keep_extensions: bool) -> str:  # noqa: A002
    """The name under which a file is kept: its identifier, with its source's last suffix where the policy says so."""
    return id + _suffix(source_name) if keep_extensions else id


def _suffix(name: str) -> str:
    """`PurePath.suffix` of a plain name as neurobank's Python has it: since 3.14 ``x.`` has the suffix ``.``."""
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Numeric owner to give to what is made; -1 leaves one as it is."""

    uid: int
    gid: int


@dataclass
class Archive:
    """An archive on a file system of this machine.

    Attributes:
        path: Its folder, without links.
        config: What ``nbank.json`` says.
    """

    path: Path
    config: ArchiveConfig
    _names: dict[str, str] = field(default_factory=dict, repr=False)
    _owner: Ownership | None = field(default=None, repr=False)
    _filesystem: Filesystem | None = field(default=None, repr=False)

    @classmethod
    def open(cls, path: Path | str) -> Archive:
        """The archive at `path`.

        Raises:
            NotAnArchive: There is no ``nbank.json``, or it cannot be used.
        """
        folder = Path(path).expanduser()
        try:
            folder = folder.resolve(strict=True)
            text = (folder / MARKER).read_text(encoding="utf-8")
            config = ArchiveConfig.model_validate_json(text)
        except (FileNotFoundError, NotADirectoryError):
            raise NotAnArchive(
                f"{folder} is not an archive: it has no {MARKER}. Check the path, and that its file system is mounted."
            ) from None
        except OSError as error:
            raise NotAnArchive(f"{folder / MARKER} cannot be read: {error.strerror}.") from error
        except (ValidationError, UnicodeDecodeError) as error:
            problems = (
                "; ".join(
                    f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in error.errors()
                )
                if isinstance(error, ValidationError)
                else "it is not UTF-8"
            )
            raise NotAnArchive(f"{folder / MARKER} cannot be used: {problems}.") from None
        archive = cls(folder, config)
        if not archive.resources.is_dir():
            raise NotAnArchive(f"{folder} is a damaged archive: it has {MARKER}, but no folder 'resources'.")
        return archive

    @cached_property
    def resources(self) -> Path:
        """Folder of the deposited resources."""
        return self.path / "resources"

    @cached_property
    def staging(self) -> Path:
        """Folder of deposits under way."""
        return self.path / "staging"

    @cached_property
    def journal(self) -> Path:
        """Folder of the journal."""
        return self.path / ".journal"

    @cached_property
    def locks(self) -> ArchiveLocks:
        """Locks between depositors; the journal's folder must exist."""
        return ArchiveLocks(self.journal / "lock", self.file_mode_shared)

    def user(self) -> int:
        """The user whom files belong to that this process makes here: over a network not always our own."""
        path = self.journal / f"user.{secrets.token_hex(4)}.partial"
        fd = fsops.open_excl(path)
        try:
            return os.fstat(fd).st_uid
        finally:
            os.close(fd)
            fsops.unlink(path)

    @property
    def umask(self) -> int:
        """Mode bits that nothing in the archive may have."""
        return self.config.policy.access.umask

    @cached_property
    def file_mode(self) -> int:
        """Mode of a deposited file: nobody may write."""
        return 0o444 & ~self.umask

    @property
    def folder_mode(self) -> int:
        """Mode of a folder within a deposited directory: nobody may write."""
        return 0o555 & ~self.umask

    @property
    def layout_mode(self) -> int:
        """Mode of the archive's own folders, but for the bit of `sticky`."""
        return (0o777 & ~self.umask) | _SETGID

    @cached_property
    def sticky(self) -> bool:
        """Whether only their owners may remove or rename resources: whether ``resources`` has the sticky bit."""
        return bool(self.resources.stat().st_mode & stat.S_ISVTX)

    def _mode_of(self, folder: Path) -> int:
        holds_resources = folder.parent == self.resources and self.sticky
        return self.layout_mode | (stat.S_ISVTX if holds_resources else 0)

    @property
    def file_mode_shared(self) -> int:
        """Mode of the archive's own files, which every depositor may write."""
        return 0o666 & ~self.umask

    def stub_path(self, id: str) -> Path:  # noqa: A002
        """Folder that holds `id`."""
        return self.resources / id_stub(id)

    def relative(self, path: Path) -> str:
        """`path` below ``resources``, as the ledger writes it."""
        return path.relative_to(self.resources).as_posix()

    def entries(self, id: str) -> list[Path]:  # noqa: A002
        """What lies in the archive under `id`, whatever its suffix; more than one is a fault."""
        exact = self.stub_path(id) / id
        found = [exact] if os.path.lexists(exact) else []
        try:
            others = sorted(path for path in self.stub_path(id).iterdir() if path.stem == id and path != exact)
        except FileNotFoundError:
            return found
        return found + others

    def ownership(self) -> Ownership:
        """Who is to own what is made here.

        Raises:
            ArchiveError: The policy names a user or group that this machine does not know.
        """
        if self._owner is None:
            self._owner = self._look_up_owner()
        return self._owner

    def _look_up_owner(self) -> Ownership:
        access = self.config.policy.access
        try:
            gid = grp.getgrnam(access.group).gr_gid if access.group else -1
            uid = pwd.getpwnam(access.user).pw_uid if access.user and os.getuid() == 0 else -1
        except KeyError as error:
            raise ArchiveError(
                f"{self.path / MARKER}: policy.access names a user or group unknown here: {error}. "
                "Create it or correct the file."
            ) from None
        return Ownership(uid, gid)

    def name_in(self, registry: RegistryClient) -> str:
        """The name under which `registry` has this archive.

        Raises:
            ArchiveError: It does not have it.
        """
        if registry.url not in self._names:
            known = registry.archives(scheme=SCHEME, root=str(self.path))
            if not known:
                raise ArchiveError(
                    f"The registry {registry.url} has no archive at {self.path}. Did the archive move? "
                    f"Its own {MARKER} names {self.config.registry}."
                )
            self._names[registry.url] = known[0].name
        return self._names[registry.url]

    def ensure_folders(self) -> None:
        """Make ``staging`` and the journal's folders where they are missing: older archives have neither."""
        for folder in (self.staging, self.journal, self.journal / "done"):
            if not folder.is_dir():
                self.make_layout_folder(folder)

    def filesystem(self) -> Filesystem:
        """What the archive's file system can do: as recorded, or tried now when this machine has not.

        Raises:
            OSError: It cannot be tried, as nothing can be written.
        """
        if self._filesystem is None:
            known = read_record(self._filesystem_record, self.journal)
            self._filesystem = known or self.probe_filesystem()
        return self._filesystem

    def probe_filesystem(self) -> Filesystem:
        """Try what the archive's file system can do, and record it.

        Raises:
            OSError: It cannot be tried, as nothing can be written.
        """
        self.ensure_folders()
        with self.locks.hold("probe", wait=_PROBE_WAIT):
            found = probe(self.journal)
            write_record(self._filesystem_record, found, self.file_mode_shared)
        return found

    @property
    def _filesystem_record(self) -> Path:
        return self.journal / "filesystem.json"

    def make_layout_folder(self, folder: Path, *, durable: bool = True) -> bool:
        """Make one of the archive's own folders, or put right one that a killed process left half made.

        Returns:
            Whether anything was done; unless `durable`, the caller then makes the folder above it durable.
        """
        mode = self._mode_of(folder)
        try:
            fsops.mkdir(folder, mode)
        except FileExistsError:
            here = folder.lstat()
            if here.st_uid != os.getuid() or stat.S_IMODE(here.st_mode) == mode:
                return False
            fsops.chmod(folder, mode)
        self.give(folder)
        if durable:
            fsops.fsync_dir(folder.parent)
        return True

    def give(self, path: Path) -> None:
        """Give `path` the policy's owner and group, where they differ and we may."""
        here = path.lstat()
        if (change := self._owner_change(here)) is not None:
            mode = stat.S_IMODE(here.st_mode)
            fsops.chown(path, *change)
            if mode & _SETGID:
                fsops.chmod(path, mode)  # chown takes the bit away

    def give_open(self, fd: int, path: Path) -> None:
        """The same for an open file, before its mode is set."""
        if self.ownership() == Ownership(-1, -1):
            return
        if (change := self._owner_change(os.fstat(fd))) is not None:
            fsops.chown_open(fd, *change, path)

    def _owner_change(self, here: os.stat_result) -> tuple[int, int] | None:
        owner = self.ownership()
        uid = owner.uid if owner.uid not in (-1, here.st_uid) else -1
        gid = owner.gid if owner.gid not in (-1, here.st_gid) else -1
        return None if (uid, gid) == (-1, -1) else (uid, gid)


def init_archive(
    path: Path | str,
    registry: RegistryClient,
    name: str | None = None,
    umask: int = DEFAULT_UMASK,
    allow_directories: bool = True,
    *,
    group: str | None = None,
    keep_extensions: bool = True,
    shared: bool = False,
    sticky: bool = False,
    acl: bool = False,
) -> Archive:
    """Make an archive and register it.

    It is built beside its place, moved there whole, then registered. A call that was killed in between is finished by
    the same call again.

    Args:
        path: Its folder, which must not exist; its parent must.
        registry: The registry that it belongs to.
        name: Its name in the registry; None takes the folder's.
        umask: Mode bits that nothing in it may have; neurobank's default.
        allow_directories: Whether a directory can be a resource.
        group: Owning group; None takes the caller's.
        keep_extensions: Whether files keep their last suffix.
        shared: No owner is written, as several people deposit under their own accounts.
        sticky: Whether only its owner may remove or rename a resource.
        acl: Whether what other programs make in it gets the rights of `umask` too, by a default ACL.

    Raises:
        ArchiveError: `path` exists, the registry has the name or the path, the group is unknown, or the file system
            takes no ACL.
        RegistryRefused: The name is not acceptable.
        ArchiveWriteFailed: The folder cannot be made.
    """
    target = Path(path).expanduser().absolute()
    try:
        target = target.parent.resolve(strict=True) / target.name
    except OSError as error:
        raise ArchiveError(f"{target.parent} cannot be used: {error.strerror}. Make it first.") from error
    name = name or target.name
    half_made = _half_made(target, name)
    if os.path.lexists(target) and half_made is None:
        raise ArchiveError(f"{target} already exists. An archive is made in a new folder.")
    registered = False
    for known in registry.archives():
        registered = registered or (known.name, known.scheme, known.root) == (name, SCHEME, str(target))
        if known.name == name and not (half_made and known.root == str(target)):
            raise ArchiveError(f"The registry {registry.url} already has an archive {name!r}, at {known.root}.")
        if (known.scheme, known.root) == (SCHEME, str(target)) and known.name != name:
            raise ArchiveError(f"The registry {registry.url} already has {target}, as archive {known.name!r}.")
    archive = half_made
    try:
        if archive is None:
            access = Access(
                user=None if shared else pwd.getpwuid(os.getuid()).pw_name,
                group=grp.getgrnam(group).gr_name if group else grp.getgrgid(os.getgid()).gr_name,
                umask=umask,
                read_only_resources=True,
            )
            config = ArchiveConfig(
                registry=registry.url,
                policy=Policies(allow_directories=allow_directories, keep_extensions=keep_extensions, access=access),
            )
            archive = _build(target, name, config, sticky=sticky, acl=acl)
    except KeyError as error:
        raise ArchiveError(f"No such user or group here: {error}.") from None
    except ValidationError as error:
        raise ArchiveError("; ".join(str(problem["msg"]) for problem in error.errors())) from None
    except OSError as error:
        raise ArchiveWriteFailed(f"{target} cannot be made: {error.strerror} ({error.filename}).") from error
    try:
        if not registered:
            registry.add_archive(name, str(target))
    except RegistryRefused:
        if registry.archives(scheme=SCHEME, root=str(target)) == []:
            fsops.rmtree(target)
        raise
    fsops.unlink(archive.journal / _PENDING, missing_ok=True)
    fsops.fsync_dir(archive.journal)
    return archive


def _half_made(target: Path, name: str) -> Archive | None:
    """The archive of an `init_archive` that was killed before it registered `name`, if that is what `target` is."""
    try:
        if json.loads((target / ".journal" / _PENDING).read_text()) != {"name": name}:
            return None
        return Archive.open(target)
    except (OSError, ValueError, NotAnArchive):
        return None


def _build(target: Path, name: str, config: ArchiveConfig, *, sticky: bool, acl: bool) -> Archive:
    prefix = f".{target.name[:200]}."
    draft = Archive(target.parent / f"{prefix}{secrets.token_hex(4)}.partial", config)
    for left in target.parent.iterdir():
        if left.name.startswith(prefix) and left.name.endswith(".partial"):
            fsops.rmtree(left)  # what a killed call had begun
    try:
        draft.make_layout_folder(draft.path)
        for folder in (draft.resources, draft.staging, draft.journal, draft.journal / "done"):
            draft.make_layout_folder(folder)
        if sticky:
            fsops.chmod(draft.resources, draft.layout_mode | stat.S_ISVTX)
        for folder in (draft.resources, draft.staging) if acl else ():
            set_default_acl(folder, draft.umask)
        draft.probe_filesystem()
        for file, text in _own_files(draft, name):
            fsops.write_file(file, text.encode(), draft.file_mode_shared)
            draft.give(file)
        for folder in (draft.journal, draft.path):
            fsops.fsync_dir(folder)
        fsops.move_new(draft.path, target)
    except (OSError, ArchiveError):
        fsops.rmtree(draft.path)
        raise
    fsops.fsync_dir(target.parent)
    return Archive(target, config)


def _own_files(draft: Archive, name: str) -> Iterator[tuple[Path, str]]:
    yield draft.path / _README, _README_TEXT.format(name=name)
    yield draft.path / _GITIGNORE, "resources/\nstaging/\n.journal/\n"
    yield draft.journal / _PENDING, json.dumps({"name": name})
    yield draft.path / MARKER, draft.config.to_json()
