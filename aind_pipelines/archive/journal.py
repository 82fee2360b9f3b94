"""The journal: what deposits are about to do, durable on the archive's own file system before it is done.

A depositing call writes one file ``.journal/<run>.jsonl`` after the other, and holds the lock of each name, so that
others see whether its writer lives. A line is one JSON object, or a list of them that counts as a whole or not at all:
what a batch of deposits says at once. In order:

========== =================================================================================================
event      fields beside ``event`` and ``seq`` (the deposit's number within the file)
========== =================================================================================================
opened     host: the machine that writes the file; the first line, without ``seq``
intent     id, dtype, metadata, kind, source, source_kind, keep_source, fingerprint, staging, path
staged     ino, size, files, sha1, blake3: the staged copy is complete
registered the registry has id, sha1 and location
done       nothing is left to do
withdraw   reason: the copy is about to be taken out again
dropped    reason: nothing of this deposit is left in the archive
========== =================================================================================================

``staging`` and ``path`` are relative to the archive and to ``resources``. When a file has nothing left to do, the
facts of its finished deposits go to ``.journal/done/<run>.jsonl``, one line each (see `Fact`), and it is removed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from aind_pipelines.archive import fsops
from aind_pipelines.archive.digests import Digests, Kind
from aind_pipelines.archive.errors import ArchiveError, ArchiveWriteFailed, JournalDamaged, OfAnotherMachine
from aind_pipelines.archive.layout import Archive

_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Intent:
    """What one deposit is to do.

    Attributes:
        seq: Number of the deposit within its journal file.
        id: Identifier.
        dtype: Data type.
        metadata: JSON values for the registry.
        kind: File or directory.
        source: Where it comes from: a path or URI.
        source_kind: How to reach it again: ``file``, ``directory`` or ``s3``.
        keep_source: Whether the source stays.
        fingerprint: The source's state, to see whether it changed since.
        staging: Staged copy's path within the archive.
        path: Final path below ``resources``.
    """

    seq: int
    id: str
    dtype: str
    metadata: Mapping[str, Any]
    kind: Kind
    source: str
    source_kind: str
    keep_source: bool
    fingerprint: str
    staging: str
    path: str


@dataclass(frozen=True, slots=True)
class Staged:
    """The staged copy: which inode it is, and what it holds."""

    ino: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a finished deposit; one line of ``.journal/done``.

    Attributes:
        id: Identifier.
        kind: File or directory.
        path: Path below ``resources``.
        size: Bytes of content.
        files: Regular files.
        sha1: neurobank's digest, hex.
        blake3: Second digest, hex.
        source: Where it was deposited from.
        deposited_at: ISO time, UTC.
        fingerprint: The source's state when it was read, to see whether it changed since; empty when unknown.
    """

    id: str
    kind: Kind
    path: str
    size: int
    files: int
    sha1: str
    blake3: str
    source: str
    deposited_at: str
    fingerprint: str = ""


@dataclass(slots=True, eq=False)
class Entry:
    """One deposit as a journal tells it: how far it came."""

    intent: Intent
    staged: Staged | None = None
    registered: bool = False
    withdrawing: str | None = None
    finished: bool = False
    fact: Fact | None = None


