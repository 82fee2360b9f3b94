"""Records that more than one source holds: one of them is mirrored, and each other source has a *claim*.

A claim is a standing finding ``held_twice`` of the source that is not mirrored. It outlives the pass and the run that
made it, so that a record is never lost, and never told of differently, for the order in which the sources are read:
when the mirrored record changes, or its source has it no more, the sources with a claim are asked for theirs.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select

from aind_pipelines.mirror.docdb.prepare import Identity
from aind_pipelines.mirror.docdb.session import listed_table
from aind_pipelines.records.findings import Finding
from aind_pipelines.tables.schema import docdb_findings
from aind_pipelines.tables.schema import docdb_records as mirror

CODE = "held_twice"

_AT_ONCE = 500
_VERSION = func.split_part(docdb_findings.c.key, "/", 1)
_ID = func.substring(docdb_findings.c.key, "/(.*)$")


def claim(key: str, source: str, holder: str) -> Finding:
    """The finding that `source` holds a record which is mirrored from `holder`."""
    message = f"{holder} holds this record too, modified at least as late; that one is mirrored."
    return Finding(CODE, key, source, message)


def _standing(source: str) -> ColumnElement[bool]:
    findings = docdb_findings.c
    return (findings.code == CODE) & (findings.scope == source) & findings.resolved_at.is_(None)


def claims(connection: Connection, source: str) -> int:
    """How many records of a source are mirrored from another."""
    return connection.scalar(select(func.count()).select_from(docdb_findings).where(_standing(source))) or 0


def to_reconsider(connection: Connection, source: str, after: str) -> list[str]:
    """Keys of claims from before the mirrored record was last changed; the first ones after `after`, in order."""
    findings = docdb_findings.c
    mirrored = (mirror.c.record_version == _VERSION) & (mirror.c.id == _ID)
    query = (
        select(findings.key)
        .select_from(docdb_findings.outerjoin(mirror, mirrored))
        .where(
            _standing(source),
            findings.key > after,
            or_(mirror.c.id.is_(None), mirror.c.last_changed >= findings.last_seen),
        )
        .order_by(findings.key)
        .limit(_AT_ONCE)
    )
    return list(connection.scalars(query))


def claimed(connection: Connection, identities: Collection[Identity], *, besides: str) -> list[Identity]:
    """Those of the identities that a source besides this one has a claim on."""
    if not identities:
        return []
    findings = docdb_findings.c
    by_key = {"/".join(identity): identity for identity in identities}
    query = select(findings.key).where(
        findings.code == CODE,
        findings.key == func.any(list(by_key)),
        findings.scope != besides,
        findings.resolved_at.is_(None),
    )
    return [by_key[key] for key in connection.scalars(query.distinct())]


def not_listed(connection: Connection, source: str) -> list[str]:
    """Keys of claims on records that a manifest pass did not find in the source."""
    query = select(docdb_findings.c.key).where(_standing(source), ~exists().where(listed_table.c.id == _ID))
    return list(connection.scalars(query))


def holds_any(connection: Connection, source: str) -> bool:
    """Whether a record of the source is mirrored or claimed."""
    mirrored = exists().where(mirror.c.source == source)
    return bool(connection.scalar(select(mirrored | exists().where(_standing(source)))))
