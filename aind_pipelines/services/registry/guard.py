"""The last location of a resource cannot be deleted: a registry never forgets where the only copy is."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from nbank_registry import views
from nbank_registry.models import Location, Resource
from rest_framework.exceptions import ValidationError


class LocationDetail(views.LocationDetail):  # type: ignore[misc] # django-neurobank has no types
    """django-neurobank's view of one location, with a DELETE that leaves the last one.

    Two requests that delete the two last locations of a resource are put in a row by a lock on the resource's record
    (on SQLite every writing request has the database to itself), so that the second sees what the first did.
    """

    description = ""  # as django-neurobank's OPTIONS tells it

    def perform_destroy(self, instance: Any) -> None:
        """Delete `instance` unless it is the last one. Runs in the request's transaction (see `middleware`)."""
        get_object_or_404(Resource.objects.select_for_update(), pk=instance.resource_id)
        location = get_object_or_404(Location, pk=instance.pk)
        if not Location.objects.filter(resource_id=location.resource_id).exclude(pk=location.pk).exists():
            name, archive = self.kwargs["resource_name"], self.kwargs["archive_pk"]
            raise ValidationError(
                {
                    "detail": f"{archive} is the last location of {name} and is kept. "
                    "Add another location first, or delete the resource."
                }
            )
        location.delete()