class Journal:
    """One journal file, open for writing; the lock of its name is held until `close` or the end of the process."""

    def __init__(self, archive: Archive, path: Path, fd: int, entries: dict[int, Entry]) -> None:
        self._archive = archive
        self._path = path
        self._fd = fd
        self._mutex = threading.Lock()
        self._broken: str | None = None
        self.entries = entries

    @classmethod
    def create(cls, archive: Archive) -> Journal:
        """A new, empty journal file."""
        archive.ensure_folders()
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        path = archive.journal / (run + _SUFFIX)
        archive.locks.try_acquire(_lock_key(path))
        with contextlib.ExitStack() as undo:
            undo.callback(archive.locks.release, _lock_key(path))
            fd = fsops.open_excl(path)
            undo.callback(os.close, fd)
            fsops.write_all(fd, _line([{"event": "opened", "host": platform.node()}]), path)
            fsops.set_mode(fd, archive.file_mode_shared, path)
            archive.give(path)
            fsops.fsync_dir(archive.journal)
            undo.pop_all()
        return cls(archive, path, fd, {})

    @classmethod
    def take_over(cls, archive: Archive, path: Path, *, hosts: Collection[str] = ()) -> Journal | None:
        """The journal of a writer that is gone, or None while it lives or when the file has gone.

        A last line that was cut short is removed: its writer never acted upon it.

        Args:
            archive: Whose journal it is.
            path: The file.
            hosts: Machines beside this one whose files may be taken over even where their locks are not seen.

        Raises:
            OfAnotherMachine: It is another machine's, and nothing here tells whether its writer lives.
            PermissionError: It is another user's, whose files this process could not finish or remove.
            JournalDamaged: It cannot be understood.
        """
        if not archive.locks.try_acquire(_lock_key(path)):
            return None
        with contextlib.ExitStack() as undo:
            undo.callback(archive.locks.release, _lock_key(path))
            try:
                fd = fsops.open_append(path)
            except FileNotFoundError:
                return None
            undo.callback(os.close, fd)
            data = path.read_bytes()
            _refuse_another_user(archive, os.fstat(fd).st_uid, path)
            told = _replay(data, path)
            _refuse_another_machine(archive, told.host, hosts)
            if told.good < len(data):
                fsops.truncate(fd, told.good, path)
                fsops.fsync(fd, path)
            undo.pop_all()
        return cls(archive, path, fd, told.entries)

    @property
    def run(self) -> str:
        """The file's name without suffix."""
        return self._path.name.removesuffix(_SUFFIX)

    def intend(self, intents: Iterable[Mapping[str, Any]]) -> list[Entry]:
        """Write intents, durably; each gives the fields of `Intent` without `seq` and `staging`."""
        entries = []
        with self._mutex:
            for values in intents:
                seq = len(self.entries) + 1
                intent = Intent(seq=seq, staging=f"{self._archive.staging.name}/{self.run}-{seq:06d}", **values)
                self.entries[seq] = Entry(intent)
                entries.append(self.entries[seq])
            self._append([{"event": "intent", **_values(entry.intent)} for entry in entries], durable=True)
        return entries

    def staged(self, copies: Mapping[Entry, Staged], *, durable: bool) -> None:
        """Say that these staged copies are complete; unless `durable`, the caller makes that durable with them."""
        records = []
        for entry, staged in copies.items():
            entry.staged = staged
            digests = _values(staged.digests)
            del digests["kind"]
            records.append(_record(entry, "staged", ino=staged.ino, **digests))
        self._write(records, durable=durable)

    def registered(self, entries: Iterable[Entry]) -> None:
        """Say that the registry has these copies."""
        records = []
        for entry in entries:
            entry.registered = True
            records.append(_record(entry, "registered"))
        self._write(records, durable=True)

    def done(self, entries: Iterable[Entry]) -> None:
        """Say that these deposits are finished; their facts are kept. Not durably: replaying finds the same."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        records = []
        for entry in entries:
            entry.fact = _fact(entry, now)
            entry.finished = True
            records.append(_record(entry, "done", deposited_at=now))
        self._write(records, durable=False)

    def withdraw(self, reasons: Mapping[Entry, str]) -> None:
        """Say that these copies are about to be taken out of the archive."""
        records = []
        for entry, reason in reasons.items():
            entry.withdrawing = reason
            records.append(_record(entry, "withdraw", reason=reason))
        self._write(records, durable=True)

    def dropped(self, reasons: Mapping[Entry, str]) -> None:
        """Say that nothing of these deposits is left in the archive."""
        records = []
        for entry, reason in reasons.items():
            entry.finished = True
            records.append(_record(entry, "dropped", reason=reason))
        self._write(records, durable=False)

    def _write(self, records: Sequence[Mapping[str, Any]], *, durable: bool) -> None:
        if records:
            with self._mutex:
                self._append(records, durable=durable)

    def _append(self, records: Sequence[Mapping[str, Any]], *, durable: bool) -> None:
        if self._broken is not None:
            raise ArchiveWriteFailed(
                f"The journal {self._path} could not be written before: {self._broken}. The next deposit recovers."
            )
        try:
            fsops.write_all(self._fd, _line(records), self._path)
            if durable:
                fsops.fsync(self._fd, self._path)
        except OSError as error:
            # Nothing may follow a line that is cut short, or a page that the kernel dropped.
            self._broken = error.strerror or str(error)
            raise ArchiveWriteFailed(
                f"The journal {self._path} cannot be written: {error.strerror}. Make room or repair the file system; "
                "the next deposit recovers."
            ) from error

    def close(self) -> None:
        """Let go of the file; when nothing is left to do, keep the facts and remove it."""
        try:
            if self._broken is None and all(entry.finished for entry in self.entries.values()):
                self._settle()
        except OSError as error:
            raise ArchiveWriteFailed(
                f"{self._path} cannot be put away: {error.strerror}. Its deposits are done; the next one puts it away."
            ) from error
        finally:
            os.close(self._fd)
            self._archive.locks.release(_lock_key(self._path))

    def _settle(self) -> None:
        if self.entries:
            # A staged name that came back after a power failure would belong to no journal.
            fsops.fsync_dir(self._archive.staging)
        self._keep_facts()
        fsops.unlink(self._path, missing_ok=True)
        fsops.fsync_dir(self._archive.journal)

    def _keep_facts(self) -> None:
        facts = [entry.fact for entry in self.entries.values() if entry.fact is not None]
        if not facts:
            return
        lines = "".join(_encode(_values(fact)) + "\n" for fact in facts)
        kept = self._archive.journal / "done" / self._path.name
        draft = kept.with_suffix(".partial")
        fsops.unlink(draft, missing_ok=True)
        fsops.write_file(draft, lines.encode(), self._archive.file_mode_shared)
        self._archive.give(draft)
        fsops.replace(draft, kept)
        fsops.fsync_dir(kept.parent)


def _values(of: Any) -> dict[str, Any]:
    """A dataclass's fields by name; unlike `asdict`, without copying what they hold."""
    return {name: getattr(of, name) for name in of.__slots__}


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _line(records: Sequence[Mapping[str, Any]]) -> bytes:
    return _encode(records).encode() + b"\n"


