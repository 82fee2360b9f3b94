"""Plant in an institute what goes wrong in real ones, in known numbers.

Each planted trouble is noted in ``Institute.troubles`` under its code, with the key by which it is found: a session
id, a subject id, a record (``record_version/_id``) or a location. An asset or subject has one trouble at most, so
that no trouble hides another. What the published documents name is left alone.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aind_pipelines.lab.seed import documented, objects
from aind_pipelines.lab.seed.model import V1_DATABASE, V2_DATABASE, Asset, Institute
from aind_pipelines.lab.seed.vocabulary import OPEN_BUCKET
from aind_pipelines.records.normalise import record_version

Record = dict[str, Any]


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble.

    Attributes:
        meaning: What is wrong, for a person.
        key: What its keys are: session, subject, record or location.
        rate: How many are planted per session of the institute, by default; at least one.
        victims: What it could befall: names of assets or ids of subjects.
        plant: Brings it about for one of them and gives the key it is found by.
    """

    meaning: str
    key: str
    rate: float
    victims: Callable[[Institute], list[str]]
    plant: Callable[[Institute, random.Random, str], str]


def plant(
    institute: Institute, rng: random.Random, counts: Mapping[str, int], *, as_many_as_fit: bool = False
) -> dict[str, list[str]]:
    """Plant troubles of one's own choice.

    Args:
        institute: Changed in place.
        rng: Chooses the victims.
        counts: How many of each code.
        as_many_as_fit: Plant fewer where there are not enough victims, instead of raising.

    Returns:
        The keys of what was planted now, by code; ``institute.troubles`` also holds earlier ones.

    Raises:
        KeyError: A code is not one of `TROUBLES`.
        ValueError: There are not enough untroubled victims for a count; nothing of that code was planted.
    """
    if unknown := sorted(set(counts) - set(TROUBLES)):
        raise KeyError(f"No such trouble: {', '.join(unknown)}. There are: {', '.join(TROUBLES)}.")
    planted: dict[str, list[str]] = {}
    for code, trouble in TROUBLES.items():
        wanted = counts.get(code, 0)
        victims = [victim for victim in trouble.victims(institute) if victim not in institute.touched]
        if wanted > len(victims) and not as_many_as_fit:
            raise ValueError(f"{wanted} of {code} do not fit: only {len(victims)} untroubled victims are left.")
        keys = []
        for victim in rng.sample(victims, k=min(wanted, len(victims))):
            institute.touched.add(victim)
            keys.append(trouble.plant(institute, rng, victim))
        if keys:
            planted[code] = sorted(keys)
            institute.troubles[code] = sorted([*institute.troubles.get(code, []), *keys])
    return planted


def plant_usual(institute: Institute, rng: random.Random, sessions: int) -> None:
    """Plant every kind of trouble at its usual rate; small institutes get what fits."""
    counts = {code: max(1, round(sessions * trouble.rate)) for code, trouble in TROUBLES.items()}
    plant(institute, rng, counts, as_many_as_fit=True)


def record_key(record: Mapping[str, Any]) -> str:
    """The key of a record: ``record_version/_id``."""
    return f"{record_version(record)}/{record['_id']}"


def _uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


# --- victims ---------------------------------------------------------------------------------------------------------

_DOCUMENTED = frozenset(
    f"{platform}_{subject}_{start:%Y-%m-%d_%H-%M-%S}" for platform, subject, start, _ in documented.SESSIONS
)


def _untroubled_assets(institute: Institute) -> list[Asset]:
    """Assets that may be troubled: not documented ones, and not those of a troubled subject."""
    return [
        asset
        for asset in institute.assets.values()
        if asset.session_id not in _DOCUMENTED and asset.subject.id not in institute.touched
    ]


def _sessions(institute: Institute) -> list[str]:
    return [asset.name for asset in _untroubled_assets(institute) if asset.is_raw]


def _subjects(institute: Institute) -> list[str]:
    troubled = {asset.subject.id for name, asset in institute.assets.items() if name in institute.touched}
    return [
        subject.id
        for subject in institute.subjects
        if subject.id not in troubled and subject.id not in documented.SUBJECTS
    ]


def _with_v1(institute: Institute) -> list[str]:
    return [asset.name for asset in _untroubled_assets(institute) if V1_DATABASE in asset.record_ids]


def _raw_with_v1(institute: Institute) -> list[str]:
    return [name for name in _with_v1(institute) if institute.assets[name].is_raw]


