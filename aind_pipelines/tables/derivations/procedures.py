"""``procedures`` and ``procedure_materials``: what was done to subjects and specimens, and with what.

The parts of a surgery are rows of their own after the surgery's. Schemas before 0.6 keep procedures in a list per
kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row
from aind_pipelines.tables.derivations.values import (
    GRAMS,
    MINUTES,
    NANOLITRES,
    as_json,
    first,
    mappings,
    measure,
    number,
    structure,
    texts,
)

# Lists of schemas before 0.6, with what later schemas call a procedure in them.
_FORMER_LISTS = {
    "headframes": "Headframe",
    "craniotomies": "Craniotomy",
    "mri_scans": "MRI scan",
    "injections": "Injection",
    "fiber_implants": "Fiber implant",
    "water_restrictions": "Water restriction",
    "training_protocols": "Training",
    "tissue_preparations": "Tissue preparation",
    "other_procedures": None,
}
# The number of a subject, where nothing but a separator follows it.
_LEADING_NUMBER = re.compile(r"[0-9]+(?![0-9A-Za-z])")
_SIDES = ("Left", "Right")
_COORDINATES = ("injection_coordinate_", "stereotactic_coordinate_", "craniotomy_coordinates_")


@dataclass(frozen=True)
class _Step:
    """A procedure in the record.

    Attributes:
        path: Where it stands, dotted.
        place: The same without places in lists, for findings.
        target: ``subject`` or ``specimen``.
        body: What it says.
        surgery: Position of the surgery it was a part of.
        surgery_body: What that surgery says; empty without one.
        former_type: Its type by the list it stands in.
    """

    path: str
    place: str
    target: str
    body: Mapping[Any, Any]
    surgery: int | None
    surgery_body: Mapping[Any, Any]
    former_type: str | None = None


def _steps(reader: Reader) -> Iterator[_Step]:
    section = reader.section("procedures")
    position = 0
    for key, target in (("subject_procedures", "subject"), ("specimen_procedures", "specimen")):
        field = f"procedures.{key}"
        for index, body in mappings(reader, section.get(key), field, "procedure_unreadable"):
            surgery, path = position, f"{field}.{index}"
            yield _Step(path, field, target, body, None, {})
            position += 1
            parts = mappings(reader, body.get("procedures"), f"{path}.procedures", "procedure_unreadable")
            for part_index, part in parts:
                part_path = f"{path}.procedures.{part_index}"
                yield _Step(part_path, f"{field}.procedures", target, part, surgery, body)
                position += 1
    for key, former_type in _FORMER_LISTS.items():
        field = f"procedures.{key}"
        for index, body in mappings(reader, section.get(key), field, "procedure_unreadable"):
            target = "specimen" if key == "tissue_preparations" else "subject"
            yield _Step(f"{field}.{index}", field, target, body, None, {}, former_type)
            position += 1


def procedure_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The procedures of a record."""
    subject = reader.text(reader.section("procedures").get("subject_id"), "procedures.subject_id")
    for step in _steps(reader):
        row = {"path": step.path, "subject_id": subject, **_procedure(reader, step)}
        if step.target == "specimen" and subject is not None:
            _note_other_subjects(reader, step, subject, row["specimen_ids"])
        yield row


def _note_other_subjects(reader: Reader, step: _Step, subject: str, specimens: list[str]) -> None:
    """A finding where a procedure names another subject, or a specimen whose id begins with another's number."""
    other = reader.text(step.body.get("subject_id"), f"{step.place}.subject_id")
    if other is not None and other != subject:
        message = f"The procedures are those of subject {subject!r}, this one names subject {other!r}."
        reader.note("specimen_of_another_subject", f"{step.place}.subject_id", message)
    for specimen in specimens:
        number = _LEADING_NUMBER.match(specimen)
        if number and subject.isdecimal() and len(number[0]) == len(subject) and number[0] != subject:
            message = f"The procedures are those of subject {subject!r}, this one was done to specimen {specimen!r}."
            reader.note("specimen_of_another_subject", f"{step.place}.specimen_id", message)


