"""Inboxes: directories whose files are deposited once they are ready, and moved aside when the archive refuses them.

What lies directly in an inbox is one resource each, a file or a directory. Names that begin with a dot are left alone,
since programs that copy give them to what is unfinished; so is the directory ``rejected``. What is refused for good
goes there, beside a text that says why; what may succeed later stays.

Nothing is remembered between two looks: whether something is ready is told by its marker, or by how long ago it was
last changed according to ``ctime``, which no copying program can set.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, DepositResult, deposit
from aind_pipelines.archive.dtypes import require_dtype
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.intake import Source, SourceRefused, local_source, read_digests
from aind_pipelines.archive.ledger import lost, record_copies, record_losses
from aind_pipelines.archive.naming import name_items, naming_of
from aind_pipelines.archive.zipped import Zipped
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.findings import record_findings
from aind_pipelines.tables.schema import archive_findings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.clients.registry import RegistryClient
    from aind_pipelines.settings import InboxPolicy

REJECTED = "rejected"
_REASON = ".reason.txt"
_LEDGER_BATCH = 200
_LONGEST_NAME = 255
_FOLDER_MODE, _REASON_MODE = 0o770, 0o664


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something in an inbox.

    Attributes:
        path: Where it is.
        ready: Whether it may be deposited.
        changed: When it, or anything in it, last changed, in seconds since 1970 by the file system's clock.
    """

    path: Path
    ready: bool
    changed: float


@dataclass
class InboxDeposits:
    """What a run made of an inbox.

    Attributes:
        deposited: New resources.
        restored: Resources whose bytes the archive had lost and has again.
        rejected: Moved to ``rejected``.
        waiting: Still there: not ready, or to be tried again.
        bytes: Bytes of content deposited.
        findings: Standing findings of this inbox, by code.
    """

    deposited: int = 0
    restored: int = 0
    rejected: int = 0
    waiting: int = 0
    bytes: int = 0
    findings: Counter[str] = field(default_factory=Counter)


def look(inbox: InboxPolicy, *, now: float | None = None) -> Iterator[Waiting]:
    """What lies in `inbox`, in no order; what vanishes meanwhile is left out.

    Args:
        inbox: Its policy.
        now: Time to judge by, in seconds since 1970.

    Raises:
        ArchiveError: The directory is not there or cannot be listed.
    """
    try:
        with os.scandir(inbox.path) as entries:
            names = {entry.name for entry in entries}
    except OSError as error:
        raise ArchiveError(
            f"The inbox {inbox.path} cannot be listed: {error.strerror}. Make the directory, mount its file system, "
            "or take it out of the policy file."
        ) from error
    marker = inbox.ready_marker
    markers = {name for name in names if marker and name.endswith(marker) and name != marker}
    for name in names - markers - {REJECTED}:
        if name.startswith("."):
            continue
        path = inbox.path / name
        with suppress(FileNotFoundError):
            changed = _last_change(path)
            if marker:
                ready = name + marker in markers
            else:
                ready = (time.time() if now is None else now) - changed >= inbox.quiet_seconds
            yield Waiting(path, ready, changed)


def _last_change(path: Path) -> float:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_ctime
    # A directory that cannot be read is refused when it is deposited, with its reason.
    below = (_last_change(child) for child in _children(path))
    return max([status.st_ctime, *below])


