"""The external systems as source assets, so that lineage starts where the data does."""

import dagster as dg

docdb = dg.AssetSpec(
    "docdb", group_name="sources", description="Metadata records in the institute's DocDB.", kinds={"mongodb"}
)
metadata_service = dg.AssetSpec(
    "metadata_service",
    group_name="sources",
    description="What the institute's own databases say about a subject.",
    kinds={"api"},
)
code_ocean = dg.AssetSpec(
    "code_ocean", group_name="sources", description="Data assets registered in Code Ocean.", kinds={"api"}
)
s3 = dg.AssetSpec("s3", group_name="sources", description="Buckets with raw and derived data.", kinds={"s3"})
