"""Depositing the assets of sessions: what the session tables say becomes resources of an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Row, func, select

from aind_pipelines.archive.deposit import DepositItem, DepositResult, deposit
from aind_pipelines.archive.dtypes import require_dtype
from aind_pipelines.archive.intake import S3Prefix, Source, SourceRefused
from aind_pipelines.archive.layout import Archive
from aind_pipelines.archive.ledger import lost, record_copies, record_losses
from aind_pipelines.archive.zipped import Zipped
from aind_pipelines.clients.s3 import parse_uri
from aind_pipelines.records.findings import Finding
from aind_pipelines.settings import RAW, ArchivePolicy
from aind_pipelines.tables.findings import record_findings
from aind_pipelines.tables.schema import archive_copies, archive_findings, session_assets

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from aind_pipelines.clients.registry import RegistryClient

_LEDGER_BATCH = 200
_LISTINGS_AT_ONCE = 8


@dataclass
class MonthDeposits:
    """What deposits did in one month, or in several.

    Attributes:
        deposited: Resources that are new in the archive.
        restored: Resources whose bytes the archive had lost and has again.
        already_there: Resources that were there before.
        refused: Sources that the archive refused; each is a finding.
        bytes: Bytes of content deposited.
        held: Resources of these roles that the ledger holds now.
        findings_by_code: Standing findings.
    """

    deposited: int = 0
    restored: int = 0
    already_there: int = 0
    refused: int = 0
    bytes: int = 0
    held: int = 0
    findings_by_code: Counter[str] = field(default_factory=Counter)

    @property
    def changed(self) -> int:
        """Resources that were deposited, or brought back."""
        return self.deposited + self.restored

    def add(self, other: MonthDeposits) -> None:
        """Count what other deposits did as well."""
        self.deposited += other.deposited
        self.restored += other.restored
        self.already_there += other.already_there
        self.refused += other.refused
        self.bytes += other.bytes
        self.held += other.held
        self.findings_by_code.update(other.findings_by_code)


@dataclass
class SessionDeposits:
    """What a run of deposits did.

    Attributes:
        by_month: What it did in each month, months without any session included.
    """

    by_month: dict[date, MonthDeposits] = field(default_factory=dict)

    @property
    def total(self) -> MonthDeposits:
        """What it did in all these months."""
        total = MonthDeposits()
        for month in self.by_month.values():
            total.add(month)
        return total

    def add(self, other: SessionDeposits) -> None:
        """Count what deposits of another role did as well."""
        for month, done in other.by_month.items():
            self.by_month.setdefault(month, MonthDeposits()).add(done)


@dataclass(frozen=True, slots=True)
class _Asset:
    """An asset of a session that is to be deposited."""

    name: str
    month: date
    uri: str
    metadata: dict[str, str]


def deposit_sessions(
    engine: Engine,
    policy: ArchivePolicy,
    registry: RegistryClient,
    s3: S3Client,
    months: Sequence[date],
    *,
    dtype: str,
    role: str = RAW,
    zip_directories: bool = False,
    run_id: str | None = None,
) -> SessionDeposits:
    """Deposit the assets of one role of every session of `months`, as directory resources named like them.

    The source is kept. What is already in the archive is left alone; a source that changed since is a finding, and so
    is one that is gone. What the archive has lost is a finding, before any of it is brought back.

    Args:
        engine: RDS.
        policy: The archive.
        registry: Its registry.
        s3: Where the assets are.
        months: First days of the months.
        dtype: Data type to register them with.
        role: ``raw``, or the process of derived assets.
        zip_directories: Deposit each as one zip file instead of a directory.
        run_id: Dagster run, if any.

    Raises:
        ServiceError: The registry, S3 or the database failed, or the registry does not know `dtype` (said before a
            byte is read). What was deposited until then stays, is in the ledger, and is found by the next run.
    """
    archive = Archive.open(policy.path)
    require_dtype(registry, dtype)
    with engine.connect() as connection:
        assets = _raw_assets(connection, months) if role == RAW else _derived_assets(connection, months, role)

    def source(asset: _Asset) -> Source:
        bucket, prefix = parse_uri(asset.uri)
        folder = S3Prefix(bucket=bucket, prefix=prefix, client=s3)
        return Zipped(folder) if zip_directories else folder

    name = archive.name_in(registry)
    outcome = SessionDeposits({month: MonthDeposits() for month in months})
    found: dict[date, list[Finding]] = {month: [] for month in months}
    scope = "deposits" if role == RAW else f"deposits of {role}"
    scopes = {month: f"{scope} {month:%Y-%m}" for month in months}

    def tell_lost(ids: Sequence[str]) -> None:
        losses: dict[str, list[str]] = {}
        for id_ in ids:
            month = assets[id_].month
            found[month].append(lost(name, id_))
            losses.setdefault(scopes[month], []).append(id_)
        with engine.begin() as connection:
            record_losses(connection, name, losses, run_id=run_id)

    results = deposit(archive, registry, _items(assets.values(), source, dtype), on_lost=tell_lost)
    for batch in _batches(results, _LEDGER_BATCH):
        with engine.begin() as connection:
            record_copies(
                connection,
                name,
                batch,
                metadata={result.id: assets[result.id].metadata for result in batch},
                run_id=run_id,
            )
        for result in batch:
            month = assets[result.id].month
            _count(outcome.by_month[month], result)
            if result.status == "refused":
                found[month].append(Finding("deposit_refused", f"{name}/{result.id}", message=result.reason))
        for id_, message in _changed_since(batch, assets, source):
            found[assets[id_].month].append(Finding("source_changed", f"{name}/{id_}", message=message))
    with engine.begin() as connection:
        for month, findings in found.items():
            outcome.by_month[month].findings_by_code = record_findings(
                connection, archive_findings, findings, scope=scopes[month], run_id=run_id
            )
        held = connection.scalars(
            select(archive_copies.c.id).where(
                archive_copies.c.archive == name, archive_copies.c.id == func.any(list(assets))
            )
        )
        for id_ in held:
            outcome.by_month[assets[id_].month].held += 1
    return outcome


def _raw_assets(connection: Connection, months: Sequence[date]) -> dict[str, _Asset]:
    """The raw assets of the months' sessions whose data is there, by name, in the order of the sessions."""
    table = session_assets.c
    sessions = connection.execute(
        select(session_assets)
        .where(table.month.in_(months), table.raw_asset_name.is_not(None), table.raw_data_dir.is_not(None))
        .order_by(table.session_id)
    )
    return {
        row.raw_asset_name: _asset(row.raw_asset_name, row, row.raw_data_dir, row.raw_record_id) for row in sessions
    }


