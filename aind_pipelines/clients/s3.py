"""S3: listing the buckets that hold assets, with failures that name the bucket and the next step.

Listings are lazy and read in pages of 1,000. Nothing here writes; what does goes through `path`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.settings import load_settings_with_origins

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ListObjectsV2OutputTypeDef
    from upath import UPath

    from aind_pipelines.settings import Settings

SERVICE = "S3"
CONNECTIONS = 32
"""Connections a client keeps: as many threads may share it without waiting for each other."""

_TIMEOUT: tuple[float, float] = (5.0, 60.0)
_ATTEMPTS = 5
_PAGE = 1_000
_MISSING = frozenset({"NoSuchBucket", "404", "NotFound"})
_REFUSED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "401",
        "403",
    }
)


class BucketMissing(ServiceError):
    """The bucket does not exist.

    Attributes:
        bucket: Its name.
    """

    def __init__(self, bucket: str) -> None:
        super().__init__(SERVICE, f"bucket {bucket!r} does not exist. Correct the policy's s3.buckets, or create it.")
        self.bucket = bucket


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a bucket.

    Attributes:
        key: Its whole key.
        size: Bytes.
        etag: Entity tag without quotes; the MD5 of the content only where it was not uploaded in parts.
    """

    key: str
    size: int
    etag: str


def client(settings: Settings, *, timeout: tuple[float, float] | None = None, attempts: int | None = None) -> S3Client:
    """A client that threads may share, with credentials by boto3's own chain.

    An endpoint other than Amazon's (``AWS_ENDPOINT_URL``) is addressed by path, since a bucket is no host name there.

    Args:
        settings: Endpoint, region, profile and keys.
        timeout: Seconds to wait for (a connection, the next byte); None is patient.
        attempts: How often to ask in all; None is persistent.

    Raises:
        ServiceError: The configured profile, region or endpoint cannot be used.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = settings.aws_endpoint_url
    connecting, reading = timeout or _TIMEOUT
    config = Config(
        connect_timeout=connecting,
        read_timeout=reading,
        retries={"mode": "standard", "total_max_attempts": attempts or _ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "auto" if _is_amazon(endpoint) else "path"},
    )
    access_key, secret_key, token = _keys_of(settings)
    try:
        session = boto3.Session(
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            region_name=settings.aws_region,
            profile_name=settings.aws_profile,
        )
        return session.client("s3", endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ServiceError(
            SERVICE, f"no client can be made: {error}. Check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL."
        ) from None


def _keys_of(settings: Settings) -> tuple[str, str, str | None] | tuple[None, None, None]:
    """Keys that boto3's own chain would not find, with their session token: those of a ``.env`` file or an argument.

    Keys of the environment are left to it, with the token that belongs to them.
    """
    from botocore.credentials import EnvProvider

    access_key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if access_key is None or secret is None:
        return None, None, None
    environment = EnvProvider()
    if environment.environ.get("AWS_ACCESS_KEY_ID") == access_key:
        return None, None, None
    return access_key, secret.get_secret_value(), _token_of(settings)


def _token_of(settings: Settings) -> str | None:
    return None if settings.aws_session_token is None else settings.aws_session_token.get_secret_value()


def _is_amazon(endpoint: str | None) -> bool:
    if endpoint is None:
        return True
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of an ``s3://`` URI; the prefix has no slash at either end and may be empty.

    Raises:
        ValueError: It is no S3 URI, or names no bucket.
    """
    scheme, separator, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not separator or scheme.lower() not in {"s3", "s3a", "s3n"} or not bucket:
        raise ValueError(f"{uri!r} is no S3 location: s3://bucket/prefix is expected.")
    return bucket, prefix.strip("/")


def iter_listing_pages(
    s3: S3Client, bucket: str, prefix: str = "", *, delimiter: str = "", page_size: int = _PAGE
) -> Iterator[ListObjectsV2OutputTypeDef]:
    """Pages of a listing, one request each.

    Raises:
        BucketMissing: The bucket does not exist.
        AccessRefused: The credentials, or their right to list, were refused.
        ServiceUnavailable: No answer, after retries.
        UnexpectedAnswer: An answer outside of the contract.
    """
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": page_size}
    )
    with _translated(bucket, f"listing {prefix or 'the top level'}"):
        yield from pages


def list_top_prefixes(s3: S3Client, bucket: str) -> Iterator[str]:
    """Names of a bucket's top-level folders, without slash, in key order.

    Raises:
        ServiceError: As `iter_listing_pages`.
    """
    for page in iter_listing_pages(s3, bucket, delimiter="/"):
        yield from folders(page)


