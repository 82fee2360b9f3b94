"""The ledger: what RDS knows of each copy and of every check. Deposits and checks work without it.

Every function works within the caller's transaction and can be repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from aind_pipelines.archive.deposit import DepositResult
from aind_pipelines.archive.fixity import CheckReport
from aind_pipelines.clients.registry import BULK_CHUNK, RegistryClient, Resource
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.findings import FindingsPass, record_findings
from aind_pipelines.tables.schema import archive_checks, archive_copies, archive_findings

BYTES_LOST = "bytes_lost"
"""Code of the finding that a deposit found a registered copy without any bytes."""

_BATCH = 500
_CONTENT_CODES = frozenset({"corrupt", "unverifiable"})


def record_copies(
    connection: Connection,
    archive: str,
    results: Iterable[DepositResult],
    *,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    run_id: str | None = None,
) -> int:
    """Write the copies that deposits made or found.

    A copy that is known already keeps its row; only what was unknown about it is filled in. One that was restored is
    another copy from now on, deposited by this run and not verified yet. What another program deposited has no second
    digest until a full check read it, and gets its row from that; what the row lacks then is filled in here as well.

    Args:
        connection: An open transaction.
        archive: The archive's registered name.
        results: What `aind_pipelines.archive.deposit.deposit` yielded.
        metadata: Each deposit's metadata by identifier; ``session_id`` and ``record_id`` are taken from it.
        run_id: Dagster run, if any.

    Returns:
        How many copies are new in the ledger.
    """
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}  # by whether the copy was restored
    for result in results:
        if result.status == "refused":
            continue
        said = (metadata or {}).get(result.id, {})
        rows[result.status == "restored"].append(
            {
                "archive": archive,
                "id": result.id,
                "kind": result.kind,
                "path": result.path,
                "size": result.size,
                "files": result.files,
                "sha1": result.sha1,
                "blake3": result.blake3,
                "source": result.source,
                "session_id": said.get("session_id"),
                "record_id": said.get("record_id"),
                "run_id": run_id,
            }
        )
    _fill_in(connection, [row for row in rows[False] if row["blake3"] is None])
    new = _insert_copies(connection, [row for row in rows[False] if row["blake3"] is not None])
    return new + _insert_copies(connection, rows[True], restored=True)


def record_losses(
    connection: Connection,
    archive: str,
    losses: Mapping[str, Collection[str]],
    *,
    run_id: str | None = None,
) -> None:
    """Write that a deposit found copies without any bytes, before it brings these back: findings with their history.

    Args:
        connection: An open transaction.
        archive: The archive's registered name.
        losses: Identifiers by the scope of the pass that found them, which has to find `lost` of them at its end too.
        run_id: Dagster run, if any.
    """
    for scope, ids in losses.items():
        found = FindingsPass(connection, archive_findings, scope=scope, run_id=run_id)
        found.add(connection, [lost(archive, id_) for id_ in ids])
        connection.execute(
            update(archive_copies)
            .where(archive_copies.c.archive == archive, archive_copies.c.id == func.any(list(ids)))
            .values(last_verified_at=None)
        )


def lost(archive: str, id_: str) -> Finding:
    """The finding that a deposit found a registered copy without any bytes."""
    return Finding(
        BYTES_LOST,
        f"{archive}/{id_}",
        message=f"{id_} is registered in {archive}, and its bytes were gone when its source was to be deposited. "
        "A source that still has the same content brings them back. Look at the disk that lost them.",
    )


_FILLED_IN = ("source", "session_id", "record_id")
_OF_THE_BYTES = ("kind", "path", "size", "files", "sha1", "blake3")


def _fill_in(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Fill in what is unknown of copies that the ledger has under the same sha1."""
    if not rows:
        return
    table = archive_copies.c
    connection.execute(
        update(archive_copies)
        .where(
            table.archive == bindparam("_archive"),
            table.id == bindparam("_id"),
            table.sha1 == bindparam("_sha1"),
            or_(*(table[name].is_(None) for name in _FILLED_IN)),
        )
        .values({name: func.coalesce(table[name], bindparam(f"_{name}", type_=Text)) for name in _FILLED_IN}),
        [{f"_{name}": row[name] for name in ("archive", "id", "sha1", *_FILLED_IN)} for row in rows],
    )


