"""Two records with every section that the analysts' tables read: the same content in both generations."""

from __future__ import annotations

from typing import Any

_RAW = "behavior_700001_2025-04-13_15-30-30"
_NAME = f"{_RAW}_processed_2025-04-14_04-09-06"
_START, _END = "2025-04-13T15:30:30-07:00", "2025-04-13T16:30:30-07:00"
_BEHAVIOR = {"name": "Behavior", "abbreviation": "behavior"}
_FUNDER = {"name": "National Institute of Mental Health", "abbreviation": "NIMH"}
_TARS = {"virus_tars_id": "AiV1", "prep_lot_number": "VT1", "prep_type": "Purified"}
_URL = "https://github.com/example"

_V1: dict[str, Any] = {
    "_id": "a",
    "schema_version": "1.1.1",
    "name": _NAME,
    "location": f"s3://bucket/{_NAME}",
    "created": "2025-04-14T04:10:37Z",
    "last_modified": "2025-04-14T04:10:39Z",
    "subject": {"subject_id": "700001", "sex": "Female", "date_of_birth": "2024-11-02", "genotype": "wt/wt"},
    "data_description": {
        "schema_version": "1.0.4",
        "name": _NAME,
        "platform": {"name": "Behavior platform", "abbreviation": "behavior"},
        "subject_id": "700001",
        "data_level": "derived",
        "process_name": "processed",
        "input_data_name": _RAW,
        "modality": [_BEHAVIOR],
        "investigators": [{"name": "First Person"}],
        "funding_source": [{"funder": _FUNDER, "grant_number": "R01", "fundee": "First Person, Second Person"}],
    },
    "processing": {
        "processing_pipeline": {
            "processor_full_name": "First Person",
            "pipeline_url": f"{_URL}/pipeline",
            "pipeline_version": "7",
            "data_processes": [
                {
                    "name": "Spike sorting",
                    "software_version": "0.2.0",
                    "code_url": f"{_URL}/sorting",
                    "start_date_time": _START,
                    "end_date_time": _END,
                }
            ],
        }
    },
    "session": {
        "schema_version": "1.0.3",
        "subject_id": "700001",
        "experimenter_full_name": ["First Person", "Second Person"],
        "session_start_time": _START,
        "session_end_time": _END,
        "session_type": "Foraging",
        "iacuc_protocol": "2109",
        "rig_id": "447_3D",
        "animal_weight_prior": "24.3",
        "animal_weight_post": "24.9",
        "weight_unit": "gram",
        "mouse_platform_name": "Tube",
        "active_mouse_platform": False,
        "reward_consumed_total": "0.26",
        "reward_consumed_unit": "milliliter",
        "data_streams": [
            {
                "stream_start_time": _START,
                "stream_end_time": _END,
                "stream_modalities": [_BEHAVIOR],
                "daq_names": ["Harp"],
                "light_sources": [{"name": "IR LED"}],
                "ephys_modules": [{"assembly_name": "Assembly A", "ephys_probes": [{"name": "Probe A"}]}],
                "fiber_connections": [
                    {"patch_cord_name": "Patch Cord A", "fiber_name": "Fiber 0", "channel": {"channel_name": "green"}},
                    {"patch_cord_name": "Patch Cord A", "fiber_name": "Fiber 0", "channel": {"channel_name": "red"}},
                    {"patch_cord_name": "Patch Cord B", "fiber_name": "disconnected"},
                ],
            }
        ],
        "stimulus_epochs": [
            {
                "stimulus_name": "go cue",
                "stimulus_start_time": _START,
                "stimulus_end_time": _END,
                "stimulus_modalities": ["Auditory"],
                "stimulus_device_names": ["Speaker"],
                "software": [{"name": "task", "version": "1.6", "url": f"{_URL}/task"}],
                "trials_total": 300,
                "trials_finished": 250,
                "trials_rewarded": 130,
                "reward_consumed_during_epoch": "260",
                "reward_consumed_unit": "microliter",
            }
        ],
    },
    "rig": {
        "schema_version": "1.0.1",
        "rig_id": "447_3D",
        "modification_date": "2025-04-09",
        "modalities": [_BEHAVIOR],
        "daqs": [{"name": "Harp"}],
        "enclosure": {"name": "Box", "manufacturer": {"name": "Maker"}},
        "cameras": [
            {
                "camera_assembly_name": "Face assembly",
                "camera": {"name": "Face camera", "recording_software": {"name": "Bonsai"}},
                "lens": {"name": "Lens", "manufacturer": {"name": "Maker"}},
            }
        ],
        "stimulus_devices": [
            {"device_type": "Reward delivery", "reward_spouts": [{"name": "Spout", "lick_sensor": {"name": "Sensor"}}]}
        ],
        "calibrations": [{}, {}],
    },
    "procedures": {
        "subject_id": "700001",
        "subject_procedures": [
            {
                "procedure_type": "Surgery",
                "start_date": "2025-01-21",
                "experimenter_full_name": "Second Person",
                "iacuc_protocol": "2414",
                "animal_weight_prior": "22.1",
                "animal_weight_post": "24.3",
                "weight_unit": "gram",
                "anaesthesia": {"type": "isoflurane", "duration": "2", "duration_unit": "hour"},
                "workstation_id": "SWS 2",
                "procedures": [
                    {
                        "procedure_type": "Nanoject injection",
                        "injection_hemisphere": "Left",
                        "injection_volume": ["300.0", "0.1"],
                        "injection_volume_unit": "nanoliter",
                        "injection_coordinate_ap": "1.1",
                        "injection_coordinate_ml": "-1.6",
                        "injection_coordinate_unit": "millimeter",
                        "injection_coordinate_reference": "Bregma",
                        "targeted_structure": {"name": "Nucleus accumbens", "acronym": "ACB"},
                        "injection_materials": [
                            {
                                "material_type": "Virus",
                                "name": "AAV",
                                "titer": "5000000000000",
                                "titer_unit": "gc/mL",
                                "tars_identifiers": {**_TARS, "plasmid_tars_alias": "AiP1"},
                                "addgene_id": "100",
                            }
                        ],
                    }
                ],
            }
        ],
        "specimen_procedures": [
            {
                "procedure_type": "Delipidation",
                "procedure_name": "SHIELD",
                "specimen_id": "700001",
                "start_date": "2025-05-01",
                "end_date": "2025-05-02",
                "experimenter_full_name": "Second Person",
                "reagents": [{"name": "Buffer", "lot_number": "1234"}],
                "sectioning": {"output_specimen_ids": ["700001_001", "700001_002", "700001_003"]},
            }
        ],
    },
    "quality_control": {
        "evaluations": [
            {
                "name": "Completeness",
                "stage": "Processing",
                "modality": _BEHAVIOR,
                "latest_status": "Pass",
                "metrics": [
                    {
                        "name": "Outputs present",
                        "value": {"there": True},
                        "reference": "plot.png",
                        "status_history": [
                            {"evaluator": "Automated", "status": "Pending", "timestamp": _START},
                            {"evaluator": "Automated", "status": "Pass", "timestamp": _END},
                        ],
                    }
                ],
            }
        ]
    },
}

