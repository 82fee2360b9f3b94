"""What botocore signs is accepted; anything changed afterwards is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.services.docdb_gateway.sigv4 import SignatureRefused, SignedRequest, verify

KEYS = {"AKIDLAB": "s3cret/with+odd=characters"}


def now() -> datetime:
    return datetime.now(UTC)


def signed(
    method: str = "POST",
    url: str = "http://127.0.0.1:8080/v1/metadata_index/data_assets/update_one",
    body: bytes = b'{"filter": {}}',
    key: str = "AKIDLAB",
    secret: str = KEYS["AKIDLAB"],
    region: str = "us-west-2",
    service: str = "execute-api",
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> SignedRequest:
    """A request as it arrives after botocore signed it."""
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {"Content-Type": "application/json"})
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(request)
    parts = urlsplit(url)
    arrived = [("host", parts.netloc), *((name.lower(), value) for name, value in request.headers.items())]
    return SignedRequest(method, parts.path, parts.query, arrived, body)


def changed(request: SignedRequest, **parts: object) -> SignedRequest:
    return SignedRequest(**{**request.__dict__, **parts})  # type: ignore[arg-type]


def with_header(request: SignedRequest, name: str, value: str | None) -> SignedRequest:
    headers = [(key, old) for key, old in request.headers if key != name]
    return changed(request, headers=headers if value is None else [*headers, (name, value)])


@pytest.mark.parametrize("region", ["us-west-2", "eu-central-1", "antarctica-1"])
def test_botocores_signature_is_accepted_for_any_region(region: str) -> None:
    assert verify(signed(region=region), KEYS, now()) == "AKIDLAB"


def test_a_session_token_is_covered_by_the_signature() -> None:
    request = signed(token="temporary")
    assert verify(request, KEYS, now()) == "AKIDLAB"
    with pytest.raises(SignatureRefused, match="does not match"):
        verify(with_header(request, "x-amz-security-token", "another"), KEYS, now())


encoded_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(
    lambda text: text not in (".", "..")
)


@given(
    segments=st.lists(encoded_text, min_size=1, max_size=4),
    query=st.dictionaries(encoded_text, encoded_text, max_size=3),
    body=st.binary(max_size=50),
    method=st.sampled_from(["GET", "POST", "DELETE"]),
)
def test_any_percent_encoded_url_and_body_verify(
    segments: list[str], query: dict[str, str], body: bytes, method: str
) -> None:
    path = "/".join(quote(segment, safe="") for segment in segments)
    pairs = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in query.items())
    url = f"http://localhost:9/{path}" + (f"?{pairs}" if pairs else "")
    assert verify(signed(method, url, body), KEYS, now()) == "AKIDLAB"


@given(position=st.integers(0, 13), replacement=st.integers(0, 255))
def test_a_body_changed_in_any_byte_is_refused(position: int, replacement: int) -> None:
    request = signed()
    body = bytearray(request.body)
    body[position] = replacement
    if bytes(body) != request.body:
        with pytest.raises(SignatureRefused, match="does not match"):
            verify(changed(request, body=bytes(body)), KEYS, now())


def test_a_changed_method_path_query_or_signed_header_is_refused() -> None:
    request = signed()
    for other in (
        changed(request, method="DELETE"),
        changed(request, path="/v1/metadata_index/data_assets/delete_one"),
        changed(request, query="a=1"),
        with_header(request, "host", "other"),
    ):
        with pytest.raises(SignatureRefused, match="does not match"):
            verify(other, KEYS, now())


def test_a_wrong_secret_an_unknown_key_and_another_service_are_refused() -> None:
    with pytest.raises(SignatureRefused, match="does not match"):
        verify(signed(secret="wrong"), KEYS, now())
    with pytest.raises(SignatureRefused, match=r"security token.*invalid"):
        verify(signed(key="AKIDOTHER"), KEYS, now())
    with pytest.raises(SignatureRefused, match="execute-api"):
        verify(signed(service="s3"), KEYS, now())


def test_a_signature_is_good_for_a_quarter_of_an_hour_either_way() -> None:
    request = signed()
    for minutes in (-14, 14):
        assert verify(request, KEYS, now() + timedelta(minutes=minutes)) == "AKIDLAB"
    for minutes in (-16, 16):
        with pytest.raises(SignatureRefused, match="expired"):
            verify(request, KEYS, now() + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("authorization", None, "Missing Authentication Token"),
        ("authorization", "Basic YTpi", "AWS4-HMAC-SHA256"),
        ("authorization", "AWS4-HMAC-SHA256 nothing", "Credential"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "KEY/DATE"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20260101/r/execute-api/aws4_request, SignedHeaders=host, Signature=0",
            "must be signed",
        ),
        ("x-amz-date", None, "X-Amz-Date"),
        ("x-amz-date", "yesterday", "YYYYMMDD"),
        ("x-amz-date", "20200101T000000Z", "scope"),
        ("x-amz-content-sha256", "0" * 64, "does not match the body"),
        ("content-type", "text/plain", "does not match the signature"),
        ("host", None, "'host' is missing"),
    ],
)
def test_malformed_or_missing_parts_are_refused_in_words(header: str, value: str | None, words: str) -> None:
    request = signed()
    with pytest.raises(SignatureRefused, match=words):
        verify(with_header(request, header, value), KEYS, now())


@given(value=st.text(max_size=80))
def test_no_authorization_header_crashes_the_verifier(value: str) -> None:
    with pytest.raises(SignatureRefused):
        verify(with_header(signed(), "authorization", f"AWS4-HMAC-SHA256 {value}"), KEYS, now())
