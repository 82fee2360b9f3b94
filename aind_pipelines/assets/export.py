"""The option of a table's asset to leave the table as a Parquet file, for notebooks."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table


class ExportConfig(dg.Config):
    """Where the published table goes as a file."""

    export_to: str | None = Field(
        default=None,
        description="folder on disk, or an address such as s3://bucket/prefix, that gets the table as NAME.parquet; "
        "default: none",
    )


def exported(engine: "Engine", table: "Table", config: ExportConfig) -> dict[str, Any]:
    """Export a published table where the run's configuration says so.

    Returns:
        Metadata about the file; nothing when none was asked for.

    Raises:
        ServiceError: The file could not be written; the table is published all the same.
    """
    if config.export_to is None:
        return {}
    from aind_pipelines.clients.rds.export import export_table

    done = export_table(engine, table, config.export_to)
    return {"parquet": dg.MetadataValue.path(done.location), "parquet bytes": done.size, "parquet rows": done.rows}
