"""URLs of the registry under ``/neurobank/``: our app and the guarded locations, else django-neurobank's API."""

from __future__ import annotations

from django.urls import include, path

from aind_pipelines.services.registry.guard import LocationDetail

_LOCATION = "neurobank/resources/<slug:resource_name>/locations/<slug:archive_pk>/"

urlpatterns = [
    path("neurobank/", include("aind_pipelines.services.registry.batch.urls")),
    path(_LOCATION, LocationDetail.as_view()),
    path("neurobank/", include("nbank_registry.urls")),
]
