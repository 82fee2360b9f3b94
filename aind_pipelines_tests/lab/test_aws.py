"""The lab's AWS child: seeded before its port opens, again after a restart, and when told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from aind_pipelines.settings import S3Policy

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """One AWS child on a port of its own."""

    def __init__(self, seed: Path, port: int, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aind_pipelines.lab.aws", "--port", str(port), "--seed", str(seed)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self.process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def reload(self) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/moto-api/lab-seed", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: dict[str, Any] = json.load(answer)
            return body

    def client(self, service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-west-2",
            aws_access_key_id="AKIAAAAAAAAAAAAAAAAA",
            aws_secret_access_key="any",
            config=Config(retries={"max_attempts": 1}),
        )

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Stop it; how many seconds that took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return time.monotonic() - started


KEY = "a b/c+d#e%2F é?&=.txt"


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    folder = tmp_path / "seed"
    objects = folder / "aws" / "s3" / "a-bucket"
    (objects / "a b").mkdir(parents=True)
    (objects / "a b" / "c+d#e%2F é?&=.txt").write_bytes(b"one")
    (objects / "second").write_bytes(b"two")
    (objects / "half.tmp~").write_bytes(b"not yet")
    (folder / "aws" / "secrets.json").write_text(json.dumps({"/doc/db/secret/name": {"host": "h", "port": 1}}))
    (folder / "aws" / "parameters.json").write_text(json.dumps({"/a/parameter": {"x": "y"}}))
    return folder


@pytest.fixture
def child(seed: Path) -> Iterator[Child]:
    started = Child(seed, free_port())
    try:
        started.ready()
        yield started
    finally:
        started.end()


def keys(child: Child, bucket: str) -> list[str]:
    return [item["Key"] for item in child.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_whoever_can_connect_finds_the_seed(child: Child) -> None:
    assert keys(child, "a-bucket") == [KEY, "second"]
    assert child.client("s3").get_object(Bucket="a-bucket", Key=KEY)["Body"].read() == b"one"
    secret = child.client("secretsmanager").get_secret_value(SecretId="/doc/db/secret/name")["SecretString"]
    assert json.loads(secret) == {"host": "h", "port": 1}
    parameter = child.client("ssm").get_parameter(Name="/a/parameter", WithDecryption=True)["Parameter"]["Value"]
    assert json.loads(parameter) == {"x": "y"}


def test_the_buckets_of_the_policy_are_there_without_a_seed(tmp_path: Path) -> None:
    child = Child(tmp_path / "nothing", free_port())
    try:
        child.ready()
        names = {bucket["Name"] for bucket in child.client("s3").list_buckets()["Buckets"]}
        assert names == set(S3Policy().buckets)
    finally:
        child.end()


def test_the_buckets_are_those_of_the_policy_file(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[s3]\nbuckets = ["only-this"]\n')
    child = Child(tmp_path, free_port(), AIND_PIPELINES_CONFIG=str(policy))
    try:
        child.ready()
        assert [bucket["Name"] for bucket in child.client("s3").list_buckets()["Buckets"]] == ["only-this"]
    finally:
        child.end()


def test_a_reload_brings_in_what_is_new_and_leaves_the_rest_alone(child: Child, seed: Path) -> None:
    s3 = child.client("s3")
    before = s3.head_object(Bucket="a-bucket", Key="second")
    assert child.reload() == {"buckets": 0, "objects": 0, "secrets": 0, "parameters": 0}
    (seed / "aws" / "s3" / "b-bucket").mkdir()
    (seed / "aws" / "s3" / "b-bucket" / "new").write_bytes(b"three")
    (seed / "aws" / "s3" / "a-bucket" / "a b" / "c+d#e%2F é?&=.txt").write_bytes(b"other")
    (seed / "aws" / "secrets.json").write_text(json.dumps({"/doc/db/secret/name": {"host": "i"}, "another": {}}))
    (seed / "aws" / "parameters.json").write_text(json.dumps({"/a/parameter": {"x": "z"}}))
    assert child.reload() == {"buckets": 1, "objects": 2, "secrets": 2, "parameters": 1}
    assert keys(child, "b-bucket") == ["new"]
    assert s3.get_object(Bucket="a-bucket", Key=KEY)["Body"].read() == b"other"
    assert s3.head_object(Bucket="a-bucket", Key="second")["LastModified"] == before["LastModified"]
    secret = child.client("secretsmanager").get_secret_value(SecretId="/doc/db/secret/name")["SecretString"]
    assert json.loads(secret) == {"host": "i"}
    assert json.loads(child.client("ssm").get_parameter(Name="/a/parameter")["Parameter"]["Value"]) == {"x": "z"}


def test_a_restart_brings_the_seed_back_with_its_times(seed: Path) -> None:
    port, seen = free_port(), []
    os.utime(seed / "aws" / "s3" / "a-bucket" / "second", (1_600_000_000, 1_600_000_000))
    for number in (signal.SIGKILL, signal.SIGTERM):
        child = Child(seed, port)
        try:
            child.ready()
            child.client("s3").put_object(Bucket="a-bucket", Key="by-hand", Body=b"lost at the end")
            found = child.client("s3").head_object(Bucket="a-bucket", Key="second")
            seen.append((found["ETag"], found["LastModified"].timestamp()))
        finally:
            child.end(number)
    assert seen[0] == seen[1]
    assert seen[0][1] == 1_600_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_soon_even_with_an_idle_connection(seed: Path, number: signal.Signals) -> None:
    port = free_port()
    child = Child(seed, port)
    try:
        child.ready()
        with socket.create_connection(("127.0.0.1", port)):
            assert child.end(number) < 8  # it would wait for the connection, for ever
        assert child.process.returncode == 0
    finally:
        child.end()


def test_a_taken_port_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        child = Child(tmp_path, port)
        _, error = child.process.communicate(timeout=60)
    assert child.process.returncode == 1
    assert error.startswith(f"aws: port {port} of 127.0.0.1 cannot be opened")
    assert error.count("\n") == 1


def test_a_seed_that_cannot_be_read_is_named(seed: Path) -> None:
    (seed / "aws" / "secrets.json").write_text('{"half": ')
    child = Child(seed, free_port())
    _, error = child.process.communicate(timeout=60)
    assert child.process.returncode == 1
    assert "secrets.json cannot be read" in error
    assert "Traceback" not in error


def test_a_reload_of_a_broken_seed_says_so_and_the_service_lives_on(child: Child, seed: Path) -> None:
    (seed / "aws" / "parameters.json").write_text("[]")
    with pytest.raises(urllib.error.HTTPError) as raised:
        child.reload()
    with raised.value as answer:
        assert "parameters.json must hold one JSON object" in json.load(answer)["message"]
    assert keys(child, "a-bucket") == [KEY, "second"]


def test_many_small_reads_are_not_held_up_and_memory_stays_small(child: Child) -> None:
    s3 = child.client("s3")
    s3.get_object(Bucket="a-bucket", Key="second")
    times = []
    for _ in range(50):
        started = time.monotonic()
        s3.get_object(Bucket="a-bucket", Key="second")["Body"].read()
        times.append(time.monotonic() - started)
    # A delayed acknowledgement would cost each of them 40 ms; another program may cost some of them more.
    assert min(times) < 0.03
    assert psutil.Process(child.process.pid).memory_full_info().uss < 110e6


def test_what_is_checked_is_what_the_manual_says(child: Child) -> None:
    child.ready()
    s3, bucket = child.client("s3"), S3Policy().buckets[0]
    s3.put_object(Bucket=bucket, Key="private", Body=b"1", ContentMD5="XrY7u+Ae7tCTyyK7j1rNww==")
    unsigned = boto3.client(
        "s3", endpoint_url=child.url, region_name="us-west-2", config=Config(signature_version=UNSIGNED)
    )
    for ask in (unsigned.get_object, unsigned.delete_object):
        with pytest.raises(ClientError, match="403"):
            ask(Bucket=bucket, Key="private")
    unsigned.put_object(Bucket=bucket, Key="unsigned", Body=b"1")
    assert {"private", "unsigned"} <= {one["Key"] for one in unsigned.list_objects_v2(Bucket=bucket)["Contents"]}
    expired = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "private"}, ExpiresIn=-60)
    with urllib.request.urlopen(expired, timeout=30) as answer:
        assert answer.read() == b"1"
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]}))
    with pytest.raises(ClientError, match="403"):
        s3.get_object(Bucket=bucket, Key="private")
    secrets = child.client("secretsmanager")
    secrets.create_secret(Name="made-by-anybody", SecretString="v", KmsKeyId="alias/nowhere")
    assert secrets.get_secret_value(SecretId="made-by-anybody")["SecretString"] == "v"
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        secrets.get_secret_value(SecretId="nowhere")
