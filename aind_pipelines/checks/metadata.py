"""Checks of ingestion."""

import dagster as dg

from aind_pipelines.assets.describe import findings_table
from aind_pipelines.assets.metadata import docdb_records
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource


@dg.asset_check(asset=docdb_records, pool="docdb")
def record_counts_agree(docdb: DocDBResource, rds: RDSResource, policy: PolicyResource) -> dg.AssetCheckResult:
    """The mirror holds as many records of each collection as DocDB does, with those that it has from another one.

    A warning, since DocDB may have changed since the records were read.
    """
    from sqlalchemy import func, select

    from aind_pipelines.mirror.docdb.held_twice import claims
    from aind_pipelines.tables.schema import docdb_records as table

    counts = {}
    with rds.engine() as engine, engine.connect() as connection:
        for source in policy.load().docdb.sources:
            name = f"{source.database}.{source.collection}"
            mirrored = connection.scalar(select(func.count()).where(table.c.source == name)) or 0
            counts[name] = (docdb.count(source), mirrored + claims(connection, name))
    apart = {name: pair for name, pair in counts.items() if pair[0] != pair[1]}
    return dg.AssetCheckResult(
        passed=not apart,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{name}: {there} in DocDB, {here} in RDS" for name, (there, here) in apart.items())
        or None,
        metadata={name: f"{there} in DocDB, {here} in RDS" for name, (there, here) in counts.items()},
    )


@dg.asset_check(asset=docdb_records, pool="rds")
def every_source_was_read(rds: RDSResource, policy: PolicyResource) -> dg.AssetCheckResult:
    """Every collection of the policy was read to its end at least once; ticks leave out one that was not."""
    from aind_pipelines.mirror.docdb import never_read

    names = [f"{source.database}.{source.collection}" for source in policy.load().docdb.sources]
    with rds.engine() as engine:
        unread = never_read(engine, names)
    return dg.AssetCheckResult(
        passed=not unread,
        description=f"Never read to the end: {', '.join(unread)}. Materialize docdb_records in mode auto."
        if unread
        else None,
        metadata={"never read": len(unread)},
    )


@dg.asset_check(asset=docdb_records, pool="rds")
def no_location_is_named_twice(rds: RDSResource) -> dg.AssetCheckResult:
    """No two records of one generation name the same location.

    A warning: the records are DocDB's, and view `public.assets_current` has one row per location all the same.
    """
    from aind_pipelines.mirror.docdb import shared_locations

    with rds.engine() as engine:
        shared = shared_locations(engine)
    first = ", ".join(f"{location} ({version}: {count})" for version, location, count in shared[:5])
    return dg.AssetCheckResult(
        passed=not shared,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(shared):,} locations are named by several records: {first}" if shared else None,
        metadata={"shared locations": len(shared)},
    )


@dg.asset_check(asset=docdb_records, pool="rds")
def deletions_are_not_held(rds: RDSResource) -> dg.AssetCheckResult:
    """No deletion waits for a person's word in `docdb.held_deletions`, and what is odd about the records, by code.

    The counts by code are numbers of the check's metadata, which the UI plots over time.
    """
    from sqlalchemy import func, select

    from aind_pipelines.mirror.docdb import standing
    from aind_pipelines.tables.schema import docdb_held_deletions

    with rds.engine() as engine:
        with engine.connect() as connection:
            held = connection.scalar(select(func.count()).select_from(docdb_held_deletions)) or 0
        findings = standing(engine).findings
    return dg.AssetCheckResult(
        passed=not held,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{held:,} deletions wait in docdb.held_deletions" if held else None,
        metadata={
            "held deletions": held,
            "findings": findings_table(findings),
            **{f"finding {code}": count for code, count in sorted(findings.items())},
        },
    )
