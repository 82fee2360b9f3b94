"""What the app keeps: the answers that were given under idempotency keys."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models


class Answer(models.Model):  # type: ignore[misc] # Django has no types
    """The answer to one writing batch, kept for some days so that the same request can be sent again.

    Attributes:
        user: Who sent it; keys of different users do not meet.
        key: The ``Idempotency-Key`` header.
        digest: SHA-256 of the route and the body, hex.
        body: The answer as JSON.
        created_on: When it was given.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=128)
    digest = models.CharField(max_length=64)
    body = models.TextField()
    created_on = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        """One answer for each key of a user."""

        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "key"], name="registry_batch_answer_key")]

    def __str__(self) -> str:
        return str(self.key)
