"""Models of v1 in the shapes of v2, as far as the two say the same. Models that are of v2 already stay as they are.

The shapes are those of recorded answers of both generations (aind-data-schema 1.x and 2.x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SUBJECT_V2 = "2.3.1"
_COMMON_NAMES = {"Mus musculus": "House mouse", "Rattus norvegicus": "Norway rat"}


def _registry(value: Any) -> Any:
    """``{"name": "National ...", "abbreviation": "NCBI"}`` as ``National ... (NCBI)``."""
    if not isinstance(value, Mapping):
        return value
    name, abbreviation = value.get("name"), value.get("abbreviation")
    return f"{name} ({abbreviation})" if abbreviation else name


def _with_plain_registry(value: Any) -> Any:
    return {**value, "registry": _registry(value.get("registry"))} if isinstance(value, Mapping) else value


def _with_type(value: Any, object_type: str) -> Any:
    return {"object_type": object_type, **value} if isinstance(value, Mapping) else value


def subject(model: Any) -> Any:
    """A subject, its details nested."""
    if not isinstance(model, Mapping) or "subject_details" in model:
        return model
    species = model.get("species")
    species_name = species.get("name") if isinstance(species, Mapping) else None
    if isinstance(species, Mapping):
        species = {
            "name": species_name,
            "common_name": _COMMON_NAMES.get(str(species_name)),
            "registry": _registry(species.get("registry")),
            "registry_identifier": species.get("registry_identifier"),
        }
    strain = {
        "name": model.get("background_strain") or "Unknown",
        "species": species_name,
        "registry": None,
        "registry_identifier": None,
    }
    return {
        "object_type": "Subject",
        "describedBy": model.get("describedBy"),
        "schema_version": SUBJECT_V2,
        "subject_id": model.get("subject_id"),
        "subject_details": {
            "object_type": "Mouse subject",
            "sex": model.get("sex"),
            "date_of_birth": model.get("date_of_birth"),
            "strain": strain,
            "species": species,
            "alleles": [_with_plain_registry(allele) for allele in model.get("alleles") or []],
            "genotype": model.get("genotype"),
            "breeding_info": _with_type(model.get("breeding_info"), "Breeding info"),
            "wellness_reports": model.get("wellness_reports") or [],
            "housing": _with_type(model.get("housing"), "Housing"),
            "source": _with_plain_registry(model.get("source")),
            "restrictions": model.get("restrictions"),
            "rrid": model.get("rrid"),
        },
        "notes": model.get("notes"),
    }


def _persons(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [
        {
            "object_type": "Person",
            "name": name.strip(),
            "registry": "Open Researcher and Contributor ID (ORCID)",
            "registry_identifier": None,
        }
        for name in value.split(",")
        if name.strip()
    ]


def funding(model: Any) -> Any:
    """Funding, its fundees as persons."""
    if not isinstance(model, Mapping) or "object_type" in model:
        return model
    return {
        "object_type": "Funding",
        "funder": _with_plain_registry(model.get("funder")),
        "grant_number": model.get("grant_number"),
        "fundee": _persons(model.get("fundee")),
    }


def investigators(model: Any) -> list[Any]:
    """The investigators that a funding of v1 names."""
    named = model.get("investigators") if isinstance(model, Mapping) else None
    return _persons(named) or []


TO_V2: Mapping[str, Callable[[Any], Any]] = {"subjects": subject, "funding": funding}
"""How the models of a table are rewritten; those of other tables are served as the source has them."""
