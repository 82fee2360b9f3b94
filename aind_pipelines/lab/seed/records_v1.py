"""Metadata records in the v1 schema shape (aind-data-schema 1.x), as the institute's DocDB holds them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from aind_pipelines.lab.seed.model import V1_DATABASE, Asset, Subject
from aind_pipelines.lab.seed.vocabulary import AIND, NCBI_V1, modality, organization_v1

SCHEMA_VERSION = "1.2.1"
SUBJECT_VERSION = "1.0.3"

_SOURCE = "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/src/aind_data_schema/core"
_HEADFRAME_PROTOCOL = "dx.doi.org/10.17504/protocols.io.0000000001"
_PERFUSION_PROTOCOL = "dx.doi.org/10.17504/protocols.io.0000000002"
_ETHICS_REVIEW = "2109"


def _head(file: str, version: str) -> dict[str, Any]:
    return {"describedBy": f"{_SOURCE}/{file}.py", "schema_version": version}


def milliseconds(moment: datetime) -> str:
    """A UTC time as DocDB records write modification times: milliseconds, ``Z``."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def record(asset: Asset) -> dict[str, Any]:
    """The v1 record of an asset.

    Raises:
        KeyError: The asset has no v1 record.
    """
    specimen = asset.platform.images_specimens
    return {
        "_id": asset.record_ids[V1_DATABASE],
        **_head("metadata", SCHEMA_VERSION),
        "name": asset.name,
        "created": f"{asset.created:%Y-%m-%dT%H:%M:%S}.{asset.rng('created').randint(0, 999999):06d}Z",
        "last_modified": milliseconds(asset.modified),
        "location": asset.location,
        "metadata_status": "Valid",
        "external_links": {"Code Ocean": [asset.code_ocean_id]},
        "subject": subject(asset.subject),
        "data_description": data_description(asset),
        "procedures": procedures(asset.subject, asset.start.date()),
        "session": None if specimen else _session(asset),
        "rig": None if specimen else rig(asset),
        "acquisition": _acquisition(asset) if specimen else None,
        "instrument": instrument(asset) if specimen else None,
        "processing": processing(asset),
        "quality_control": None if asset.is_raw else _quality_control(asset),
    }


def subject(of: Subject) -> dict[str, Any]:
    """Subject as v1 records and the metadata-service's v1 write it."""
    return {
        **_head("subject", SUBJECT_VERSION),
        "subject_id": of.id,
        "sex": of.sex,
        "date_of_birth": of.date_of_birth.isoformat(),
        "genotype": of.genotype,
        "species": {"name": "Mus musculus", "registry": dict(NCBI_V1), "registry_identifier": "NCBI:txid10090"},
        "alleles": [],
        "background_strain": None,
        "breeding_info": {
            "breeding_group": of.paternal_genotype.split("/")[0],
            "maternal_id": of.maternal_id,
            "maternal_genotype": of.maternal_genotype,
            "paternal_id": of.paternal_id,
            "paternal_genotype": of.paternal_genotype,
        },
        "source": organization_v1("Allen Institute"),
        "rrid": None,
        "restrictions": None,
        "wellness_reports": [],
        "housing": {
            "cage_id": of.cage_id,
            "room_id": of.room_id,
            "light_cycle": None,
            "home_cage_enrichment": [],
            "cohoused_subjects": [],
        },
        "notes": None,
    }


def data_description(asset: Asset) -> dict[str, Any]:
    """Data description of a raw or derived asset."""
    project = asset.subject.project
    described = {
        **_head("data_description", "1.0.4" if asset.process else "1.0.3"),
        "license": "CC-BY-4.0",
        "platform": {"name": asset.platform.name, "abbreviation": asset.platform.abbreviation},
        "subject_id": asset.subject.id,
        "creation_time": asset.start.isoformat()
        if asset.processed is None
        else f"{asset.processed:%Y-%m-%dT%H:%M:%SZ}",
        "label": None,
        "name": asset.name,
        "institution": organization_v1(AIND),
        "funding_source": [
            {
                "funder": organization_v1(project.funder),
                "grant_number": project.grant_number,
                "fundee": ", ".join(person.name for person in project.fundees),
            }
        ],
        "data_level": "raw" if asset.is_raw else "derived",
        "group": None,
        "investigators": [
            {"name": person.name, "abbreviation": None, "registry": None, "registry_identifier": None}
            for person in project.investigators
        ],
        "project_name": project.name,
        "restrictions": None,
        "modality": [modality(abbreviation) for abbreviation in asset.platform.modalities],
        "related_data": [],
        "data_summary": None,
    }
    if asset.process is not None:
        described |= {"input_data_name": asset.sources[-1], "process_name": asset.process.label}
    return described


