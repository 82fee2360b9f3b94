"""How a stage tells what it did: the same metadata keys for every asset.

``dagster/row_count`` is what the asset holds now, ``changed`` what this run changed in it, ``findings`` how many
findings stand, with a table of them by code. A run over many partitions gives these for each partition, and what it
did altogether under names that end in ``in this run``.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from sqlalchemy import Table

NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48), warn_window=timedelta(hours=26))
"""What a nightly schedule brings up to date: one night missed warns, two fail."""

IN_THIS_RUN = " in this run"
"""How the names of a run's own numbers end, which Dagster repeats for each of its partitions."""

_BODY = (("docdb_records", "body"),)


def outcome(
    *,
    rows: int | None,
    changed: int,
    findings: Mapping[str, int] | None = None,
    bytes_read: int | None = None,
    table: "Table | None" = None,
    **more: Any,
) -> dict[str, Any]:
    """Metadata of a materialization.

    Args:
        rows: What the asset, or the partition, holds after the run; None where that is told elsewhere.
        changed: Rows (or resources) this run inserted, updated or removed.
        findings: Standing findings of this run's scope, by code.
        bytes_read: Bytes of content the run read, where content was read.
        table: The published table: its columns, types and comments become the column schema.
        more: Further metadata.
    """
    counts = dict(findings or {})
    metadata: dict[str, Any] = {"changed": changed, "findings": sum(counts.values()), **more}
    if rows is not None:
        metadata["dagster/row_count"] = rows
    if bytes_read is not None:
        metadata["bytes"] = bytes_read
    if counts:
        metadata["findings by code"] = findings_table(counts)
    if table is not None:
        metadata |= table_metadata(table)
    return metadata


def outcome_of_run(**numbers: Any) -> dict[str, Any]:
    """The metadata of a run over many partitions as a whole, named as such; arguments as of `outcome`."""
    return {f"{name}{IN_THIS_RUN}": value for name, value in outcome(rows=None, **numbers).items()}


def findings_table(counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Findings by code, most frequent first, as a Markdown table."""
    lines = ["| finding | count |", "| --- | ---: |"]
    lines += [
        f"| `{code}` | {count:,} |" for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return dg.MetadataValue.md("\n".join(lines))


def table_metadata(table: "Table") -> dict[str, Any]:
    """Name and column schema of a table of `aind_pipelines.tables.schema`."""
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {
        "dagster/table_name": f"{table.schema or 'public'}.{table.name}",
        "primary key": ", ".join(column.name for column in table.primary_key),
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name=column.name,
                    type=column.type.compile(dialect=dialect),
                    description=column.comment,
                    constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
                )
                for column in table.columns
            ]
        ),
    }


def column_lineage(table: "Table") -> dict[str, Any]:
    """Which columns of which asset the columns of an analysts' table are made of.

    Where a model says nothing of it, a column is made of the record's body.
    """
    return {
        "dagster/column_lineage": dg.TableColumnLineage(
            {
                column.name: [
                    dg.TableColumnDep(asset_key=asset, column_name=source)
                    for asset, source in column.info.get("made_of", _BODY)
                ]
                for column in table.columns
            }
        )
    }
