"""Storing findings with their history, the same way for every stage.

A pass that looked at everything in a *scope* hands over all it found there. Findings of that scope that it did not
find again are resolved, not deleted; one that comes back stands again under its first date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, Table, Text, cast, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from aind_pipelines.records.findings import Finding


class FindingsPass:
    """One pass over a scope that hands its findings over in parts, for passes that do not fit one transaction.

    A pass that is killed leaves what it found standing and resolves nothing that it did not look at.

    Attributes:
        started: When the pass began, by the database's clock: findings of this pass were last seen then.
    """

    def __init__(self, connection: Connection, table: Table, *, scope: str, run_id: str | None = None) -> None:
        """Begin the pass.

        Args:
            connection: Any connection to the database; its clock dates the pass.
            table: One of `aind_pipelines.tables.schema.FINDINGS`.
            scope: What the pass looks at, e.g. ``archive live`` or ``month 2024-03``.
            run_id: Dagster run, if any.
        """
        self._table = table
        self._scope = scope
        self._run_id = run_id
        self.started: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()

    def add(self, connection: Connection, findings: Iterable[Finding], *, keys: Collection[str] = ()) -> None:
        """Store findings within the caller's transaction.

        Args:
            connection: An open transaction.
            findings: What was found; the same (code, key, field) twice is stored once.
            keys: What was looked at completely: findings about these that were not found again are resolved.
        """
        unique = {(finding.code, finding.key, finding.field): finding for finding in findings}
        if unique:
            connection.execute(self._upsert(list(unique.values())))
        if keys:
            self._resolve(connection, self._table.c.key == func.any(list(keys)))

    def _upsert(self, findings: list[Finding]) -> Insert:
        # As arrays: a statement with a parameter for each value takes longer to write than to carry out.
        names = ("code", "key", "field", "message")
        texts = ARRAY(Text)
        values = [func.unnest(cast([getattr(finding, name) for finding in findings], texts)) for name in names]
        of_this_pass = {"scope": self._scope, "last_seen": self.started, "run_id": self._run_id}
        table = self._table
        statement = insert(table).from_select(
            [*names, *of_this_pass],
            select(*values, *(literal(value, table.c[name].type) for name, value in of_this_pass.items())),
        )
        changed = {name: statement.excluded[name] for name in ("message", *of_this_pass)}
        return statement.on_conflict_do_update(
            index_elements=[table.c.code, table.c.key, table.c.field], set_=changed | {"resolved_at": null()}
        )

    def finish(self, connection: Connection) -> None:
        """End a pass that looked at the whole scope: resolve all in it that was not found again."""
        self._resolve(connection)

    def standing_keys(self) -> Select[tuple[str]]:
        """The keys of the findings that stand in the scope, as a query."""
        table = self._table
        return select(table.c.key).where(table.c.scope == self._scope, table.c.resolved_at.is_(None))

    def counts(self, connection: Connection) -> Counter[str]:
        """How many findings the pass found, by code."""
        table = self._table
        found = (
            select(table.c.code, func.count().label("found"))
            .where(table.c.scope == self._scope, table.c.last_seen == self.started)
            .group_by(table.c.code)
        )
        return Counter({row.code: row.found for row in connection.execute(found)})

    def _resolve(self, connection: Connection, *conditions: ColumnElement[bool]) -> None:
        table = self._table
        connection.execute(
            update(table)
            .where(
                table.c.scope == self._scope,
                table.c.resolved_at.is_(None),
                table.c.last_seen < self.started,
                *conditions,
            )
            .values(resolved_at=self.started)
        )


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
    findings = list(findings)
    whole = FindingsPass(connection, table, scope=scope, run_id=run_id)
    whole.add(connection, findings)
    whole.finish(connection)
    return Counter(code for code, _, _ in {(finding.code, finding.key, finding.field) for finding in findings})
