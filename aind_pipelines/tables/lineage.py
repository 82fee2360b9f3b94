"""Which records the sources in ``asset_lineage`` are."""

from __future__ import annotations

from sqlalchemy import Connection, text

# One row per name and version that is asked for: of several records the same version counts, then the newer version,
# then the record modified last.
_RESOLVE = text("""
WITH known AS (
    SELECT name, record_version, id, modified, count(*) OVER (PARTITION BY name) AS records
    FROM public.data_assets
    WHERE name IN (SELECT source_name FROM public.asset_lineage)
),
resolved AS (
    SELECT DISTINCT ON (lineage.record_version, lineage.record_id, lineage.position)
        lineage.record_version, lineage.record_id, lineage.position,
        known.record_version AS source_version, known.id AS source_id, coalesce(known.records, 0) AS records
    FROM public.asset_lineage AS lineage
    LEFT JOIN known ON known.name = lineage.source_name
    ORDER BY lineage.record_version, lineage.record_id, lineage.position,
        known.record_version = lineage.record_version DESC, known.record_version DESC,
        known.modified DESC NULLS LAST, known.id
)
UPDATE public.asset_lineage AS lineage
SET source_record_version = resolved.source_version,
    source_record_id = resolved.source_id,
    source_records = resolved.records
FROM resolved
WHERE (lineage.record_version, lineage.record_id, lineage.position)
        = (resolved.record_version, resolved.record_id, resolved.position)
    AND (lineage.source_record_version, lineage.source_record_id, lineage.source_records)
        IS DISTINCT FROM (resolved.source_version, resolved.source_id, resolved.records)
""")


def resolve_lineage(connection: Connection) -> int:
    """Fill in the records of the sources, within the caller's transaction; returns how many rows changed.

    A source that no record has the name of stays, with nulls and a count of 0.
    """
    return connection.execute(_RESOLVE).rowcount