def _derived_assets(connection: Connection, months: Sequence[date], process: str) -> dict[str, _Asset]:
    """The derived assets of one process whose location is known, by name, in the order of the sessions."""
    table = session_assets.c
    sessions = connection.execute(select(session_assets).where(table.month.in_(months)).order_by(table.session_id))
    return {
        entry["name"]: _asset(entry["name"], row, entry["location"], None)
        for row in sessions
        for entry in row.derived
        if entry["process"] == process and (entry["location"] or "").startswith("s3://")
    }


def _asset(name: str, session: Row[Any], uri: str, record_id: str | None) -> _Asset:
    """An asset with what the registry keeps of it: where it came from and what it belongs to."""
    metadata = {"session_id": session.session_id, "source": uri}
    return _Asset(name, session.month, uri, metadata if record_id is None else metadata | {"record_id": record_id})


def _changed_since(
    results: Iterable[DepositResult], assets: Mapping[str, _Asset], source: Callable[[_Asset], Source]
) -> Iterator[tuple[str, str]]:
    """Of what was in the archive before: whose source is no longer what was deposited, and what to say of it.

    Costs a listing of the source; nothing is read.
    """

    def changed(result: DepositResult) -> str | None:
        uri = assets[result.id].uri
        try:
            if source(assets[result.id]).scan().fingerprint == result.fingerprint:
                return None
        except SourceRefused as problem:
            return f"{problem} The copy in the archive stays as it was deposited."
        return f"{uri} is no longer what was deposited. The copy in the archive stays as it was deposited."

    known = [result for result in results if result.status == "already_there" and result.fingerprint]
    with ThreadPoolExecutor(_LISTINGS_AT_ONCE, thread_name_prefix="listing") as pool:
        for result, message in zip(known, pool.map(changed, known), strict=True):
            if message is not None:
                yield result.id, message


def _items(assets: Iterable[_Asset], source: Callable[[_Asset], Source], dtype: str) -> Iterator[DepositItem]:
    for asset in assets:
        yield DepositItem(
            id=asset.name,
            source=source(asset),
            dtype=dtype,
            metadata=asset.metadata,
            keep_source=True,
        )


def _count(month: MonthDeposits, result: DepositResult) -> None:
    if result.status in ("deposited", "restored"):
        month.bytes += result.size or 0
    if result.status == "deposited":
        month.deposited += 1
    elif result.status == "restored":
        month.restored += 1
    elif result.status == "already_there":
        month.already_there += 1
    else:
        month.refused += 1


def _batches(results: Iterable[DepositResult], size: int) -> Iterator[list[DepositResult]]:
    batch: list[DepositResult] = []
    for result in results:
        batch.append(result)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
