"""``acquisitions``, ``data_streams`` and ``stimulus_epochs``: what was acquired, with what, and what was shown.

v1 has a ``session``, or an ``acquisition`` for microscopes; v2 an ``acquisition``. A record that has both is read
twice, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import Reader
from aind_pipelines.records.times import read_time
from aind_pipelines.tables.derivations.derivation import Row
from aind_pipelines.tables.derivations.values import (
    GRAMS,
    MICROLITRES,
    first,
    flag,
    mappings,
    measure,
    modality_list,
    people,
    texts,
    time,
    whole,
)

# Where a stream names its devices, v2's before v1's: the keys that lead to them through objects and lists of objects,
# and the key of the name in each; None where the names themselves stand there.
_DEVICES = (
    ("active_devices", None),
    ("configurations", "device_name"),
    ("configurations.probes", "device_name"),
    ("configurations.patch_cords", "device_name"),
    ("configurations.channels.light_sources", "device_name"),
    ("configurations.channels.detector", "device_name"),
    ("daq_names", None),
    ("daqs", "name"),
    ("camera_names", None),
    ("cameras", "name"),
    ("light_sources", "name"),
    ("detectors", "name"),
    ("probes", "name"),
    ("ephys_modules", "assembly_name"),
    ("ephys_modules.ephys_probes", "name"),
    ("laser_modules", "assembly_name"),
    ("manipulator_modules", "assembly_name"),
    ("stick_microscopes", "assembly_name"),
    ("fiber_connections", "patch_cord_name"),
    ("fiber_connections", "fiber_name"),
    ("fiber_modules", "assembly_name"),
    ("fiber_modules.fiber_connections", "patch_cord_name"),
    ("fiber_modules.fiber_connections", "fiber_name"),
    ("stimulus_device_names", None),
)
# What stands in place of a fiber at the end of a patch cord that leads nowhere.
_NO_DEVICE = "disconnected"
# Where v1 keeps software and scripts before schema 1.0: keys of the stimulus, each with "_version" beside it.
_STIMULUS_CODE = ("stimulus_software", "stimulus_script", "behavior_software", "behavior_script")


@dataclass(frozen=True)
class _Section:
    """A session or acquisition.

    Attributes:
        position: Its place among those of the record.
        name: Where it stands.
        body: What it says.
        zone: Zone of its times that state none, where it says one.
        not_utc: Why its times that state none are not in UTC, where its start shows that.
    """

    position: int
    name: str
    body: Mapping[Any, Any]
    zone: tzinfo | None
    not_utc: str | None

    def time(self, reader: Reader, value: object, field: str) -> datetime | None:
        return time(reader, value, f"{self.name}.{field}", zone=self.zone, not_utc=self.not_utc)

    def streams(self, reader: Reader) -> list[tuple[str, Mapping[Any, Any]]]:
        field = f"{self.name}.data_streams"
        found = mappings(reader, self.body.get("data_streams"), field, "data_stream_unreadable")
        return [(field, stream) for _, stream in found]

    def epochs(self, reader: Reader) -> list[tuple[str, Mapping[Any, Any]]]:
        """The epochs of the whole, then those that schemas before 0.1 keep in the streams."""
        holders = [(self.name, self.body), *self.streams(reader)]
        return [
            (f"{place}.stimulus_epochs", epoch)
            for place, holder in holders
            for _, epoch in mappings(
                reader, holder.get("stimulus_epochs"), f"{place}.stimulus_epochs", "stimulus_epoch_unreadable"
            )
        ]


def _sections(reader: Reader) -> list[_Section]:
    found: list[_Section] = []
    for name in ("session", "acquisition"):
        if body := reader.section(name):
            zone = reader.zone(body.get("acquisition_start_tz"), f"{name}.acquisition_start_tz")
            started = read_time(_start(body), zone=zone)
            not_utc = f"the {name}'s start is written in another zone than UTC" if started and started.offset else None
            found.append(_Section(len(found), name, body, zone, not_utc))
    return found


def _start(body: Mapping[Any, Any]) -> object:
    return first(body, "acquisition_start_time", "session_start_time")


def acquisition_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The sessions and acquisitions of a record."""
    for section in _sections(reader):
        yield _acquisition(section, reader)


def _acquisition(section: _Section, reader: Reader) -> Row:
    body, name = section.body, section.name
    streams = section.streams(reader)
    details = reader.section("subject_details", body) or body
    return {
        "section": name,
        "schema_version": reader.version(body.get("schema_version"), f"{name}.schema_version"),
        "subject_id": reader.text(body.get("subject_id"), f"{name}.subject_id"),
        "specimen_ids": texts(reader, body.get("specimen_id"), f"{name}.specimen_id"),
        "instrument_id": reader.text(first(body, "instrument_id", "rig_id"), f"{name}.instrument_id"),
        "acquisition_type": reader.text(first(body, "acquisition_type", "session_type"), f"{name}.acquisition_type"),
        "start_time": section.time(reader, _start(body), "start_time"),
        "end_time": section.time(reader, first(body, "acquisition_end_time", "session_end_time"), "end_time"),
        "modalities": sorted({word for _, stream in streams for word in _modalities(reader, stream, name)}),
        "stream_count": len(streams),
        "epoch_count": len(section.epochs(reader)),
        "tile_count": _tile_count(reader, section),
        "protocol_ids": texts(reader, body.get("protocol_id"), f"{name}.protocol_id"),
        "ethics_review_ids": texts(reader, first(body, "ethics_review_id", "iacuc_protocol"), f"{name}.ethics_review"),
        "experimenter_count": people(
            reader, first(body, "experimenters", "experimenter_full_name"), f"{name}.experimenters"
        ),
        "animal_weight_prior": _weight(reader, details, "prior", name),
        "animal_weight_post": _weight(reader, details, "post", name),
        "reward_consumed": measure(
            reader,
            details.get("reward_consumed_total"),
            details.get("reward_consumed_unit"),
            MICROLITRES,
            f"{name}.reward_consumed_total",
        ),
        "platform_name": reader.text(_agreed(details, streams, "mouse_platform_name"), f"{name}.mouse_platform_name"),
        "platform_active": flag(
            reader, _agreed(body, streams, "active_mouse_platform"), f"{name}.active_mouse_platform"
        ),
    }


