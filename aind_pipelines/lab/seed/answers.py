"""What the metadata-service answers: tables by endpoint, in the shapes of its v1 models.

Every subject is known, and known as its records say. What the published documents ask for is answered too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aind_pipelines.lab.seed import documented, records_v1
from aind_pipelines.lab.seed.model import Asset, Institute, Project, Subject
from aind_pipelines.lab.seed.vocabulary import organization_v1


def fill(institute: Institute) -> None:
    """Write every table of the metadata-service."""
    subjects = institute.subjects
    sessions = institute.sessions
    imaged = [asset for asset in sessions if asset.platform.images_specimens]
    alive = [asset for asset in sessions if not asset.platform.images_specimens]
    of = {subject.id: subject for subject in subjects}
    institute.answers = {
        "subjects": {subject.id: [records_v1.subject(subject)] for subject in subjects},
        "procedures": {subject.id: [records_v1.procedures(subject)] for subject in subjects},
        "intended_measurements": {
            subject_id: _intended_measurements()
            for subject_id in dict.fromkeys(asset.subject.id for asset in alive if "fib" in asset.platform.modalities)
        },
        "injection_materials": {
            subject.injected_lot: [{**records_v1.viral_material(subject.injected_lot), "stock_titer": 413000000000}]
            for subject in subjects
            if subject.injected_lot is not None
        },
        "protocols": {name: [_protocol(name, procedure)] for name, procedure in _PROTOCOLS.items()},
        "mgi_alleles": {
            "Pvalb-IRES-Cre": [_allele("Pvalb<tm1(cre)Arbr>", "MGI:3590684")],
            "Ai32": [_allele("Gt(ROSA)26Sor<tm32(CAG-COP4*H134R/EYFP)Hze>", "MGI:5013789")],
        },
        "perfusions": {
            subject.id: [records_v1.perfusion(subject, subject.perfusion)]
            for subject in subjects
            if subject.perfusion is not None
        },
        "funding": {project.name: [_funding(project)] for project in institute.projects},
        "project_names": sorted(project.name for project in institute.projects),
        "ecephys_sessions": [_ecephys_session(asset) for asset in alive if "ecephys" in asset.platform.modalities],
        "smartspim_imaging": [_imaging(asset) for asset in imaged if asset.platform.abbreviation == "SmartSPIM"],
        "histology": [_histology(of[subject_id]) for subject_id in dict.fromkeys(a.subject.id for a in imaged)],
        "water_restriction": [
            _water_restriction(of[subject_id]) for subject_id in dict.fromkeys(asset.subject.id for asset in alive)
        ],
        "viral_injections": [_viral_injection(subject) for subject in subjects if subject.injected_lot is not None],
        "instruments": {records_v1.instrument_id(asset): [records_v1.instrument(asset)] for asset in imaged},
        "rigs": {records_v1.instrument_id(asset): [records_v1.rig(asset)] for asset in alive},
    }


_PROTOCOLS = {
    documented.PROTOCOL: "Delipidation",
    "Whole mouse brain SHIELD preservation": "Fixation",
    "Headframe implantation": "Surgery",
}


def _protocol(name: str, procedure: str) -> dict[str, Any]:
    return {
        "protocol_type": "Surgical Procedures" if procedure == "Surgery" else "Specimen Procedures",
        "procedure_name": procedure,
        "protocol_name": name,
        "doi": "dx.doi.org/10.17504/protocols.io.0000000004/v1",
        "version": "1.0",
        "protocol_collection": None,
    }


def _allele(name: str, identifier: str) -> dict[str, Any]:
    return {
        "name": name,
        "abbreviation": None,
        "registry": {"name": "Mouse Genome Informatics", "abbreviation": "MGI"},
        "registry_identifier": identifier,
    }


def _funding(project: Project) -> dict[str, Any]:
    return {
        "funder": organization_v1(project.funder),
        "grant_number": project.grant_number,
        "fundee": ", ".join(person.name for person in project.fundees),
        "investigators": ", ".join(person.name for person in project.investigators),
    }


def _intended_measurements() -> list[dict[str, Any]]:
    return [
        {
            "fiber_name": fiber,
            "intended_measurement_R": red,
            "intended_measurement_G": green,
            "intended_measurement_B": None,
            "intended_measurement_Iso": "control",
        }
        for fiber, red, green in (("Fiber_0", "acetylcholine", "dopamine"), ("Fiber_1", None, "calcium"))
    ]


def _moment(asset: Asset) -> str:
    return asset.start.isoformat()


def _ecephys_session(asset: Asset) -> dict[str, Any]:
    return {
        "experiment_run_created_on": _moment(asset),
        "subject_id": asset.subject.id,
        "operator": asset.experimenter.name,
        "instrument": records_v1.instrument_id(asset),
        "session_type": "Recording",
        "session_name": asset.name,
        "mouse_platform_name": "Mouse tube",
        "active_mouse_platform": False,
        "animal_weight_prior": 22.1,
        "animal_weight_after": 22.7,
        "animal_weight_unit": "g",
        "reward_consumed": 0.6,
        "reward_consumed_unit": "mL",
        "reward_spouts": [],
        "stream_modalities": ["Ecephys", "Behavior", "Behavior videos"],
        "stream_modules": [
            {"assembly_name": f"Probe {probe} assembly", "arc_angle": -17.0, "module_angle": -5.0}
            for probe in ("A", "B")
        ],
        "daq_names": ["Harp Behavior"],
        "camera_names": ["Face camera assembly"],
    }


def _imaging(asset: Asset) -> dict[str, Any]:
    return {
        "experiment_run_created_on": _moment(asset),
        "specimen_id": asset.subject.id,
        "subject_id": asset.subject.id,
        "protocol_name": "Imaging cleared mouse brains on SmartSPIM",
        "protocol_id": "dx.doi.org/10.17504/protocols.io.0000000005",
        "date_performed": _moment(asset),
        "chamber_immersion_medium": "Cargille oil",
        "chamber_refractive_index": 1.5182,
        "sample_immersion_medium": "EasyIndex",
        "sample_refractive_index": 1.5178,
        "instrument_id": records_v1.instrument_id(asset),
        "experimenter_name": asset.experimenter.name,
        "z_direction": "Superior to Inferior",
        "y_direction": "Posterior to Anterior",
        "x_direction": "Left to Right",
        "imaging_channels": ["Laser = 488; Emission Filter = 525/45", "Laser = 561; Emission Filter = 593/40"],
        "stitching_channels": "Laser = 561; Emission Filter = 593/40",
        "ccf_registration_channels": "Laser = 561; Emission Filter = 593/40",
        "cell_segmentation_channels": ["Laser = 488; Emission Filter = 525/45"],
    }


def _histology(subject: Subject) -> dict[str, Any]:
    assert subject.perfusion is not None
    start = subject.perfusion + timedelta(days=6)
    return {
        "procedure_name": "SmartSPIM delipidation",
        "experiment_run_created_on": f"{start.isoformat()}T09:00:00-08:00",
        "specimen_id": subject.id,
        "subject_id": subject.id,
        "protocol_id": "dx.doi.org/10.17504/protocols.io.0000000004/v1",
        "protocol_name": documented.PROTOCOL,
        "washes": [
            {
                "wash_name": f"Wash {number + 1}",
                "wash_type": "Passive delipidation",
                "start_time": f"{(start + timedelta(days=number)).isoformat()}T09:00:00-08:00",
                "end_time": f"{(start + timedelta(days=number + 1)).isoformat()}T09:00:00-08:00",
                "modified_by": "NSB-0002",
                "reagents": [{"name": "Delipidation buffer", "source": "LifeCanvas", "lot_number": f"B{number:03d}"}],
                "mass": None,
            }
            for number in range(2)
        ],
    }


def _water_restriction(subject: Subject) -> dict[str, Any]:
    start = subject.surgery + timedelta(days=14)
    return {
        "subject_id": subject.id,
        "start_date": f"{start.isoformat()}T09:00:00-08:00",
        "end_date": None,
        "assigned_by": "NSB-0001",
        "target_weight_fraction": 0.85,
        "baseline_weight": 24.3,
        "weight_unit": "g",
    }


def _viral_injection(subject: Subject) -> dict[str, Any]:
    return {
        "subject_id": subject.id,
        "date_performed": f"{subject.surgery.isoformat()}T09:00:00-08:00",
        "injection_materials": [subject.injected_lot],
        "assigned_mice": [subject.id],
        "volume": 400.0,
        "volume_unit": "nL",
        "mix_complete": True,
    }
