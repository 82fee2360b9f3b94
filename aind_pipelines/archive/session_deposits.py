"""Depositing the raw asset of each session: what the session tables say becomes resources of an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Row, func, select

from aind_pipelines.archive.deposit import DepositItem, DepositResult, deposit
from aind_pipelines.archive.dtypes import require_dtype
from aind_pipelines.archive.intake import S3Prefix
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.ledger import record_copies
from aind_pipelines.clients.s3 import parse_uri
from aind_pipelines.records.findings import Finding
from aind_pipelines.settings import ArchivePolicy
from aind_pipelines.tables.findings import record_findings
from aind_pipelines.tables.schema import archive_copies, archive_findings, session_assets

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from aind_pipelines.clients.registry import RegistryClient

_LEDGER_BATCH = 200


@dataclass
class SessionDeposits:
    """What a run of deposits did.

    Attributes:
        deposited: Resources that are new in the archive.
        already_there: Resources that were there before.
        refused: Sources that the archive refused; each is a finding.
        bytes: Bytes of content deposited.
        held_by_month: Resources that the ledger holds now, for each of these months.
        findings_by_code: Standing findings of these months.
    """

    deposited: int = 0
    already_there: int = 0
    refused: int = 0
    bytes: int = 0
    held_by_month: dict[date, int] = field(default_factory=dict)
    findings_by_code: Counter[str] = field(default_factory=Counter)


def deposit_sessions(
    engine: Engine,
    policy: ArchivePolicy,
    registry: RegistryClient,
    s3: S3Client,
    months: Sequence[date],
    *,
    dtype: str,
    run_id: str | None = None,
) -> SessionDeposits:
    """Deposit the raw asset of every session of `months` that has one, as a directory resource named like it.

    The source is kept. What is already in the archive is left alone.

    Raises:
        ServiceError: The registry, S3 or the database failed, or the registry does not know `dtype` (said before a
            byte is read). What was deposited until then stays, is in the ledger, and is found by the next run.
    """
    archive = Archive.open(policy.path)
    require_dtype(registry, dtype)
    with engine.connect() as connection:
        sessions = connection.execute(
            select(session_assets)
            .where(
                session_assets.c.month.in_(months),
                session_assets.c.raw_asset_name.is_not(None),
                session_assets.c.raw_data_dir.is_not(None),
            )
            .order_by(session_assets.c.session_id)
        ).all()
    name = archive.name_in(registry)
    by_id = {session.raw_asset_name: session for session in sessions}
    outcome = SessionDeposits()
    refusals: dict[date, list[Finding]] = {month: [] for month in months}
    for batch in _batches(deposit(archive, registry, _items(by_id.values(), s3, dtype)), _LEDGER_BATCH):
        with engine.begin() as connection:
            record_copies(
                connection,
                name,
                batch,
                metadata={result.id: _metadata(by_id[result.id]) for result in batch},
                run_id=run_id,
            )
        for result in batch:
            _count(outcome, result)
            if result.status == "refused":
                refusals[by_id[result.id].month].append(
                    Finding("deposit_refused", f"{name}/{result.id}", message=result.reason)
                )
    with engine.begin() as connection:
        for month, findings in refusals.items():
            outcome.findings_by_code += record_findings(
                connection, archive_findings, findings, scope=f"deposits {month:%Y-%m}", run_id=run_id
            )
        held: Sequence[Any] = connection.execute(
            select(session_assets.c.month, func.count(archive_copies.c.id))
            .join_from(session_assets, archive_copies, archive_copies.c.session_id == session_assets.c.session_id)
            .where(archive_copies.c.archive == name, session_assets.c.month.in_(months))
            .group_by(session_assets.c.month)
        ).all()
        outcome.held_by_month = dict.fromkeys(months, 0) | dict(held)
    return outcome


def _items(sessions: Iterable[Row[Any]], s3: S3Client, dtype: str) -> Iterator[DepositItem]:
    for session in sessions:
        bucket, prefix = parse_uri(session.raw_data_dir)
        yield DepositItem(
            id=session.raw_asset_name,
            source=S3Prefix(bucket=bucket, prefix=prefix, client=s3),
            dtype=dtype,
            metadata=_metadata(session),
            keep_source=True,
        )


def _metadata(session: Row[Any]) -> dict[str, str]:
    """What the registry keeps with the resource: where it came from and what it belongs to."""
    metadata = {"session_id": session.session_id, "source": session.raw_data_dir}
    return metadata if session.raw_record_id is None else metadata | {"record_id": session.raw_record_id}


def _count(outcome: SessionDeposits, result: DepositResult) -> None:
    if result.status == "deposited":
        outcome.deposited += 1
        outcome.bytes += result.size or 0
    elif result.status == "already_there":
        outcome.already_there += 1
    else:
        outcome.refused += 1


def _batches(results: Iterable[DepositResult], size: int) -> Iterator[list[DepositResult]]:
    batch: list[DepositResult] = []
    for result in results:
        batch.append(result)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
