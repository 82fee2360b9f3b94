"""What a source no longer has: removed when it is little, held for a person's word when it is much.

A confirmation is for the deletions that an earlier pass held and listed in ``docdb.held_deletions``. What goes missing
after the person has looked is judged anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from aind_pipelines.mirror.docdb.prepare import Identity
from aind_pipelines.tables.schema import docdb_held_deletions as held_deletions
from aind_pipelines.tables.schema import docdb_records as mirror

_BUCKET = r"^[A-Za-z0-9]+://([^/]+)"
_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class DeletionGuard:
    """How much may vanish from a source in one pass.

    Attributes:
        share: Share of the source's records.
        floor: So many records may vanish whatever their share.
    """

    share: float = 0.05
    floor: int = 20

    def allowed(self, held: int) -> int:
        """How many of `held` records may vanish."""
        return max(self.floor, int(held * self.share))


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the records that a source no longer has.

    Attributes:
        refusal: Why some were held; empty when none were.
        empty: Whether the source had no record at all.
    """

    refusal: str = ""
    empty: bool = False


def settle(
    connection: Connection,
    source: str,
    *,
    seen: Select[Any],
    missing: ColumnElement[bool],
    guard: DeletionGuard,
    confirmed: bool,
    confirm_gone: Callable[[Sequence[str]], None],
    let_go: Callable[[Sequence[Identity]], None],
) -> Settled:
    """Remove what a complete pass did not see, or hold it, within the caller's transaction.

    Args:
        connection: An open transaction.
        source: ``database.collection``.
        seen: What the pass saw, as a query.
        missing: On ``docdb.records``: the record was not seen.
        guard: How much may vanish.
        confirmed: Whether a person confirmed the deletions that are held.
        confirm_gone: Raises when the source has one of the records all the same; called before any is removed.
        let_go: Takes records out of this source's part of the mirror.
    """
    ours = mirror.c.source == source
    held = connection.scalar(select(func.count()).select_from(mirror).where(ours)) or 0
    empty = held > 0 and not connection.scalar(select(seen.exists()))
    bucket = func.substring(mirror.c.location, _BUCKET)
    rows = connection.execute(select(mirror.c.record_version, mirror.c.id, bucket).where(ours & missing)).all()
    gone = {(version, identity): name for version, identity, name in rows}
    listed = {
        (version, identity)
        for version, identity in connection.execute(
            select(held_deletions.c.record_version, held_deletions.c.id).where(held_deletions.c.source == source)
        )
    }
    _release(connection, listed - gone.keys())
    granted = sorted(listed & gone.keys()) if confirmed else []
    rest = sorted(gone.keys() - set(granted))
    reason = _reason(connection, source, guard, held, gone, set(granted), rest, empty)
    if not reason and (still := listed & set(rest)):
        reason = f"{source} still lacks {len(still):,} records whose deletion an earlier pass held"
    if reason:
        _hold(connection, source, rest, reason)
        removed = granted
    else:
        removed = granted + rest
    if removed and not empty:
        confirm_gone(sorted({identity for _, identity in removed}))
    let_go(removed)
    _release(connection, set(removed) & listed)
    return Settled(reason, empty)


def _reason(
    connection: Connection,
    source: str,
    guard: DeletionGuard,
    held: int,
    gone: dict[Identity, str | None],
    granted: set[Identity],
    rest: list[Identity],
    empty: bool,
) -> str:
    """Why `rest` may not go without a person's word; empty when it may."""
    if not rest:
        return ""
    if empty:
        return f"{source} answered without any record, but the mirror holds {held:,}"
    allowed = guard.allowed(held)
    if len(rest) > allowed:
        return (
            f"{source} no longer has {len(rest):,} of the {held:,} records in the mirror, more than the {allowed:,} "
            f"that may vanish at once; among them {', '.join(identity for _, identity in rest[:3])}"
        )
    bucket = func.substring(mirror.c.location, _BUCKET)
    buckets = select(bucket, func.count()).where(mirror.c.source == source, bucket.is_not(None)).group_by(bucket)
    sizes = [(str(name), int(count)) for name, count in connection.execute(buckets)]
    lost = Counter(gone[identity] for identity in rest)
    before = Counter(gone[identity] for identity in granted)
    whole = sorted(name for name, count in sizes if lost[name] > 1 and lost[name] + before[name] == count)
    if whole:
        return f"{source} no longer has any record of the bucket {', '.join(whole)}, {lost[whole[0]]:,} in the mirror"
    return ""


def _hold(connection: Connection, source: str, identities: list[Identity], reason: str) -> None:
    for start in range(0, len(identities), _ROWS):
        rows = [
            {"record_version": version, "id": identity, "source": source, "reason": reason}
            for version, identity in identities[start : start + _ROWS]
        ]
        statement = insert(held_deletions).values(rows)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[held_deletions.c.record_version, held_deletions.c.id],
                set_={"source": statement.excluded.source, "reason": statement.excluded.reason},
            )
        )


def _release(connection: Connection, identities: set[Identity]) -> None:
    ordered = sorted(identities)
    for start in range(0, len(ordered), _ROWS):
        part = ordered[start : start + _ROWS]
        connection.execute(
            delete(held_deletions).where(tuple_(held_deletions.c.record_version, held_deletions.c.id).in_(part))
        )
