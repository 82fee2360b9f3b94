"""S3 on a real socket for tests: the moto server as a child process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from aind_pipelines_tests.clients.servers import AwsServer, child, wait_for_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """URL of a moto server that lives as long as the test session."""
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
                break
            except urllib.error.URLError:
                assert process.poll() is None, "moto ended"
                assert time.monotonic() < deadline, "moto is not ready"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def s3(moto_url: str) -> Iterator[S3Client]:
    """Our client on a moto that holds nothing, with nothing of the caller's AWS configuration."""
    from aind_pipelines.clients.s3 import client
    from aind_pipelines.settings import Settings

    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST"), timeout=10).close()
    settings = Settings(
        aws_endpoint_url=moto_url,
        aws_region="us-west-2",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield client(settings)


def fill(s3: S3Client, bucket: str, *keys: str) -> None:
    """Create `bucket` with small objects under `keys`."""
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """Another one, with the keys it is asked with; it is never emptied."""
    port, log = free_port(), tmp_path_factory.mktemp("aws") / "log"
    with child("moto.server", "-H", "127.0.0.1", "-p", str(port), log=log) as process:
        wait_for_port(port, process, log)
        yield AwsServer(f"http://127.0.0.1:{port}")


@pytest.fixture
def aws_environment(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    """The caller's environment as one needs it to reach that server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws.secret_key)
    monkeypatch.setenv("AWS_REGION", aws.region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", aws.region)
    return aws