_V2: dict[str, Any] = {
    "_id": "a",
    "object_type": "Metadata",
    "schema_version": "2.5.0",
    "name": _NAME,
    "location": f"s3://bucket/{_NAME}",
    "_created": "2025-04-14T04:10:37Z",
    "_last_modified": "2025-04-14T04:10:39Z",
    "subject": {
        "subject_id": "700001",
        "subject_details": {"sex": "Female", "date_of_birth": "2024-11-02", "genotype": "wt/wt"},
    },
    "data_description": {
        "schema_version": "2.5.0",
        "name": _NAME,
        "subject_id": "700001",
        "data_level": "derived",
        "source_data": [_RAW],
        "modalities": [_BEHAVIOR],
        "investigators": [{"object_type": "Person", "name": "First Person"}],
        "funding_source": [
            {"object_type": "Funding", "funder": _FUNDER, "grant_number": "R01", "fundee": [{"name": "Second Person"}]}
        ],
    },
    "processing": {
        "data_processes": [
            {
                "process_type": "Spike sorting",
                "name": "Spike sorting - Probe A",
                "stage": "Processing",
                "code": {"name": "Sorting", "url": f"{_URL}/sorting", "version": "0.2.0"},
                "experimenters": ["First Person"],
                "pipeline_name": "Pipeline",
                "start_date_time": _START,
                "end_date_time": _END,
            }
        ],
        "pipelines": [{"name": "Pipeline", "url": f"{_URL}/pipeline", "version": "7"}],
    },
    "acquisition": {
        "schema_version": "2.5.0",
        "subject_id": "700001",
        "experimenters": ["First Person", "Second Person"],
        # Without zone, which stands beside it.
        "acquisition_start_time": "2025-04-13T15:30:30",
        "acquisition_start_tz": "America/Los_Angeles",
        "acquisition_end_time": _END,
        "acquisition_type": "Foraging",
        "ethics_review_id": ["2109"],
        "instrument_id": "447_3D",
        "subject_details": {
            "animal_weight_prior": 24.3,
            "animal_weight_post": 24.9,
            "weight_unit": "gram",
            "mouse_platform_name": "Tube",
            "reward_consumed_total": 260,
            "reward_consumed_unit": "microliter",
        },
        "data_streams": [
            {
                "stream_start_time": _START,
                "stream_end_time": _END,
                "modalities": [_BEHAVIOR],
                "active_devices": ["Harp", "IR LED", "Assembly A", "Patch Cord A", "Patch Cord B", "Fiber 0"],
                "configurations": [
                    {
                        "object_type": "Ephys assembly config",
                        "device_name": "Assembly A",
                        "probes": [{"object_type": "Probe config", "device_name": "Probe A"}],
                    }
                ],
            }
        ],
        "stimulus_epochs": [
            {
                "stimulus_name": "go cue",
                "stimulus_start_time": _START,
                "stimulus_end_time": _END,
                "stimulus_modalities": ["Auditory"],
                "active_devices": ["Speaker"],
                "code": {"name": "task", "version": "1.6", "url": f"{_URL}/task"},
                "performance_metrics": {
                    "trials_total": 300,
                    "trials_finished": 250,
                    "trials_rewarded": 130,
                    "reward_consumed_during_epoch": "0.26",
                    "reward_consumed_unit": "milliliter",
                },
            }
        ],
    },
    "instrument": {
        "schema_version": "2.2.2",
        "instrument_id": "447_3D",
        "modification_date": "2025-04-09",
        "location": "447",
        "modalities": [_BEHAVIOR],
        "components": [
            {"name": "Harp", "channels": [{"channel_name": "DO0"}], "harp_device_type": {"name": "Behavior"}},
            {"name": "Box", "manufacturer": {"name": "Maker"}},
            {
                "name": "Face assembly",
                "camera": {"name": "Face camera", "recording_software": {"name": "Bonsai"}},
                "lens": {"name": "Lens"},
                "coordinate_system": {"name": "Camera system", "axes": [{"name": "X"}]},
            },
            {"lick_spouts": [{"name": "Spout", "lick_sensor": {"name": "Sensor"}}]},
        ],
        "coordinate_system": {"name": "BREGMA_ARI"},
        "calibrations": [{}, {}],
    },
    "procedures": {
        "subject_id": "700001",
        "subject_procedures": [
            {
                "object_type": "Surgery",
                "start_date": "2025-01-21",
                "experimenters": ["Second Person"],
                "ethics_review_id": "2414",
                "animal_weight_prior": 22.1,
                "animal_weight_post": 24.3,
                "weight_unit": "gram",
                "anaesthesia": {"anaesthetic_type": "isoflurane", "duration": 120, "duration_unit": "minute"},
                "workstation_id": "SWS 2",
                "procedures": [
                    {
                        "object_type": "Brain injection",
                        "relative_position": ["Left", "Anterior"],
                        "dynamics": [
                            {"volume": 0.3, "volume_unit": "microliter"},
                            {"volume": 0.1, "volume_unit": "nanoliter"},
                        ],
                        "coordinate_system_name": "BREGMA_ARID",
                        "coordinates": [[{"object_type": "Translation", "translation": [1.1, -1.6, 0]}]],
                        "targeted_structure": {"name": "Nucleus accumbens", "acronym": "ACB"},
                        "injection_materials": [
                            {
                                "object_type": "Viral material",
                                "name": "AAV",
                                "titer": 5000000000000,
                                "titer_unit": "gc/mL",
                                "tars_identifiers": {**_TARS, "plasmid_tars_alias": ["AiP1"]},
                                "addgene_id": {"name": "AAV", "registry_identifier": "100"},
                            }
                        ],
                    }
                ],
            }
        ],
        "specimen_procedures": [
            {
                "object_type": "Specimen procedure",
                "procedure_type": "Delipidation",
                "procedure_name": "SHIELD",
                "specimen_id": ["700001"],
                "start_date": "2025-05-01",
                "end_date": "2025-05-02",
                "experimenters": ["Second Person"],
                "procedure_details": [
                    {"object_type": "Reagent", "name": "Buffer", "lot_number": "1234"},
                    {
                        "object_type": "Planar sectioning",
                        "sections": [{"output_specimen_id": "700001_001"}, {"output_specimen_id": "700001_002"}],
                    },
                    {
                        "object_type": "Sectioning",
                        "sections": [{"output_specimen_id": "700001_002"}, {"output_specimen_id": "700001_003"}],
                    },
                ],
            }
        ],
    },
    "quality_control": {
        "metrics": [
            {
                "object_type": "QC metric",
                "name": "Outputs present",
                "stage": "Processing",
                "modality": _BEHAVIOR,
                "value": {"there": True},
                "reference": "plot.png",
                "tags": {"evaluation": "Completeness"},
                "status_history": [
                    {"evaluator": "Automated", "status": "Pending", "timestamp": _START},
                    {"evaluator": "Automated", "status": "Pass", "timestamp": _END},
                ],
            }
        ],
        "key_experimenters": ["First Person"],
    },
}

SECTIONS = {"v1": _V1, "v2": _V2}
"""The records by generation."""