def _record(entry: Entry, event: str, **values: Any) -> dict[str, Any]:
    return {"event": event, "seq": entry.intent.seq, **values}


def _fact(entry: Entry, deposited_at: str) -> Fact:
    assert entry.staged is not None
    intent, digests = entry.intent, entry.staged.digests
    return Fact(
        id=intent.id,
        kind=intent.kind,
        path=intent.path,
        size=digests.size,
        files=digests.files,
        sha1=digests.sha1,
        blake3=digests.blake3,
        source=intent.source,
        deposited_at=deposited_at,
        fingerprint=intent.fingerprint,
    )


def _refuse_another_user(archive: Archive, owner: int, path: Path) -> None:
    """The group may write a journal, but a copy's mode is changed, and its folders emptied, by its owner alone."""
    if owner != os.geteuid() and archive.user() not in (owner, 0):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))


def _refuse_another_machine(archive: Archive, host: str | None, allowed: Collection[str]) -> None:
    """Where the locks of other machines are not seen, their writers may be alive."""
    if host not in (None, platform.node(), *allowed) and not archive.filesystem().shared_locks:
        raise OfAnotherMachine(str(host))


def _lock_key(path: Path) -> str:
    return f"journal {path.name}"


def journal_files(archive: Archive) -> list[Path]:
    """The journal files with something left to do, or whose writer lives; oldest first."""
    return sorted(archive.journal.glob(f"*{_SUFFIX}")) if archive.journal.is_dir() else []


@dataclass(slots=True)
class _Told:
    """What a journal file says: its deposits, the machine that wrote it, and the length of its complete part."""

    entries: dict[int, Entry] = field(default_factory=dict)
    host: str | None = None
    good: int = 0


