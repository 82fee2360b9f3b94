"""The made-up institute: the same for the same number, believable, with what the published documents name."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from codeocean.capsule import Capsule
from codeocean.computation import Computation
from codeocean.data_asset import DataAsset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.lab.seed.institute import MINIMUM_SESSIONS, generate
from aind_pipelines.lab.seed.model import NOW, V1_DATABASE, V2_DATABASE, Institute, local
from aind_pipelines.lab.seed.troubles import TROUBLES, plant
from aind_pipelines.records.normalise import normalise
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.lab.seed.scan import scan, stale_metadata_files

TWIN_FIELDS = (
    "name",
    "location",
    "subject_id",
    "platform",
    "acquisition_time",
    "data_level",
    "modalities",
    "project_name",
    "institution",
    "code_ocean_ids",
    "sex",
    "genotype",
    "date_of_birth",
)


def digest(institute: Institute) -> str:
    """One hash over everything that services are given."""
    hashed = hashlib.sha256()
    parts = (
        institute.records,
        institute.code_ocean,
        institute.answers,
        institute.spike_sorting_urls,
        institute.troubles,
    )
    hashed.update(json.dumps(parts).encode())
    for bucket, prefixes in institute.objects.items():
        for prefix, files in prefixes.items():
            for key, body in files.items():
                hashed.update(f"{bucket}/{prefix}/{key}\0".encode() + hashlib.sha256(body).digest())
    return hashed.hexdigest()


@pytest.fixture(scope="module")
def clean() -> Institute:
    return generate(100, 0, troubles=False)


@pytest.fixture(scope="module")
def troubled() -> Institute:
    return generate(100, 0)


def test_the_same_numbers_give_the_same_bytes_in_any_process() -> None:
    program = (
        "from aind_pipelines.lab.seed.institute import generate\n"
        "from aind_pipelines_tests.lab.seed.test_institute import digest\n"
        "print(digest(generate(60, 11)))"
    )
    root = str(Path(__file__).parents[3])
    digests = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": root, "PYTHONHASHSEED": hash_seed, "TZ": zone, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]
    assert digests[0] == digests[1] == digest(generate(60, 11))
    assert digest(generate(60, 12)) != digests[0]


def test_a_clean_institute_has_no_trouble_by_any_check(clean: Institute) -> None:
    assert clean.troubles == {}
    assert scan(clean) == {}
    assert stale_metadata_files(clean) == []
    assert [
        finding for records in clean.records.values() for record in records for finding in normalise(record).findings
    ] == []


@pytest.mark.parametrize(("sessions", "seed"), [(0, 0), (10, 1), (37, 2), (100, 0), (400, 5)])
def test_a_scan_finds_exactly_the_troubles_that_are_listed(sessions: int, seed: int) -> None:
    institute = generate(sessions, seed)
    assert scan(institute) == institute.troubles
    assert stale_metadata_files(institute) == []


def test_a_hundred_sessions_have_every_kind_of_trouble(troubled: Institute) -> None:
    assert set(troubled.troubles) == set(TROUBLES)
    assert all(len(keys) == len(set(keys)) for keys in troubled.troubles.values())


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    counts=st.dictionaries(st.sampled_from(sorted(TROUBLES)), st.integers(0, 3), max_size=6),
    seed=st.integers(0, 10**6),
)
def test_troubles_of_ones_own_choice_are_all_found_and_nothing_else(counts: dict[str, int], seed: int) -> None:
    institute = generate(40, seed % 3, troubles=False)
    planted = plant(institute, random.Random(seed), counts, as_many_as_fit=True)
    assert scan(institute) == planted == institute.troubles
    assert all(len(keys) <= counts[code] for code, keys in planted.items())


def test_more_troubles_than_there_are_victims_is_an_error(clean: Institute) -> None:
    with pytest.raises(ValueError, match="1000 of raw_data_missing do not fit"):
        plant(generate(10, 0, troubles=False), random.Random(0), {"raw_data_missing": 1000})
    with pytest.raises(KeyError, match="No such trouble: typo"):
        plant(clean, random.Random(0), {"typo": 1})


@pytest.mark.parametrize("sessions", [0, 1, 8, 9, 60])
def test_an_institute_has_as_many_sessions_as_asked_for_and_the_documented_ones(sessions: int) -> None:
    institute = generate(sessions, 9, troubles=False)
    assert len(institute.sessions) == max(sessions, MINIMUM_SESSIONS)
    assert len({asset.name for asset in institute.sessions}) == len(institute.sessions)


@pytest.mark.parametrize("sessions", [1, 7])
@pytest.mark.parametrize("seed", [0, 1, -3, 2**40])
def test_in_the_smallest_institute_too_things_go_wrong(sessions: int, seed: int) -> None:
    institute = generate(sessions, seed)
    assert scan(institute) == institute.troubles
    assert len([code for code, keys in institute.troubles.items() if keys]) >= 3


def test_a_negative_number_of_sessions_is_an_error() -> None:
    with pytest.raises(ValueError, match="-1 sessions"):
        generate(-1, 0)


def test_what_the_published_documents_name_is_in_every_seed() -> None:
    for seed in (0, 1, 12345):
        institute = generate(20, seed)
        session, other = "ecephys_676909_2023-12-13_13-43-40", "ecephys_676909_2023-12-11_14-24-35"
        (raw,) = [asset for asset in institute.code_ocean["data_assets"] if asset["name"] == session]
        assert raw["id"] == "16d46411-540a-4122-b47f-8cb2a15d593a"
        assert raw["custom_metadata"]["data level"] == "raw data"
        for record in institute.records_named(session):
            assert record["location"] == "s3://aind-ephys-data/ecephys_676909_2023-12-13_13-43-40"
        files = institute.objects["aind-ephys-data"][session]
        folders = {key.split("/")[0].replace("_compressed", "").replace("_clipped", "") for key in files if "/" in key}
        assert folders == {"behavior", "behavior_videos", "ecephys"}
        assert (
            json.loads(files["subject.json"]).get("subject_details", json.loads(files["subject.json"]))["genotype"]
            == "Pvalb-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt"
        )
        names = {asset["name"] for asset in institute.code_ocean["data_assets"]}
        assert {name for name in names if name.startswith(f"{session}_sorted")} == {
            f"{session}_sorted_2024-03-01_16-02-45"
        }
        assert {name for name in names if name.startswith(f"{other}_sorted")} == {
            f"{other}_sorted_2024-03-29_11-29-39"
        }
        for name in (session, other, f"{session}_sorted_2024-03-01_16-02-45", f"{other}_sorted_2024-03-29_11-29-39"):
            assert [normalise(record).record_version for record in institute.records_named(name)] == ["v1", "v2"]
        recorded = {record["subject"]["subject_id"] for records in institute.records.values() for record in records}
        assert {"731015", "775745"} <= recorded
        tables = institute.answers
        for table in ("subjects", "procedures", "intended_measurements", "perfusions"):
            assert tables[table]["775745"], table
        assert {"731015", "676909"} <= set(tables["subjects"])
        assert tables["injection_materials"]["VT3214G"]
        assert tables["protocols"]["Protocol-123"]
        assert tables["funding"]["Project-ABC"]
        assert "Project-ABC" in tables["project_names"]
        assert [row for row in tables["ecephys_sessions"] if row["subject_id"] == "775745"]
        assert [row for row in tables["histology"] if row["subject_id"] == "775745"]
        imaged = [row["date_performed"] for row in tables["smartspim_imaging"] if row["subject_id"] == "775745"]
        assert imaged
        assert all("2023-01-01" <= when[:10] <= "2023-12-31" for when in imaged)
        assert {row["asset_name"] for row in institute.spike_sorting_urls} >= {f"{session}_sorted_2024-03-01_16-02-45"}


def test_times_follow_from_one_another(clean: Institute) -> None:
    for asset in clean.assets.values():
        assert asset.subject.date_of_birth < asset.subject.surgery < asset.start.date()
        if asset.platform.images_specimens:
            assert asset.subject.perfusion is not None
            assert asset.subject.perfusion < asset.start.date()
        elif asset.subject.perfusion is not None:
            assert asset.start.date() < asset.subject.perfusion
        assert asset.start < asset.end < asset.created <= asset.modified <= NOW
        assert datetime(2019, 1, 1, tzinfo=UTC) < asset.start
        if asset.processed is not None:
            raw = clean.assets[asset.session_id]
            assert raw.created < asset.processed < asset.created
            assert all(clean.assets[source].created <= asset.created for source in asset.sources)


def test_the_institute_is_believable(clean: Institute) -> None:
    platforms = Counter(asset.platform.abbreviation for asset in clean.sessions)
    assert len(platforms) >= 6
    derived = [asset for asset in clean.assets.values() if not asset.is_raw]
    assert len(derived) > len(clean.sessions)
    assert max(Counter(asset.session_id for asset in derived).values()) >= 2
    spans = defaultdict(list)
    for asset in clean.sessions:
        spans[asset.subject.id].append(asset.start)
    assert any(max(starts) - min(starts) > timedelta(days=365) for starts in spans.values())
    generations = Counter(tuple(sorted(asset.record_ids)) for asset in clean.assets.values())
    assert generations[V1_DATABASE, V2_DATABASE] > generations[(V1_DATABASE,)] > 0
    assert generations[(V2_DATABASE,)] > 0


def test_code_ocean_states_what_its_own_library_reads(clean: Institute) -> None:
    assets = [DataAsset.from_dict(asset) for asset in clean.code_ocean["data_assets"]]
    assert len({asset.id for asset in assets}) == len(clean.assets)
    assert all(asset.source_bucket is not None and asset.size for asset in assets)
    assert [Capsule.from_dict(capsule).id for capsule in clean.code_ocean["capsules"]]
    computations = {Computation.from_dict(computation).id for computation in clean.code_ocean["computations"]}
    made = {asset.provenance.computation for asset in assets if asset.provenance is not None}
    assert made == computations


def test_twins_of_both_generations_say_the_same(clean: Institute) -> None:
    for asset in clean.assets.values():
        if len(asset.record_ids) == 2:
            first, second = (normalise(record) for record in clean.records_named(asset.name))
            for field in TWIN_FIELDS:
                assert getattr(first, field) == getattr(second, field), (asset.name, field)


def test_every_json_document_is_json(troubled: Institute) -> None:
    documents = [
        troubled.records,
        troubled.code_ocean,
        troubled.answers,
        troubled.troubles,
        troubled.spike_sorting_urls,
    ]
    for document in documents:
        assert json.loads(json.dumps(document, allow_nan=False)) == document
    for prefixes in troubled.objects.values():
        for files in prefixes.values():
            for key, body in files.items():
                if key.endswith((".json", ".zattrs", ".zgroup")):
                    json.loads(body)


@pytest.mark.parametrize(
    ("moment", "offset"),
    [
        ("2024-03-10T01:59", -8),
        ("2024-03-10T03:00", -7),
        ("2023-11-05T01:59", -7),
        ("2023-11-05T02:00", -8),
        ("2026-07-01T12:00", -7),
    ],
)
def test_local_times_have_the_offset_of_their_season(moment: str, offset: int) -> None:
    assert local(datetime.fromisoformat(moment)).utcoffset() == timedelta(hours=offset)