def _modalities(reader: Reader, stream: Mapping[Any, Any], place: str) -> list[str]:
    value = first(stream, "modalities", "stream_modalities")
    return modality_list(reader, value, f"{place}.data_streams.modalities")


def _weight(reader: Reader, details: Mapping[Any, Any], when: str, place: str) -> float | None:
    key = f"animal_weight_{when}"
    return measure(reader, details.get(key), details.get("weight_unit"), GRAMS, f"{place}.{key}")


def _agreed(body: Mapping[Any, Any], streams: list[tuple[str, Mapping[Any, Any]]], key: str) -> object:
    """What the section says, or else what all its streams that say anything agree on."""
    if body.get(key) is not None:
        return body[key]
    said = [stream[key] for _, stream in streams if stream.get(key) is not None]
    return said[0] if said and all(value == said[0] for value in said) else None


def _tile_count(reader: Reader, section: _Section) -> int | None:
    tiles = section.body.get("tiles")
    if isinstance(tiles, list):
        return len(tiles)
    images = [
        image
        for _, stream in section.streams(reader)
        for _, configuration in mappings(
            reader, stream.get("configurations"), f"{section.name}.configurations", "configuration_unreadable"
        )
        if isinstance(configuration.get("images"), list)
        for image in configuration["images"]
        if isinstance(image, Mapping) and image.get("object_type") == "Image spim"
    ]
    return len(images) or None


def stream_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The data streams of all sessions and acquisitions of a record."""
    for section in _sections(reader):
        for place, stream in section.streams(reader):
            yield {
                "acquisition_position": section.position,
                "start_time": section.time(reader, stream.get("stream_start_time"), "data_streams.stream_start_time"),
                "end_time": section.time(reader, stream.get("stream_end_time"), "data_streams.stream_end_time"),
                "modalities": _modalities(reader, stream, section.name),
                "devices": list(dict.fromkeys(_devices(reader, stream, place))),
            }


def _devices(reader: Reader, stream: Mapping[Any, Any], place: str) -> Iterator[str]:
    for path, name in _DEVICES:
        if name is None:
            yield from texts(reader, stream.get(path), f"{place}.{path}")
            continue
        for field, device in _at(reader, stream, path.split("."), place):
            text = reader.text(device.get(name), field)
            if text is not None and text.casefold() != _NO_DEVICE:
                yield text


def _at(
    reader: Reader, holder: Mapping[Any, Any], keys: Sequence[str], place: str
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The objects that keys lead to through objects and lists of objects, with where they stand."""
    if not keys:
        yield place, holder
        return
    field = f"{place}.{keys[0]}"
    for _, inner in mappings(reader, holder.get(keys[0]), field, "device_unreadable"):
        yield from _at(reader, inner, keys[1:], field)


def epoch_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The stimulus epochs of all sessions and acquisitions of a record."""
    for section in _sections(reader):
        for place, epoch in section.epochs(reader):
            yield {"acquisition_position": section.position, **_epoch(reader, epoch, section, place)}


def _epoch(reader: Reader, epoch: Mapping[Any, Any], section: _Section, place: str) -> Row:
    stimulus = reader.section("stimulus", epoch)
    measured = reader.section("performance_metrics", epoch) or epoch
    return {
        "stimulus_name": reader.text(
            epoch.get("stimulus_name") or stimulus.get("stimulus_name"), f"{place}.stimulus_name"
        ),
        "stimulus_modalities": texts(reader, epoch.get("stimulus_modalities"), f"{place}.stimulus_modalities"),
        "start_time": section.time(reader, epoch.get("stimulus_start_time"), "stimulus_epochs.stimulus_start_time"),
        "end_time": section.time(reader, epoch.get("stimulus_end_time"), "stimulus_epochs.stimulus_end_time"),
        "devices": texts(reader, first(epoch, "active_devices", "stimulus_device_names"), f"{place}.devices"),
        "software": _software(reader, epoch, stimulus, place),
        "trials_total": whole(reader, measured.get("trials_total"), f"{place}.trials_total"),
        "trials_finished": whole(reader, measured.get("trials_finished"), f"{place}.trials_finished"),
        "trials_rewarded": whole(reader, measured.get("trials_rewarded"), f"{place}.trials_rewarded"),
        "reward_consumed": measure(
            reader,
            measured.get("reward_consumed_during_epoch"),
            measured.get("reward_consumed_unit"),
            MICROLITRES,
            f"{place}.reward_consumed_during_epoch",
        ),
    }


def _software(
    reader: Reader, epoch: Mapping[Any, Any], stimulus: Mapping[Any, Any], place: str
) -> list[dict[str, str | None]]:
    used = [
        item
        for key in ("software", "script", "code")
        for _, item in mappings(reader, epoch.get(key), f"{place}.{key}", "software_unreadable")
    ]
    for key in _STIMULUS_CODE:
        if (named := stimulus.get(key)) is not None:
            # Some scripts are named by the address of their code.
            by = "url" if isinstance(named, str) and "://" in named else "name"
            used.append({by: named, "version": stimulus.get(f"{key}_version")})
    keys = ("name", "version", "url")
    return [{key: reader.text(item.get(key), f"{place}.software") for key in keys} for item in used]