def surgery(of: Subject) -> dict[str, Any]:
    """The surgery a subject had before it worked: a headframe, and an injection if it had one."""
    steps: list[dict[str, Any]] = [
        {
            "procedure_type": "Headframe",
            "protocol_id": _HEADFRAME_PROTOCOL,
            "headframe_type": "AI Straight Headbar",
            "headframe_part_number": "0000-100-00",
            "headframe_material": "Titanium",
            "well_part_number": None,
            "well_type": None,
        }
    ]
    if of.injected_lot is not None:
        steps.append(
            {
                "procedure_type": "Nanoject injection",
                "protocol_id": _HEADFRAME_PROTOCOL,
                "injection_materials": [viral_material(of.injected_lot)],
                "recovery_time": "0",
                "recovery_time_unit": "minute",
                "injection_duration": "5",
                "injection_duration_unit": "minute",
                "instrument_id": None,
                "injection_coordinate_ml": "-2.1",
                "injection_coordinate_ap": "-1.6",
                "injection_coordinate_depth": ["0.6"],
                "injection_coordinate_unit": "millimeter",
                "injection_coordinate_reference": "Bregma",
                "injection_angle": "0",
                "injection_angle_unit": "degrees",
                "targeted_structure": None,
                "injection_hemisphere": "Left",
                "injection_volume": ["400"],
                "injection_volume_unit": "nanoliter",
            }
        )
    return {
        "procedure_type": "Surgery",
        "protocol_id": _HEADFRAME_PROTOCOL,
        "start_date": of.surgery.isoformat(),
        "experimenter_full_name": "NSB-0001",
        "iacuc_protocol": _ETHICS_REVIEW,
        "animal_weight_prior": "21.4",
        "animal_weight_post": "21.9",
        "weight_unit": "gram",
        "anaesthesia": {"type": "isoflurane", "duration": "90.0", "duration_unit": "minute", "level": "1.5"},
        "workstation_id": "SWS 2",
        "procedures": steps,
        "notes": None,
    }


def perfusion(of: Subject, day: date) -> dict[str, Any]:
    """A perfusion, as the metadata-service and v1 procedures write it."""
    return {
        "procedure_type": "Surgery",
        "protocol_id": _PERFUSION_PROTOCOL,
        "start_date": day.isoformat(),
        "experimenter_full_name": "NSB-0002",
        "iacuc_protocol": _ETHICS_REVIEW,
        "animal_weight_prior": None,
        "animal_weight_post": None,
        "weight_unit": "gram",
        "anaesthesia": None,
        "workstation_id": None,
        "procedures": [
            {
                "procedure_type": "Perfusion",
                "protocol_id": _PERFUSION_PROTOCOL,
                "output_specimen_ids": [of.id],
            }
        ],
        "notes": None,
    }


def viral_material(lot: str) -> dict[str, Any]:
    """What was injected, by its lot."""
    number = int("".join(character for character in lot if character.isdigit()))
    return {
        "material_type": "Virus",
        "name": f"rAAV-EF1a-DIO-GCaMP_{number}",
        "tars_identifiers": {
            "virus_tars_id": f"AiV{number}",
            "plasmid_tars_alias": f"AiP{number}",
            "prep_lot_number": lot,
            "prep_date": "2022-09-15",
            "prep_type": "Purified",
            "prep_protocol": "SOP#VC003",
        },
        "addgene_id": None,
        "titer": None,
        "titer_unit": "gc/mL",
    }


