"""Discovery of archives: those the policy names become partitions."""

import dagster as dg

from aind_pipelines.partitions import archives
from aind_pipelines.resources.policy import PolicyResource


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
