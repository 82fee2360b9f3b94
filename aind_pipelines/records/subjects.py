"""What a record, or the metadata-service, says of a subject itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from aind_pipelines.records.reading import LONGEST_TEXT, Reader


@dataclass(frozen=True, slots=True)
class SubjectFields:
    """The fields of a subject that are compared and published.

    Attributes:
        sex: As recorded.
        date_of_birth: Date of birth.
        genotype: Genotype.
        species: Species name.
    """

    sex: str | None = None
    date_of_birth: date | None = None
    genotype: str | None = None
    species: str | None = None


def read_subject(reader: Reader, subject: Mapping[Any, Any]) -> SubjectFields:
    """Read a subject of any schema version; in v2 its own fields are one level deeper.

    Args:
        reader: Takes the findings.
        subject: The ``subject`` of a record, or an answer about one.
    """
    details = reader.section("subject_details", subject) or subject
    return SubjectFields(
        sex=reader.text(details.get("sex"), "subject.sex"),
        date_of_birth=reader.day(details.get("date_of_birth"), "subject.date_of_birth", "date_of_birth_unreadable"),
        genotype=reader.text(details.get("genotype"), "subject.genotype", longest=LONGEST_TEXT),
        species=reader.label(details.get("species"), "subject.species", prefer="name"),
    )
