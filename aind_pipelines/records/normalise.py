"""One shape for metadata records of every schema version.

Records are read as they really are: of mixed versions, half upgraded, written by hand. What a record does not say is
None; nothing is guessed. What it says in a way that cannot be read becomes a finding with a stable code, and the
record still arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from aind_pipelines.records.canonical import canonicalise
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.hashing import hash_text
from aind_pipelines.records.names import (
    LATEST_YEAR,
    AssetName,
    parse_asset_name,
    parse_session_id,
    why_not_read,
    without_session,
)
from aind_pipelines.records.provenance import Process, count_investigators, read_processes, read_source_names
from aind_pipelines.records.reading import LONGEST_KEY, Reader, as_text, decimal_text, shown
from aind_pipelines.records.subjects import read_subject
from aind_pipelines.records.times import Moment
from aind_pipelines.records.vocabulary import data_level, institution_abbreviation, modality_abbreviation

RecordVersion = Literal["v1", "v2"]

_MAJOR_VERSION = re.compile(r"\s*v?([0-9]{1,9})")
# The name's time is local and the record's is not: only a longer distance is a disagreement.
_SAME_SESSION = timedelta(hours=36)
_SUBJECT_PLACES = ("subject", "data_description", "session", "acquisition")
_START_PLACES = (
    ("acquisition", "acquisition_start_time"),
    ("session", "session_start_time"),
    ("acquisition", "session_start_time"),
)
_CODE_OCEAN = "Code Ocean"


@dataclass(frozen=True, slots=True)
class NormalisedRecord:
    """A metadata record in the one shape that everything else here reads.

    Attributes:
        id: The record's ``_id`` as text. With `record_version` it is the record's identity.
        record_version: ``v1`` or ``v2``, see `record_version`.
        name: Asset name.
        location: Where the asset lies, e.g. ``s3://bucket/prefix``.
        subject_id: The subject the record names.
        platform: Platform abbreviation; from the record, or else from the name.
        acquisition_time: Start of the acquisition in UTC. Where the record states no zone, it is taken for UTC and a
            finding says so; where it states no time, the time in the name is taken the same way.
        data_level: ``raw``, ``derived`` or ``simulated``.
        modalities: Abbreviations, sorted, each once.
        process_name: What made a derived asset, e.g. ``sorted``.
        project_name: Project.
        institution: Institution's abbreviation.
        investigator_count: How many investigators it names; None when it says nothing of them.
        source_names: Names of the assets it says it was made of, in its order.
        input_name: Name of the asset that it was made of by its own name: what stands before the last process.
        process_time: When it was made by its own name, without zone (the indexers write UTC, older jobs local time).
        processes: What was run on the data, in the record's order.
        code_ocean_ids: Code Ocean data asset ids the record names, in its order.
        created: When the record was made, UTC (also where it states no zone).
        modified: When the record was last changed, UTC (also where it states no zone); the later of two spellings.
        schema_version: The record's own schema version; a number as its text.
        sex: Subject's sex as recorded.
        date_of_birth: Subject's date of birth.
        genotype: Subject's genotype.
        species: Subject's species name.
        findings: What is odd about the record; their key is ``record_version/id``.
    """

    id: str
    record_version: RecordVersion
    name: str | None
    location: str | None
    subject_id: str | None
    platform: str | None
    acquisition_time: datetime | None
    data_level: str | None
    modalities: tuple[str, ...]
    process_name: str | None
    project_name: str | None
    institution: str | None
    investigator_count: int | None
    source_names: tuple[str, ...]
    input_name: str | None
    process_time: datetime | None
    processes: tuple[Process, ...]
    code_ocean_ids: tuple[str, ...]
    created: datetime | None
    modified: datetime | None
    schema_version: str | None
    sex: str | None
    date_of_birth: date | None
    genotype: str | None
    species: str | None
    findings: tuple[Finding, ...]


def record_version(record: object) -> RecordVersion:
    """The generation a record belongs to, by its content; the collection it lies in says nothing.

    Args:
        record: A record.

    Returns:
        ``v2`` when ``object_type`` is present, whatever it holds, or the record's or its data_description's
        schema_version is 2 or higher, else ``v1``.
    """
    if not isinstance(record, Mapping):
        return "v1"
    description = record.get("data_description")
    versions = [record.get("schema_version")]
    if isinstance(description, Mapping):
        versions.append(description.get("schema_version"))
    if "object_type" in record or any(_major(version) >= 2 for version in versions):
        return "v2"
    return "v1"


def _major(version: object) -> int:
    written = version if isinstance(version, str) else decimal_text(version)
    match = None if written is None else _MAJOR_VERSION.match(written)
    if match is not None:
        return int(match[1])
    if isinstance(version, int | float) and not isinstance(version, bool):
        return 2 if version >= 2 else 0
    return 0


def _note_hybrid(reader: Reader, description: Mapping[Any, Any]) -> None:
    whole, part = reader.record.get("schema_version"), description.get("schema_version")
    if None not in (whole, part) and (_major(whole) >= 2) != (_major(part) >= 2):
        message = f"The record has schema version {shown(whole)}, its data description {shown(part)}."
        reader.note("hybrid_schema_versions", "data_description.schema_version", message)


def record_id(record: object) -> str:
    """A record's ``_id`` as text of at most 600 characters.

    A record without one, which no database returns, is named by its content; so is what an identity of another type
    or of more characters stands for.
    """
    value = record.get("_id") if isinstance(record, Mapping) else None
    if isinstance(value, Mapping) and set(value) == {"$oid"}:
        value = value["$oid"]
    found = as_text(value)
    if found is None and type(value).__name__ == "ObjectId":
        found = str(value)
    if found is not None and len(found) <= LONGEST_KEY:
        return found
    return "content-" + hash_text(canonicalise(record if value is None else value).text)[:32]


def normalise(record: object) -> NormalisedRecord:
    """Read a record of any schema version.

    Args:
        record: The record, as JSON or with BSON types.

    Returns:
        What it says, with findings about what it should say otherwise. Never raises on JSON-like input.
    """
    identity, version = record_id(record), record_version(record)
    reader = Reader(record, f"{version}/{identity}")
    raw_id = reader.record.get("_id")
    if raw_id is None:
        reader.note("id_missing", "_id", "The record has no _id; it is named by its content.")
    elif identity.startswith("content-") and as_text(raw_id) != identity:
        reader.note("id_unusable", "_id", f"The _id cannot be kept as text: {shown(raw_id)}.")
    description = reader.section("data_description")
    _note_hybrid(reader, description)
    if not description:
        reader.note("data_description_missing", "data_description", "The record has no data description.")

    location = reader.text(reader.record.get("location"), "location")
    if location is None:
        reader.note("location_missing", "location", "The record names no location.")
    name = _name(reader, description)
    parsed = _parsed_name(reader, name)
    level = _data_level(reader, description, parsed)
    subject = read_subject(reader, reader.section("subject"))
    return NormalisedRecord(
        id=identity,
        record_version=version,
        name=name,
        location=location,
        subject_id=_subject_id(reader, parsed),
        platform=_platform(reader, description, parsed),
        acquisition_time=_acquisition_time(reader, parsed),
        data_level=level,
        modalities=_modalities(reader, description),
        process_name=reader.text(description.get("process_name"), "data_description.process_name")
        or parsed.process_name,
        project_name=reader.text(description.get("project_name"), "data_description.project_name"),
        institution=_institution(reader, description),
        investigator_count=count_investigators(reader, description),
        source_names=_source_names(reader, description, parsed, level),
        input_name=reader.text(parsed.input_name, "name"),
        process_time=parsed.process_time,
        processes=read_processes(reader),
        code_ocean_ids=_code_ocean_ids(reader),
        created=_record_time(reader, "created", min),
        modified=_record_time(reader, "last_modified", max),
        schema_version=reader.version(reader.record.get("schema_version"), "schema_version"),
        sex=subject.sex,
        date_of_birth=subject.date_of_birth,
        genotype=subject.genotype,
        species=subject.species,
        findings=reader.sorted_findings(),
    )


def _name(reader: Reader, description: Mapping[Any, Any]) -> str | None:
    name = reader.text(reader.record.get("name"), "name")
    described = reader.text(description.get("name"), "data_description.name")
    if name is None:
        reader.note("name_missing", "name", f"The record has no name; its data description says {described!r}.")
        name = described
    elif described is not None and described != name:
        reader.note("name_disagrees", "data_description.name", f"The record is {name!r}, described as {described!r}.")
    return name


def _parsed_name(reader: Reader, name: str | None) -> AssetName:
    parsed = parse_asset_name(name or "")
    # One dated in a year to come is told by the sessions, with those dated later this year.
    if name is not None and parsed.session_id is None and parse_session_id(name, latest_year=LATEST_YEAR) is None:
        reader.note("name_without_session", "name", f"The name {name!r} {without_session(name)}.")
    return parsed


def _unsaid(parsed: AssetName, by_neither: str, by_record: str) -> str:
    """The message that neither the record nor its name says something; or that the name's date kept it unread."""
    to_come = parse_asset_name(parsed.name, latest_year=LATEST_YEAR).session_time
    if parsed.session_time is None and to_come is not None:
        return f"{by_record}, and its name is not read: it is dated {to_come:%Y-%m-%d}, which is yet to come."
    why = why_not_read(parsed.name, bare=True)
    return f"{by_neither}." if why is None else f"{by_record}, and its name is not read: {why}."


