"""Discovery of changes in DocDB: records modified since the watermark lead to a tick."""

import json
import time
from datetime import timedelta

import dagster as dg

from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource

ASK_AGAIN_SECONDS = 600
"""After so long, changes that a run was asked for and that are still not mirrored lead to another run."""


@dg.sensor(
    job_name="follow_docdb",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a tick when DocDB has records that the mirror has not, by id and modified time.",
)
def docdb_changes(
    context: dg.SensorEvaluationContext, docdb: DocDBResource, rds: RDSResource, policy: PolicyResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for a tick when there is something to read.

    What is new is told by comparing with the mirror from its watermark on; the cursor only remembers what a run was
    asked for already. So neither a restart nor a failed run loses a change. An outage of DocDB or of RDS fails the
    evaluation and leaves the cursor as it was, and so does half a configuration of either; where nothing of one is
    configured there is nothing to follow. A source that was never read to its end has nothing to compare with: it is
    named in a warning while the others are followed, and waits for the nightly pass or for a person, since the first
    pass may take hours in which nothing else is mirrored.
    """
    from aind_pipelines.mirror.docdb import CollectionSource, not_mirrored
    from aind_pipelines.records.hashing import hash_text

    docdb_policy = policy.load().docdb
    lacks = {"DocDB": docdb.lacks(), "RDS": rds.lacks()}
    unset = [name for name, missing in lacks.items() if missing is None]
    if unset and not any(lacks.values()):
        return dg.SkipReason(f"Not configured: {' and '.join(unset)}. See `aind-pipelines doctor` for what to set.")
    overlap = timedelta(minutes=docdb_policy.watermark_overlap_minutes)
    waiting: dict[str, str] = {}
    unread = []
    with rds.engine() as engine:
        for source in docdb_policy.sources:
            name = f"{source.database}.{source.collection}"
            with docdb.client(source) as client:
                found = not_mirrored(
                    engine, CollectionSource(client, name, page_size=docdb_policy.page_size), overlap=overlap
                )
            if found is None:
                unread.append(name)
            else:
                waiting |= {f"{name}/{identity}": modified.isoformat() for identity, modified in found.items()}
    said = ""
    if unread:
        said = f"Never read to the end: {', '.join(unread)}. Materialize docdb_records once by hand, or wait for the "
        said += "nightly pass, which reads it whole. "
        context.log.warning(said)
    if len(unread) == len(docdb_policy.sources):
        return dg.SkipReason(said)
    if not waiting:
        return dg.SkipReason(f"{said}The mirror has everything that DocDB says was modified.")
    digest = hash_text(json.dumps(waiting, sort_keys=True))
    asked = json.loads(context.cursor) if context.cursor else {}
    now = time.time()
    if asked.get("digest") == digest and now - asked["at"] < ASK_AGAIN_SECONDS:
        return dg.SkipReason(f"{said}{len(waiting):,} changes wait for the run that was asked for.")
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_config={"ops": {"docdb_records": {"config": {"mode": "tick"}}}})],
        cursor=json.dumps({"digest": digest, "at": now}),
    )