def _procedure(reader: Reader, step: _Step) -> Row:
    body, place = step.body, step.place
    stated = first(body, "procedure_type", "object_type") or step.former_type
    kind = reader.text(stated, f"{place}.procedure_type")
    if kind is None:
        reader.note("procedure_without_type", place, "A procedure does not say which kind it is.")
    anaesthesia = reader.section("anaesthesia", body)
    return {
        "target": step.target,
        "surgery_position": step.surgery,
        "procedure_type": kind,
        "procedure_name": reader.text(body.get("procedure_name"), f"{place}.procedure_name"),
        "start_date": _day(reader, step, "start_date"),
        "end_date": _day(reader, step, "end_date"),
        "specimen_ids": texts(reader, body.get("specimen_id"), f"{place}.specimen_id"),
        "output_specimen_ids": _output_specimens(reader, body, place),
        "protocol_ids": texts(reader, body.get("protocol_id"), f"{place}.protocol_id"),
        "ethics_review_id": reader.text(first(body, "ethics_review_id", "iacuc_protocol"), f"{place}.ethics_review"),
        "workstation_id": reader.text(body.get("workstation_id"), f"{place}.workstation_id"),
        "animal_weight_prior": measure(
            reader, body.get("animal_weight_prior"), body.get("weight_unit"), GRAMS, f"{place}.animal_weight_prior"
        ),
        "animal_weight_post": measure(
            reader, body.get("animal_weight_post"), body.get("weight_unit"), GRAMS, f"{place}.animal_weight_post"
        ),
        "anaesthetic": reader.text(first(anaesthesia, "anaesthetic_type", "type"), f"{place}.anaesthesia"),
        "anaesthesia_duration": measure(
            reader, anaesthesia.get("duration"), anaesthesia.get("duration_unit"), MINUTES, f"{place}.anaesthesia"
        ),
        "targeted_structure": _structure(reader, body, place),
        "hemisphere": _hemisphere(reader, body, place),
        "injection_volumes": _volumes(reader, body, place),
        "coordinates": _coordinates(reader, body, place),
        "coordinate_system": reader.text(
            first(
                body, "coordinate_system_name", "injection_coordinate_reference", "craniotomy_coordinates_reference"
            ),
            f"{place}.coordinate_system",
        ),
        "material_count": sum(1 for _ in _materials(reader, step)),
        "devices": _devices(reader, body, place),
    }


def _output_specimens(reader: Reader, body: Mapping[Any, Any], place: str) -> list[str]:
    """What perfusions state themselves, v1's sectioning in one object, and v2's in details or in their sections."""
    details = [body, reader.section("sectioning", body)]
    field = f"{place}.procedure_details"
    details += [item for _, item in mappings(reader, body.get("procedure_details"), field, "material_unreadable")]
    found: list[str] = []
    for item in details:
        found += texts(reader, item.get("output_specimen_ids"), f"{place}.output_specimen_ids")
        for _, section in mappings(reader, item.get("sections"), f"{place}.sections", "section_unreadable"):
            found += texts(reader, section.get("output_specimen_id"), f"{place}.output_specimen_ids")
    return list(dict.fromkeys(found))


def _day(reader: Reader, step: _Step, key: str) -> date | None:
    value = step.body.get(key)
    if value is None and key == "start_date":
        value = step.surgery_body.get(key)
    return reader.day(value, f"{step.place}.{key}", "date_unreadable")


def _probes(reader: Reader, body: Mapping[Any, Any], place: str) -> list[Mapping[Any, Any]]:
    """What v1's fiber implants list."""
    return [probe for _, probe in mappings(reader, body.get("probes"), f"{place}.probes", "device_unreadable")]


def _structure(reader: Reader, body: Mapping[Any, Any], place: str) -> str | None:
    """The structure the procedure names, or else the one that all its probes name."""
    named = structure(reader, body.get("targeted_structure"), f"{place}.targeted_structure")
    if named is not None:
        return named
    of_probes = {
        structure(reader, probe.get("targeted_structure"), f"{place}.probes") for probe in _probes(reader, body, place)
    }
    return of_probes.pop() if len(of_probes) == 1 else None


def _hemisphere(reader: Reader, body: Mapping[Any, Any], place: str) -> str | None:
    side = first(body, "injection_hemisphere", "craniotomy_hemisphere")
    if side is not None:
        return reader.text(side, f"{place}.hemisphere")
    positions = body.get("relative_position")
    sides = [side for side in _SIDES if isinstance(positions, list) and side in positions]
    return sides[0] if len(sides) == 1 else None