def _data_level(reader: Reader, description: Mapping[Any, Any], parsed: AssetName) -> str | None:
    field = "data_description.data_level"
    word = reader.label(description.get("data_level"), field)
    if word is None:
        if description:
            reader.note("data_level_missing", field, "The data description states no data level.")
        return None
    level = data_level(word)
    if word.casefold() == "raw data":
        reader.note("data_level_raw_data", field, "The data level is written 'raw data', as before schema 1.0.")
    if level is None:
        reader.note("data_level_unknown", field, f"Expected raw, derived or simulated, found {shown(word)}.")
    if level == "raw" and parsed.process_name is not None:
        message = f"The record says raw, its name says that {shown(parsed.process_name)} made it."
        reader.note("data_level_disagrees", field, message)
    return level


def _subject_id(reader: Reader, parsed: AssetName) -> str | None:
    named = {}
    for place in _SUBJECT_PLACES:
        field = f"{place}.subject_id"
        if (found := reader.text(reader.section(place).get("subject_id"), field)) is not None:
            named[field] = found
    if parsed.subject_id is not None:
        named["name"] = parsed.subject_id
    if not named:
        message = _unsaid(parsed, "Neither the record nor its name names a subject", "The record names no subject")
        reader.note("subject_id_missing", "subject.subject_id", message)
        return None
    subject_id = next(iter(named.values()))
    for field, other in named.items():
        if other != subject_id:
            first = next(iter(named))
            reader.note("subject_id_disagrees", field, f"{first} says {subject_id!r}, {field} says {other!r}.")
    return subject_id


