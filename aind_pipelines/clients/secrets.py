"""Secrets and parameters of AWS, by name.

Credentials, region and endpoint come from boto3's own chain (``AWS_*`` variables, profiles, roles). Nothing is kept:
a rotated secret is seen by the next call.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable, UnexpectedAnswer

_REFUSED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
_MISSING = frozenset({"ResourceNotFoundException", "ParameterNotFound"})
_BUSY = frozenset({"InternalServiceError", "InternalServerError", "ThrottlingException"})


def get_secret(name: str, *, region: str | None = None) -> dict[str, Any]:
    """A secret of AWS Secrets Manager that holds one JSON object.

    Args:
        name: Name or ARN.
        region: Region; None takes it from boto3's chain.

    Raises:
        AccessRefused: No credentials, or they lack the right.
        ServiceUnavailable: AWS cannot be reached.
        UnexpectedAnswer: The secret is no JSON object.
        ServiceError: No such secret, or no region.
    """
    service = "AWS Secrets Manager"
    with _translated(service, f"secret {name!r}"):
        answer: Any = _client("secretsmanager", region).get_secret_value(SecretId=name)
    return _json_object(service, f"secret {name!r}", answer.get("SecretString") or answer.get("SecretBinary"))


def get_parameter(name: str, *, with_decryption: bool = True, region: str | None = None) -> dict[str, Any]:
    """A parameter of the AWS parameter store that holds one JSON object; arguments and errors as of `get_secret`."""
    service = "AWS parameter store"
    with _translated(service, f"parameter {name!r}"):
        answer: Any = _client("ssm", region).get_parameter(Name=name, WithDecryption=with_decryption)
    return _json_object(service, f"parameter {name!r}", answer["Parameter"].get("Value"))


def _client(service: str, region: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
    # A session of its own: boto3's default one keeps the credentials that it found first.
    session: Any = boto3.session.Session()
    return session.client(service, region_name=region, config=config)


@contextmanager
def _translated(service: str, what: str) -> Iterator[None]:
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        HTTPClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
    )
    from botocore.exceptions import ConnectionError as NotConnected

    try:
        yield
    except NoRegionError:
        raise ServiceError(
            service,
            f"{what} cannot be read: no AWS region is set. Set AWS_REGION (e.g. us-west-2), or AWS_PROFILE to one "
            "that has a region.",
        ) from None
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound) as error:
        raise AccessRefused(
            service,
            f"{what} cannot be read: {error}. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        ) from None
    except (HTTPClientError, NotConnected) as error:
        raise ServiceUnavailable(
            service, f"{what} cannot be read: {error}. Check the network, AWS_REGION and AWS_ENDPOINT_URL."
        ) from None
    except ClientError as error:
        raise _refusal(service, what, error.response.get("Error", {})) from None
    except BotoCoreError as error:
        raise ServiceError(service, f"{what} cannot be read: {error}. Check the AWS settings.") from None


def _refusal(service: str, what: str, error: Any) -> ServiceError:
    code, message = str(error.get("Code", "unknown")), str(error.get("Message", ""))
    said = f"{what} cannot be read: {code} ({message})"
    if code in _MISSING:
        return ServiceError(service, f"{said}. Check the name, the region and the account.")
    if code in _REFUSED:
        return AccessRefused(service, f"{said}. Check the AWS credentials and their rights.")
    if code in _BUSY or code.startswith("5"):
        return ServiceUnavailable(service, f"{said}. Try again later.")
    return ServiceError(service, f"{said}.")


def _json_object(service: str, what: str, text: Any) -> dict[str, Any]:
    body = None
    # Not raised from the decoder's error: that one holds the secret's text.
    with contextlib.suppress(ValueError, TypeError):
        body = json.loads(text)
    if not isinstance(body, dict):
        raise UnexpectedAnswer(service, f"{what} must hold one JSON object. Store it as key/value pairs.")
    return body