def list_children(s3: S3Client, bucket: str, prefix: str) -> list[str]:
    """Names of the folders directly below `prefix`, without slash, in key order; [] when there are none.

    Raises:
        ServiceError: As `iter_listing_pages`.
    """
    below = _as_folder(prefix)
    return [name for page in iter_listing_pages(s3, bucket, below, delimiter="/") for name in folders(page)]


def iter_objects(s3: S3Client, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
    """Every object below the folder `prefix`, in key order; with an empty prefix, every object of the bucket.

    The empty objects with which consoles mark folders (keys that end with a slash) are left out.

    Raises:
        ServiceError: As `iter_listing_pages`.
    """
    for page in iter_listing_pages(s3, bucket, _as_folder(prefix)):
        for item in page.get("Contents", ()):
            if not (item["Key"].endswith("/") and item["Size"] == 0):
                yield ObjectInfo(item["Key"], item["Size"], item.get("ETag", "").strip('"'))


def prefix_exists(s3: S3Client, bucket: str, prefix: str) -> bool:
    """Whether anything lies below the folder `prefix`. A missing bucket holds nothing.

    Raises:
        ServiceError: As `iter_listing_pages`, but for a missing bucket.
    """
    try:
        page = next(iter_listing_pages(s3, bucket, _as_folder(prefix), page_size=1), None)
    except BucketMissing:
        return False
    return page is not None and page.get("KeyCount", 0) > 0


def folders(page: ListObjectsV2OutputTypeDef) -> Iterator[str]:
    """Last names of the folders in a page of a listing with delimiter; folders without a name are left out."""
    for item in page.get("CommonPrefixes", ()):
        if name := item["Prefix"].rstrip("/").rpartition("/")[2]:
            yield name


def _as_folder(prefix: str) -> str:
    return f"{prefix.strip('/')}/" if prefix.strip("/") else ""


@contextmanager
def _translated(bucket: str, doing: str) -> Iterator[None]:
    """Turn botocore's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        _raise_ours(bucket, doing, error)
    except BotoCoreError as error:
        _raise_ours_without_answer(bucket, doing, error)


def _raise_ours(bucket: str, doing: str, error: ClientError) -> NoReturn:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    place = f"bucket {bucket!r}: {doing}"
    if code in _MISSING:
        raise BucketMissing(bucket) from None
    if code in _REFUSED or status in (401, 403):
        raise AccessRefused(
            SERVICE, f"{place} was refused ({code}). Check the AWS credentials and their right s3:ListBucket."
        ) from None
    if status >= 500 or status == 429 or code in {"SlowDown", "RequestTimeout", "ThrottlingException"}:
        raise ServiceUnavailable(
            SERVICE, f"{place} failed after retries ({code or status}). Try again later."
        ) from None
    raise UnexpectedAnswer(SERVICE, f"{place} answered {status} ({code}).") from None


def _raise_ours_without_answer(bucket: str, doing: str, error: BotoCoreError) -> NoReturn:
    from botocore import exceptions

    place = f"bucket {bucket!r}: {doing}"
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        raise AccessRefused(SERVICE, f"{place}: no AWS credentials were found. Set AWS_PROFILE or keys.") from None
    if isinstance(error, exceptions.TokenRetrievalError | exceptions.UnauthorizedSSOTokenError):
        raise AccessRefused(SERVICE, f"{place}: the AWS login has expired. Log in again.") from None
    if isinstance(error, exceptions.ParamValidationError):
        raise UnexpectedAnswer(SERVICE, f"{place}: {bucket!r} cannot be the name of a bucket.") from None
    raise ServiceUnavailable(
        SERVICE,
        f"{place}: the connection failed ({type(error).__name__}). Check the network and AWS_ENDPOINT_URL.",
    ) from None


def path(uri: str) -> UPath:
    """A `upath.UPath` for a URI, which reaches S3 with the configured endpoint and keys."""
    from upath import UPath

    made: UPath = UPath(uri, **(_s3fs_options() if uri.startswith("s3://") else {}))
    return made


def _s3fs_options() -> dict[str, Any]:
    """Options for s3fs: the endpoint, and the keys with their token unless it finds them in the environment itself.

    The endpoint is named although the environment may hold it, since s3fs keeps one file system per set of options.
    """
    loaded = load_settings_with_origins()
    settings = loaded.values
    options: dict[str, Any] = {}
    if settings.aws_endpoint_url is not None:
        options["endpoint_url"] = settings.aws_endpoint_url
    in_environment = loaded.origins["aws_access_key_id"].startswith("environment")
    if settings.aws_access_key_id and settings.aws_secret_access_key and not in_environment:
        options |= {"key": settings.aws_access_key_id, "secret": settings.aws_secret_access_key.get_secret_value()}
        if (token := _token_of(settings)) is not None:
            options["token"] = token
    return options
