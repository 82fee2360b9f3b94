"""What our site adds around django-neurobank's views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

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

    return middleware
