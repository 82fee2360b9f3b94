"""Verification of AWS Signature Version 4, as API Gateway does it for ``execute-api``.

Pure functions of a request's parts. The format is AWS's "Create a signed AWS API request"; what reaches us is what
``botocore.auth.SigV4Auth`` makes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "execute-api"
CLOCK_SKEW = timedelta(minutes=15)
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_PAIR = re.compile(r"(\w+)=([^,\s]+)")


class SignatureRefused(Exception):
    """The request is not signed as it must be; the message is what the caller is told."""


@dataclass(frozen=True)
class SignedRequest:
    """The parts of a request that a signature covers, as they arrived.

    Attributes:
        method: Upper-case method.
        path: Percent-encoded path, as on the request line.
        query: Query string, as on the request line, without the question mark.
        headers: (name, value) in the order of arrival.
        body: The whole body.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by commas, or None."""
        values = [" ".join(value.split()) for key, value in self.headers if key.lower() == name]
        return ",".join(values) if values else None


@dataclass(frozen=True)
class _Authorization:
    access_key: str
    date: str
    region: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{SERVICE}/aws4_request"


def _parse_authorization(value: str) -> _Authorization:
    algorithm, _, rest = value.partition(" ")
    if algorithm != ALGORITHM:
        raise SignatureRefused(f"Authorization header requires the algorithm {ALGORITHM}.")
    pairs = dict(_PAIR.findall(rest))
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if name not in pairs]
    if missing:
        raise SignatureRefused(f"Authorization header requires '{missing[0]}' parameter.")
    scope = pairs["Credential"].split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise SignatureRefused("Credential must be KEY/DATE/REGION/SERVICE/aws4_request.")
    access_key, date, region, service, _ = scope
    if service != SERVICE:
        raise SignatureRefused(f"Credential should be scoped to correct service: '{SERVICE}'.")
    signed = tuple(pairs["SignedHeaders"].split(";"))
    return _Authorization(access_key, date, region, signed, pairs["Signature"])


def _check_date(stamp: str | None, scope_date: str, now: datetime) -> str:
    if stamp is None:
        raise SignatureRefused("The request must carry an X-Amz-Date header.")
    try:
        signed_at = datetime.strptime(stamp, _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise SignatureRefused("X-Amz-Date must have the form YYYYMMDD'T'HHMMSS'Z'.") from None
    if stamp[:8] != scope_date:
        raise SignatureRefused("The date in the credential scope does not match X-Amz-Date.")
    if abs(now - signed_at) > CLOCK_SKEW:
        raise SignatureRefused(
            f"Signature expired: {stamp} is more than 15 minutes from {now.strftime(_DATE_FORMAT)}."
        )
    return stamp


def _canonical_path(path: str) -> str:
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if segments:
                segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    normal = "/" + "/".join(segments)
    if path.endswith("/") and segments:
        normal += "/"
    return quote(normal, safe="/~")  # every service but S3 encodes the encoded path once more


def _canonical_query(query: str) -> str:
    pairs = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_request(request: SignedRequest, signed_headers: Sequence[str]) -> str:
    """The canonical form of a request that both sides sign.

    Raises:
        SignatureRefused: A header that was signed did not arrive.
    """
    lines = []
    for name in signed_headers:
        value = request.header(name)
        if value is None:
            raise SignatureRefused(f"The signed header '{name}' is missing from the request.")
        lines.append(f"{name}:{value}\n")
    return "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            _canonical_query(request.query),
            "".join(lines),
            ";".join(signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _signing_key(secret_key: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def verify(request: SignedRequest, keys: Mapping[str, str], now: datetime) -> str:
    """Check a request's signature.

    Args:
        request: What arrived.
        keys: Secret key by access key.
        now: The present time, with a zone.

    Returns:
        The access key that signed.

    Raises:
        SignatureRefused: It is not signed, by an unknown key, too old, for another service, or does not match.
    """
    value = request.header("authorization")
    if value is None:
        raise SignatureRefused("Missing Authentication Token")
    given = _parse_authorization(value)
    if not {"host", "x-amz-date"} <= set(given.signed_headers):
        raise SignatureRefused("'Host' and 'X-Amz-Date' must be signed headers.")
    stamp = _check_date(request.header("x-amz-date"), given.date, now)
    payload_hash = request.header("x-amz-content-sha256")
    if payload_hash is not None and payload_hash != hashlib.sha256(request.body).hexdigest():
        raise SignatureRefused("X-Amz-Content-SHA256 does not match the body.")
    secret_key = keys.get(given.access_key)
    if secret_key is None:
        raise SignatureRefused("The security token included in the request is invalid.")
    canonical = hashlib.sha256(canonical_request(request, given.signed_headers).encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{stamp}\n{given.scope}\n{canonical}"
    expected = hmac.digest(_signing_key(secret_key, given.date, given.region), to_sign.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), given.signature.encode()):
        raise SignatureRefused(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
    return given.access_key
