"""What the made-up institute is made of: platforms, organizations, people, genotypes, buckets.

Platform, modality and organization names are those of aind-data-schema; the people and projects are invented.
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN_BUCKET = "aind-open-data"
PRIVATE_BUCKET = "aind-private-data-prod-o5171v"
EPHYS_BUCKET = "aind-ephys-data"
OPHYS_BUCKET = "aind-ophys-data"
BEHAVIOR_BUCKET = "aibs-behavior-data"
CODE_OCEAN_BUCKET = "codeocean-s3datasetsbucket-1u41qdg42ur9"
"""Where Code Ocean keeps the results it made itself, under the data asset's id."""

MODALITIES = {
    "behavior": "Behavior",
    "behavior-videos": "Behavior videos",
    "ecephys": "Extracellular electrophysiology",
    "fib": "Fiber photometry",
    "pophys": "Planar optical physiology",
    "SPIM": "Selective plane illumination microscopy",
}
"""Names of modalities by abbreviation."""


@dataclass(frozen=True)
class Process:
    """A way of deriving an asset: the word in the asset's name, and aind-data-schema's process name."""

    label: str
    process_type: str
    repository: str


@dataclass(frozen=True)
class Platform:
    """What kind of sessions a platform produces.

    Attributes:
        abbreviation: First part of a session id.
        name: Name in v1 records.
        modalities: Abbreviations of the modalities acquired.
        processes: How assets are derived from its sessions, in the order in which that happens.
        minutes: Shortest and longest session.
        weight: How common its sessions are.
        group: Group that runs it, as aind-data-schema names groups.
        old_bucket: Where its early sessions were kept.
        instruments: Instrument names without their date.
    """

    abbreviation: str
    name: str
    modalities: tuple[str, ...]
    processes: tuple[Process, ...]
    minutes: tuple[int, int]
    weight: int
    group: str
    old_bucket: str
    instruments: tuple[str, ...]

    @property
    def images_specimens(self) -> bool:
        """Whether it images fixed tissue: once per subject, after its death."""
        return "SPIM" in self.modalities


_GITHUB = "https://github.com/AllenNeuralDynamics"

SORTED = Process("sorted", "Spike sorting", f"{_GITHUB}/aind-ephys-pipeline")
VIDEO = Process("videoprocessed", "Video ROI segmentation", f"{_GITHUB}/aind-behavior-video-processing")
BEHAVIOR_NWB = Process("nwb", "File format conversion", f"{_GITHUB}/aind-behavior-nwb-packaging")
EPHYS_NWB = Process("nwb", "File format conversion", f"{_GITHUB}/aind-ephys-nwb-packaging")
OPHYS_NWB = Process("nwb", "File format conversion", f"{_GITHUB}/aind-ophys-nwb-packaging")

PLATFORMS = {
    platform.abbreviation: platform
    for platform in (
        Platform(
            "behavior",
            "Behavior platform",
            ("behavior", "behavior-videos"),
            (Process("processed", "Analysis", f"{_GITHUB}/aind-dynamic-foraging-processing"), VIDEO, BEHAVIOR_NWB),
            (45, 90),
            30,
            "behavior",
            BEHAVIOR_BUCKET,
            ("446_BOX_A", "446_BOX_B", "447_BOX_C"),
        ),
        Platform(
            "ecephys",
            "Electrophysiology platform",
            ("ecephys", "behavior", "behavior-videos"),
            (SORTED, VIDEO, EPHYS_NWB),
            (60, 150),
            24,
            "ephys",
            EPHYS_BUCKET,
            ("323_EPHYS1", "323_EPHYS2", "324_EPHYS3"),
        ),
        Platform(
            "multiplane-ophys",
            "Multiplane optical physiology platform",
            ("pophys", "behavior", "behavior-videos"),
            (Process("processed", "Video ROI segmentation", f"{_GITHUB}/aind-ophys-pipeline"), VIDEO, OPHYS_NWB),
            (60, 90),
            14,
            "ophys",
            OPHYS_BUCKET,
            ("429_MESO1", "429_MESO2"),
        ),
        Platform(
            "single-plane-ophys",
            "Single-plane optical physiology platform",
            ("pophys", "behavior"),
            (Process("processed", "Video ROI segmentation", f"{_GITHUB}/aind-ophys-pipeline"), OPHYS_NWB),
            (40, 80),
            10,
            "ophys",
            OPHYS_BUCKET,
            ("422_2P3", "442_2P1"),
        ),
        Platform(
            "FIP",
            "Frame-projected independent-fiber photometry platform",
            ("fib", "behavior"),
            (Process("processed", "Fluorescence event detection", f"{_GITHUB}/aind-fip-pipeline"), BEHAVIOR_NWB),
            (30, 90),
            10,
            "behavior",
            BEHAVIOR_BUCKET,
            ("428_FIP1", "428_FIP2"),
        ),
        Platform(
            "SmartSPIM",
            "SmartSPIM platform",
            ("SPIM",),
            (Process("stitched", "Image tile fusing", f"{_GITHUB}/aind-smartspim-pipeline"),),
            (90, 200),
            8,
            "MSMA",
            OPEN_BUCKET,
            ("440_SmartSPIM1", "440_SmartSPIM2"),
        ),
        Platform(
            "exaSPIM",
            "ExaSPIM platform",
            ("SPIM",),
            (
                Process("flatfield-correction", "Image flat-field correction", f"{_GITHUB}/exaspim-flatfield"),
                Process("alignment", "Image tile alignment", f"{_GITHUB}/exaspim-pipeline"),
            ),
            (180, 300),
            4,
            "MSMA",
            OPEN_BUCKET,
            ("440_exaSPIM1",),
        ),
    )
}

