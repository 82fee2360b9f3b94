"""S3 client: listings against a real moto server, and failures that say what to do."""

from __future__ import annotations

import os
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aind_pipelines.clients import s3 as module
from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.s3 import (
    BucketMissing,
    client,
    iter_objects,
    list_children,
    list_top_prefixes,
    parse_uri,
    prefix_exists,
)
from aind_pipelines.settings import Settings, load_settings
from aind_pipelines_tests.moto import fill, free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def test_top_prefixes_are_the_folders_and_not_the_files(s3: S3Client) -> None:
    fill(s3, "bucket", "a_1/x/1.txt", "a_1/y.txt", "a_2/z", "loose.txt", "//nameless")
    assert list(list_top_prefixes(s3, "bucket")) == ["a_1", "a_2"]


def test_listings_go_on_over_many_pages(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(s3, "bucket", *(f"p{number:02}/x" for number in range(7)))
    pages = list(module.iter_listing_pages(s3, "bucket", delimiter="/", page_size=3))
    assert [len(page.get("CommonPrefixes", ())) for page in pages] == [3, 3, 1]
    assert len(list(list_top_prefixes(s3, "bucket"))) == 7


def test_children_are_the_folders_directly_below(s3: S3Client) -> None:
    fill(s3, "bucket", "a/ecephys/raw/1", "a/behavior/2", "a/metadata.nd.json", "a2/other/3")
    assert list_children(s3, "bucket", "a") == ["behavior", "ecephys"]
    assert list_children(s3, "bucket", "/a/") == ["behavior", "ecephys"]
    assert list_children(s3, "bucket", "nothing") == []


def test_objects_of_a_folder_have_key_size_and_etag(s3: S3Client) -> None:
    fill(s3, "bucket", "a/1.txt", "a/x/2", "ab/3")
    s3.put_object(Bucket="bucket", Key="a/folder/", Body=b"")
    found = list(iter_objects(s3, "bucket", "a"))
    assert [(item.key, item.size) for item in found] == [("a/1.txt", 7), ("a/x/2", 5)]
    assert found[0].etag == s3.head_object(Bucket="bucket", Key="a/1.txt")["ETag"].strip('"')
    assert len(list(iter_objects(s3, "bucket", ""))) == 3


def test_a_prefix_exists_only_as_a_whole_folder(s3: S3Client) -> None:
    fill(s3, "bucket", "session_sorted/1")
    assert prefix_exists(s3, "bucket", "session_sorted")
    assert prefix_exists(s3, "bucket", "session_sorted/")
    assert not prefix_exists(s3, "bucket", "session")
    assert not prefix_exists(s3, "no-such-bucket", "session")


def test_a_missing_bucket_is_named(s3: S3Client) -> None:
    with pytest.raises(BucketMissing, match="'no-such-bucket' does not exist") as raised:
        list(list_top_prefixes(s3, "no-such-bucket"))
    assert raised.value.bucket == "no-such-bucket"


def test_a_name_that_no_bucket_can_have_is_named(s3: S3Client) -> None:
    with pytest.raises(UnexpectedAnswer, match="cannot be the name of a bucket"):
        list(list_top_prefixes(s3, "not a bucket"))


def test_an_unreachable_endpoint_is_an_outage_and_never_an_empty_listing() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    nowhere = client(
        Settings(aws_endpoint_url=url, aws_region="us-west-2", aws_access_key_id="a", aws_secret_access_key="b"),
        attempts=1,
    )
    started = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="AWS_ENDPOINT_URL") as raised:
        list(list_top_prefixes(nowhere, "bucket"))
    assert raised.value.retryable
    with pytest.raises(ServiceUnavailable):
        prefix_exists(nowhere, "bucket", "p")
    assert time.monotonic() - started < 20


def test_a_refusal_says_which_right_is_missing(s3: S3Client, moto_url: str) -> None:
    def check_from_now_on(free_requests: int) -> None:
        urllib.request.urlopen(
            urllib.request.Request(
                f"{moto_url}/moto-api/reset-auth",
                data=str(free_requests).encode(),
                headers={"Content-Type": "text/plain"},
            ),
            timeout=10,
        ).close()

    fill(s3, "bucket", "a/1")
    check_from_now_on(0)
    try:
        with pytest.raises(AccessRefused, match="s3:ListBucket"):
            list(list_top_prefixes(s3, "bucket"))
    finally:
        check_from_now_on(10**9)


def test_no_credentials_at_all_is_a_refusal(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    anonymous = client(Settings(aws_endpoint_url=moto_url, aws_region="us-west-2"))
    with pytest.raises(AccessRefused, match="no AWS credentials"):
        list(list_top_prefixes(anonymous, "bucket"))


def test_an_unknown_profile_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(ServiceError, match="AWS_PROFILE"):
        client(Settings(aws_profile="none-such", aws_region="us-west-2"))


def test_a_session_token_of_the_environment_stays_with_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    made = client(Settings(aws_access_key_id="key", aws_secret_access_key="secret", aws_region="us-west-2"))
    assert made._request_signer._credentials.token == "token"
    other = client(Settings(aws_access_key_id="mine", aws_secret_access_key="other", aws_region="us-west-2"))
    assert other._request_signer._credentials.access_key == "mine"
    assert other._request_signer._credentials.token is None


def test_a_session_token_of_a_dotenv_file_goes_with_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("AIND_PIPELINES_NO_DOTENV")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\nAWS_SESSION_TOKEN=token\nAWS_REGION=us-west-2\n"
    )
    made = client(load_settings())._request_signer._credentials
    assert (made.access_key, made.secret_key, made.token) == ("key", "secret", "token")
    assert module.path("s3://bucket/x").storage_options["token"] == "token"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "pair")
    made = client(load_settings())._request_signer._credentials
    assert (made.access_key, made.secret_key, made.token) == ("other", "pair", None)
    assert "token" not in module.path("s3://bucket/x").storage_options


@pytest.mark.parametrize(
    ("endpoint", "style"),
    [
        (None, "auto"),
        ("https://s3.us-west-2.amazonaws.com", "auto"),
        ("http://127.0.0.1:9000", "path"),
        ("https://minio.example.org", "path"),
        ("https://amazonaws.com.example.org", "path"),
    ],
)
def test_only_amazon_is_addressed_by_host_name(endpoint: str | None, style: str) -> None:
    made = client(Settings(aws_endpoint_url=endpoint, aws_region="us-west-2"))
    assert made.meta.config.s3 is not None
    assert made.meta.config.s3["addressing_style"] == style


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b/p", ("b", "p")),
        ("s3://b/p/", ("b", "p")),
        ("s3://b", ("b", "")),
        ("s3://b/p/q r#?x", ("b", "p/q r#?x")),
        ("S3://b/p", ("b", "p")),
    ],
)
def test_uris_are_taken_apart(uri: str, expected: tuple[str, str]) -> None:
    assert parse_uri(uri) == expected


@pytest.mark.parametrize("uri", ["", "b/p", "gs://b/p", "s3:/b/p", "s3:///p", "s3://"])
def test_what_is_no_s3_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="no S3 location"):
        parse_uri(uri)
