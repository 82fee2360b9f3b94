"""What every model of the RDS schema shares: its metadata, the names of its constraints, kinds of columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, Integer, MetaData, Text, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def time_column(name: str, comment: str, *, nullable: bool = True, now: bool = False) -> Column[Any]:
    """A ``timestamptz`` column; with `now`, the database's clock is its default."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        comment=comment,
        server_default=text("now()") if now else None,
    )


def made_of(*sources: tuple[str, str]) -> dict[str, Any]:
    """What a column is made of, as asset and column, where that is not the records' body alone."""
    return {"made_of": sources}


def record_columns(of: str) -> tuple[Column[Any], ...]:
    """The key of a table with any number of rows per record: the record, and the row's place in it.

    Args:
        of: What a row is about, for the comment of ``position``.
    """
    return (
        Column(
            "record_version",
            Text,
            primary_key=True,
            comment="v1 or v2: version of the record",
            info=made_of(("docdb_records", "record_version")),
        ),
        Column(
            "record_id",
            Text,
            primary_key=True,
            comment="DocDB _id of the record",
            info=made_of(("docdb_records", "id")),
        ),
        Column(
            "position",
            Integer,
            primary_key=True,
            autoincrement=False,
            comment=f"place of the {of} in the record, from 0",
        ),
    )
