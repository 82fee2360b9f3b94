"""The app's routes, below ``/neurobank/``."""

from __future__ import annotations

from django.urls import path

from aind_pipelines.services.registry.batch import views

urlpatterns = [
    path("capabilities/", views.capabilities),
    path("archives/<slug:name>/contents/", views.archive_contents),
    path("batch/register/", views.Register.as_view()),
    path("batch/locate/", views.Locate.as_view()),
    path("batch/find/", views.Find.as_view()),
]
