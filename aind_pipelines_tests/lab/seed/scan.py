"""Finds what is wrong in an institute by looking at what its services hold, and at nothing else.

Written apart from what plants the troubles: it knows neither victims nor codes' planters.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import Any

from aind_pipelines.lab.seed.model import Institute

SESSION = re.compile(r"[^_/]+_\d{6,7}_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")


def version(record: dict[str, Any]) -> str:
    stated = [record["schema_version"], record["data_description"]["schema_version"]]
    return "v2" if "object_type" in record or any(int(text.split(".")[0]) >= 2 for text in stated) else "v1"


def key(record: dict[str, Any]) -> str:
    return f"{version(record)}/{record['_id']}"


def links(record: dict[str, Any]) -> list[str]:
    found = record.get("external_links", record.get("other_identifiers"))
    mappings = found if isinstance(found, list) else [found]
    values = [mapping.get("Code Ocean", []) for mapping in mappings]
    return [linked for value in values for linked in ([value] if isinstance(value, str) else value)]


def is_raw(record: dict[str, Any]) -> bool:
    return record["data_description"]["data_level"] in ("raw", "raw data")


def details(record: dict[str, Any]) -> tuple[str, str]:
    subject = record["subject"].get("subject_details", record["subject"])
    return subject["sex"], subject["genotype"]


def scan(institute: Institute) -> dict[str, list[str]]:
    """What is wrong, as keys by code; codes with nothing are left out."""
    found: dict[str, set[str]] = defaultdict(set)
    all_records = [(database, record) for database, records in institute.records.items() for record in records]
    known_assets = {asset["id"] for asset in institute.code_ocean["data_assets"]}
    asset_names = {asset["name"] for asset in institute.code_ocean["data_assets"]}
    folders = {
        f"s3://{bucket}/{prefix}"
        for bucket, prefixes in institute.objects.items()
        for prefix, files in prefixes.items()
        if files
    }
    locations = Counter((database, record["location"]) for database, record in all_records)
    for database, record in all_records:
        name, description = record["name"], record["data_description"]
        raw_session = is_raw(record) and SESSION.fullmatch(name)
        if raw_session and any(linked not in known_assets for linked in links(record)):
            found["dead_code_ocean_link"].add(name)
        if raw_session and not links(record) and name not in asset_names:
            found["code_ocean_asset_missing"].add(name)
        if record["location"] not in folders:
            found["raw_data_missing" if raw_session else "data_missing"].add(name)
        if not SESSION.match(name):
            found["name_without_session"].add(key(record))
        if locations[database, record["location"]] > 1:
            found["duplicate_location"].add(record["location"])
        modality = description.get("modality", description.get("modalities"))
        if isinstance(modality, str):
            found["modality_as_string"].add(key(record))
        elif any(isinstance(item, str) for item in modality):
            found["modality_as_repr"].add(key(record))
        if description["data_level"] not in ("raw", "derived"):
            found["data_level_raw_data"].add(key(record))
        if isinstance(record.get("external_links"), list):
            found["external_links_as_list"].add(key(record))
        if not record.get("last_modified") and not record.get("_last_modified"):
            found["modified_missing"].add(key(record))
        if "object_type" not in record and version(record) == "v2":
            found["hybrid_schema_versions"].add(key(record))
        subject_id = record["subject"]["subject_id"]
        answers = institute.answers["subjects"].get(subject_id, [])
        if not answers:
            found["subject_unknown"].add(subject_id)
        elif subject_id in institute.answers.get("invalid", {}).get("subjects", {}):
            found["subject_invalid"].add(subject_id)
        elif (answers[0]["sex"], answers[0]["genotype"]) != details(record):
            found["subject_disagrees"].add(subject_id)
    recorded = {record["name"] for _, record in all_records}
    for prefixes in institute.objects.values():
        found["record_missing"] |= {
            prefix for prefix in prefixes if SESSION.fullmatch(prefix) and prefix not in recorded
        }
    return {code: sorted(keys) for code, keys in found.items() if keys}


def stale_metadata_files(institute: Institute) -> list[str]:
    """Locations whose metadata.nd.json is not the newest generation's record."""
    newest: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for records in institute.records.values():
        at: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            at[record["location"]].append(record)
        newest.update(at)
    stale = []
    for location, records in newest.items():
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        files = institute.objects[bucket].get(prefix)
        if files is not None and json.loads(files["metadata.nd.json"]) not in records:
            stale.append(location)
    return stale
