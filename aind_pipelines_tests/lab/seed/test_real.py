"""Real records from files: what loads, what does not and why, and what the other services can know from them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.lab.seed import real
from aind_pipelines.lab.seed.model import V1_DATABASE, V2_DATABASE
from aind_pipelines_tests.counts import examples


def record(**more: Any) -> dict[str, Any]:
    return {"_id": "1", "name": "ecephys_700000_2024-01-02_03-04-05", "location": "s3://a-bucket/there"} | more


def write(folder: Path, **contents: bytes | dict[str, Any]) -> Path:
    for name, content in contents.items():
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"{name}.json").write_bytes(body)
    return folder


def test_what_cannot_be_loaded_is_listed_with_its_reason_and_the_rest_load(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        a_good=record(),
        b_bad_json=b'{"_id": "x", ',
        c_list=b"[]",
        d_no_id={"name": "x"},
        e_empty_id={"_id": ""},
        f_twin=record(name="other"),
        g_not_utf8=b'{"_id": "\xff"}',
        h_large=record(_id="large", filler="x" * (17 * 2**20)),
        i_deep=b'{"_id": "deep", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        j_huge_number=record(_id="huge", x=2**70),
        k_null_in_key=record(_id="null", **{"a\0b": 1}),
        l_surrogate=b'{"_id": "s", "x": "\\ud800"}',
        m_object_id={"_id": {"$oid": "0"}},
        n_empty=b"",
        o_bom=b"\xef\xbb\xbf" + json.dumps(record(_id="bom")).encode(),
    )
    (folder / "p_folder.json").mkdir()
    os.mkfifo(folder / "q_pipe.json")
    (folder / "r_nowhere.json").symlink_to("nowhere")
    (folder / "ignored.txt").write_text("not a record")
    found = real.read_folder(folder)
    assert [item["_id"] for item in found.records[V1_DATABASE]] == ["1", "bom"]
    reasons = {item.file: item.reason for item in found.unloadable}
    assert sorted(reasons) == [f"{name}.json" for name in (
        "b_bad_json", "c_list", "d_no_id", "e_empty_id", "f_twin", "g_not_utf8", "h_large", "i_deep", "j_huge_number",
        "k_null_in_key", "l_surrogate", "m_object_id", "n_empty", "p_folder",
        "q_pipe", "r_nowhere",
    )]  # fmt: skip
    assert reasons["c_list.json"] == "not an object but list"
    assert reasons["d_no_id.json"] == "no _id"
    assert reasons["f_twin.json"] == "duplicate _id '1': a_good.json has it too"
    assert "too large" in reasons["h_large.json"]
    assert "bad JSON" in reasons["b_bad_json.json"]
    assert reasons["p_folder.json"] == reasons["q_pipe.json"] == "no regular file"
    assert reasons["r_nowhere.json"] == "cannot be read: No such file or directory"
    assert str(found.unloadable[0]).startswith("b_bad_json.json: bad JSON")


def test_a_record_goes_to_the_database_of_its_record_version(tmp_path: Path) -> None:
    found = real.read_folder(
        write(
            tmp_path,
            a=record(_id="old"),
            b=record(_id="new", object_type="Metadata"),
            c=record(_id="hybrid", data_description={"schema_version": "2.1.0"}),
            d=record(_id="old", object_type="Metadata"),
        )
    )
    assert [item["_id"] for item in found.records[V1_DATABASE]] == ["old"]
    assert [item["_id"] for item in found.records[V2_DATABASE]] == ["new", "hybrid", "old"]
    assert found.unloadable == []


def test_a_file_name_that_is_no_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    for name, content in ((b"\xff.json", record()), (b"\xfe\n.json", {})):
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(json.dumps(content))
        except OSError:
            pytest.skip("this file system takes no such name")
    found = real.read_folder(tmp_path)
    assert list(found.files.values()) == ["\\xff.json"]
    assert [str(item) for item in found.unloadable] == ["\\xfe\\n.json: no _id"]


@pytest.mark.parametrize("content", [None, "empty", "file"])
def test_a_folder_without_records_is_a_clear_error(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "records"
    if content == "empty":
        folder.mkdir()
    if content == "file":
        folder.write_text("x")
    with pytest.raises(FileNotFoundError, match=str(folder)):
        real.read_folder(folder)


def test_services_know_what_the_record_says_and_nothing_else(tmp_path: Path) -> None:
    subject = {"subject_id": "700000", "sex": "Male", "genotype": "wt/wt"}
    one = record(
        created="2024-01-03T00:00:00Z",
        subject=subject,
        external_links={"Code Ocean": ["c1"]},
        data_description={"data_level": "raw", "schema_version": "1.0.0"},
    )
    known = real.known_from(real.read_folder(write(tmp_path, one=one)).records)
    assert json.loads(known.objects["a-bucket"]["there"]["metadata.nd.json"]) == one
    assert known.subjects == {"700000": [subject]}
    (asset,) = known.data_assets
    assert (asset["id"], asset["name"], asset["type"], asset["created"]) == ("c1", one["name"], "dataset", 1704240000)
    assert asset["source_bucket"] == {"origin": "aws", "bucket": "a-bucket", "prefix": "there", "external": True}


def test_a_subject_of_the_newer_schema_is_answered_in_the_older_shape(tmp_path: Path) -> None:
    subject = {
        "object_type": "Subject",
        "subject_id": "700000",
        "subject_details": {"object_type": "Mouse", "sex": "Male"},
    }
    known = real.known_from(
        real.read_folder(write(tmp_path, one=record(object_type="Metadata", subject=subject))).records
    )
    assert known.subjects == {"700000": [{"object_type": "Subject", "subject_id": "700000", "sex": "Male"}]}


@pytest.mark.parametrize(
    "location",
    [
        None,
        7,
        "s3://a-bucket",
        "s3://a-bucket/",
        "s3://a-bucket/../../escape",
        "s3://../x",
        "s3://A_BUCKET/x",
        "/local/x",
        "s3://a-bucket//x",
        "s3://a-bucket/" + "x" * 300,
        "s3://a-bucket/" + "/".join(["x" * 200] * 6),
        "s3://a..bucket/x",
        "s3://192.0.2.1/x",
        "s3://a-bucket/nul\0byte",
    ],
)
def test_a_location_that_cannot_hold_files_leaves_the_record_without_files(tmp_path: Path, location: object) -> None:
    known = real.known_from(real.read_folder(write(tmp_path, one=record(location=location))).records)
    assert known.objects == {}
    assert known.without_files == ["ecephys_700000_2024-01-02_03-04-05"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "_id": JSON,
        "name": JSON,
        "location": JSON | st.sampled_from(["s3://bucket/x", "s3://bucket/.."]),
        "subject": JSON | st.fixed_dictionaries({"subject_id": JSON, "subject_details": JSON}),
        "data_description": JSON,
        "external_links": JSON | st.fixed_dictionaries({"Code Ocean": JSON}),
        "other_identifiers": JSON,
        "object_type": JSON,
        "schema_version": JSON,
        "created": JSON,
    },
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=st.lists(SHAPES | JSON, min_size=1, max_size=4))
def test_any_json_either_loads_or_is_listed(tmp_path_factory: pytest.TempPathFactory, documents: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("records")
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_text(json.dumps(document))
    found = real.read_folder(folder)
    loaded = [item for records in found.records.values() for item in records]
    assert len(loaded) + len(found.unloadable) == len(documents)
    for item in loaded:
        bson.encode(item)
    known = real.known_from(found.records)
    json.dumps([known.data_assets, known.subjects])
    assert all(isinstance(asset["id"], str) for asset in known.data_assets)


def test_all_recorded_records_load(tmp_path: Path) -> None:
    folder = Path(
        os.environ.get("AIND_PIPELINES_RECORDS") or Path(__file__).parents[4] / "shared" / "data" / "docdb_records"
    )
    if not folder.is_dir():
        pytest.skip(f"no recorded DocDB records in {folder} (AIND_PIPELINES_RECORDS names another folder)")
    found = real.read_folder(folder)
    assert found.unloadable == []
    assert sum(len(records) for records in found.records.values()) == len(list(folder.glob("*.json")))
    known = real.known_from(found.records)
    assert known.without_files == []
    assert len(known.data_assets) >= len(found.records[V1_DATABASE])