# Name, abbreviation and ROR identifier of organizations, as aind-data-schema has them; no identifier, no registry.
_ORGANIZATIONS: dict[str, tuple[str | None, str | None]] = {
    "Allen Institute": ("AI", "03cpe7c52"),
    "Allen Institute for Neural Dynamics": ("AIND", "04szwah67"),
    "Applied Scientific Instrumentation": ("ASI", None),
    "Coherent Scientific": (None, "031tysd23"),
    "Custom": (None, None),
    "Doric": (None, "059n53q30"),
    "Edmund Optics": (None, "01j1gwp17"),
    "Hamamatsu": (None, "03natb733"),
    "Interuniversity Microelectronics Center": ("IMEC", "02kcbn207"),
    "LifeCanvas": (None, None),
    "National Institute of Mental Health": ("NIMH", "04xeg9z08"),
    "National Institute of Neurological Disorders and Stroke": ("NINDS", "01s5ya894"),
    "New Scale Technologies": (None, None),
    "Nikon": (None, "0280y9h11"),
    "Open Ephys Production Site": ("OEPS", "007rkz355"),
    "Oxxius": (None, None),
    "Teledyne FLIR": ("FLIR", "01j1gwp17"),
    "Thorlabs": (None, "04gsnvb07"),
}

AI = "Allen Institute"
AIND = "Allen Institute for Neural Dynamics"

ROR_V1 = {"name": "Research Organization Registry", "abbreviation": "ROR"}
NCBI_V1 = {"name": "National Center for Biotechnology Information", "abbreviation": "NCBI"}


def organization_v1(name: str) -> dict[str, object]:
    """An organization as v1 records and the metadata-service's v1 write it."""
    abbreviation, identifier = _ORGANIZATIONS[name]
    return {
        "name": name,
        "abbreviation": abbreviation,
        "registry": dict(ROR_V1) if identifier else None,
        "registry_identifier": identifier,
    }


def organization_v2(name: str) -> dict[str, object]:
    """An organization as v2 records write it."""
    abbreviation, identifier = _ORGANIZATIONS[name]
    return {
        "name": name,
        "abbreviation": abbreviation,
        "registry": "Research Organization Registry (ROR)" if identifier else None,
        "registry_identifier": identifier,
    }


def modality(abbreviation: str) -> dict[str, str]:
    """A modality as both schemas write it."""
    return {"name": MODALITIES[abbreviation], "abbreviation": abbreviation}


GIVEN_NAMES = (
    "Abena", "Bilal", "Carmela", "Dagny", "Edda", "Farouk", "Giulia", "Hiro", "Ines", "Jorund", "Katya", "Leontyne",
    "Mirela", "Njeri", "Oskari", "Petronella", "Quill", "Rosalba", "Saburo", "Tamsin", "Ulrika", "Vidya",
)  # fmt: skip
FAMILY_NAMES = (
    "Ashgrove", "Birkenfjord", "Caldermoor", "Dunwhistle", "Elmsbrook", "Fennimarsh", "Greywater", "Holloway-Pine",
    "Ivesdale", "Juniperfield", "Kettlewick", "Larkspurne", "Mistlethorpe", "Netherbourne", "Oakenshade",
    "Pebblecroft", "Quillington", "Ravenscar", "Silverbeck", "Thistledown", "Underhill-Vane", "Willowmere",
)  # fmt: skip

GENOTYPES = (
    "wt/wt",
    "Pvalb-IRES-Cre/wt",
    "Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
    "Vip-IRES-Cre/wt;Ai162(TIT2L-GC6s-ICL-tTA2)/wt",
    "Slc17a7-IRES2-Cre/wt;Camk2a-tTA/wt;Ai93(TITL-GCaMP6f)/wt",
    "Dbh-Cre-KI/wt",
    "Chat-IRES-Cre-neo/wt",
    "Rbp4-Cre_KL100/wt",
    "Gad2-IRES-Cre/wt;Ai14(RCL-tdT)/wt",
    "Ai224(TICL-NLS-EGFP-ICF-NLS-dT)/wt",
)

PROJECT_NAMES = (
    "Project-ABC",
    "Ephys Platform",
    "MSMA Platform",
    "Cell Type Atlas of Foraging",
    "Neuromodulator Dynamics during Learning",
    "Visual Change Detection",
    "Brain Wide Decision Circuits",
    "Learning mFISH",
)
