"""Discovery of archives and of what waits in their inboxes."""

import json
import time

import dagster as dg

from aind_pipelines.partitions import archives
from aind_pipelines.resources.policy import PolicyResource

BUDGET_SECONDS = 30
"""An evaluation looks at inboxes for so long, and asks for what it found by then."""

ASK_AGAIN_SECONDS = 600
"""Files that a run was asked for and that still lie there lead to another run after so long."""


@dg.sensor(
    name="archives_named_by_the_policy",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition for every archive that the policy file names; never removes one.",
)
def archive_partitions(context: dg.SensorEvaluationContext, policy: PolicyResource) -> dg.SensorResult | dg.SkipReason:
    """Add a partition for every archive that the policy names and that has none yet.

    A policy that cannot be read fails the tick. Partitions are never removed: their history stays.
    """
    known = set(context.instance.get_dynamic_partitions("archives"))
    new = sorted(set(policy.load().archives) - known)
    if not new:
        return dg.SkipReason(f"All {len(known)} archives have their partition.")
    return dg.SensorResult(dynamic_partitions_requests=[archives.build_add_request(new)])


@dg.sensor(
    job_name="deposit_inboxes",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for the deposit of files that are ready in an archive's inboxes.",
)
def inbox_files(context: dg.SensorEvaluationContext, policy: PolicyResource) -> dg.SensorResult | dg.SkipReason:
    """Ask for a run for each archive that has something ready in an inbox.

    The cursor remembers what was asked for, so that a file is not asked for again while its run is under way. An
    inbox that cannot be listed fails the evaluation; those that can are asked for first, in an evaluation before.
    """
    from aind_pipelines.archive.errors import ArchiveError
    from aind_pipelines.archive.inbox import look, printable
    from aind_pipelines.records.hashing import hash_text

    inboxes = policy.load().inboxes
    deadline = time.monotonic() + BUDGET_SECONDS
    ready: dict[str, list[str]] = {}
    broken: list[ArchiveError] = []
    waiting = 0
    for name, inbox in inboxes.items():
        try:
            for found in look(inbox):
                if found.ready:
                    ready.setdefault(inbox.archive, []).append(printable(f"{name}/{found.path.name} {found.changed}"))
                else:
                    waiting += 1
                if time.monotonic() > deadline:
                    break
        except ArchiveError as error:
            broken.append(error)
    asked: dict[str, dict[str, float | str]] = json.loads(context.cursor) if context.cursor else {}
    now = time.time()
    digests = {archive: hash_text("\n".join(sorted(names))) for archive, names in ready.items()}
    new = [
        archive
        for archive, digest in digests.items()
        if (before := asked.get(archive)) is None
        or before["digest"] != digest
        or now - float(before["at"]) >= ASK_AGAIN_SECONDS
    ]
    if new:
        cursor = {key: value for key, value in asked.items() if key in digests}
        cursor |= {archive: {"digest": digests[archive], "at": now} for archive in new}
        return dg.SensorResult(
            run_requests=[dg.RunRequest(partition_key=archive) for archive in new],
            dynamic_partitions_requests=[archives.build_add_request(new)],
            cursor=json.dumps(cursor),
        )
    if broken:
        raise broken[0]
    if not inboxes:
        return dg.SkipReason("The policy names no inboxes.")
    count = sum(map(len, ready.values()))
    return dg.SkipReason(f"{waiting:,} are not ready, {count:,} wait for the run that was asked for.")
