"""Idempotency keys: a request that is sent again under its key gets the answer that it got, and changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework.exceptions import APIException, ValidationError

from aind_pipelines.services.registry.batch.models import Answer

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(days=7)
_KEY_LENGTH = 128
_FORGOTTEN_AT_ONCE = 100


class OtherRequest(APIException):  # type: ignore[misc] # rest_framework has no types
    """The key was used for another request."""

    status_code = 409
    default_detail = f"This {HEADER} was used for another request. Use a new key for each."


def answer_once(request: Any, body: bytes, work: Callable[[], Any]) -> Any:
    """The answer of `work`, or the one that was given under the request's key.

    Runs inside the request's transaction: the answer is kept if and only if what it tells was done. A second request
    under the same key waits for the first to end.

    Raises:
        OtherRequest: The key belongs to another route or body.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return work()
    if not 0 < len(key) <= _KEY_LENGTH or not key.isprintable():
        raise ValidationError({"detail": f"{HEADER} must be 1 to {_KEY_LENGTH} printable characters."})
    digest = hashlib.sha256(request.path.encode() + b"\0" + body).hexdigest()
    _forget()
    kept, new = Answer.objects.get_or_create(user=request.user, key=key, defaults={"digest": digest})
    if not new:
        if kept.digest != digest:
            raise OtherRequest
        return json.loads(kept.body)
    answer = work()
    kept.body = json.dumps(answer)
    kept.save(update_fields=["body"])
    return answer


def _forget() -> None:
    """Remove some of the answers whose time is over."""
    over = Answer.objects.filter(created_on__lt=timezone.now() - KEPT_FOR).select_for_update(skip_locked=True)
    if ids := list(over.values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE]):
        Answer.objects.filter(pk__in=ids).delete()
