"""``instruments``: the rig or instrument of each asset, as it was then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.tables.derivations.derivation import Row
from aind_pipelines.tables.derivations.values import first, flag, modality_list

# Keys of objects that have a name and are no devices, in the instrument and in its devices.
_NOT_DEVICES = frozenset(
    {
        "additional_settings",
        "axes",
        "calibrations",
        "channels",
        "com_ports",
        "connections",
        "coordinate_system",
        "device_axes",
        "encoder_firmware",
        "firmware",
        "global_coordinate_system",
        "harp_device_type",
        "instrument_type",
        "local_coordinate_system",
        "manufacturer",
        "modalities",
        "recording_software",
        "rig_axes",
        "software",
        "threads",
    }
)
_NAMES = (
    "name",
    "assembly_name",
    "ephys_assembly_name",
    "camera_assembly_name",
    "fiber_assembly_name",
    "laser_assembly_name",
    "scope_assembly_name",
)
# A lick sensor is the third: the sensor of a spout of a reward delivery.
_DEEPEST = 6


def instrument_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """v1's ``rig`` and the ``instrument`` of a record."""
    for section in ("rig", "instrument"):
        if body := reader.section(section):
            yield _instrument(reader, body, section)


def _instrument(reader: Reader, body: Mapping[Any, Any], section: str) -> Row:
    calibrations = body.get("calibrations")
    manufacturer = body.get("manufacturer")
    return {
        "section": section,
        "schema_version": reader.version(body.get("schema_version"), f"{section}.schema_version"),
        "instrument_id": reader.text(first(body, "instrument_id", "rig_id"), f"{section}.instrument_id"),
        "instrument_type": _label(reader, first(body, "instrument_type", "type"), f"{section}.instrument_type"),
        "manufacturer": None
        if manufacturer is None
        else reader.label(manufacturer, f"{section}.manufacturer", prefer="name"),
        "location": reader.text(body.get("location"), f"{section}.location"),
        "modification_date": reader.day(
            body.get("modification_date"), f"{section}.modification_date", "date_unreadable"
        ),
        "modalities": modality_list(reader, body.get("modalities"), f"{section}.modalities"),
        "temperature_control": flag(reader, body.get("temperature_control"), f"{section}.temperature_control"),
        "devices": list(dict.fromkeys(_devices(reader, body, section))),
        "calibration_count": len(calibrations) if isinstance(calibrations, list) else None,
    }


def _label(reader: Reader, value: object, field: str) -> str | None:
    return None if value is None else reader.label(value, field)


def _devices(reader: Reader, holder: Mapping[Any, Any], section: str, depth: int = 1) -> Iterator[str]:
    """Names of all objects in the instrument's lists, and of single ones: v2's components, v1's lists by kind.

    Each before those of its parts, such as the camera and the lens of an assembly. In the order of the keys: that of
    a record is lost where it is stored.
    """
    for key in sorted(holder, key=str):
        if key in _NOT_DEVICES:
            continue
        value = holder[key]
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, Mapping):
                name = reader.text(first(item, *_NAMES), f"{section}.devices")
                if name is not None:
                    yield name
                if depth < _DEEPEST:
                    yield from _devices(reader, item, section, depth + 1)
