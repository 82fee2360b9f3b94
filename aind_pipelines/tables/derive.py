"""Rows of the analysts' tables from normalised records: pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aind_pipelines.records.normalise import NormalisedRecord

_NEVER = datetime.min.replace(tzinfo=UTC)


def data_asset_row(record: NormalisedRecord) -> dict[str, Any]:
    """The row of ``public.data_assets`` for a record, by column."""
    return {
        "id": record.id,
        "name": record.name,
        "location": record.location,
        "subject_id": record.subject_id,
        "platform": record.platform,
        "acquisition_time": record.acquisition_time,
        "data_level": record.data_level,
        "modalities": list(record.modalities),
        "process_name": record.process_name,
        "project_name": record.project_name,
        "institution": record.institution,
        "code_ocean_ids": list(record.code_ocean_ids),
        "created": record.created,
        "modified": record.modified,
        "schema_version": record.schema_version,
        "record_version": record.record_version,
    }


@dataclass(slots=True)
class _Subject:
    """What is known of a subject so far, in constant memory."""

    asset_count: int = 0
    first_acquisition: datetime | None = None
    last_acquisition: datetime | None = None
    latest: NormalisedRecord | None = None

    def add(self, record: NormalisedRecord) -> None:
        self.asset_count += 1
        if (time := record.acquisition_time) is not None:
            self.first_acquisition = min(self.first_acquisition or time, time)
            self.last_acquisition = max(self.last_acquisition or time, time)
        if self.latest is None or _precedence(record) > _precedence(self.latest):
            self.latest = record


def _precedence(record: NormalisedRecord) -> tuple[bool, datetime, str, str]:
    """Of two records, the one that says something of the subject itself goes first, then the later modified one."""
    fields = (record.sex, record.date_of_birth, record.genotype, record.species)
    return any(fields), record.modified or _NEVER, record.record_version, record.id


def subject_rows(records: Iterable[NormalisedRecord]) -> list[dict[str, Any]]:
    """The rows of ``public.subjects``, by subject id.

    Args:
        records: Read once; memory grows with the subjects, not with the records.

    Returns:
        One row per subject that a record names. The subject's own fields are those of the record modified last among
        those that state any.
    """
    subjects: dict[str, _Subject] = {}
    for record in records:
        if record.subject_id is not None:
            subjects.setdefault(record.subject_id, _Subject()).add(record)
    return [_subject_row(subject_id, subject) for subject_id, subject in sorted(subjects.items())]


def _subject_row(subject_id: str, subject: _Subject) -> dict[str, Any]:
    record = subject.latest
    assert record is not None
    return {
        "subject_id": subject_id,
        "sex": record.sex,
        "date_of_birth": record.date_of_birth,
        "genotype": record.genotype,
        "species": record.species,
        "asset_count": subject.asset_count,
        "first_acquisition": subject.first_acquisition,
        "last_acquisition": subject.last_acquisition,
        "record_id": record.id,
        "record_version": record.record_version,
    }
