"""What our site adds around django-neurobank's views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, transaction
from django.http import JsonResponse

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_READS = ("/neurobank/bulk/", "/neurobank/batch/find/")


def atomic_writes(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make each writing request one transaction, undone whenever the answer is an error.

    A resource and its locations are separate inserts in django-neurobank; without this, a failure between them leaves
    a resource without its location. Reads stay outside: on SQLite each transaction takes the write lock. Some routes
    are POSTs that only read.
    """

    def middleware(request: Any) -> Any:
        if request.method not in _WRITES or request.path.startswith(_READS):
            return get_response(request)
        with transaction.atomic():
            response = get_response(request)
            if response.status_code >= 400:
                transaction.set_rollback(True)
        return response

    def conflict(_request: Any, error: Exception) -> Any:
        """Refuse what another request registered between the check and the insert; SQLite's writers wait instead."""
        if not isinstance(error, IntegrityError):
            return None
        said = "Another request has just registered the same name, sha1, root or key. Look at what is there."
        return JsonResponse({"detail": said}, status=400)

    middleware.process_exception = conflict  # type: ignore[attr-defined] # where Django looks for it
    return middleware
