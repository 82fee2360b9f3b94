"""A folder of S3 becomes a directory resource: whole, or not at all."""

import contextlib

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from aind_pipelines.archive import fsops
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import S3Prefix
from aind_pipelines.archive.journal import journal_files
from aind_pipelines.clients.errors import ServiceUnavailable


@contextlib.contextmanager
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield (
            server,
            boto3.client(
                "s3",
                endpoint_url=f"http://{host}:{port}",
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}),
            ),
        )
    finally:
        server.stop()


@pytest.fixture
def s3(unique):
    with moto() as (_server, client):
        client.create_bucket(Bucket="assets")
        for key, body in (("metadata.nd.json", b"{}"), ("behavior/a.bin", unique.encode() * 99), ("ecephys/", b"")):
            client.put_object(Bucket="assets", Key=f"{unique}/{key}", Body=body)
        yield client


def item(id_: str, client) -> DepositItem:
    return DepositItem(id_, S3Prefix("assets", id_, client), "session-raw", {"session_id": id_})


def nothing_of(id_: str, archive, registry) -> None:
    assert archive.entries(id_) == []
    assert registry.get_resource(id_) is None
    assert list(archive.staging.iterdir()) == []
    assert journal_files(archive) == []


def test_a_folder_of_s3_arrives_with_everything_in_it(archive, registry, s3, unique):
    [result] = deposit(archive, registry, [item(unique, s3)])
    assert (result.status, result.kind, result.files, result.source) == (
        "deposited",
        "directory",
        2,
        f"s3://assets/{unique}",
    )
    stored = archive.resources / result.path
    assert {path.relative_to(stored).as_posix() for path in stored.rglob("*")} == {
        "metadata.nd.json", "behavior", "behavior/a.bin", "ecephys",
    }  # fmt: skip
    assert (stored / "behavior" / "a.bin").read_bytes() == unique.encode() * 99
    assert check(archive, registry).findings == []


def test_a_second_run_asks_s3_nothing(archive, registry, s3, unique):
    list(deposit(archive, registry, [item(unique, s3)]))

    def nothing(**_arguments: object) -> None:
        raise AssertionError("S3 was asked")

    s3.meta.events.register("before-call.s3", nothing)
    assert [result.status for result in deposit(archive, registry, [item(unique, s3)])] == ["already_there"]


@pytest.mark.parametrize("key", ["behavior/a.bin", "late.json"])
def test_a_folder_that_changes_while_it_is_read_is_refused_whole(archive, registry, s3, unique, key):
    changed = False

    def hook(operation: str, _path: object) -> None:
        nonlocal changed
        if operation == "write" and not changed and list(archive.staging.iterdir()):
            changed = True
            s3.put_object(Bucket="assets", Key=f"{unique}/{key}", Body=b"other")

    with fsops.fault_hook(hook):
        [result] = deposit(archive, registry, [item(unique, s3)])
    assert changed
    assert (result.status, "changed" in result.reason) == ("refused", True)
    nothing_of(unique, archive, registry)
    assert [result.status for result in deposit(archive, registry, [item(unique, s3)])] == ["deposited"]


def test_an_outage_of_s3_in_the_middle_leaves_nothing_and_is_an_outage(archive, registry, unique):
    with moto() as (server, client):
        client.create_bucket(Bucket="assets")
        for number in range(5):
            client.put_object(Bucket="assets", Key=f"{unique}/{number}", Body=b"%d" % number)

        def hook(operation: str, path: object) -> None:
            if operation == "close" and getattr(path, "name", "") == "2":
                server.stop()

        with fsops.fault_hook(hook), pytest.raises(ServiceUnavailable, match=f"s3://assets/{unique}"):
            list(deposit(archive, registry, [item(unique, client)]))
    nothing_of(unique, archive, registry)