def _derived_with_v1(institute: Institute) -> list[str]:
    return [name for name in _with_v1(institute) if not institute.assets[name].is_raw]


def _v1_only(institute: Institute) -> list[str]:
    return [name for name in _with_v1(institute) if V2_DATABASE not in institute.assets[name].record_ids]


def _any_asset(institute: Institute) -> list[str]:
    return [asset.name for asset in _untroubled_assets(institute)]


# --- sessions --------------------------------------------------------------------------------------------------------


def _drop_from_code_ocean(institute: Institute, asset: Asset) -> None:
    institute.code_ocean["data_assets"] = [
        described for described in institute.code_ocean["data_assets"] if described["id"] != asset.code_ocean_id
    ]


def _dead_link(institute: Institute, _rng: random.Random, name: str) -> str:
    _drop_from_code_ocean(institute, institute.assets[name])
    return name


def _raw_data_missing(institute: Institute, _rng: random.Random, name: str) -> str:
    asset = institute.assets[name]
    del institute.objects[asset.bucket][asset.prefix]
    return name


def _record_missing(institute: Institute, _rng: random.Random, name: str) -> str:
    for database, records in institute.records.items():
        institute.records[database] = [record for record in records if record["name"] != name]
    return name


def _asset_missing(institute: Institute, _rng: random.Random, name: str) -> str:
    _drop_from_code_ocean(institute, institute.assets[name])
    for record in institute.records_named(name):
        record["other_identifiers" if "object_type" in record else "external_links"] = {}
        objects.put_metadata(institute, record)
    return name


# --- subjects --------------------------------------------------------------------------------------------------------


def _disagrees(institute: Institute, rng: random.Random, subject_id: str) -> str:
    """The house's register was corrected after the records were written."""
    (answer,) = institute.answers["subjects"][subject_id]
    if rng.random() < 0.5:
        answer["sex"] = "Female" if answer["sex"] == "Male" else "Male"
    else:
        answer["genotype"] = "Tlx3-Cre_PL56/wt"
    return subject_id


def _unknown(institute: Institute, _rng: random.Random, subject_id: str) -> str:
    for table in ("subjects", "procedures", "intended_measurements", "perfusions"):
        institute.answers[table].pop(subject_id, None)
    for table in ("ecephys_sessions", "smartspim_imaging", "histology", "water_restriction", "viral_injections"):
        institute.answers[table] = [row for row in institute.answers[table] if row["subject_id"] != subject_id]
    return subject_id


def _invalid(institute: Institute, _rng: random.Random, subject_id: str) -> str:
    (answer,) = institute.answers["subjects"][subject_id]
    answer["source"] = None
    message = (
        "1 validation error for Subject\nsource\n  Input should be a valid dictionary or object to "
        "extract fields from [type=model_attributes_type, input_value=None, input_type=NoneType]"
    )
    institute.answers.setdefault("invalid", {}).setdefault("subjects", {})[subject_id] = message
    return subject_id


# --- records ---------------------------------------------------------------------------------------------------------


def _v1_record(institute: Institute, name: str) -> Record:
    return next(record for record in institute.records[V1_DATABASE] if record["name"] == name)


def _changed(institute: Institute, record: Record) -> str:
    """Carry a changed record to S3, where the newest generation's file is kept, and give its key."""
    if record is institute.records_named(record["name"])[-1]:
        objects.put_metadata(institute, record)
    return record_key(record)


def _modality_as_string(institute: Institute, _rng: random.Random, name: str) -> str:
    record, asset = _v1_record(institute, name), institute.assets[name]
    specimen = asset.platform.images_specimens
    record["data_description"]["modality"] = asset.platform.abbreviation if specimen else asset.platform.modalities[0]
    return _changed(institute, record)


def _modality_as_repr(institute: Institute, _rng: random.Random, name: str) -> str:
    record = _v1_record(institute, name)
    record["data_description"]["modality"] = [
        f"name={item['name']!r} abbreviation={item['abbreviation']!r}"
        for item in record["data_description"]["modality"]
    ]
    return _changed(institute, record)


def _data_level_raw_data(institute: Institute, _rng: random.Random, name: str) -> str:
    record = _v1_record(institute, name)
    record["data_description"]["data_level"] = "raw data"
    return _changed(institute, record)


def _links_as_list(institute: Institute, _rng: random.Random, name: str) -> str:
    record = _v1_record(institute, name)
    record["external_links"] = [{"Code Ocean": linked} for linked in record["external_links"]["Code Ocean"]]
    return _changed(institute, record)


