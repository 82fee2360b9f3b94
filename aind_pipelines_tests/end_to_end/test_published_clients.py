"""Clients that nobody here wrote connect to the lab, read, write, and are refused once each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest

from aind_pipelines_tests.end_to_end.conftest import ROOT, Lab
from benchmarks.https_front import https_front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_pymongo_through_sshtunnel(lab: Lab) -> None:
    import pymongo
    from pymongo.errors import OperationFailure
    from sshtunnel import BaseSSHTunnelForwarderError, SSHTunnelForwarder

    environment = lab.environment

    def tunnel(password: str) -> SSHTunnelForwarder:
        return SSHTunnelForwarder(
            (environment["DOC_DB_SSH_HOST"], int(environment["DOC_DB_SSH_PORT"])),
            ssh_username=environment["DOC_DB_SSH_USERNAME"],
            ssh_password=password,
            allow_agent=False,
            host_pkey_directories=[],
            remote_bind_address=(environment["DOC_DB_HOST"], int(environment["DOC_DB_PORT"])),
            local_bind_address=("127.0.0.1", 0),
        )

    def client(port: int, password: str) -> pymongo.MongoClient[dict[str, object]]:
        # What the published guide's connection table says, and what its Python client sets.
        return pymongo.MongoClient(
            "localhost",
            port,
            username=environment["DOC_DB_USERNAME"],
            password=password,
            authSource="admin",
            authMechanism="SCRAM-SHA-1",
            directConnection=True,
            retryWrites=False,
            replicaSet="rs0",
            readPreference="secondaryPreferred",
            serverSelectionTimeoutMS=5000,
        )

    with pytest.raises(BaseSSHTunnelForwarderError):
        tunnel("wrong").start()
    with tunnel(environment["DOC_DB_SSH_PASSWORD"]) as forwarder:
        with client(forwarder.local_bind_port, environment["DOC_DB_PASSWORD"]) as mongo:
            records = mongo["metadata_index"]["data_assets"]
            assert records.count_documents({"subject.subject_id": "731015"}) >= 1
            scratch = mongo["scratch"]["published"]
            scratch.replace_one({"_id": "a"}, {"_id": "a", "n": 1}, upsert=True)
            assert scratch.find_one({"_id": "a"}) == {"_id": "a", "n": 1}
            scratch.drop()
        with client(forwarder.local_bind_port, "wrong") as mongo, pytest.raises(OperationFailure):
            mongo["metadata_index"]["data_assets"].find_one()


def test_boto3(lab: Lab) -> None:
    import boto3
    from botocore.exceptions import ClientError

    environment = lab.environment
    session = boto3.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    s3 = session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"])
    key = "ecephys_676909_2023-12-13_13-43-40/metadata.nd.json"
    body = json.loads(s3.get_object(Bucket="aind-ephys-data", Key=key)["Body"].read())
    assert body["name"] == "ecephys_676909_2023-12-13_13-43-40"
    s3.put_object(Bucket="aind-ephys-data", Key="written/by/boto3", Body=b"1")
    s3.delete_object(Bucket="aind-ephys-data", Key="written/by/boto3")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.list_objects_v2(Bucket="no-such-bucket")
    secrets = session.client("secretsmanager", endpoint_url=environment["AWS_ENDPOINT_URL"])
    secret = json.loads(secrets.get_secret_value(SecretId="/doc/db/secret/name")["SecretString"])
    assert secret["password"] == environment["DOC_DB_PASSWORD"]


def test_psycopg(lab: Lab) -> None:
    environment = lab.environment
    login = {
        "host": environment["PGHOST"],
        "port": environment["PGPORT"],
        "user": environment["PGUSER"],
        "dbname": environment["PGDATABASE"],
    }
    with psycopg.connect(**login, password=environment["PGPASSWORD"]) as connection:
        assert connection.execute("select count(*) > 0 from spike_sorting_urls").fetchone() == (True,)
        connection.execute("create temporary table written as select 1 as n")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**login, password="wrong")


def _nbank(environment: dict[str, str], *arguments: str, auth: str | None = None) -> subprocess.CompletedProcess[str]:
    login = ["-a", auth or f"{environment['NBANK_USERNAME']}:{environment['NBANK_PASSWORD']}"]
    return subprocess.run(
        [str(Path(sys.executable).parent / "nbank"), "-r", environment["NBANK_REGISTRY"], *login, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": environment["HOME"]},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_nbank(lab: Lab, tmp_path: Path) -> None:
    environment = lab.environment
    listed = _nbank(environment, "archive", "list")
    assert listed.returncode == 0, listed.stderr
    assert "live" in listed.stdout
    checked = _nbank(environment, "archive", "check", str(lab.home / "archives" / "live"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    located = _nbank(environment, "locate", "ecephys_676909_2023-12-13_13-43-40")
    assert located.returncode == 0, located.stderr
    source = tmp_path / "written-by-nbank.bin"
    source.write_bytes(os.urandom(100))
    archive = tmp_path / "scratch-archive"
    assert _nbank(environment, "init", str(archive)).returncode == 0
    deposited = _nbank(environment, "deposit", "-d", "session-raw", "-j", str(archive), str(source))
    assert deposited.returncode == 0, deposited.stderr
    refused = _nbank(environment, "dtype", "add", "stray", "x/y", auth="lab:wrong")
    assert refused.returncode == 1


def test_the_codeocean_sdk(lab: Lab) -> None:
    from codeocean import CodeOcean
    from codeocean.data_asset import DataAssetAttachParams, DataAssetSearchParams
    from codeocean.error import Error

    environment = lab.environment
    client = CodeOcean(domain=environment["CODE_OCEAN_DOMAIN"], token=environment["CODE_OCEAN_API_TOKEN"])
    asset = client.data_assets.get_data_asset("16d46411-540a-4122-b47f-8cb2a15d593a")
    assert asset.name == "ecephys_676909_2023-12-13_13-43-40"
    found = client.data_assets.search_data_assets(DataAssetSearchParams(limit=5, query="subject id:676909"))
    assert found.results
    capsule = json.loads((lab.home / "seed" / "code_ocean.json").read_text())["capsules"][0]["id"]
    attached = client.capsules.attach_data_assets(capsule, [DataAssetAttachParams(id=asset.id)])
    assert [result.id for result in attached] == [asset.id]
    with pytest.raises(Error) as refused:
        CodeOcean(domain=environment["CODE_OCEAN_DOMAIN"], token="cop_wrong").data_assets.get_data_asset(asset.id)
    assert refused.value.status_code == 401


def test_aind_data_access_api(lab: Lab, tmp_path: Path) -> None:
    peer = ROOT / ".peers" / "aind-data-access-api" / "bin" / "python"
    if not peer.exists():
        pytest.skip("the peer aind-data-access-api is not installed; make test installs it")
    environment = lab.environment
    script = textwrap.dedent(
        """
        import json, os, sys
        import boto3
        from aind_data_access_api.document_db import MetadataDbClient

        host = sys.argv[1]
        client = MetadataDbClient(host=host, boto=boto3.Session())
        found = client.retrieve_docdb_records(filter_query={"subject.subject_id": "731015"})
        record = {"_id": "written-by-the-peer", "name": "written", "location": "s3://b/written"}
        client.upsert_one_docdb_record(record)
        back = client.retrieve_docdb_records(filter_query={"_id": record["_id"]})
        client.delete_one_record(record["_id"])
        gone = client.retrieve_docdb_records(filter_query={"_id": record["_id"]})
        second = MetadataDbClient(host=host, version="v2").retrieve_docdb_records(limit=1)
        unknown = boto3.Session(aws_access_key_id="AKIASTRANGER", aws_secret_access_key="x")
        refused = MetadataDbClient(host=host, boto=unknown).delete_one_record("anything").status_code
        answer = {"found": len(found), "back": back[0]["name"], "gone": gone, "v2": len(second), "refused": refused}
        print(json.dumps(answer))
        """
    )
    with https_front(environment["DOC_DB_API_HOST"], tmp_path) as (port, trusted):
        result = subprocess.run(
            [str(peer), "-c", script, f"localhost:{port}"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "REQUESTS_CA_BUNDLE": str(trusted),
                **{name: environment[name] for name in environment if name.startswith("AWS_")},
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["found"] >= 1
    assert answer == {"found": answer["found"], "back": "written", "gone": [], "v2": 1, "refused": 403}