def _volumes(reader: Reader, body: Mapping[Any, Any], place: str) -> list[float]:
    field = f"{place}.injection_volume"
    volume = body.get("injection_volume")
    stated = [
        (value, body.get("injection_volume_unit")) for value in (volume if isinstance(volume, list) else (volume,))
    ]
    for _, dynamics in mappings(reader, body.get("dynamics"), f"{place}.dynamics", "dynamics_unreadable"):
        stated.append((dynamics.get("volume"), dynamics.get("volume_unit")))
    measured = (measure(reader, value, unit, NANOLITRES, field) for value, unit in stated)
    return [value for value in measured if value is not None]


def _coordinates(reader: Reader, body: Mapping[Any, Any], place: str) -> Any:
    field = f"{place}.coordinates"
    if body.get("coordinates") is not None:
        return as_json(reader, body["coordinates"], field, "coordinates_left_out")
    probes = _probes(reader, body, place)
    found = [named for holder in (body, *probes) if (named := _named_coordinates(holder))]
    return as_json(reader, found if probes else found[0], field, "coordinates_left_out") if found else None


def _named_coordinates(holder: Mapping[Any, Any]) -> dict[str, Any]:
    """v1's coordinates by axis, with their unit; nothing when no axis has one."""
    found = {
        key.removeprefix(prefix): value
        for prefix in _COORDINATES
        for key, value in holder.items()
        if isinstance(key, str) and key.startswith(prefix) and value is not None
    }
    return found if found.keys() - {"unit", "reference"} else {}


def _devices(reader: Reader, body: Mapping[Any, Any], place: str) -> list[str]:
    probes = [probe.get("ophys_probe", probe) for probe in _probes(reader, body, place)]
    implanted = body.get("implanted_device")
    return texts(reader, [device for device in (*probes, implanted) if device is not None], f"{place}.devices")


def _materials(reader: Reader, step: _Step) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The materials of a procedure, with where they stand; of v2's details those that have a name."""
    for key in ("injection_materials", "reagents", "antibodies", "procedure_details"):
        field = f"{step.place}.{key}"
        for _, material in mappings(reader, step.body.get(key), field, "material_unreadable"):
            if key != "procedure_details" or material.get("name") is not None:
                yield field, material


def material_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The materials of all procedures of a record."""
    for position, step in enumerate(_steps(reader)):
        for field, material in _materials(reader, step):
            yield {"procedure_position": position, **_material(reader, material, field)}


def _material(reader: Reader, material: Mapping[Any, Any], field: str) -> Row:
    tars = reader.section("tars_identifiers", material)
    titer = number(reader, material.get("titer"), f"{field}.titer")
    concentration = number(reader, material.get("concentration"), f"{field}.concentration")
    kind = first(material, "material_type", "object_type")
    return {
        "material_type": reader.text(kind or _kind_by_place(field), f"{field}.material_type"),
        "name": reader.text(material.get("name"), f"{field}.name"),
        "titer": titer,
        "titer_unit": None if titer is None else reader.text(material.get("titer_unit"), f"{field}.titer_unit"),
        "concentration": concentration,
        "concentration_unit": None
        if concentration is None
        else reader.text(material.get("concentration_unit"), f"{field}.concentration_unit"),
        "virus_tars_id": reader.text(tars.get("virus_tars_id"), f"{field}.virus_tars_id"),
        "plasmid_tars_aliases": texts(reader, tars.get("plasmid_tars_alias"), f"{field}.plasmid_tars_alias"),
        "lot_number": reader.text(first(tars, "prep_lot_number") or material.get("lot_number"), f"{field}.lot_number"),
        "addgene_id": _identifier(reader, material.get("addgene_id"), f"{field}.addgene_id"),
        "rrid": _identifier(reader, material.get("rrid"), f"{field}.rrid"),
    }


def _kind_by_place(field: str) -> str | None:
    return {"reagents": "Reagent", "antibodies": "Antibody"}.get(field.rpartition(".")[2])


def _identifier(reader: Reader, value: object, field: str) -> str | None:
    """An identifier in a registry: an object with it, or the bare text."""
    if isinstance(value, Mapping):
        value = first(value, "registry_identifier", "name")
    return reader.text(value, field)
