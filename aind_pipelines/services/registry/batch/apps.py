"""The app's place in Django."""

from __future__ import annotations

from django.apps import AppConfig


class BatchConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """Batches beside django-neurobank."""

    name = "aind_pipelines.services.registry.batch"
    label = "registry_batch"
    default_auto_field = "django.db.models.BigAutoField"
