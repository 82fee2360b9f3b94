"""The words that records of different ages use for the same thing."""

from __future__ import annotations

MODALITIES = {
    "BARseq": "Barcoded anatomy resolved by sequencing",
    "behavior": "Behavior",
    "behavior-videos": "Behavior videos",
    "brightfield": "Brightfield microscopy",
    "confocal": "Confocal microscopy",
    "ecephys": "Extracellular electrophysiology",
    "EM": "Electron microscopy",
    "EMG": "Electromyography",
    "fib": "Fiber photometry",
    "fMOST": "Fluorescence micro-optical sectioning tomography",
    "icephys": "Intracellular electrophysiology",
    "ISI": "Intrinsic signal imaging",
    "MAPseq": "Multiplexed analysis of projections by sequencing",
    "merfish": "Multiplexed error-robust fluorescence in situ hybridization",
    "MRI": "Magnetic resonance imaging",
    "pophys": "Planar optical physiology",
    "scRNAseq": "Single cell RNA sequencing",
    "slap": "Scanned line projection imaging",
    "slap2": "Random access projection microscopy",
    "SPIM": "Selective plane illumination microscopy",
    "STPT": "Serial two-photon tomography",
}
"""Modality abbreviations and names, as aind-data-schema has them."""

# Before 1.0 the modality of a record could be the name of a platform or an instrument.
_FORMER_MODALITIES = {
    "exaspim": "SPIM",
    "mesospim": "SPIM",
    "smartspim": "SPIM",
    "dispim": "SPIM",
    "fip": "fib",
    "hsfp": "fib",
    "ophys": "pophys",
    "multiplane-ophys": "pophys",
    "single-plane-ophys": "pophys",
    "trained-behavior": "behavior",
    "behavior_videos": "behavior-videos",
}

_MODALITY_BY_WORD = (
    _FORMER_MODALITIES
    | {name.casefold(): abbreviation for abbreviation, name in MODALITIES.items()}
    | {abbreviation.casefold(): abbreviation for abbreviation in MODALITIES}
)

_DATA_LEVELS = {
    "raw": "raw",
    "raw data": "raw",
    "raw level data": "raw",
    "derived": "derived",
    "derived data": "derived",
    "simulated": "simulated",
    "simulated data": "simulated",
}

_INSTITUTIONS = {
    "allen institute for neural dynamics": "AIND",
    "allen institute for brain science": "AIBS",
    "allen institute": "AI",
    "huazhong university of science and technology": "HUST",
}


def modality_abbreviation(word: str) -> str | None:
    """The abbreviation that a modality, platform or instrument name stands for; None for an unknown word."""
    return _MODALITY_BY_WORD.get(word.casefold())


def data_level(word: str) -> str | None:
    """``raw``, ``derived`` or ``simulated``; None for an unknown word."""
    return _DATA_LEVELS.get(word.casefold().replace("_", " "))


def institution_abbreviation(word: str) -> str:
    """The abbreviation of a known institution's name; any other word as it is."""
    return _INSTITUTIONS.get(word.casefold(), word)