def _platform(reader: Reader, description: Mapping[Any, Any], parsed: AssetName) -> str | None:
    field = "data_description.platform"
    platform = reader.label(description.get("platform"), field) or reader.text(parsed.platform, "name")
    if platform is None:
        message = _unsaid(parsed, "Neither the record nor its name names a platform", "The record names no platform")
        reader.note("platform_missing", field, message)
    return platform


def _acquisition_time(reader: Reader, parsed: AssetName) -> datetime | None:
    started = _started(reader)
    if started is None:
        if parsed.session_time is None:
            message = _unsaid(parsed, "Neither the record nor its name says when", "The record does not say when")
            reader.note("acquisition_time_missing", "acquisition", message)
            return None
        message = f"The record states no start; the name's {parsed.session_time} is taken for UTC."
        reader.note("acquisition_time_from_name", "name", message)
        return parsed.session_time.replace(tzinfo=UTC)
    field, moment = started
    if not moment.has_zone:
        message = f"The start {moment.value:%Y-%m-%d %H:%M:%S} states no zone; it is taken for UTC."
        reader.note("acquisition_time_without_zone", field, message)
    if parsed.session_time is not None:
        named = parsed.session_time.replace(tzinfo=UTC)
        if abs(moment.value - named) > _SAME_SESSION:
            message = f"The record says {moment.value:%Y-%m-%d}, its name says {named:%Y-%m-%d}."
            reader.note("acquisition_time_disagrees", field, message)
    return moment.value


