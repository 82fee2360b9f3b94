"""Deposits into neurobank archives, and the check of every byte in them."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from aind_pipelines.assets.describe import outcome, outcome_of_run
from aind_pipelines.assets.sessions import months_of, session_assets
from aind_pipelines.partitions import archives, months
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.resources.registry import RegistryResource
from aind_pipelines.resources.s3 import S3Resource

if TYPE_CHECKING:
    from aind_pipelines.archive.session_deposits import MonthDeposits


def _numbers(done: "MonthDeposits") -> dict[str, Any]:
    """What deposits did, as arguments of `outcome`."""
    return {
        "changed": done.changed,
        "findings": done.findings_by_code,
        "bytes_read": done.bytes,
        "restored": done.restored,
        "already_there": done.already_there,
        "refused": done.refused,
    }


def _warn_of_losses(context: dg.AssetExecutionContext, findings: Counter[str], archive: str) -> None:
    from aind_pipelines.archive.ledger import BYTES_LOST

    if count := findings[BYTES_LOST]:
        context.log.warning(f"{BYTES_LOST}: {archive} had lost the bytes of {count} resources; look at its disk.")


@dg.asset(
    deps=[session_assets],
    partitions_def=months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="archives",
    kinds={"neurobank"},
    pool="archive",
)
def deposited_resources(
    context: dg.AssetExecutionContext,
    s3: S3Resource,
    registry: RegistryResource,
    rds: RDSResource,
    policy: PolicyResource,
) -> dg.MaterializeResult:
    """Each session's assets, each as one directory resource: hashed while copied, durable, then registered.

    The policy says which roles go where: the raw asset, and derived ones by process. The identifier is the asset's
    name. What is already there is reported and left alone; what the archive refuses is a finding, and the source is
    always kept. What the archive has lost is a finding, and is brought back. Each month tells its own numbers.
    """
    from aind_pipelines.archive.session_deposits import SessionDeposits, deposit_sessions

    rules = policy.load()
    done = SessionDeposits()
    with rds.engine() as engine, registry.client() as client:
        for role, rule in rules.deposits.rules().items():
            result = deposit_sessions(
                engine,
                rules.archive(rule.archive),
                client,
                s3.client(),
                months_of(context),
                dtype=rule.dtype,
                role=role,
                zip_directories=rule.zip_directories,
                run_id=context.run.run_id,
            )
            total = result.total
            context.log.info(
                f"{role} assets: {total.deposited} deposited ({total.bytes} bytes), {total.restored} restored, "
                f"{total.already_there} already there, {total.refused} refused"
            )
            _warn_of_losses(context, total.findings_by_code, rule.archive)
            done.add(result)
        links: dict[str, Any] = {
            f"in {name}": dg.MetadataValue.url(client.archive_url(name)) for name in rules.deposits.archives()
        }
    for month, part in done.by_month.items():
        context.add_asset_metadata(outcome(rows=part.held, **_numbers(part)), partition_key=month.isoformat())
    whole = outcome_of_run(**_numbers(done.total), months=len(done.by_month))
    return dg.MaterializeResult(metadata=whole | links)


@dg.asset(
    partitions_def=archives,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    group_name="archives",
    kinds={"neurobank"},
    pool="archive",
)
def inbox_deposits(
    context: dg.AssetExecutionContext, registry: RegistryResource, rds: RDSResource, policy: PolicyResource
) -> dg.MaterializeResult:
    """What is ready in the inboxes of one archive, moved into it.

    Each file or directory is one resource, named like it; the inbox says its data type. What the archive refuses is
    moved to the inbox's `rejected` beside the reason, and is a finding until a person takes it from there.
    """
    from aind_pipelines.archive.inbox import deposit_inbox
    from aind_pipelines.archive.layout import Archive

    rules = policy.load()
    findings: Counter[str] = Counter()
    deposited = restored = rejected = waiting = read = 0
    inboxes = rules.inboxes_of(context.partition_key)
    with rds.engine() as engine:
        for name, inbox in inboxes.items():
            archive = Archive.open(rules.archive(inbox.archive).path)
            result = deposit_inbox(engine, name, inbox, archive, registry.client(), run_id=context.run.run_id)
            context.log.info(
                f"{name}: {result.deposited} deposited, {result.restored} restored, {result.rejected} rejected, "
                f"{result.waiting} wait"
            )
            _warn_of_losses(context, result.findings, inbox.archive)
            deposited += result.deposited
            restored += result.restored
            rejected += result.rejected
            waiting += result.waiting
            read += result.bytes
            findings += result.findings
    return dg.MaterializeResult(
        metadata=outcome(
            rows=None,
            changed=deposited + restored,
            findings=findings,
            bytes_read=read,
            inboxes=len(inboxes),
            restored=restored,
            rejected=rejected,
            waiting=waiting,
        )
    )


class FixityConfig(dg.Config):
    """What an archive check reads."""

    tier: Literal["full", "exists"] = "full"


@dg.asset(
    deps=[dg.AssetDep(deposited_resources, partition_mapping=dg.AllPartitionMapping()), inbox_deposits],
    partitions_def=archives,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    group_name="archives",
    kinds={"neurobank"},
    pool="archive",
)
def archive_fixity(
    context: dg.AssetExecutionContext,
    config: FixityConfig,
    registry: RegistryResource,
    rds: RDSResource,
    policy: PolicyResource,
) -> dg.MaterializeResult:
    """One archive compared with the registry, every byte read and hashed.

    Tables `archive.checks` and `archive.findings`. The asset check `archive_is_sound` says whether it passed.
    """
    from aind_pipelines.archive.fixity import check
    from aind_pipelines.archive.layout import Archive
    from aind_pipelines.archive.ledger import record_check

    name = context.partition_key
    with rds.engine() as engine:
        report = check(Archive.open(policy.load().archive(name).path), registry.client(), tier=config.tier)
        with engine.begin() as connection:
            record_check(connection, report, run_id=context.run.run_id)
    context.log.info(f"{name}: {report.resources} resources, {report.bytes} bytes, {len(report.findings)} findings")
    return dg.MaterializeResult(
        metadata=outcome(
            rows=report.resources,
            changed=0,
            findings=Counter(finding.code for finding in report.findings),
            bytes_read=report.bytes,
            tier=config.tier,
        )
    )
