"""Ingestion: DocDB's metadata records into RDS."""

from contextlib import ExitStack
from datetime import timedelta
from typing import Literal

import dagster as dg
from pydantic import Field

from aind_pipelines.assets import sources
from aind_pipelines.assets.describe import NIGHTLY, outcome
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource


class IngestConfig(dg.Config):
    """Which pass to make over DocDB."""

    mode: Literal["auto", "full", "tick", "manifest"] = Field(
        default="auto",
        description="full: every record, whole; tick: what was modified since the last time; manifest: a light list, "
        "to find deletions and what a tick cannot; auto: tick and manifest. A source that was never read to its "
        "end is read whole by auto and manifest, and left out by tick",
    )
    confirm_deletions: bool = Field(
        default=False, description="remove the records listed in docdb.held_deletions (modes full, manifest and auto)"
    )


@dg.asset(
    deps=[sources.docdb],
    group_name="metadata",
    kinds={"postgres"},
    pool="docdb",
    freshness_policy=NIGHTLY,
)
def docdb_records(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    docdb: DocDBResource,
    rds: RDSResource,
    policy: PolicyResource,
) -> dg.MaterializeResult:
    """Every metadata record as DocDB has it now, both generations, compared by content hash; with its history.

    Tables `docdb.records` and `docdb.record_versions`. A record that did not change is not rewritten. When much would
    vanish at once, the run fails and holds those deletions in `docdb.held_deletions` until a run with
    `confirm_deletions`; an empty answer never empties the mirror. What two sources hold is mirrored from one of them,
    and from the other once that one has it no more.
    """
    from aind_pipelines.mirror.docdb import (
        CollectionSource,
        DeletionGuard,
        NeverRead,
        PassRefused,
        never_read,
        standing,
        update,
    )
    from aind_pipelines.tables.schema import docdb_records as table

    docdb_policy = policy.load().docdb
    changed = read = 0
    refused: list[PassRefused] = []
    unread: list[NeverRead] = []
    with rds.engine() as engine, ExitStack() as clients:
        collections = [
            CollectionSource(
                clients.enter_context(docdb.client(source)),
                f"{source.database}.{source.collection}",
                page_size=docdb_policy.page_size,
            )
            for source in docdb_policy.sources
        ]
        # A first pass may take hours, or fail: the others do not wait for it.
        waiting = never_read(engine, [collection.name for collection in collections])
        for collection in sorted(collections, key=lambda each: each.name in waiting):
            try:
                results = update(
                    engine,
                    collection,
                    config.mode,
                    sources=collections,
                    run_id=context.run.run_id,
                    overlap=timedelta(minutes=docdb_policy.watermark_overlap_minutes),
                    guard=DeletionGuard(docdb_policy.max_deleted_share, docdb_policy.max_deleted_floor),
                    reconcile_passes=docdb_policy.reconcile_passes,
                    confirm_deletions=config.confirm_deletions,
                )
            except PassRefused as refusal:
                # The other generation is no worse for it.
                context.log.error(str(refusal))  # noqa: TRY400 - the message says it all
                refused.append(refusal)
                continue
            except NeverRead as beginning:
                # Nor for one that waits for its first pass, which may take hours.
                context.log.warning(f"{beginning} The next nightly pass reads it too.")
                unread.append(beginning)
                continue
            for kind, result in results:
                context.log.info(f"{collection.name}, {kind}: {result}")
                read += result.read
                changed += result.written
        if refused:
            raise refused[0]
        if len(unread) == len(collections):
            raise unread[0]
        now = standing(engine)
    return dg.MaterializeResult(
        metadata=outcome(
            rows=now.records,
            changed=changed,
            findings=now.findings,
            table=table,
            **{"records read": read, "records without modified time": now.without_modified},
        )
    )
