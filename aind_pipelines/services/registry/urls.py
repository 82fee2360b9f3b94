"""URLs of the registry: django-neurobank's API under ``/neurobank/``."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("neurobank/", include("nbank_registry.urls"))]
