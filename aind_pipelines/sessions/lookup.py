"""What RDS knows of a session: its row of `session_assets` and what is found wrong with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.schema import session_assets, session_findings


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A resolved session as the tables have it.

    Attributes:
        values: Its row of `session_assets`, by column.
        findings: Standing findings about it and its derived assets.
    """

    values: dict[str, Any]
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; dates and times in ISO format."""
        values = {
            name: value.isoformat() if isinstance(value, date | datetime) else value
            for name, value in self.values.items()
        }
        found = [
            {"code": item.code, "key": item.key, "field": item.field, "message": item.message}
            for item in self.findings
        ]
        return values | {"findings": found}


def known_sessions(engine: Engine, ids: Iterable[str]) -> dict[str, KnownSession]:
    """Those of the sessions `ids` (normalised) that were resolved, by id.

    Raises:
        ServiceError: RDS cannot be reached or refuses.
    """
    wanted = literal(sorted(set(ids)), ARRAY(Text))
    with translated("reading public.session_assets"), engine.connect() as connection:
        rows = connection.execute(select(session_assets).where(session_assets.c.session_id == any_(wanted)))
        found = {row["session_id"]: dict(row) for row in rows.mappings()}
        owners = {entry["name"]: id_ for id_, row in found.items() for entry in row["derived"]}
        owners |= {id_: id_ for id_ in found}
        table = session_findings.c
        findings: dict[str, list[Finding]] = defaultdict(list)
        statement = select(table.code, table.key, table.field, table.message).where(
            table.resolved_at.is_(None), table.key == any_(literal(sorted(owners), ARRAY(Text)))
        )
        for row in connection.execute(statement):
            findings[owners[row.key]].append(Finding(*row))
    return {id_: KnownSession(row, tuple(sorted(findings[id_]))) for id_, row in found.items()}