def procedures(of: Subject, until: date | None = None) -> dict[str, Any]:
    """What was done to a subject, up to and including the day `until`."""
    done = [surgery(of)]
    specimen: list[dict[str, Any]] = []
    if of.perfusion is not None and (until is None or of.perfusion <= until):
        done.append(perfusion(of, of.perfusion))
        specimen.append(
            {
                "procedure_type": "Fixation",
                "procedure_name": "SHIELD",
                "specimen_id": of.id,
                "start_date": (of.perfusion + timedelta(days=1)).isoformat(),
                "end_date": (of.perfusion + timedelta(days=5)).isoformat(),
                "experimenter_full_name": "NSB-0002",
                "protocol_id": [_PERFUSION_PROTOCOL],
                "reagents": [],
                "hcr_series": None,
                "antibodies": None,
                "sectioning": None,
                "notes": "",
            }
        )
    return {
        **_head("procedures", "1.2.1"),
        "subject_id": of.id,
        "subject_procedures": done,
        "specimen_procedures": specimen,
        "notes": None,
    }


def instrument_id(asset: Asset) -> str:
    """Rig or instrument id: its name and the day it was last changed."""
    return f"{asset.instrument}_{modification_date(asset):%Y%m%d}"


def modification_date(asset: Asset) -> date:
    """The day the instrument was last changed: the first of the quarter of the session."""
    return date(asset.start.year, 3 * ((asset.start.month - 1) // 3) + 1, 1)


def _session(asset: Asset) -> dict[str, Any]:
    numbers = asset.rng("session")
    trials = numbers.randint(250, 600)
    weight = numbers.randint(190, 290) / 10
    start, end = asset.start.isoformat(), asset.end.isoformat()
    reward = str(numbers.randint(200, 900))
    return {
        **_head("session", "1.1.2"),
        "protocol_id": ["dx.doi.org/10.17504/protocols.io.0000000003"],
        "experimenter_full_name": [asset.experimenter.name],
        "session_start_time": start,
        "session_end_time": end,
        "session_type": "Foraging" if asset.platform.abbreviation == "behavior" else "Recording",
        "iacuc_protocol": _ETHICS_REVIEW,
        "rig_id": instrument_id(asset),
        "calibrations": [],
        "maintenance": [],
        "subject_id": asset.subject.id,
        "animal_weight_prior": str(weight),
        "animal_weight_post": str(round(weight + 0.6, 1)),
        "weight_unit": "gram",
        "anaesthesia": None,
        "data_streams": [_data_stream(asset)],
        "stimulus_epochs": [
            {
                "stimulus_start_time": start,
                "stimulus_end_time": end,
                "stimulus_name": "auditory go cue",
                "session_number": numbers.randint(1, 60),
                "software": [
                    {
                        "name": "dynamic-foraging-task",
                        "version": "1.6.9",
                        "url": "https://github.com/AllenNeuralDynamics/dynamic-foraging-task",
                        "parameters": {},
                    }
                ],
                "script": None,
                "stimulus_modalities": ["Auditory"],
                "stimulus_parameters": [],
                "stimulus_device_names": ["Stimulus speaker"],
                "speaker_config": {"name": "Stimulus speaker", "volume": "60", "volume_unit": "decibels"},
                "light_source_config": [],
                "output_parameters": {"performance": {"foraging_efficiency": numbers.randint(40, 90) / 100}},
                "reward_consumed_during_epoch": reward,
                "reward_consumed_unit": "microliter",
                "trials_total": trials,
                "trials_finished": trials - numbers.randint(5, 80),
                "trials_rewarded": trials // 2 - numbers.randint(0, 40),
                "notes": None,
            }
        ],
        "mouse_platform_name": "Mouse tube",
        "active_mouse_platform": False,
        "headframe_registration": None,
        "reward_delivery": None,
        "reward_consumed_total": reward,
        "reward_consumed_unit": "microliter",
        "notes": None,
    }


def _probes(asset: Asset) -> tuple[str, ...]:
    return ("A", "B") if "ecephys" in asset.platform.modalities else ()


def _data_stream(asset: Asset) -> dict[str, Any]:
    modalities = asset.platform.modalities
    ephys: list[dict[str, Any]] = [
        {
            "assembly_name": f"Probe {probe} assembly",
            "arc_angle": "-17",
            "module_angle": "-5",
            "angle_unit": "degrees",
            "rotation_angle": "0",
            "coordinate_transform": None,
            "calibration_date": None,
            "notes": None,
            "primary_targeted_structure": "VISp",
            "other_targeted_structure": None,
            "targeted_ccf_coordinates": [],
            "manipulator_coordinates": {"x": "8100", "y": "3060", "z": "-2700", "unit": "micrometer"},
            "anatomical_coordinates": None,
            "anatomical_reference": None,
            "surface_z": None,
            "surface_z_unit": "micrometer",
            "dye": "DiI",
            "implant_hole_number": None,
        }
        for probe in _probes(asset)
    ]
    fields = [
        {
            "index": index,
            "imaging_depth": depth,
            "imaging_depth_unit": "micrometer",
            "targeted_structure": "VISp",
            "fov_coordinate_ml": "1.5",
            "fov_coordinate_ap": "1.5",
            "fov_coordinate_unit": "micrometer",
            "fov_reference": "Bregma",
            "fov_width": 512,
            "fov_height": 512,
            "fov_size_unit": "pixel",
            "magnification": "16x",
            "frame_rate": "10.7",
            "frame_rate_unit": "hertz",
            "notes": None,
        }
        for index, depth in enumerate((120, 180, 240, 300) if "multi" in asset.platform.abbreviation else (150,))
        if "pophys" in modalities
    ]
    return {
        "stream_start_time": asset.start.isoformat(),
        "stream_end_time": asset.end.isoformat(),
        "daq_names": ["Harp Behavior"],
        "camera_names": ["Face camera assembly"] if "behavior-videos" in modalities else [],
        "light_sources": [],
        "ephys_modules": ephys,
        "stick_microscopes": [],
        "manipulator_modules": [],
        "detectors": [],
        "fiber_connections": [],
        "fiber_modules": [],
        "ophys_fovs": fields,
        "slap_fovs": [],
        "stack_parameters": None,
        "mri_scans": [],
        "stream_modalities": [modality(abbreviation) for abbreviation in modalities],
        "software": [],
        "notes": None,
    }


def _device(kind: str, name: str, manufacturer: str | None, **more: Any) -> dict[str, Any]:
    return {
        "device_type": kind,
        "name": name,
        "serial_number": None,
        "manufacturer": organization_v1(manufacturer) if manufacturer else None,
        "model": None,
        "path_to_cad": None,
        "port_index": None,
        "additional_settings": {},
        "notes": None,
        **more,
    }


def rig(asset: Asset) -> dict[str, Any]:
    """The rig of an acquisition on a live subject."""
    modalities = asset.platform.modalities
    camera = _device(
        "Detector",
        "Face camera",
        "Teledyne FLIR",
        detector_type="Camera",
        data_interface="USB",
        cooling="None",
        frame_rate="60",
        frame_rate_unit="hertz",
        sensor_width=720,
        sensor_height=540,
        size_unit="pixel",
        chroma="Monochrome",
        computer_name=f"{asset.instrument}-PC",
    )
    lens = _device("Lens", "Face camera lens", "Edmund Optics", focal_length="25", focal_length_unit="millimeter")
    assembly = {
        "name": "Face camera assembly",
        "camera_target": "Face side right",
        "camera": camera,
        "lens": lens,
        "filter": None,
        "position": None,
    }
    probes = [
        {
            "name": f"Probe {probe} assembly",
            "manipulator": _device("Manipulator", f"Manipulator {probe}", "New Scale Technologies"),
            "probes": [
                _device(
                    "Ephys probe", f"Probe {probe}", None, probe_model="Neuropixels 1.0", lasers=[], headstage=None
                )
            ],
        }
        for probe in _probes(asset)
    ]
    light = _device("Laser", "Imaging laser", "Coherent Scientific", wavelength=920, wavelength_unit="nanometer")
    cord = _device("Patch", "Patch cord 0", "Doric", core_diameter="200", numerical_aperture="0.37")
    diode = _device("Light emitting diode", "470nm LED", "Doric", wavelength=470, wavelength_unit="nanometer")
    return {
        **_head("rig", "1.1.1"),
        "rig_id": instrument_id(asset),
        "modification_date": modification_date(asset).isoformat(),
        "mouse_platform": _device("Tube", "Mouse tube", "Custom", diameter="3.0", diameter_unit="centimeter"),
        "stimulus_devices": [_device("Speaker", "Stimulus speaker", "Custom", position=None)],
        "cameras": [assembly] if "behavior-videos" in modalities else [],
        "enclosure": None,
        "ephys_assemblies": probes,
        "fiber_assemblies": [],
        "stick_microscopes": [],
        "laser_assemblies": [],
        "patch_cords": [cord] if "fib" in modalities else [],
        "light_sources": [light] if "pophys" in modalities else [diode] if "fib" in modalities else [],
        "detectors": [],
        "objectives": [],
        "filters": [],
        "lenses": [],
        "digital_micromirror_devices": [],
        "polygonal_scanners": [],
        "pockels_cells": [],
        "additional_devices": [],
        "daqs": [
            _device(
                "Harp device",
                "Harp Behavior",
                "Open Ephys Production Site",
                data_interface="USB",
                computer_name=f"{asset.instrument}-PC",
                channels=[],
                harp_device_type={"name": "Behavior", "whoami": 1216},
                core_version="2.1",
                is_clock_generator=False,
            )
        ],
        "calibrations": [
            {
                "calibration_date": f"{modification_date(asset).isoformat()}T00:00:00-07:00",
                "device_name": "Lick spout",
                "description": "Water calibration",
                "input": {"valve open time (s):": [0.02, 0.03, 0.04]},
                "output": {"water volume (ul):": [1.4, 2.3, 3.1]},
                "notes": None,
            }
        ],
        "ccf_coordinate_transform": None,
        "origin": None,
        "rig_axes": None,
        "modalities": [modality(abbreviation) for abbreviation in modalities],
        "notes": None,
    }


_CHANNELS = ((488, 525), (561, 593), (639, 667))


def tiles(asset: Asset) -> list[tuple[int, int, int, str]]:
    """Tiles of a light-sheet acquisition: excitation and emission wavelength (nm), index, file name."""
    return [
        (excitation, emission, index, f"Ex_{excitation}_Em_{emission}/tile_{index:02d}.ome.zarr")
        for excitation, emission in _CHANNELS[: asset.rng("channels").randint(2, 3)]
        for index in range(4)
    ]


def _acquisition(asset: Asset) -> dict[str, Any]:
    immersion = {"medium": "other", "refractive_index": "1.5182"}
    return {
        **_head("acquisition", "1.0.4"),
        "protocol_id": [],
        "experimenter_full_name": [asset.experimenter.name],
        "specimen_id": asset.subject.id,
        "subject_id": asset.subject.id,
        "instrument_id": instrument_id(asset),
        "calibrations": [],
        "maintenance": [],
        "session_start_time": asset.start.isoformat(),
        "session_end_time": asset.end.isoformat(),
        "session_type": None,
        "tiles": [
            {
                "coordinate_transformations": [
                    {"type": "translation", "translation": [str(1800 * index), "0", "0"]},
                    {"type": "scale", "scale": ["1.8", "1.8", "2.0"]},
                ],
                "file_name": file_name,
                "channel": {
                    "channel_name": f"{excitation}",
                    "light_source_name": f"Ex_{excitation}",
                    "filter_names": [f"Em_{emission}"],
                    "detector_name": "Camera",
                    "additional_device_names": [],
                    "excitation_wavelength": excitation,
                    "excitation_wavelength_unit": "nanometer",
                    "excitation_power": 60.0,
                    "excitation_power_unit": "percent",
                    "filter_wheel_index": 1,
                    "dilation": None,
                    "dilation_unit": "pixel",
                    "description": None,
                },
                "notes": None,
                "imaging_angle": 0,
                "imaging_angle_unit": "degrees",
                "acquisition_start_time": None,
                "acquisition_end_time": None,
            }
            for excitation, emission, index, file_name in tiles(asset)
        ],
        "axes": [
            {"name": name, "dimension": number, "direction": direction, "unit": "micrometer"}
            for number, (name, direction) in enumerate(
                (("Z", "Superior_to_inferior"), ("Y", "Posterior_to_anterior"), ("X", "Left_to_right"))
            )
        ],
        "chamber_immersion": immersion,
        "sample_immersion": immersion,
        "active_objectives": None,
        "local_storage_directory": "D:",
        "external_storage_directory": "",
        "processing_steps": [],
        "software": [],
        "notes": None,
    }


def instrument(asset: Asset) -> dict[str, Any]:
    """The microscope of a light-sheet acquisition."""
    return {
        **_head("instrument", "1.0.4"),
        "instrument_id": instrument_id(asset),
        "modification_date": modification_date(asset).isoformat(),
        "instrument_type": asset.platform.abbreviation,
        "manufacturer": organization_v1("LifeCanvas" if asset.platform.abbreviation == "SmartSPIM" else "Custom"),
        "temperature_control": False,
        "humidity_control": False,
        "optical_tables": [
            _device("Optical table", "Main table", "Thorlabs", length="36", width="48", table_size_unit="inch")
        ],
        "enclosure": None,
        "objectives": [
            _device(
                "Objective",
                "Main objective",
                "Thorlabs",
                numerical_aperture="0.2",
                magnification="3.6",
                immersion="multi",
            )
        ],
        "detectors": [
            _device("Detector", "Camera", "Hamamatsu", detector_type="Camera", data_interface="USB", cooling="Water")
        ],
        "light_sources": [
            _device(
                "Laser",
                f"Ex_{excitation}",
                "Oxxius",
                wavelength=excitation,
                wavelength_unit="nanometer",
                maximum_power="150",
                power_unit="milliwatt",
            )
            for excitation, _ in _CHANNELS
        ],
        "lenses": [],
        "fluorescence_filters": [
            _device("Filter", f"Em_{emission}", "Thorlabs", filter_type="Band pass", wavelength_unit="nanometer")
            for _, emission in _CHANNELS
        ],
        "motorized_stages": [],
        "scanning_stages": [
            _device(
                "Motorized stage",
                "Sample stage Z",
                "Applied Scientific Instrumentation",
                travel="50",
                travel_unit="millimeter",
                stage_axis_direction="Detection axis",
                stage_axis_name="Z",
            )
        ],
        "additional_devices": [],
        "calibration_date": None,
        "calibration_data": None,
        "com_ports": [],
        "daqs": [],
        "notes": None,
    }


def processing(asset: Asset) -> dict[str, Any]:
    """What was run on the data: compression at upload, and what derived it."""
    uploaded = asset.end + timedelta(hours=6)
    done: list[dict[str, Any]] = [
        {
            "name": "Compression",
            "software_version": "0.1.2",
            "start_date_time": uploaded.isoformat(),
            "end_date_time": (uploaded + timedelta(minutes=20)).isoformat(),
            "input_location": f"/stage/{asset.session_id}",
            "output_location": f"/upload/{asset.session_id}",
            "code_url": "https://github.com/AllenNeuralDynamics/aind-data-transformation",
            "code_version": None,
            "parameters": {},
            "outputs": {},
            "notes": None,
            "resources": None,
        }
    ]
    if asset.process is not None and asset.processed is not None:
        done.append(
            {
                "name": asset.process.process_type,
                "software_version": "1.0.0",
                "start_date_time": f"{asset.processed - timedelta(minutes=100):%Y-%m-%dT%H:%M:%SZ}",
                "end_date_time": f"{asset.processed:%Y-%m-%dT%H:%M:%SZ}",
                "input_location": f"../data/{asset.sources[-1]}",
                "output_location": "../results",
                "code_url": asset.process.repository,
                "code_version": "1.0.0",
                "parameters": {"job_kwargs": {"n_jobs": 16, "progress_bar": False}},
                "outputs": {},
                "notes": None,
                "resources": None,
            }
        )
    return {
        **_head("processing", "1.1.4"),
        "processing_pipeline": {
            "data_processes": done,
            "pipeline_version": "1.0.0" if asset.process else None,
            "pipeline_url": asset.process.repository if asset.process else None,
            "processor_full_name": asset.experimenter.name,
            "note": None,
        },
        "analyses": [],
        "notes": None,
    }


def _quality_control(asset: Asset) -> dict[str, Any]:
    assert asset.processed is not None
    passed = asset.rng("quality").random() < 0.9
    status = "Pass" if passed else "Fail"
    when = f"{asset.processed:%Y-%m-%dT%H:%M:%SZ}"
    return {
        **_head("quality_control", "1.2.2"),
        "evaluations": [
            {
                "modality": modality(asset.platform.modalities[0]),
                "stage": "Processing",
                "name": "Completeness",
                "description": "All expected outputs are there",
                "metrics": [
                    {
                        "name": "Outputs present",
                        "value": passed,
                        "status_history": [{"evaluator": "Automated", "status": status, "timestamp": when}],
                        "description": None,
                        "reference": None,
                        "evaluated_assets": None,
                    }
                ],
                "tags": None,
                "notes": None,
                "allow_failed_metrics": False,
                "latest_status": status,
                "created": when,
            }
        ],
        "notes": None,
    }