def _started(reader: Reader) -> tuple[str, Moment] | None:
    for place, key in _START_PLACES:
        section = reader.section(place)
        if section.get(key) is None:
            continue
        zone = reader.zone(section.get("acquisition_start_tz"), "acquisition.acquisition_start_tz")
        moment = reader.moment(section[key], f"{place}.{key}", "acquisition_time_unreadable", zone=zone)
        if moment is not None:
            return f"{place}.{key}", moment
    return None


def _modalities(reader: Reader, description: Mapping[Any, Any]) -> tuple[str, ...]:
    found: set[str] = set()
    for key in ("modalities", "modality"):
        field = f"data_description.{key}"
        values = description.get(key)
        if isinstance(values, str):
            reader.note("modality_as_string", field, f"Expected modalities, found the bare text {shown(values)}.")
        found |= {word for value in _each(values) if (word := _modality(reader, value, field))}
    if description and not found:
        reader.note("modality_missing", "data_description.modality", "The data description names no modality.")
    return tuple(sorted(found))


def _each(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        yield from value
    elif value is not None:
        yield value


def _modality(reader: Reader, value: object, field: str) -> str | None:
    word = reader.label(value, field, repr_code="modality_as_repr")
    if word is None:
        if value is None or isinstance(value, str):
            reader.note("modality_unreadable", field, f"Expected a modality, found {shown(value)}.")
        return None
    known = modality_abbreviation(word)
    if known is None:
        reader.note("modality_unknown", field, f"No modality is called {shown(word)}; it is kept as it is.")
    return known or word


def _institution(reader: Reader, description: Mapping[Any, Any]) -> str | None:
    word = reader.label(description.get("institution"), "data_description.institution")
    return None if word is None else institution_abbreviation(word)


def _source_names(
    reader: Reader, description: Mapping[Any, Any], parsed: AssetName, level: str | None
) -> tuple[str, ...]:
    names = read_source_names(reader, description, parsed)
    if level == "derived" and not names:
        field = "data_description.source_data" if "source_data" in description else "data_description.input_data_name"
        reader.note("source_missing", field, "The asset is derived, but the record does not say from which.")
    return names


def _code_ocean_ids(reader: Reader) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for place in ("external_links", "other_identifiers"):
        value = reader.record.get(place)
        if isinstance(value, list):
            reader.note("external_links_as_list", place, "The identifiers are a list of objects, not one object.")
        for links in _each(value):
            if not isinstance(links, Mapping):
                reader.note("links_unreadable", place, f"Expected an object of identifiers, found {shown(links)}.")
                continue
            for identifier in _each(links.get(_CODE_OCEAN)):
                text = reader.text(identifier, f"{place}.{_CODE_OCEAN}")
                if text is not None:
                    found[text] = None
    return tuple(found)


def _record_time(reader: Reader, key: str, choose: Callable[[list[datetime]], datetime]) -> datetime | None:
    """The record's own time in either spelling, with or without underscore."""
    short = key.removeprefix("last_")
    spellings = (key, f"_{key}")
    moments = [reader.moment(reader.record.get(name), name, f"{short}_unreadable") for name in spellings]
    times = [moment.value for moment in moments if moment is not None]
    if times:
        return choose(times)
    if not any(finding.code == f"{short}_unreadable" for finding in reader.findings):
        reader.note(f"{short}_missing", key, f"The record does not say when it was {short}.")
    return None