def _children(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except PermissionError:
        return []


def deposit_inbox(
    engine: Engine,
    name: str,
    inbox: InboxPolicy,
    archive: Archive,
    registry: RegistryClient,
    *,
    run_id: str | None = None,
) -> InboxDeposits:
    """Deposit everything in an inbox that is ready; sources are moved.

    Args:
        engine: RDS, for the ledger and the findings.
        name: The inbox's name in the policy.
        inbox: Its policy.
        archive: The archive it belongs to.
        registry: The archive's registry.
        run_id: Dagster run, if any.

    Raises:
        ArchiveError: The inbox cannot be listed, or the archive cannot be written.
        ServiceError: The registry or the database failed, or the registry does not know the data type. What was
            deposited until then stays deposited, and what was not is tried again by the next run.
    """
    require_dtype(registry, inbox.dtype)
    outcome = InboxDeposits()
    archive_name = archive.name_in(registry)
    metadata = {**inbox.metadata, "inbox": name}
    asked: deque[Path] = deque()

    def ready() -> Iterator[Path]:
        for found in sorted(look(inbox), key=lambda each: each.path.name):
            if found.ready:
                yield found.path
            else:
                outcome.waiting += 1

    def items() -> Iterator[DepositItem]:
        named = name_items(
            archive,
            registry,
            naming_of(archive),
            ready(),
            inbox.dtype,
            metadata,
            keep_source=False,
            source_at=lambda path: _source(inbox, path),
        )
        for path, item in named:
            if isinstance(item, str):
                _set_aside(inbox, path, item, outcome)
            else:
                asked.append(path)
                yield item

    scope = f"inbox {name}"
    losses: list[Finding] = []

    def tell_lost(ids: Sequence[str]) -> None:
        losses.extend(lost(archive_name, id_) for id_ in ids)
        with engine.begin() as connection:
            record_losses(connection, archive_name, {scope: ids}, run_id=run_id)

    results = deposit(archive, registry, items(), on_lost=tell_lost)
    while batch := list(itertools.islice(results, _LEDGER_BATCH)):
        with engine.begin() as connection:
            record_copies(
                connection, archive_name, batch, metadata={result.id: metadata for result in batch}, run_id=run_id
            )
        for result in batch:
            _settle(inbox, asked.popleft(), result, outcome)
    with engine.begin() as connection:
        findings = [*losses, *_rejected(inbox, name), *_forgotten(inbox, name)]
        outcome.findings = record_findings(connection, archive_findings, findings, scope=scope, run_id=run_id)
    return outcome


def _source(inbox: InboxPolicy, path: Path) -> Source:
    source = local_source(path)
    return Zipped(source) if inbox.zip_directories and source.kind == "directory" else source


def _settle(inbox: InboxPolicy, path: Path, result: DepositResult, outcome: InboxDeposits) -> None:
    """Put away what a deposit left in the inbox."""
    if result.status in ("deposited", "restored"):
        outcome.deposited += result.status == "deposited"
        outcome.restored += result.status == "restored"
        outcome.bytes += result.size or 0
        if inbox.ready_marker and not os.path.lexists(path):
            fsops.unlink(path.with_name(path.name + inbox.ready_marker), missing_ok=True)
    elif result.may_succeed_later:
        outcome.waiting += 1
    elif result.status == "already_there":
        _set_aside(inbox, path, _compared(inbox, path, result), outcome)
    else:
        _set_aside(inbox, path, result.reason, outcome)


def _compared(inbox: InboxPolicy, path: Path, result: DepositResult) -> str:
    """What to say of a file whose identifier the archive has already."""
    try:
        same = read_digests(_source(inbox, path)).sha1 == result.sha1
    except SourceRefused as problem:
        return f"The archive has a resource {result.id} already, and this one cannot be compared with it: {problem}"
    if same:
        return f"The archive has a resource {result.id} with the same content already. This one can be removed."
    return f"The archive has a resource {result.id} with another content already. Deposit this one under another name."


def _set_aside(inbox: InboxPolicy, path: Path, reason: str, outcome: InboxDeposits) -> None:
    if reject(inbox.path, path, reason) is not None:
        outcome.rejected += 1
    if inbox.ready_marker:
        fsops.unlink(path.with_name(path.name + inbox.ready_marker), missing_ok=True)


def reject(inbox: Path, path: Path, reason: str) -> Path | None:
    """Move `path` to the inbox's ``rejected``, beside a text with `reason`; nothing there is ever replaced.

    Returns:
        Where it is now; None when it vanished.

    Raises:
        ArchiveError: It cannot be moved.
    """
    folder = inbox / REJECTED
    try:
        with suppress(FileExistsError):
            fsops.mkdir(folder, _FOLDER_MODE)
        number = -1
        while True:
            number += 1
            target = folder / (_shortened(path.name, len(f".{number}")) + f".{number}" if number else path.name)
            text = folder / (_shortened(target.name, len(_REASON)) + _REASON)
            if os.path.lexists(target):
                continue
            try:
                fsops.write_file(text, _explained(path.name, reason), _REASON_MODE)
            except FileExistsError:
                continue
            try:
                fsops.rename_new(path, target)
            except FileNotFoundError:
                fsops.unlink(text)
                return None
            fsops.fsync_dir(folder)
            return target
    except OSError as error:
        raise ArchiveError(
            f"{printable(str(path))} was refused ({reason}) and cannot be moved to {folder}: {error.strerror}. "
            "Make that directory writable."
        ) from error


def _explained(name: str, reason: str) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        f"{printable(name)} was not deposited ({now}).\n\n{reason}\n\n"
        "Mend what this says and move the file back into the inbox, or remove it here.\n"
    ).encode(errors="backslashreplace")


def _shortened(name: str, room: int) -> str:
    """`name`, cut so that `room` more bytes fit into a file's name."""
    while len(os.fsencode(name)) > _LONGEST_NAME - room:
        name = name[:-1]
    return name


def printable(name: str) -> str:
    """A file's name as text that any store takes: bytes that are no UTF-8 are escaped."""
    return name.encode(errors="backslashreplace").decode()


def _rejected(inbox: InboxPolicy, name: str) -> Iterator[Finding]:
    """A finding for each that lies in ``rejected``: a person has to look at it."""
    folder = inbox.path / REJECTED
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.endswith(_REASON):
            continue
        text = folder / (_shortened(path.name, len(_REASON)) + _REASON)
        with suppress(FileNotFoundError):
            lines = text.read_text(errors="replace").splitlines()
            reason = lines[2] if len(lines) > 2 else "see the text beside it"
            yield Finding("inbox_rejected", printable(f"{name}/{path.name}"), message=reason)


def _forgotten(inbox: InboxPolicy, name: str) -> Iterator[Finding]:
    """A finding for each that does not become ready."""
    now = time.time()
    for found in look(inbox, now=now):
        if not found.ready and abs(now - found.changed) > inbox.forgotten_hours * 3600:
            why = (
                f"has no marker ({found.path.name}{inbox.ready_marker})"
                if inbox.ready_marker
                else "was changed in the future, says its file system's clock"
            )
            yield Finding(
                "inbox_forgotten",
                printable(f"{name}/{found.path.name}"),
                message=printable(f"It lies there for more than {inbox.forgotten_hours:g} hours and {why}."),
            )
