"""Metadata records in the v2 schema shape (aind-data-schema 2.9), as the institute's DocDB holds them.

Written as plain JSON because the library cannot share an environment with this project; the tests validate what is
written here with the library in an environment of its own.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from aind_pipelines.lab.seed.model import V2_DATABASE, Asset, Person, Subject
from aind_pipelines.lab.seed.records_v1 import instrument_id, milliseconds, modification_date, tiles
from aind_pipelines.lab.seed.vocabulary import AI, AIND, modality, organization_v2

VERSIONS = {
    "metadata": "2.7.6",
    "subject": "2.3.3",
    "data_description": "2.4.2",
    "procedures": "2.2.3",
    "acquisition": "2.5.4",
    "instrument": "2.2.8",
    "processing": "2.3.3",
    "quality_control": "2.4.2",
}
"""Schema versions of the core files of aind-data-schema 2.9."""

_SOURCE = "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/src/aind_data_schema/core"
_ETHICS_REVIEW = "2109"
_ORCID = "Open Researcher and Contributor ID (ORCID)"
_VISP = {"atlas": "CCFv3", "name": "Primary visual area", "acronym": "VISp", "id": "385"}


def _head(file: str) -> dict[str, Any]:
    return {
        "object_type": file.replace("_", " ").capitalize(),
        "describedBy": f"{_SOURCE}/{file}.py",
        "schema_version": VERSIONS[file],
    }


def record(asset: Asset) -> dict[str, Any]:
    """The v2 record of an asset.

    Raises:
        KeyError: The asset has no v2 record.
    """
    return {
        "_id": asset.record_ids[V2_DATABASE],
        **_head("metadata"),
        "name": asset.name,
        "location": asset.location,
        "other_identifiers": {"Code Ocean": [asset.code_ocean_id]},
        "subject": subject(asset.subject),
        "data_description": data_description(asset),
        "procedures": procedures(asset.subject, asset.start.date()),
        "instrument": instrument(asset),
        "processing": processing(asset),
        "acquisition": acquisition(asset),
        "quality_control": None if asset.is_raw else quality_control(asset),
        "model": None,
        "_created": milliseconds(asset.created),
        "_last_modified": milliseconds(asset.modified),
    }


def _person(person: Person) -> dict[str, Any]:
    return {"object_type": "Person", "name": person.name, "registry": _ORCID, "registry_identifier": person.orcid}


def subject(of: Subject) -> dict[str, Any]:
    """Subject as v2 records write it."""
    return {
        **_head("subject"),
        "subject_id": of.id,
        "subject_details": {
            "object_type": "Mouse subject",
            "sex": of.sex,
            "date_of_birth": of.date_of_birth.isoformat(),
            "strain": {
                "name": "C57BL/6J",
                "species": "Mus musculus",
                "registry": "Mouse Genome Informatics (MGI)",
                "registry_identifier": "MGI:3028467",
            },
            "species": {
                "name": "Mus musculus",
                "common_name": "House mouse",
                "registry": "National Center for Biotechnology Information (NCBI)",
                "registry_identifier": "NCBI:txid10090",
            },
            "alleles": [],
            "genotype": of.genotype,
            "breeding_info": {
                "object_type": "Breeding info",
                "maternal_id": of.maternal_id,
                "maternal_genotype": of.maternal_genotype,
                "paternal_id": of.paternal_id,
                "paternal_genotype": of.paternal_genotype,
            },
            "wellness_reports": [],
            "housing": {
                "object_type": "Housing",
                "cage_id": of.cage_id,
                "room_id": of.room_id,
                "light_cycle": None,
                "home_cage_enrichment": [],
                "cohoused_subjects": [],
            },
            "source": organization_v2(AI),
            "restrictions": None,
            "rrid": None,
        },
        "notes": None,
    }


def data_description(asset: Asset) -> dict[str, Any]:
    """Data description of a raw or derived asset."""
    project = asset.subject.project
    return {
        **_head("data_description"),
        "license": "CC-BY-4.0",
        "subject_id": asset.subject.id,
        "creation_time": asset.start.isoformat()
        if asset.processed is None
        else f"{asset.processed:%Y-%m-%dT%H:%M:%SZ}",
        "tags": None,
        "name": asset.name,
        "institution": organization_v2(AIND),
        "funding_source": [
            {
                "object_type": "Funding",
                "funder": organization_v2(project.funder),
                "grant_number": project.grant_number,
                "fundee": [_person(person) for person in project.fundees],
            }
        ],
        "data_level": "raw" if asset.is_raw else "derived",
        "group": asset.platform.group,
        "investigators": [_person(person) for person in project.investigators],
        "project_name": project.name,
        "restrictions": None,
        "modalities": [modality(abbreviation) for abbreviation in asset.platform.modalities],
        "source_data": list(asset.sources) or None,
        "data_summary": None,
    }


def procedures(of: Subject, until: date | None = None) -> dict[str, Any]:
    """What was done to a subject, up to and including the day `until`."""
    steps: list[dict[str, Any]] = [
        {
            "object_type": "Headframe",
            "protocol_id": "dx.doi.org/10.17504/protocols.io.0000000001",
            "headframe_type": "AI Straight Headbar",
            "headframe_part_number": "0000-100-00",
            "headframe_material": "Titanium",
            "well_part_number": None,
            "well_type": None,
        }
    ]
    if of.injected_lot is not None:
        steps.append(_injection(of.injected_lot))
    done = [_surgery(of.surgery, "NSB-0001", steps)]
    specimen: list[dict[str, Any]] = []
    if of.perfusion is not None and (until is None or of.perfusion <= until):
        perfusion = {
            "object_type": "Perfusion",
            "protocol_id": "dx.doi.org/10.17504/protocols.io.0000000002",
            "output_specimen_ids": [of.id],
        }
        done.append(_surgery(of.perfusion, "NSB-0002", [perfusion]))
        specimen.append(
            {
                "object_type": "Specimen procedure",
                "protocol_id": ["dx.doi.org/10.17504/protocols.io.0000000002"],
                "procedure_type": "Fixation",
                "procedure_name": "SHIELD",
                "specimen_id": of.id,
                "start_date": (of.perfusion + timedelta(days=1)).isoformat(),
                "end_date": (of.perfusion + timedelta(days=5)).isoformat(),
                "experimenters": ["NSB-0002"],
                "protocol_parameters": None,
                "procedure_details": [],
                "notes": None,
            }
        )
    return {
        **_head("procedures"),
        "subject_id": of.id,
        "subject_procedures": done,
        "specimen_procedures": specimen,
        "global_coordinate_system": None,
        "notes": None,
    }


def _surgery(day: date, experimenter: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "object_type": "Surgery",
        "protocol_id": steps[0]["protocol_id"],
        "start_date": day.isoformat(),
        "experimenters": [experimenter],
        "ethics_review_id": _ETHICS_REVIEW,
        "animal_weight_prior": None,
        "animal_weight_post": None,
        "weight_unit": "gram",
        "anaesthesia": None,
        "workstation_id": None,
        "global_coordinate_system": _bregma(),
        "measured_coordinates": None,
        "procedures": steps,
        "notes": None,
    }


def _injection(lot: str) -> dict[str, Any]:
    number = int("".join(character for character in lot if character.isdigit()))
    return {
        "object_type": "Brain injection",
        "protocol_id": "dx.doi.org/10.17504/protocols.io.0000000001",
        "injection_materials": [
            {
                "object_type": "Viral material",
                "name": f"rAAV-EF1a-DIO-GCaMP_{number}",
                "tars_identifiers": {
                    "object_type": "Tars virus identifiers",
                    "virus_tars_id": f"AiV{number}",
                    "plasmid_tars_alias": [f"AiP{number}"],
                    "prep_lot_number": lot,
                    "prep_date": "2022-09-15",
                    "prep_type": "Purified",
                    "prep_protocol": "SOP#VC003",
                },
                "addgene_id": None,
                "titer": None,
                "titer_unit": None,
            }
        ],
        "targeted_structure": None,
        "relative_position": ["Left"],
        "dynamics": [
            {
                "object_type": "Injection dynamics",
                "profile": "Bolus",
                "volume": 400.0,
                "volume_unit": "nanoliter",
                "duration": 5.0,
                "duration_unit": "minute",
                "injection_current": None,
                "injection_current_unit": None,
                "alternating_current": None,
            }
        ],
        "coordinate_system_name": "BREGMA_ARI",
        "coordinates": [[_translation(-1.6, -2.1, 0.6)]],
    }


def _axes(name: str, origin: str, unit: str, *axes: tuple[str, str]) -> dict[str, Any]:
    return {
        "object_type": "Coordinate system",
        "name": name,
        "origin": origin,
        "axes": [{"object_type": "Axis", "name": axis, "direction": direction} for axis, direction in axes],
        "axis_unit": unit,
    }


def _bregma() -> dict[str, Any]:
    return _axes(
        "BREGMA_ARI",
        "Bregma",
        "millimeter",
        ("AP", "Posterior_to_anterior"),
        ("ML", "Left_to_right"),
        ("SI", "Superior_to_inferior"),
    )


def _manipulator_axes() -> dict[str, Any]:
    return _axes(
        "MPM_MANIP_RFB",
        "Tip",
        "millimeter",
        ("X", "Left_to_right"),
        ("Y", "Back_to_front"),
        ("Z", "Up_to_down"),
    )


def _specimen_axes() -> dict[str, Any]:
    return _axes(
        "SPIM_RPI",
        "Origin",
        "micrometer",
        ("X", "Left_to_right"),
        ("Y", "Anterior_to_posterior"),
        ("Z", "Superior_to_inferior"),
    )


def _device(kind: str, name: str, manufacturer: str | None, **more: Any) -> dict[str, Any]:
    return {
        "object_type": kind,
        "name": name,
        "serial_number": None,
        "manufacturer": organization_v2(manufacturer) if manufacturer else None,
        "model": None,
        "additional_settings": None,
        "notes": None,
        **more,
    }


def _laser(name: str, wavelength: int) -> dict[str, Any]:
    return _device("Laser", name, "Coherent Scientific", wavelength=wavelength, wavelength_unit="nanometer")


def _detector(name: str, kind: str, interface: str) -> dict[str, Any]:
    return _device("Detector", name, "Hamamatsu", detector_type=kind, data_interface=interface)


def _objective(numerical_aperture: str, magnification: str, immersion: str) -> dict[str, Any]:
    return _device(
        "Objective",
        "Main objective",
        "Nikon",
        numerical_aperture=numerical_aperture,
        magnification=magnification,
        immersion=immersion,
    )


def _translation(*values: float) -> dict[str, Any]:
    return {"object_type": "Translation", "translation": list(values)}


def _scale(*values: float) -> dict[str, Any]:
    return {"object_type": "Scale", "scale": list(values)}


def _channel(name: str, detector: str, light: dict[str, Any]) -> dict[str, Any]:
    return {
        "object_type": "Channel",
        "channel_name": name,
        "intended_measurement": None,
        "detector": {"object_type": "Detector config", "device_name": detector, "trigger_type": "Internal"},
        "light_sources": [light],
        "variable_power": False,
    }


def _laser_config(name: str, wavelength: int) -> dict[str, Any]:
    return {
        "object_type": "Laser config",
        "device_name": name,
        "wavelength": wavelength,
        "wavelength_unit": "nanometer",
        "power": 20.0,
        "power_unit": "milliwatt",
    }


class _Kit:
    """Devices of an instrument and how they were configured, gathered modality by modality."""

    def __init__(self, asset: Asset) -> None:
        self.components: list[dict[str, Any]] = []
        self.active: list[str] = []
        self.configurations: list[dict[str, Any]] = []
        add = {
            "behavior": self._behavior,
            "behavior-videos": self._videos,
            "ecephys": self._probes,
            "fib": self._fibers,
            "pophys": self._planes,
            "SPIM": self._light_sheet,
        }
        for abbreviation in asset.platform.modalities:
            add[abbreviation](asset)

    def _use(self, *devices: dict[str, Any]) -> None:
        self.components += devices
        self.active += [device["name"] for device in devices]

    def _behavior(self, _asset: Asset) -> None:
        self._use(
            _device("Tube", "Mouse tube", "Custom", diameter="3.0", diameter_unit="centimeter"),
            _device("Speaker", "Stimulus speaker", "Custom", relative_position=["Anterior"]),
            _device(
                "Lick spout",
                "Lick spout",
                "Custom",
                spout_diameter="1.2",
                spout_diameter_unit="millimeter",
                solenoid_valve=_device("Device", "Solenoid valve", "Custom"),
                lick_sensor=_device("Device", "Lick sensor", "Custom"),
                lick_sensor_type="Capacitive",
            ),
            _device(
                "Harp device",
                "Harp Behavior",
                "Open Ephys Production Site",
                data_interface="USB",
                harp_device_type={"name": "Behavior", "whoami": 1216},
                core_version="2.1",
                is_clock_generator=False,
            ),
        )

    def _videos(self, _asset: Asset) -> None:
        self._use(
            {
                "object_type": "Camera assembly",
                "relative_position": ["Right"],
                "name": "Face camera assembly",
                "target": "Face",
                "camera": _device(
                    "Camera", "Face camera", "Teledyne FLIR", data_interface="USB", sensor_width=720, sensor_height=540
                ),
                "lens": _device("Lens", "Face camera lens", "Edmund Optics"),
            }
        )

    def _probes(self, _asset: Asset) -> None:
        for letter in ("A", "B"):
            assembly, manipulator, probe = f"Probe {letter} assembly", f"Manipulator {letter}", f"Probe {letter}"
            self._use(
                {
                    "object_type": "Ephys assembly",
                    "name": assembly,
                    "manipulator": _device("Manipulator", manipulator, "New Scale Technologies"),
                    "probes": [
                        _device(
                            "Ephys probe",
                            probe,
                            "Interuniversity Microelectronics Center",
                            probe_model="Neuropixels 1.0",
                        )
                    ],
                }
            )
            self.configurations.append(
                {
                    "object_type": "Ephys assembly config",
                    "device_name": assembly,
                    "manipulator": {
                        "object_type": "Manipulator config",
                        "device_name": manipulator,
                        "local_coordinate_system": _manipulator_axes(),
                        "local_axis_positions": _translation(8.1, 3.06, -2.7),
                    },
                    "probes": [
                        {
                            "object_type": "Probe config",
                            "device_name": probe,
                            "primary_targeted_structure": dict(_VISP),
                            "local_coordinate_system": _manipulator_axes(),
                            "transform": [_translation(0.5, -1.0, 0.0)],
                            "dye": "DiI",
                        }
                    ],
                }
            )

    def _fibers(self, _asset: Asset) -> None:
        self._use(
            _device("Light emitting diode", "470nm LED", "Doric", wavelength=470, wavelength_unit="nanometer"),
            _detector("Green CMOS", "Camera", "USB"),
            _device("Fiber patch cord", "Patch cord 0", "Doric", core_diameter="200", numerical_aperture="0.37"),
        )
        diode = {
            "object_type": "Light emitting diode config",
            "device_name": "470nm LED",
            "power": 20.0,
            "power_unit": "microwatt",
        }
        self.configurations += [
            diode,
            {
                "object_type": "Patch cord config",
                "device_name": "Patch cord 0",
                "channels": [_channel("Green channel", "Green CMOS", diode)],
            },
        ]

    def _planes(self, asset: Asset) -> None:
        self._use(
            _laser("Imaging laser", 920),
            _detector("Green PMT", "Photomultiplier Tube", "PXI"),
            _objective("0.8", "16", "water"),
        )
        depths = (120.0, 180.0, 240.0, 300.0) if "multi" in asset.platform.abbreviation else (150.0,)
        self.configurations.append(
            {
                "object_type": "Imaging config",
                "device_name": instrument_id(asset),
                "channels": [_channel("Green channel", "Green PMT", _laser_config("Imaging laser", 920))],
                "local_coordinate_system": _bregma(),
                "images": [
                    {
                        "object_type": "Planar image",
                        "channel_name": "Green channel",
                        "dimensions_unit": "pixel",
                        "image_to_acquisition_transform": [_translation(1.5, 1.5, 0.0)],
                        "dimensions": _scale(512, 512),
                        "planes": [
                            {
                                "object_type": "Plane",
                                "depth": depth,
                                "depth_unit": "micrometer",
                                "power": 30.0,
                                "power_unit": "milliwatt",
                                "targeted_structure": dict(_VISP),
                            }
                        ],
                    }
                    for depth in depths
                ],
                "sampling_strategy": {
                    "object_type": "Sampling strategy",
                    "frame_rate": 10.7,
                    "frame_rate_unit": "hertz",
                },
            }
        )

    def _light_sheet(self, asset: Asset) -> None:
        imaged = tiles(asset)
        channels = {excitation: emission for excitation, emission, _, _ in imaged}
        self._use(
            *(_laser(f"Ex_{excitation}", excitation) for excitation in channels),
            _objective("0.2", "3.6", "multi"),
            _detector("Camera", "Camera", "USB"),
            _device(
                "Scanning stage",
                "Sample stage Z",
                "Applied Scientific Instrumentation",
                travel="50",
                travel_unit="millimeter",
                stage_axis_direction="Detection axis",
                stage_axis_name="Z",
            ),
            _device("Device", "Sample chamber", "Custom"),
        )
        immersion = {"object_type": "Immersion", "medium": "other", "refractive_index": 1.5182}
        self.configurations += [
            {
                "object_type": "Imaging config",
                "device_name": instrument_id(asset),
                "channels": [
                    _channel(f"{excitation}", "Camera", _laser_config(f"Ex_{excitation}", excitation))
                    for excitation in channels
                ],
                "local_coordinate_system": _specimen_axes(),
                "images": [
                    {
                        "object_type": "Image spim",
                        "channel_name": f"{excitation}",
                        "dimensions_unit": "pixel",
                        "image_to_acquisition_transform": [
                            _translation(1800.0 * index, 0.0, 0.0),
                            _scale(1.8, 1.8, 2.0),
                        ],
                        "dimensions": _scale(2000, 1600, 3000),
                        "file_name": file_name,
                        "imaging_angle": 0,
                        "imaging_angle_unit": "degrees",
                    }
                    for excitation, _, index, file_name in imaged
                ],
            },
            {
                "object_type": "Sample chamber config",
                "device_name": "Sample chamber",
                "chamber_immersion": immersion,
                "sample_immersion": dict(immersion),
            },
        ]


def instrument(asset: Asset) -> dict[str, Any]:
    """The instrument of an acquisition, with every device that was active in it."""
    kit = _Kit(asset)
    return {
        **_head("instrument"),
        "location": asset.instrument.split("_")[0],
        "instrument_id": instrument_id(asset),
        "modification_date": modification_date(asset).isoformat(),
        "modalities": sorted(
            (modality(abbreviation) for abbreviation in asset.platform.modalities),
            key=lambda item: item["abbreviation"],
        ),
        "calibrations": None,
        "global_coordinate_system": _specimen_axes() if asset.platform.images_specimens else _bregma(),
        "temperature_control": False,
        "notes": None,
        "connections": [],
        "components": kit.components,
    }


def acquisition(asset: Asset) -> dict[str, Any]:
    """What was acquired, with which devices, and for live subjects what they did."""
    kit = _Kit(asset)
    specimen = asset.platform.images_specimens
    start, end = asset.start.isoformat(), asset.end.isoformat()
    offset = asset.start.utcoffset()
    assert offset is not None
    return {
        **_head("acquisition"),
        "subject_id": asset.subject.id,
        "specimen_id": asset.subject.id if specimen else None,
        "acquisition_start_time": start,
        "acquisition_start_tz": int(offset.total_seconds() // 3600),
        "acquisition_end_time": end,
        "experimenters": [asset.experimenter.name],
        "protocol_id": None,
        "ethics_review_id": [_ETHICS_REVIEW],
        "instrument_id": instrument_id(asset),
        "acquisition_type": "Imaging" if specimen else "Foraging",
        "notes": None,
        "global_coordinate_system": _specimen_axes() if specimen else _bregma(),
        "calibrations": [],
        "maintenance": [],
        "data_streams": [
            {
                "object_type": "Data stream",
                "stream_start_time": start,
                "stream_end_time": end,
                "modalities": [modality(abbreviation) for abbreviation in asset.platform.modalities],
                "code": None,
                "notes": None,
                "active_devices": kit.active,
                "configurations": kit.configurations,
                "connections": [],
            }
        ],
        "stimulus_epochs": [] if specimen else [_epoch(asset, start, end)],
        "manipulations": [],
        "subject_details": None if specimen else _subject_details(asset),
    }


def _subject_details(asset: Asset) -> dict[str, Any]:
    weight = asset.rng("weight").randint(190, 290) / 10
    return {
        "object_type": "Acquisition subject details",
        "animal_weight_prior": str(weight),
        "animal_weight_post": str(round(weight + 0.6, 1)),
        "weight_unit": "gram",
        "anaesthesia": None,
        "mouse_platform_name": "Mouse tube",
        "reward_consumed_total": "0.6",
        "reward_consumed_unit": "milliliter",
    }


def _epoch(asset: Asset, start: str, end: str) -> dict[str, Any]:
    trials = asset.rng("session").randint(250, 600)
    return {
        "object_type": "Stimulus epoch",
        "stimulus_start_time": start,
        "stimulus_end_time": end,
        "stimulus_name": "auditory go cue",
        "code": {
            "object_type": "Code",
            "url": "https://github.com/AllenNeuralDynamics/dynamic-foraging-task",
            "version": "1.6.9",
        },
        "stimulus_modalities": ["Auditory"],
        "performance_metrics": {
            "object_type": "Performance metrics",
            "reward_consumed_during_epoch": "600",
            "reward_consumed_unit": "microliter",
            "trials_total": trials,
            "trials_finished": trials - 20,
            "trials_rewarded": trials // 2 - 20,
        },
        "notes": None,
        "active_devices": ["Stimulus speaker"],
        "configurations": [],
        "training_protocol_name": None,
        "curriculum_status": None,
    }


def processing(asset: Asset) -> dict[str, Any]:
    """What was run on the data: compression at upload, and what derived it."""
    uploaded = asset.end + timedelta(hours=6)
    done: list[dict[str, Any]] = [
        {
            "object_type": "Data process",
            "process_type": "Compression",
            "name": "Compression",
            "stage": "Processing",
            "code": {
                "object_type": "Code",
                "url": "https://github.com/AllenNeuralDynamics/aind-data-transformation",
                "version": "0.1.2",
            },
            "experimenters": [asset.experimenter.name],
            "pipeline_name": None,
            "start_date_time": uploaded.isoformat(),
            "end_date_time": (uploaded + timedelta(minutes=20)).isoformat(),
            "output_path": None,
            "output_parameters": None,
            "notes": None,
            "resources": None,
        }
    ]
    graph: dict[str, list[str]] = {"Compression": []}
    if asset.process is not None and asset.processed is not None:
        name = asset.process.process_type
        graph[name] = ["Compression"]
        done.append(
            {
                "object_type": "Data process",
                "process_type": name,
                "name": name,
                "stage": "Analysis" if name == "Analysis" else "Processing",
                "code": {
                    "object_type": "Code",
                    "url": asset.process.repository,
                    "version": "1.0.0",
                    "input_data": [{"object_type": "Data asset", "name": source} for source in asset.sources],
                },
                "experimenters": [asset.experimenter.name],
                "pipeline_name": None,
                "start_date_time": f"{asset.processed - timedelta(minutes=100):%Y-%m-%dT%H:%M:%SZ}",
                "end_date_time": f"{asset.processed:%Y-%m-%dT%H:%M:%SZ}",
                "output_path": None,
                "output_parameters": None,
                "notes": asset.process.label,
                "resources": None,
            }
        )
    return {
        **_head("processing"),
        "data_processes": done,
        "pipelines": None,
        "notes": None,
        "dependency_graph": graph,
    }


def quality_control(asset: Asset) -> dict[str, Any]:
    """Quality of a derived asset: were all outputs there."""
    assert asset.processed is not None
    passed = asset.rng("quality").random() < 0.9
    status = "Pass" if passed else "Fail"
    return {
        **_head("quality_control"),
        "metrics": [
            {
                "object_type": "QC metric",
                "name": "Outputs present",
                "modality": modality(asset.platform.modalities[0]),
                "stage": "Processing",
                "value": passed,
                "status_history": [
                    {
                        "object_type": "QC status",
                        "evaluator": "Automated",
                        "status": status,
                        "timestamp": f"{asset.processed:%Y-%m-%dT%H:%M:%SZ}",
                    }
                ],
                "description": "All expected outputs are there",
                "reference": None,
                "tags": {"evaluation": "Completeness"},
                "evaluated_assets": None,
            }
        ],
        "key_experimenters": None,
        "notes": None,
        "default_grouping": ["evaluation"],
        "allow_tag_failures": [],
        "status": None,
    }
