"""What is deployed. Thin: `build_defs` assembles it, with overrides for tests."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from aind_pipelines import assets, checks, jobs, schedules
from aind_pipelines.resources.code_ocean import CodeOceanResource
from aind_pipelines.resources.docdb import DocDBResource
from aind_pipelines.resources.metadata_service import MetadataServiceResource
from aind_pipelines.resources.policy import PolicyResource
from aind_pipelines.resources.rds import RDSResource
from aind_pipelines.resources.registry import RegistryResource
from aind_pipelines.resources.s3 import S3Resource
from aind_pipelines.sensors.archives import archive_partitions, inbox_files
from aind_pipelines.sensors.metadata import docdb_changes


def build_defs(
    overrides: Mapping[str, Any] | None = None, *, manifest_cron: str = schedules.NIGHTLY
) -> dg.Definitions:
    """Assemble the definitions.

    Args:
        overrides: Resources by key that replace the configured ones.
        manifest_cron: When DocDB is compared with its mirror.
    """
    resources: dict[str, Any] = {
        "code_ocean": CodeOceanResource(),
        "docdb": DocDBResource(),
        "metadata_service": MetadataServiceResource(),
        "policy": PolicyResource(),
        "rds": RDSResource(),
        "registry": RegistryResource(),
        "s3": S3Resource(),
    }
    return dg.Definitions(
        assets=assets.ALL,
        asset_checks=checks.ALL,
        jobs=[*jobs.FLOW, jobs.follow_docdb],
        schedules=[schedules.docdb_manifest(manifest_cron)],
        sensors=[archive_partitions, docdb_changes, inbox_files],
        resources=resources | dict(overrides or {}),
        # A run's steps wait for other systems far more than they compute, and a process per step costs seconds.
        executor=dg.in_process_executor,
    )


defs = build_defs()
