"""URLs of django-neurobank by itself."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("neurobank/", include("nbank_registry.urls"))]
