"""Records that their source cannot hand over whole, since they are too large for the REST gateway.

Such a record does not stop a pass and does not count as deleted: the mirror keeps what it has of it, if anything, and
a finding says so. The finding names the modified time of what could not be read, so that the same content is not asked
for again by every pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from aind_pipelines.mirror.docdb.session import seen_table
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.findings import FindingsPass
from aind_pipelines.tables.schema import docdb_findings
from aind_pipelines.tables.schema import docdb_records as mirror

CODE = "record_too_large"


@dataclass(frozen=True, slots=True)
class TooLarge:
    """What is known of a record that cannot be read.

    Attributes:
        record_version: ``v1`` or ``v2``.
        id: Its ``_id``.
        modified: Its modified time, if that can be read.
    """

    record_version: str
    id: str
    modified: datetime | None

    @property
    def finding(self) -> Finding:
        """The finding that stands while it cannot be read."""
        return Finding(CODE, f"{self.record_version}/{self.id}", "", _message(self.modified))


def _message(modified: datetime | None) -> str:
    time = "without a modified time" if modified is None else f"modified {modified.astimezone(UTC).isoformat()}"
    return (
        f"The record, {time}, is too large for the REST gateway. The mirror keeps what it had before; the direct "
        "connection (DOC_DB_HOST) brings it."
    )


def is_about(finding: Finding, modified: datetime | None) -> bool:
    """Whether a finding is about the content of this modified time."""
    return finding.message == _message(modified)


class Oversized:
    """The oversized records of one pass over one source.

    Attributes:
        noted: Findings that stood when the pass began, by the record's id.
        spared: How many records of the mirror were not read, and are not to be taken for deleted.
    """

    def __init__(self, connection: Connection, source: str, run_id: str | None) -> None:
        self._source = source
        self._findings = FindingsPass(connection, docdb_findings, scope=_scope(source), run_id=run_id)
        self.noted = noted(connection, source)
        self.spared = 0

    def note(self, connection: Connection, records: Iterable[TooLarge]) -> None:
        """Note records within the caller's transaction."""
        found = list(records)
        if not found:
            return
        held = select(mirror.c.source, mirror.c.record_version, mirror.c.id).where(
            mirror.c.source == self._source,
            mirror.c.record_version.in_(["v1", "v2"]),
            mirror.c.id == func.any([record.id for record in found]),
        )
        spare = insert(seen_table).from_select(["source", "record_version", "id"], held).on_conflict_do_nothing()
        self.spared += len(connection.execute(spare.returning(seen_table.c.id)).all())
        self._findings.add(connection, [record.finding for record in found])

    def stand(self, connection: Connection, ids: Iterable[str]) -> None:
        """Let findings of before stand, about records that were not asked for again."""
        self._findings.add(connection, [self.noted[identity] for identity in ids])

    def resolve(self, connection: Connection, ids: Iterable[str]) -> None:
        """Resolve the findings about records that were read whole."""
        keys = [self.noted[identity].key for identity in ids if identity in self.noted]
        if keys:
            self._findings.add(connection, [], keys=keys)

    def finish(self, connection: Connection) -> None:
        """Resolve what a pass over the whole source did not find again."""
        self._findings.finish(connection)

    def counts(self, connection: Connection) -> Counter[str]:
        """How many there are, by code."""
        return self._findings.counts(connection)


def _scope(source: str) -> str:
    return f"{source} sizes"


def noted(connection: Connection, source: str) -> dict[str, Finding]:
    """The findings about oversized records of a source that stand, by the record's id."""
    table = docdb_findings.c
    query = select(table.key, table.message).where(
        table.code == CODE, table.scope == _scope(source), table.resolved_at.is_(None)
    )
    return {key.partition("/")[2]: Finding(CODE, key, "", message) for key, message in connection.execute(query)}
