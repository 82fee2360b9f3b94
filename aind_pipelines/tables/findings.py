"""Storing findings with their history, the same way for every stage.

A pass that looked at everything in a *scope* hands over all it found there. Findings of that scope that it did not
find again are resolved, not deleted; one that comes back stands again under its first date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Connection, Table, func, null, select, update
from sqlalchemy.dialects.postgresql import insert

from aind_pipelines.records.findings import Finding

_BATCH = 1_000


def record_findings(
    connection: Connection,
    table: Table,
    findings: Iterable[Finding],
    *,
    scope: str,
    run_id: str | None = None,
) -> Counter[str]:
    """Make the standing findings of `scope` in `table` those given, within the caller's transaction.

    Args:
        connection: An open transaction.
        table: One of `aind_pipelines.tables.schema.FINDINGS`.
        findings: All findings of this pass over the scope; the same (code, key, field) twice is stored once.
        scope: What the pass looked at, e.g. ``archive live`` or ``month 2024-03``.
        run_id: Dagster run, if any.

    Returns:
        How many findings stand in the scope, by code.
    """
    started = connection.execute(select(func.clock_timestamp())).scalar_one()
    unique = {(finding.code, finding.key, finding.field): finding for finding in findings}
    rows = [
        {
            "code": finding.code,
            "key": finding.key,
            "field": finding.field,
            "message": finding.message,
            "scope": scope,
            "last_seen": started,
            "run_id": run_id,
        }
        for finding in unique.values()
    ]
    for start in range(0, len(rows), _BATCH):
        statement = insert(table).values(rows[start : start + _BATCH])
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[table.c.code, table.c.key, table.c.field],
                set_={
                    "message": statement.excluded.message,
                    "scope": statement.excluded.scope,
                    "last_seen": statement.excluded.last_seen,
                    "run_id": statement.excluded.run_id,
                    "resolved_at": null(),
                },
            )
        )
    connection.execute(
        update(table)
        .where(table.c.scope == scope, table.c.resolved_at.is_(None), table.c.last_seen < started)
        .values(resolved_at=started)
    )
    return Counter(finding.code for finding in unique.values())
