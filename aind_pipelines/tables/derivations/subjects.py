"""``subjects``: one row per subject that a record names, made of what each record states of its subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row

Statement: TypeAlias = Mapping[str, Any]
"""What a record states of its subject: a row of ``tables.subject_statements``."""

_NEVER = datetime.min.replace(tzinfo=UTC)


def statement_rows(record: NormalisedRecord, _reader: Reader) -> Iterator[Row]:
    """What a record states of its subject, if it names one."""
    if record.subject_id is not None:
        yield {
            "subject_id": record.subject_id,
            "acquisition_time": record.acquisition_time,
            "modified": record.modified,
            "sex": record.sex,
            "date_of_birth": record.date_of_birth,
            "genotype": record.genotype,
            "species": record.species,
        }


@dataclass(slots=True)
class _Subject:
    """What is known of a subject so far, in constant memory."""

    latest: Statement
    asset_count: int = 0
    first_acquisition: datetime | None = None
    last_acquisition: datetime | None = None

    def add(self, statement: Statement) -> None:
        self.asset_count += 1
        if (time := statement["acquisition_time"]) is not None:
            self.first_acquisition = min(self.first_acquisition or time, time)
            self.last_acquisition = max(self.last_acquisition or time, time)
        if _precedence(statement) > _precedence(self.latest):
            self.latest = statement


def _precedence(statement: Statement) -> tuple[bool, datetime, str, str]:
    """Of two records, the one that says something of the subject itself goes first, then the later modified one."""
    fields = (statement["sex"], statement["date_of_birth"], statement["genotype"], statement["species"])
    return any(fields), statement["modified"] or _NEVER, statement["record_version"], statement["record_id"]


def subject_rows(statements: Iterable[Statement]) -> Iterator[dict[str, Any]]:
    """The rows of ``public.subjects``, by subject id.

    Args:
        statements: Read once; memory grows with the subjects, not with the records.

    Returns:
        One row per subject. The subject's own fields are those of the record modified last among those that state
        any.
    """
    subjects: dict[str, _Subject] = {}
    for statement in statements:
        subjects.setdefault(statement["subject_id"], _Subject(statement)).add(statement)
    for subject_id, subject in sorted(subjects.items()):
        statement = subject.latest
        yield {
            "subject_id": subject_id,
            "sex": statement["sex"],
            "date_of_birth": statement["date_of_birth"],
            "genotype": statement["genotype"],
            "species": statement["species"],
            "asset_count": subject.asset_count,
            "first_acquisition": subject.first_acquisition,
            "last_acquisition": subject.last_acquisition,
            "record_id": statement["record_id"],
            "record_version": statement["record_version"],
        }