def _modified_missing(institute: Institute, rng: random.Random, name: str) -> str:
    record = rng.choice(institute.records_named(name))
    del record["_last_modified" if "object_type" in record else "last_modified"]
    return _changed(institute, record)


def _hybrid(institute: Institute, _rng: random.Random, name: str) -> str:
    record = _v1_record(institute, name)
    record["data_description"]["schema_version"] = "2.1.0"
    return _changed(institute, record)


def _duplicate_location(institute: Institute, rng: random.Random, name: str) -> str:
    original = rng.choice(institute.records_named(name))
    database = V2_DATABASE if "object_type" in original else V1_DATABASE
    institute.records[database].append({**copy.deepcopy(original), "_id": _uuid(rng)})
    return str(original["location"])


def _name_without_session(institute: Institute, rng: random.Random, name: str) -> str:
    """An asset that somebody named without its platform, beside the one that it was made from."""
    source = institute.assets[name]
    record = copy.deepcopy(_v1_record(institute, name))
    bare = name.removeprefix(f"{source.platform.abbreviation}_")
    code_ocean_id = _uuid(rng)
    record |= {
        "_id": _uuid(rng),
        "name": bare,
        "location": f"s3://{OPEN_BUCKET}/{bare}",
        "external_links": {"Code Ocean": [code_ocean_id]},
    }
    record["data_description"]["name"] = bare
    institute.records[V1_DATABASE].append(record)
    for key, body in objects.data_files(source):
        objects.put(institute, OPEN_BUCKET, bare, key, body)
    objects.put_metadata(institute, record)
    described = next(
        described for described in institute.code_ocean["data_assets"] if described["id"] == source.code_ocean_id
    )
    institute.code_ocean["data_assets"].append(
        {
            **copy.deepcopy(described),
            "id": code_ocean_id,
            "name": bare,
            "mount": bare,
            "source_bucket": {"origin": "aws", "bucket": OPEN_BUCKET, "prefix": bare, "external": True},
        }
    )
    return record_key(record)


TROUBLES: dict[str, Trouble] = {
    "dead_code_ocean_link": Trouble(
        "the raw asset's record names a Code Ocean asset that Code Ocean does not have",
        "session",
        0.02,
        _sessions,
        _dead_link,
    ),
    "raw_data_missing": Trouble(
        "nothing is in S3 where the raw asset's record says its data is", "session", 0.02, _sessions, _raw_data_missing
    ),
    "record_missing": Trouble(
        "the session has data in S3 and a Code Ocean asset, but its raw asset has no record",
        "session",
        0.02,
        _sessions,
        _record_missing,
    ),
    "code_ocean_asset_missing": Trouble(
        "the raw asset's record names no Code Ocean asset, and Code Ocean has none",
        "session",
        0.02,
        _sessions,
        _asset_missing,
    ),
    "hybrid_schema_versions": Trouble(
        "a v1 record holds a data description of schema version 2", "record", 0.01, _v1_only, _hybrid
    ),
    "modality_as_string": Trouble("the modality is a bare string", "record", 0.01, _with_v1, _modality_as_string),
    "modality_as_repr": Trouble(
        "the modalities are Python reprs of objects", "record", 0.01, _with_v1, _modality_as_repr
    ),
    "data_level_raw_data": Trouble("the data level is 'raw data'", "record", 0.01, _raw_with_v1, _data_level_raw_data),
    "external_links_as_list": Trouble(
        "the external links are a list of mappings", "record", 0.01, _with_v1, _links_as_list
    ),
    "modified_missing": Trouble("the record has no modification time", "record", 0.01, _any_asset, _modified_missing),
    "duplicate_location": Trouble(
        "two records of one generation have this location", "location", 0.01, _any_asset, _duplicate_location
    ),
    "name_without_session": Trouble(
        "the asset's name holds no session id", "record", 0.02, _derived_with_v1, _name_without_session
    ),
    "subject_disagrees": Trouble(
        "the metadata-service knows another sex or genotype than the subject's records",
        "subject",
        0.02,
        _subjects,
        _disagrees,
    ),
    "subject_unknown": Trouble("the metadata-service does not know the subject", "subject", 0.01, _subjects, _unknown),
    "subject_invalid": Trouble(
        "the metadata-service answers for the subject with data that is not valid",
        "subject",
        0.01,
        _subjects,
        _invalid,
    ),
}
"""Every kind of trouble by its code, in the order of planting."""
