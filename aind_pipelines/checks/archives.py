"""Checks of the archives."""

import dagster as dg

from aind_pipelines.assets.archives import archive_fixity, deposited_resources
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.resources.registry import RegistryResource


@dg.asset_check(asset=deposited_resources, blocking=True, pool="archive")
def every_deposit_is_registered(
    rds: RDSResource, registry: RegistryResource, policy: PolicyResource
) -> dg.AssetCheckResult:
    """Every copy in the ledger is known to the registry, at its archive, under the same sha1."""
    from sqlalchemy import select

    from aind_pipelines.tables.schema import archive_copies as copies

    archive = policy.load().deposits.archive
    with rds.engine() as engine, engine.connect() as connection:
        ledger = connection.execute(select(copies.c.id, copies.c.sha1).where(copies.c.archive == archive)).all()
    # Asked for by name: a listing's pages shift while others deposit.
    with registry.client() as client:
        known = client.get_resources(row.id for row in ledger)
    registered = {row.id: row.sha1 for row in known.values() if archive in row.locations}
    unknown = sorted(row.id for row in ledger if row.id not in registered)
    differing = sorted(row.id for row in ledger if registered.get(row.id) not in (None, row.sha1))
    return dg.AssetCheckResult(
        passed=not unknown and not differing,
        description="; ".join(
            f"{problem}: {', '.join(ids[:20])}"
            for problem, ids in (("not registered", unknown), ("registered under another sha1", differing))
            if ids
        )
        or None,
        metadata={
            "copies": len(ledger),
            "not registered": unknown[:20],
            "registered under another sha1": differing[:20],
        },
    )


@dg.asset_check(asset=archive_fixity, blocking=True, pool="archive")
def archive_is_sound(rds: RDSResource) -> dg.AssetCheckResult:
    """Every registered resource of every archive was present and intact when it was last looked at.

    What a check of every byte found corrupt stays so until another one reads it: looking at names alone settles
    nothing.
    """
    from sqlalchemy import func, select

    from aind_pipelines.archive.fixity import WARNINGS
    from aind_pipelines.tables.schema import archive_checks as runs
    from aind_pipelines.tables.schema import archive_findings as findings

    last = select(runs).where(runs.c.id.in_(select(func.max(runs.c.id)).group_by(runs.c.archive))).subquery()
    with rds.engine() as engine, engine.connect() as connection:
        checked = connection.scalar(select(func.count()).select_from(last)) or 0
        failed = list(connection.scalars(select(last.c.archive).where(last.c.passed.is_(False))))
        standing = connection.execute(
            select(findings.c.code, findings.c.key, findings.c.message)
            .where(
                findings.c.resolved_at.is_(None),
                findings.c.scope.startswith("archive "),
                findings.c.code.not_in(WARNINGS),
            )
            .order_by(findings.c.code, findings.c.key)
            .limit(20)
        ).all()
    problems = [f"{row.key}: {row.code} ({row.message})" for row in standing]
    problems += [] if checked else ["no archive was ever checked"]
    return dg.AssetCheckResult(
        passed=not failed and not problems,
        description="; ".join(problems or [f"the last check of {name} failed" for name in failed]) or None,
        metadata={
            "archives checked": checked,
            "archives that failed": failed,
            "findings": [f"{row.code} {row.key}" for row in standing],
        },
    )