def _replay(data: bytes, path: Path) -> _Told:
    """What `data` tells.

    Raises:
        JournalDamaged: A line other than the last cannot be understood.
    """
    told = _Told()
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            said = json.loads(line)
            for record in said if isinstance(said, list) else [said]:
                _apply(told, record)
        except (ValueError, KeyError, TypeError) as error:
            # A power failure can leave a last block of zeros: nothing after it was ever acted upon.
            if not b"".join(lines[number - 1 :]).strip(b"\0 "):
                break
            if number == len(lines) - 1:
                break
            raise JournalDamaged(
                f"{path}, line {number} cannot be understood ({error}). It was not written by a deposit that was "
                "merely interrupted: look at the file, and move it out of the archive once its deposits are settled."
            ) from error
        told.good += len(line) + 1
    return told


def _apply(told: _Told, record: dict[str, Any]) -> None:
    event = record.pop("event")
    if event == "opened":
        told.host = record["host"]
        return
    seq = record["seq"]
    if event == "intent":
        told.entries[seq] = Entry(Intent(**record))
        return
    entry = told.entries[seq]
    if event == "staged":
        digests = Digests(
            entry.intent.kind, record["size"], record["files"], str(record["sha1"]), str(record["blake3"])
        )
        entry.staged = Staged(record["ino"], digests)
    elif event == "registered":
        entry.registered = True
    elif event == "withdraw":
        entry.withdrawing = record["reason"]
    elif event == "done":
        entry.fact = _fact(entry, record["deposited_at"])
        entry.finished = True
    elif event == "dropped":
        entry.finished = True
    else:
        raise ValueError(f"unknown event {event!r}")


def read_journals(archive: Archive) -> Iterator[tuple[Path, os.stat_result, list[Entry]]]:
    """What each journal file tells now, without touching it; other writers may be at work."""
    for path in journal_files(archive):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            yield path, status, list(_replay(_read(path), path).entries.values())


def read_entries(archive: Archive) -> Iterator[Entry]:
    """What the journal files tell now, one after the other; see `read_journals`."""
    for _, _, entries in read_journals(archive):
        yield from entries


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}. Its group may read it.") from error


def read_facts(archive: Archive) -> dict[str, Fact]:
    """The facts of every finished deposit into this archive, the latest per identifier.

    They say what was deposited, not what is there now: compare with the registry and the disk.
    """
    facts: dict[str, Fact] = {}
    for path in _fact_files(archive):
        for number, line in enumerate(_read(path).splitlines(), start=1):
            fact = _read_fact(line, f"{path}, line {number}")
            facts[fact.id] = fact
    for entry in read_entries(archive):
        if entry.fact is not None:
            facts[entry.fact.id] = entry.fact
    return facts


class FactIndex:
    """The facts of finished deposits by identifier, left on disk: in memory are only the places of their lines."""

    def __init__(self, archive: Archive) -> None:
        self._paths = _fact_files(archive)
        self._places: dict[str, int] = {}
        self._recent = {entry.fact.id: entry.fact for entry in read_entries(archive) if entry.fact is not None}
        for number, path in enumerate(self._paths):
            with path.open("rb") as file:
                offset = 0
                for line in file:
                    fact = _read_fact(line, f"{path}, byte {offset}")
                    self._places[fact.id] = number << 40 | offset
                    offset += len(line)

    def get(self, id: str) -> Fact | None:  # noqa: A002 - neurobank's word
        """The latest fact of `id`."""
        if (recent := self._recent.get(id)) is not None:
            return recent
        if (place := self._places.get(id)) is None:
            return None
        path, offset = self._paths[place >> 40], place & (1 << 40) - 1
        with path.open("rb") as file:
            file.seek(offset)
            return _read_fact(file.readline(), f"{path}, byte {offset}")


def _fact_files(archive: Archive) -> list[Path]:
    folder = archive.journal / "done"
    return sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []


_FACT_FIELDS = tuple(one.name for one in fields(Fact))


def _read_fact(line: bytes, place: str) -> Fact:
    try:
        record = cast("dict[str, Any]", json.loads(line))
        # The fingerprint has not always been kept.
        return Fact(**{"fingerprint": "", **{name: record[name] for name in _FACT_FIELDS if name in record}})
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(f"{place} is no fact of a deposit ({error}).") from error