def _insert_copies(connection: Connection, rows: list[dict[str, Any]], *, restored: bool = False) -> int:
    """Insert copies that the ledger lacks; of others what is unknown is filled in, or, when restored, all is new."""
    rows = list({row["id"]: row for row in rows}.values())  # one statement may not meet a row twice
    new_rows = 0
    for start in range(0, len(rows), _BATCH):
        statement = insert(archive_copies).values(rows[start : start + _BATCH])
        new = statement.excluded
        changed: dict[str, ColumnElement[Any]]
        if restored:
            changed = {name: new[name] for name in (*_OF_THE_BYTES, "deposited_at", "last_verified_at", "run_id")}
            changed |= {name: func.coalesce(new[name], archive_copies.c[name]) for name in _FILLED_IN}
        else:
            changed = {name: func.coalesce(archive_copies.c[name], new[name]) for name in _FILLED_IN}
        written: CursorResult[Any] = connection.execute(
            statement.on_conflict_do_update(
                index_elements=[archive_copies.c.archive, archive_copies.c.id], set_=changed
            ).returning(literal_column("(xmax = 0)"))  # a row that was updated names the transaction that did it
        )
        new_rows += sum(bool(inserted) for inserted in written.scalars())
    return new_rows


@dataclass
class RegistryComparison:
    """What the registry has of the ledger's copies.

    Attributes:
        copies: Copies in the ledger.
        problems: What is wrong with some of them, by kind, as ``archive/identifier``; at most `MOST_NAMED` of a kind.
        counts: How many there are, by kind.
    """

    copies: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


MOST_NAMED = 20


def compare_with_registry(connection: Connection, registry: RegistryClient) -> RegistryComparison:
    """Look every copy of every archive up in the registry, many in one request and in flat memory.

    The registry is asked by identifier: pages of a listing shift while others deposit.
    """
    found = RegistryComparison()
    table = archive_copies.c
    query = select(table.archive, table.id, table.sha1).order_by(table.archive, table.id)
    for rows in connection.execute(query.execution_options(yield_per=BULK_CHUNK)).partitions():
        known = registry.get_resources(row.id for row in rows)
        found.copies += len(rows)
        for row in rows:
            problem = _registration_problem(row.archive, row.sha1, known.get(row.id))
            if problem is not None:
                found.counts[problem] += 1
                if found.counts[problem] <= MOST_NAMED:
                    found.problems.setdefault(problem, []).append(f"{row.archive}/{row.id}")
    return found


def _registration_problem(archive: str, sha1: str, record: Resource | None) -> str | None:
    if record is None:
        return "not registered"
    if archive not in record.locations:
        return "not registered in that archive"
    return None if record.sha1 == sha1 else "registered under another sha1"


def record_check(connection: Connection, report: CheckReport, *, run_id: str | None = None) -> None:
    """Write a check, when each copy was last verified, and its findings with their history.

    Findings about names and sizes are settled by every check, those about content only by a check that read it: an
    ``exists`` check does not resolve that a copy is corrupt.

    Args:
        connection: An open transaction.
        report: What `aind_pipelines.archive.fixity.check` returned.
        run_id: Dagster run, if any.
    """
    connection.execute(
        insert(archive_checks).values(
            archive=report.archive,
            tier=report.tier,
            started_at=report.started_at,
            ended_at=report.ended_at,
            resources=report.resources,
            bytes=report.bytes,
            findings=len({finding.key for finding in report.failures}),
            passed=report.ok,
            run_id=run_id,
        )
    )
    _insert_copies(
        connection,
        [
            {
                "archive": report.archive,
                "id": id_,
                "kind": verified.digests.kind,
                "path": verified.path,
                "size": verified.digests.size,
                "files": verified.digests.files,
                "sha1": verified.digests.sha1,
                "blake3": verified.digests.blake3,
                "source": None,
                "session_id": None,
                "record_id": None,
                "run_id": run_id,
            }
            for id_, verified in report.verified.items()
        ],
    )
    good = list(report.verified)
    for start in range(0, len(good), _BATCH):
        connection.execute(
            update(archive_copies)
            .where(archive_copies.c.archive == report.archive, archive_copies.c.id.in_(good[start : start + _BATCH]))
            .values(last_verified_at=report.ended_at)
        )
    content = [finding for finding in report.findings if _is_content(finding)]
    existence = [finding for finding in report.findings if not _is_content(finding)]
    record_findings(
        connection, archive_findings, existence, scope=f"archive {report.archive} existence", run_id=run_id
    )
    if report.tier == "full":
        record_findings(
            connection, archive_findings, content, scope=f"archive {report.archive} content", run_id=run_id
        )


def _is_content(finding: Finding) -> bool:
    return finding.code in _CONTENT_CODES or (finding.code == "unreadable" and finding.field != "listing")
