"""Checks of the archives."""

import dagster as dg

from aind_pipelines.assets.archives import archive_fixity, deposited_resources
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.resources.registry import RegistryResource


@dg.asset_check(asset=deposited_resources, blocking=True, pool="archive")
def every_deposit_is_registered(rds: RDSResource, registry: RegistryResource) -> dg.AssetCheckResult:
    """Every copy in the ledger, of whichever archive, is known to the registry there under the same sha1."""
    from aind_pipelines.archive.ledger import compare_with_registry

    with rds.engine() as engine, engine.connect() as connection, registry.client() as client:
        found = compare_with_registry(connection, client)
    return dg.AssetCheckResult(
        passed=not found.problems,
        description="; ".join(
            f"{found.counts[problem]} {problem}: {', '.join(named)}" for problem, named in found.problems.items()
        )
        or None,
        metadata={"copies": found.copies, **found.problems},
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
