"""Whether a table with any number of rows per record agrees with ``data_assets``."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Table, func, select

from aind_pipelines.tables.schema import data_assets


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was found.

    Attributes:
        rows: Rows of the table.
        records: Records that have rows in it.
        problems: What is wrong, in words; empty when nothing is.
        empty: Whether the table has no rows though ``data_assets`` has.
    """

    rows: int
    records: int
    problems: tuple[str, ...]
    empty: bool


def agreement(connection: Connection, table: Table) -> Agreement:
    """Compare a table of `aind_pipelines.tables.analysts` with ``data_assets``.

    Every row's record must be there, and the positions of a record's rows run from 0 without a gap or a repetition.
    """
    identity = (table.c.record_version, table.c.record_id)
    per_record = (
        select(
            *identity,
            func.count().label("rows"),
            func.count(table.c.position.distinct()).label("positions"),
            func.min(table.c.position).label("first"),
            func.max(table.c.position).label("last"),
        )
        .group_by(*identity)
        .subquery()
    )
    same = (data_assets.c.record_version == per_record.c.record_version) & (data_assets.c.id == per_record.c.record_id)
    whole = (
        (per_record.c.first == 0)
        & (per_record.c.last == per_record.c.rows - 1)
        & (per_record.c.positions == per_record.c.rows)
    )
    found = connection.execute(
        select(
            func.coalesce(func.sum(per_record.c.rows), 0).label("rows"),
            func.count().label("records"),
            func.count().filter(data_assets.c.id.is_(None)).label("strangers"),
            func.count().filter(~whole).label("gaps"),
        ).select_from(per_record.outerjoin(data_assets, same))
    ).one()
    problems = []
    if found.strangers:
        problems.append(f"rows of {found.strangers:,} records that are not in data_assets")
    if found.gaps:
        problems.append(f"rows of {found.gaps:,} records have gaps or repetitions in their positions")
    assets = connection.scalar(select(func.count()).select_from(data_assets)) or 0
    return Agreement(int(found.rows), found.records, tuple(problems), not found.rows and assets > 0)
