"""A seed comes into real services, once, whole, and again after it was killed."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from bson import DatetimeMS
from pymongo import MongoClient

from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.lab import control
from aind_pipelines.lab.home import HomeError, LabHome
from aind_pipelines.lab.seed import SeedRefused, Standing, load, seed, standing
from aind_pipelines.lab.seed.institute import generate
from aind_pipelines.lab.seed.load import DTYPES, PARAMETER, load_records
from aind_pipelines.lab.seed.model import COLLECTION, DATABASES

ROOT = Path(__file__).parents[3]
SMALL_LAB = (sys.executable, str(Path(__file__).with_name("small_lab.py")))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[LabHome]:
    """One lab of the services that a seed is loaded into."""
    with tempfile.TemporaryDirectory(prefix="seed lab ", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root, the lab runs Postgres as another user
        home = LabHome(Path(folder) / "home")
        control.ensure_up(home, program=SMALL_LAB)
        try:
            yield home
        finally:
            control.stop(home)


def aws(home: LabHome, service: Any) -> Any:
    environment = home.environment()
    return boto3.client(
        service,
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def held(home: LabHome) -> dict[str, dict[object, dict[str, Any]]]:
    with MongoClient[dict[str, Any]](home.docdb().uri) as client:
        return {
            database: {record["_id"]: record for record in client[database][COLLECTION].find()}
            for database in DATABASES
        }


def objects(home: LabHome) -> dict[str, set[str]]:
    s3 = aws(home, "s3")
    pages = {
        bucket["Name"]: s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
        for bucket in s3.list_buckets()["Buckets"]
    }
    found = {
        name: {item["Key"] for page in paged for item in page.get("Contents", [])} for name, paged in pages.items()
    }
    return {name: keys for name, keys in found.items() if keys}


def run_and_kill(home: LabHome, line: str) -> None:
    """Seed in a process of its own and kill it when it says `line`."""
    program = (
        "from aind_pipelines.lab.home import LabHome\n"
        "from aind_pipelines.lab.seed import seed\n"
        f"seed(LabHome({str(home.root)!r}), sessions=25, seed=3, progress=lambda text: print(text, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, line


def test_a_seed_killed_at_every_step_ends_as_one_that_was_not(running: LabHome) -> None:
    home = running
    assert standing(home) == Standing()
    for line in (
        "writing files",
        "loading S3, secrets and parameters",
        "filling spike_sorting_urls",
        "initialising the archive",
        "loading records into DocDB",
    ):
        run_and_kill(home, line)
        assert standing(home) == Standing(institute=(25, 3)), line
    with pytest.raises(SeedRefused, match=r"25 sessions of seed 3 were begun .* --sessions 25 --seed 3"):
        seed(home, sessions=25, seed=4)
    report = seed(home, sessions=25, seed=3)
    assert report.changed
    assert standing(home) == Standing(complete=True)
    with pytest.raises(SeedRefused, match="holds 25 sessions of seed 3"):
        seed(home, sessions=25, seed=4)
    institute = generate(25, 3)
    assert held(home) == {
        database: {record["_id"]: record for record in records} for database, records in institute.records.items()
    }
    assert objects(home) == {
        bucket: {f"{prefix}/{key}" for prefix, files in prefixes.items() for key in files}
        for bucket, prefixes in institute.objects.items()
    }
    assert json.loads((home.seed_dir / "troubles.json").read_text()) == institute.troubles
    assert json.loads((home.seed_dir / "code_ocean.json").read_text()) == institute.code_ocean
    assert json.loads((home.seed_dir / "metadata_service.json").read_text()) == institute.answers
    assert report.counts["sessions"] == 25
    assert report.counts["v1 records"] == len(institute.records["metadata_index"])
    assert not list(home.seed_dir.rglob("*.tmp~"))


def test_the_same_seed_again_changes_nothing_and_says_so(running: LabHome) -> None:
    seed(running, sessions=25, seed=3)
    files = {path: path.stat().st_mtime_ns for path in running.seed_dir.rglob("*") if path.is_file()}
    said: list[str] = []
    report = seed(running, sessions=25, seed=3, progress=said.append)
    assert not report.changed
    assert report.counts["sessions"] == 25
    assert said == ["25 sessions of seed 3 are there already; nothing to do"]
    now = {path: path.stat().st_mtime_ns for path in running.seed_dir.rglob("*") if path.is_file()}
    assert {path: when for path, when in now.items() if path.name != ".lock"} == {
        path: when for path, when in files.items() if path.name != ".lock"
    }


def test_the_guides_names_lead_to_what_the_lab_holds(running: LabHome) -> None:
    seed(running, sessions=25, seed=3)
    secrets = aws(running, "secretsmanager")

    def secret(name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
        return value

    docdb = secret("/doc/db/secret/name")
    with MongoClient[dict[str, Any]](
        docdb["host"], docdb["port"], username=docdb["username"], password=docdb["password"], directConnection=True,
        authSource="admin", authMechanism="SCRAM-SHA-1", retryWrites=False,
    ) as client:  # fmt: skip
        assert client["metadata_index"][COLLECTION].count_documents({"subject.subject_id": "731015"}) >= 1
        indexed = client["metadata_index_v2"][COLLECTION].index_information()
        assert {"name_1", "location_1", "subject.subject_id_1", "_last_modified_1"} <= set(indexed)
    assert secret("/ssh/tunnel/secret/name")["host"] == "127.0.0.1"
    rds = secret("aind/data/access/api/rds_tables")
    with psycopg.connect(
        host=rds["host"], port=rds["port"], user=rds["username"], password=rds["password"], dbname=rds["database"]
    ) as connection:
        rows = connection.execute("select asset_name from spike_sorting_urls").fetchall()
    assert ("ecephys_676909_2023-12-13_13-43-40_sorted_2024-03-01_16-02-45",) in rows
    parameter = json.loads(aws(running, "ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"])
    assert parameter["METADATA_SERVICE_URL"] == running.url("metadata_service")
    archive = Archive.open(running.archives_dir / "live")
    with RegistryClient(running.url("registry")) as registry:
        assert {dtype.name for dtype in registry.dtypes()} >= set(DTYPES)
        registered = registry.get_archive("live")
    assert registered is not None
    assert Path(registered.root) == archive.path


def test_secrets_on_disk_are_for_their_owner_only(running: LabHome) -> None:
    seed(running, sessions=25, seed=3)
    for name in ("secrets.json", "parameters.json"):
        assert (running.seed_dir / "aws" / name).stat().st_mode & 0o077 == 0


def test_real_records_load_beside_what_is_there(running: LabHome, tmp_path: Path) -> None:
    seed(running, sessions=25, seed=3)
    before = held(running)
    good = {
        "_id": "real-1",
        "name": "behavior_700001_2024-05-06_07-08-09",
        "location": "s3://another-bucket/behavior_700001_2024-05-06_07-08-09",
        "subject": {"subject_id": "700001", "sex": "Male"},
        "external_links": {"Code Ocean": ["real-asset"]},
    }
    (tmp_path / "good.json").write_text(json.dumps(good))
    (tmp_path / "bad.json").write_text("{")
    report = seed(running, sessions=None, records=tmp_path)
    assert report.changed
    assert report.counts["real records"] == 1
    assert [item.file for item in report.unloadable] == ["bad.json"]
    assert held(running) == before | {"metadata_index": before["metadata_index"] | {"real-1": good}}
    key = "behavior_700001_2024-05-06_07-08-09/metadata.nd.json"
    body = aws(running, "s3").get_object(Bucket="another-bucket", Key=key)["Body"].read()
    assert json.loads(body) == good
    answers = json.loads((running.seed_dir / "metadata_service.json").read_text())
    assert answers["subjects"]["700001"] == [good["subject"]]
    assert "775745" in answers["subjects"]
    assets = json.loads((running.seed_dir / "code_ocean.json").read_text())["data_assets"]
    assert "real-asset" in {asset["id"] for asset in assets}
    again = seed(running, sessions=None, records=tmp_path)
    assert not again.changed
    assert [item.file for item in again.unloadable] == ["bad.json"]


def test_records_whose_files_cannot_stand_side_by_side_load_all_the_same(running: LabHome, tmp_path: Path) -> None:
    locations = {
        "first": "s3://another-bucket/x",
        "second": "s3://another-bucket/x/metadata.nd.json",
        "third": "s3://another-bucket/" + "/".join(["p" * 200] * 25),
        "fourth": "s3://another-bucket/y",
    }
    for name, location in locations.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"_id": name, "name": name, "location": location}))
    for changed in (True, False):
        report = seed(running, sessions=None, records=tmp_path)
        assert report.changed is changed
        assert (report.counts["real records"], report.counts["real objects"]) == (4, 2)
        assert sorted(report.without_files) == ["second", "third"]
        assert report.unloadable == []
    assert set(locations) <= set(held(running)["metadata_index"])
    keys = {key for key in objects(running)["another-bucket"] if key[:2] in {"x/", "y/"}}
    assert keys == {"x/metadata.nd.json", "y/metadata.nd.json"}


def test_a_load_that_failed_is_forgotten_once_its_folder_was_loaded(running: LabHome, tmp_path: Path) -> None:
    def write(number: int) -> None:
        (tmp_path / "record.json").write_text(json.dumps({"_id": "repaired", "n": number}))

    write(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "load_records", _unavailable)
        with pytest.raises(ServiceUnavailable):
            seed(running, sessions=None, records=tmp_path)
    assert standing(running).folders == (tmp_path,)
    write(2)
    seed(running, sessions=None, records=tmp_path)
    assert standing(running) == Standing(complete=True)
    assert held(running)["metadata_index"]["repaired"]["n"] == 2


def test_records_are_there_as_their_files_say_whatever_was_loaded_or_edited_since(
    running: LabHome, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    place = "s3://another-bucket/put-back"

    def write(folder: Path, **more: Any) -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        record = {"_id": "put-back", "location": place, "nan": float("nan"), "n": 1, "m": 2**40} | more
        (folder / "record.json").write_text(json.dumps(record))
        return record

    def load_again(folder: Path) -> tuple[bool, list[str]]:
        said: list[str] = []
        return seed(running, sessions=None, records=folder, progress=said.append).changed, said

    def there() -> tuple[str, str]:
        body = aws(running, "s3").get_object(Bucket="another-bucket", Key="put-back/metadata.nd.json")["Body"].read()
        return text(held(running)["metadata_index"]["put-back"]), text(json.loads(body))

    def text(record: dict[str, Any]) -> str:
        """What is no number is not equal to itself, and 1 is equal to true; as text they are told apart."""
        return json.dumps(record, sort_keys=True)

    original = write(first)
    assert load_again(first)[0]
    edited = write(first, n=2)
    assert load_again(first)[0]
    assert there() == (text(edited), text(edited))
    write(first)
    changed, said = load_again(first)
    assert changed
    assert said[0].startswith("these records were loaded before, but 1 of them are not in DocDB as the files have")
    assert there() == (text(original), text(original))
    other = write(second, n=3)
    for folder, expected in ((second, other), (first, original), (second, other), (first, original)):
        assert load_again(folder)[0]
        assert there() == (text(expected), text(expected))
        assert load_again(folder) == (False, ["the records are there already; nothing to do"])
    write(second, _id="its-neighbour")
    assert load_again(second)[0]
    changed, said = load_again(first)
    assert changed
    assert "their files in S3 are others" in said[0]
    assert there() == (text(original), text(original))
    with MongoClient[dict[str, Any]](running.docdb().uri) as client:
        collection = client["metadata_index"][COLLECTION]
        by_hand: tuple[dict[str, Any], ...] = (
            {"$set": {"n": 1.5}}, {"$set": {"n": True}}, {"$set": {"more": DatetimeMS(2**60)}}, {"$unset": {"n": 1}}
        )  # fmt: skip
        for change in by_hand:
            collection.update_one({"_id": "put-back"}, change)
            assert load_again(first)[0]
            assert there() == (text(original), text(original))
        collection.delete_one({"_id": "put-back"})
        assert load_again(first)[0]
        assert there() == (text(original), text(original))
    assert load_again(first) == (False, ["the records are there already; nothing to do"])
    assert standing(running) == Standing(complete=True)


def test_of_a_record_that_docdb_refuses_nothing_is_anywhere_and_no_load_of_it_is_a_change(
    running: LabHome, tmp_path: Path
) -> None:
    def record(name: str) -> dict[str, Any]:
        return {
            "_id": name,
            "name": name,
            "location": f"s3://another-bucket/{name}",
            "external_links": {"Code Ocean": [f"asset of {name}"]},
            "subject": {"subject_id": f"subject of {name}"},
        }

    (tmp_path / "good.json").write_text(json.dumps(record("taken")))
    (tmp_path / "refused.json").write_text(json.dumps({**record("refused"), "$where": 1}))
    (tmp_path / "nowhere.json").write_text(json.dumps({"_id": "refused too", "name": "nowhere", "$where": 1}))
    for changed in (True, False):
        report = seed(running, sessions=None, records=tmp_path)
        assert report.changed is changed
        assert sorted(item.file for item in report.unloadable) == ["nowhere.json", "refused.json"]
        assert report.without_files == []
        assert (report.counts["real records"], report.counts["real objects"]) == (1, 1)
    keys = objects(running)["another-bucket"]
    assets = {asset["id"] for asset in json.loads((running.seed_dir / "code_ocean.json").read_text())["data_assets"]}
    subjects = json.loads((running.seed_dir / "metadata_service.json").read_text())["subjects"]
    for name, is_there in (("taken", True), ("refused", False)):
        assert (f"{name}/metadata.nd.json" in keys) is is_there
        assert (f"asset of {name}" in assets) is is_there
        assert (f"subject of {name}" in subjects) is is_there


def test_an_institute_comes_again_into_a_docdb_that_holds_nothing(running: LabHome) -> None:
    seed(running, sessions=25, seed=3)
    with MongoClient[dict[str, Any]](running.docdb().uri) as client:
        for database in DATABASES:
            client.drop_database(database)
    assert seed(running, sessions=25, seed=3).changed
    assert {database: list(records) for database, records in held(running).items()} == {
        database: [record["_id"] for record in records] for database, records in generate(25, 3).records.items()
    }
    assert not seed(running, sessions=25, seed=3).changed


def _unavailable(*_: object) -> list[tuple[str, object, str]]:
    raise ServiceUnavailable("DocDB", "is down")


def test_what_was_done_with_the_lab_since_is_not_undone(running: LabHome) -> None:
    seed(running, sessions=25, seed=3)
    with MongoClient[dict[str, Any]](running.docdb().uri) as client:
        collection = client["metadata_index"][COLLECTION]
        record = collection.find_one({})
        assert record is not None
        collection.delete_one({"_id": record["_id"]})
        seed(running, sessions=25, seed=3)
        assert collection.find_one({"_id": record["_id"]}) is None
        collection.insert_one(record)


def test_a_record_replaces_what_has_its_id_and_a_refused_one_is_told(running: LabHome) -> None:
    def there() -> list[dict[str, Any]]:
        with MongoClient[dict[str, Any]](running.docdb().uri) as client:
            return list(client["metadata_index"][COLLECTION].find({"_id": {"$in": ["once", "twice"]}}).sort("_id"))

    records = [{"_id": "twice", "n": 1}, {"_id": "once", "n": 1}, {"_id": ["no"]}, {"_id": "twice", "n": 2}]
    ((database, identity, reason),) = load_records(running, {"metadata_index": records})
    assert (database, identity) == ("metadata_index", ["no"])
    assert "_id" in reason
    assert there() == [{"_id": "once", "n": 1}, {"_id": "twice", "n": 2}]
    assert load_records(running, {"metadata_index": [{"$n": 1, "_id": "once"}]})[0][1] == "once"
    assert load_records(running, {"metadata_index": [{"_id": "once", "m": 3}]}) == []
    assert there() == [{"_id": "once", "m": 3}, {"_id": "twice", "n": 2}]


def test_another_institute_is_refused_with_what_removes_this_very_home(running: LabHome) -> None:
    seed(running, sessions=25, seed=3)
    removal = rf"lab down --home {shlex.quote(str(running.root))} && rm -r {shlex.quote(str(running.root))}\."
    with pytest.raises(SeedRefused, match=removal):
        seed(running, sessions=26, seed=3)


def test_a_second_seed_at_the_same_time_is_refused(running: LabHome) -> None:
    running.seed_dir.mkdir(exist_ok=True)
    with (running.seed_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SeedRefused, match="Another process is seeding"):
            seed(running, sessions=25, seed=3)


def test_nothing_to_seed_is_said(running: LabHome) -> None:
    for sessions in (None, 0):
        with pytest.raises(SeedRefused, match="nothing to seed"):
            seed(running, sessions=sessions)
    with pytest.raises(SeedRefused, match="-3 sessions"):
        seed(running, sessions=-3)


def test_a_service_that_is_down_is_named_and_the_next_call_finishes(tmp_path: Path) -> None:
    home = LabHome(tmp_path / "home")
    home.initialise()
    with pytest.raises(ServiceUnavailable, match=r"AWS: the lab's moto at .* does not answer"):
        seed(home, sessions=6, seed=0)
    assert standing(home) == Standing(institute=(6, 0))
    with pytest.raises(ServiceUnavailable, match=r"DocDB: records cannot be loaded.*Is the lab up\?") as refusal:
        load_records(home, {}, patience=0.3)
    assert "Topology" not in str(refusal.value)


def test_a_home_without_a_lab_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="aind-pipelines lab up"):
        seed(LabHome(tmp_path / "none"), sessions=6, seed=0)
    assert not (tmp_path / "none").exists()
