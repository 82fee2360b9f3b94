"""The journal: what a deposit is about to do, durable on the archive's own file system before it is done.

Each depositing call writes one file ``.journal/<run>.jsonl`` and holds the lock of its name, so that others see
whether its writer lives. One JSON object per line, in order:

========== =================================================================================================
event      fields beside ``event`` and ``seq`` (the deposit's number within the file)
========== =================================================================================================
intent     id, dtype, metadata, kind, source, source_kind, keep_source, fingerprint, staging, path
staged     ino, size, files, sha1, blake3: the staged copy is complete and durable
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
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from aind_pipelines.archive import fsops
from aind_pipelines.archive.digests import Digests, Kind
from aind_pipelines.archive.errors import ArchiveError, ArchiveWriteFailed, JournalDamaged
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


@dataclass(slots=True)
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
        self._broken = False
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
            fsops.set_mode(fd, archive.file_mode_shared, path)
            archive.give(path)
            fsops.fsync_dir(archive.journal)
            undo.pop_all()
        return cls(archive, path, fd, {})

    @classmethod
    def take_over(cls, archive: Archive, path: Path) -> Journal | None:
        """The journal of a writer that is gone, or None while it lives or when the file has gone.

        A last line that was cut short is removed: its writer never acted upon it.
        """
        if not archive.locks.try_acquire(_lock_key(path)):
            return None
        try:
            fd = fsops.open_append(path)
        except FileNotFoundError:
            archive.locks.release(_lock_key(path))
            return None
        except BaseException:
            archive.locks.release(_lock_key(path))
            raise
        try:
            data = path.read_bytes()
            entries, good = _replay(data, path)
            if good < len(data):
                fsops.truncate(fd, good, path)
                fsops.fsync(fd, path)
        except BaseException:
            os.close(fd)
            archive.locks.release(_lock_key(path))
            raise
        return cls(archive, path, fd, entries)

    @property
    def run(self) -> str:
        """The file's name without suffix."""
        return self._path.name.removesuffix(_SUFFIX)

    def intend(self, **values: Any) -> Entry:
        """Write an intent, durably; `values` are the fields of `Intent` without `seq` and `staging`."""
        with self._mutex:
            seq = len(self.entries) + 1
            intent = Intent(seq=seq, staging=f"{self._archive.staging.name}/{self.run}-{seq:06d}", **values)
            entry = self.entries[seq] = Entry(intent)
            self._append({"event": "intent", **asdict(intent)}, durable=True)
        return entry

    def staged(self, entry: Entry, staged: Staged) -> None:
        """Say that the staged copy is complete and durable."""
        entry.staged = staged
        digests = asdict(staged.digests)
        del digests["kind"]
        self._event(entry, "staged", durable=True, ino=staged.ino, **digests)

    def registered(self, entry: Entry) -> None:
        """Say that the registry has the copy."""
        entry.registered = True
        self._event(entry, "registered", durable=True)

    def done(self, entry: Entry) -> Fact:
        """Say that the deposit is finished; its fact is kept. Need not be durable: replaying finds the same."""
        assert entry.staged is not None
        intent, digests = entry.intent, entry.staged.digests
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry.fact = Fact(
            intent.id,
            intent.kind,
            intent.path,
            digests.size,
            digests.files,
            digests.sha1,
            digests.blake3,
            intent.source,
            now,
        )
        entry.finished = True
        self._event(entry, "done", durable=False, deposited_at=now)
        return entry.fact

    def withdraw(self, entry: Entry, reason: str) -> None:
        """Say that the copy is about to be taken out of the archive."""
        entry.withdrawing = reason
        self._event(entry, "withdraw", durable=True, reason=reason)

    def dropped(self, entry: Entry, reason: str) -> None:
        """Say that nothing of the deposit is left in the archive."""
        entry.finished = True
        self._event(entry, "dropped", durable=False, reason=reason)

    def _event(self, entry: Entry, event: str, *, durable: bool, **values: Any) -> None:
        with self._mutex:
            self._append({"event": event, "seq": entry.intent.seq, **values}, durable=durable)

    def _append(self, record: Mapping[str, Any], *, durable: bool) -> None:
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"
        if self._broken:
            raise ArchiveWriteFailed(f"{self._path} could not be written before. The next deposit recovers.")
        try:
            fsops.write_all(self._fd, line.encode(), self._path)
            if durable:
                fsops.fsync(self._fd, self._path)
        except OSError as error:
            # Nothing may follow a line that is cut short, or a page that the kernel dropped.
            self._broken = True
            raise ArchiveWriteFailed(
                f"The journal {self._path} cannot be written: {error.strerror}. Make room or repair the file system; "
                "the next deposit recovers."
            ) from error

    def close(self) -> None:
        """Let go of the file; when nothing is left to do, keep the facts and remove it."""
        try:
            if not self._broken and all(entry.finished for entry in self.entries.values()):
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
        lines = "".join(json.dumps(asdict(fact), separators=(",", ":")) + "\n" for fact in facts)
        kept = self._archive.journal / "done" / self._path.name
        draft = kept.with_suffix(".partial")
        fsops.unlink(draft, missing_ok=True)
        fsops.write_file(draft, lines.encode(), self._archive.file_mode_shared)
        self._archive.give(draft)
        fsops.replace(draft, kept)
        fsops.fsync_dir(kept.parent)


def _lock_key(path: Path) -> str:
    return f"journal {path.name}"


def journal_files(archive: Archive) -> list[Path]:
    """The journal files with something left to do, or whose writer lives; oldest first."""
    return sorted(archive.journal.glob(f"*{_SUFFIX}")) if archive.journal.is_dir() else []


def _replay(data: bytes, path: Path) -> tuple[dict[int, Entry], int]:
    """The entries that `data` tells of, and the length of its complete part.

    Raises:
        JournalDamaged: A line other than the last cannot be understood.
    """
    entries: dict[int, Entry] = {}
    good = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            _apply(entries, json.loads(line))
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
        good += len(line) + 1
    return entries, good


def _apply(entries: dict[int, Entry], record: dict[str, Any]) -> None:
    event, seq = record.pop("event"), record["seq"]
    if event == "intent":
        entries[seq] = Entry(Intent(**record))
        return
    entry = entries[seq]
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
        assert entry.staged is not None
        digests, intent = entry.staged.digests, entry.intent
        entry.finished = True
        entry.fact = Fact(
            intent.id,
            intent.kind,
            intent.path,
            digests.size,
            digests.files,
            digests.sha1,
            digests.blake3,
            intent.source,
            record["deposited_at"],
        )
    elif event == "dropped":
        entry.finished = True
    else:
        raise ValueError(f"unknown event {event!r}")


def read_entries(archive: Archive) -> Iterator[Entry]:
    """What the journal files tell now, without touching them; other writers may be at work."""
    for path in journal_files(archive):
        with contextlib.suppress(FileNotFoundError):
            yield from _replay(_read(path), path)[0].values()


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
    names = {field.name for field in fields(Fact)}
    folder = archive.journal / "done"
    for path in sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []:
        for number, line in enumerate(_read(path).splitlines(), start=1):
            try:
                record = cast("dict[str, Any]", json.loads(line))
                fact = Fact(**{name: record[name] for name in names})
            except (ValueError, KeyError, TypeError) as error:
                raise JournalDamaged(f"{path}, line {number} is no fact of a deposit ({error}).") from error
            facts[fact.id] = fact
    for entry in read_entries(archive):
        if entry.fact is not None:
            facts[entry.fact.id] = entry.fact
    return facts
