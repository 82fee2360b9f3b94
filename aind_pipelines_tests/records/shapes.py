"""Records of each shape met in the field, with invented content."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

_AIND = {
    "name": "Allen Institute for Neural Dynamics",
    "abbreviation": "AIND",
    "registry": {"name": "Research Organization Registry", "abbreviation": "ROR"},
    "registry_identifier": "04szwah67",
}
_MOUSE = {"name": "Mus musculus", "registry_identifier": "NCBI:txid10090"}


def _modality(name: str, abbreviation: str) -> dict[str, str]:
    return {"name": name, "abbreviation": abbreviation}


def _v1(name: str, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "_id": str(uuid5(NAMESPACE_URL, name)),
        "schema_version": "1.1.1",
        "name": name,
        "created": "2025-04-14T04:10:37.796650",
        "last_modified": "2025-04-14T04:10:39.724Z",
        "location": f"s3://aind-open-data/{name}",
        "metadata_status": "Valid",
        "external_links": {"Code Ocean": ["aaaaaaaa-0000-4000-8000-000000000001"]},
        "subject": {
            "schema_version": "1.0.2",
            "subject_id": "700001",
            "sex": "Female",
            "date_of_birth": "2024-11-02",
            "genotype": "wt/wt",
            "species": _MOUSE,
        },
        "data_description": {
            "schema_version": "1.0.4",
            "name": name,
            "subject_id": "700001",
            "institution": _AIND,
            "platform": {"name": "Behavior platform", "abbreviation": "behavior"},
            "modality": [_modality("Behavior videos", "behavior-videos"), _modality("Behavior", "behavior")],
            "data_level": "raw",
            "project_name": "Project-ABC",
            "investigators": [{"name": "First Person"}, "Second Person"],
            "creation_time": "2025-04-13T15:30:30-07:00",
        },
        "session": {"subject_id": "700001", "session_start_time": "2025-04-13T15:30:30.162812-07:00"},
        "acquisition": None,
        "processing": None,
    }
    record.update(changes)
    return record


def _with(record: dict[str, Any], section: str, **changes: Any) -> dict[str, Any]:
    return record | {section: {**record[section], **changes}}


_RAW = _v1("behavior_700001_2025-04-13_15-30-30")
_DERIVED = _with(
    _v1("behavior_700001_2025-04-13_15-30-30_processed_2025-04-14_04-09-06"),
    "data_description",
    data_level="derived",
    process_name="processed",
    input_data_name="behavior_700001_2025-04-13_15-30-30",
) | {
    "processing": {
        "schema_version": "1.1.4",
        "processing_pipeline": {
            "pipeline_version": "7",
            "pipeline_url": "https://github.com/example/pipeline",
            "data_processes": [
                {
                    "name": "Compression",
                    "software_version": "",
                    "start_date_time": "2025-04-13 23:00:00+00:00",
                    "end_date_time": "2025-04-13T23:10:00Z",
                    "code_url": "",
                    "code_version": None,
                },
                {
                    "name": "Spike sorting",
                    "software_version": "0.2.0",
                    "start_date_time": "2025-04-14T04:00:00Z",
                    "end_date_time": "2025-04-14T04:09:06Z",
                    "code_url": "https://github.com/example/sorting",
                    "code_version": "1.0",
                },
            ],
        },
        "analyses": [
            {
                "name": "Analysis",
                "software_version": None,
                "start_date_time": "2025-04-15T10:00:00-07:00",
                "end_date_time": "2025-04-15T11:00:00-07:00",
                "code_url": "https://github.com/example/analysis",
            }
        ],
    }
}
_OLD = _v1("SmartSPIM_700001_2023-02-28_15-17-45", schema_version="0.2.7", session=None) | {
    "data_description": {
        "schema_version": "0.3.0",
        "name": "SmartSPIM_700001_2023-02-28_15-17-45",
        "subject_id": "700001",
        "institution": "AIBS",
        "modality": "SmartSPIM",
        "data_level": "raw data",
        "project_name": None,
        "creation_date": "2023-02-28",
        "creation_time": "15:17:45",
    },
    "subject": {
        "schema_version": "0.2.2",
        "subject_id": "700001",
        "sex": "Female",
        "date_of_birth": "2022-11-13",
        "genotype": "wt/wt",
        "species": "Mus musculus",
    },
    "acquisition": {"subject_id": "700001", "session_start_time": "2023-02-28T15:17:04"},
}
_REPRS = _with(
    _v1("ecephys_700001_2022-08-09_16-14-38_sorted-ks25_2023-05-11_19-29-48", schema_version="1.0.0"),
    "data_description",
    schema_version="0.3.0",
    institution="AIND",
    platform=None,
    modality=["name='Extracellular electrophysiology' abbreviation='ecephys'"],
    data_level="derived",
    creation_time="2023-05-11T19-29-48-07:00",
) | {
    "session": {"session_start_time": "2022-08-09T23:14:00.000Z"},
    "processing": {
        "schema_version": "0.1.0",
        "pipeline_version": "v1.5",
        "pipeline_url": "https://github.com/example/kilosort",
        "data_processes": [
            [
                {
                    "name": "Ephys preprocessing",
                    "version": "v1.5",
                    "start_date_time": "2023-05-09T14:22:40.206258",
                    "end_date_time": "2023-05-09T15:19:38.206258",
                    "code_url": "https://github.com/example/kilosort",
                }
            ]
        ],
    },
}
_LINK_LIST = _v1(
    "behavior_700001_2025-04-13_15-30-30",
    external_links=[
        {"Code Ocean": "aaaaaaaa-0000-4000-8000-000000000001"},
        {"Code Ocean": "aaaaaaaa-0000-4000-8000-000000000002"},
    ],
)
_V2: dict[str, Any] = {
    "_id": "00000000-0000-4000-8000-000000000002",
    "object_type": "Metadata",
    "schema_version": "2.3.3",
    "name": "ecephys_700002_2023-07-24_18-18-13",
    "location": "s3://aind-open-data/ecephys_700002_2023-07-24_18-18-13",
    "other_identifiers": {"Code Ocean": ["aaaaaaaa-0000-4000-8000-000000000003"]},
    "_created": "2024-06-20T21:14:09.236Z",
    "_last_modified": "2026-03-09T16:35:42.382Z",
    "subject": {
        "object_type": "Subject",
        "subject_id": "700002",
        "subject_details": {
            "object_type": "Mouse subject",
            "sex": "Male",
            "date_of_birth": "2022-11-30",
            "genotype": "Sst-IRES-Cre/wt",
            "species": _MOUSE,
        },
    },
    "data_description": {
        "object_type": "Data description",
        "schema_version": "2.3.3",
        "name": "ecephys_700002_2023-07-24_18-18-13",
        "subject_id": "700002",
        "institution": _AIND,
        "modalities": [_modality("Extracellular electrophysiology", "ecephys")],
        "data_level": "raw",
        "project_name": "Project-ABC",
        "source_data": None,
    },
    "acquisition": {
        "object_type": "Acquisition",
        "subject_id": "700002",
        "acquisition_start_time": "2023-07-24T18:18:13",
        "acquisition_start_tz": "America/Los_Angeles",
    },
    "processing": {
        "object_type": "Processing",
        "data_processes": [
            {
                "object_type": "Data process",
                "process_type": "Spike sorting",
                "name": "Spike sorting - ProbeA",
                "stage": "Processing",
                "code": {"url": "https://github.com/example/sorting", "name": "Sorting", "version": "0.2.0"},
                "pipeline_name": "Ephys pipeline",
                "start_date_time": "2023-07-25T02:00:00Z",
                "end_date_time": "2023-07-25T03:00:00Z",
            }
        ],
        "pipelines": [
            {"name": "Ephys pipeline", "url": "https://github.com/example/pipeline", "version": "kilosort4_1.0.0"}
        ],
    },
}
# Half upgraded: the data description is v2, all else v1; the name has no platform.
_HYBRID = _v1("700001_2023-07-07_17-52-04_nwb_2025-09-05_16-22-41") | {
    "data_description": {
        "schema_version": "2.1.0",
        "name": "700001_2023-07-07_17-52-04_nwb_2025-09-05_16-22-41",
        "subject_id": "700001",
        "institution": _AIND,
        "modalities": [_modality("Fiber photometry", "fib"), _modality("Behavior", "behavior")],
        "data_level": "derived",
        "project_name": "Project-ABC",
        "source_data": None,
    },
    "session": None,
    "acquisition": {"acquisition_start_time": "2023-07-07T17:52:04-07:00", "subject_id": "700001"},
}

SHAPES: dict[str, dict[str, Any]] = {
    "v1 raw": _RAW,
    "v1 derived": _DERIVED,
    "v0 with bare words": _OLD,
    "v0 with Python reprs": _REPRS,
    "v1 with a list of links": _LINK_LIST,
    "v2": _V2,
    "v1 with a v2 data description": _HYBRID,
}
"""One record per shape, by what is special about it."""
