"""Django settings of the registry, built from the environment when Django imports them.

``REGISTRY_DATABASE_URL``
    ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``postgresql://user:password@host:port/name``.
    Postgres needs its hstore extension, which django-neurobank's migrations use.
``REGISTRY_SECRET_KEY``
    Django's secret key. Required, except with fast passwords, where each process makes up its own.
``REGISTRY_ALLOWED_HOSTS``
    Host names under which the registry is reached, separated by commas. The loopback names are always among them.
``REGISTRY_FAST_PASSWORDS``
    ``1`` stores passwords by a hash that costs nothing, and so protects nothing: for the lab and tests only.
"""

from __future__ import annotations

import os
import secrets
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def database_from_url(url: str) -> dict[str, Any]:
    """Django's description of the database at `url`.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE``.

    Raises:
        ImproperlyConfigured: Another scheme, or no database name. The message does not repeat the URL.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": rest[1:],
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "timeout": 20,
                # A writer takes its lock at once, so that two of them wait for each other instead of failing.
                "transaction_mode": "IMMEDIATE",
                # FULL: an answered registration survives a power failure. A depositor removes its source upon it.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
            },
        }
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        parts = urlsplit(url)
        name = unquote(parts.path.lstrip("/"))
        if name:
            return {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": name,
                "HOST": parts.hostname or "",
                "PORT": parts.port or "",
                "USER": unquote(parts.username or ""),
                "PASSWORD": unquote(parts.password or ""),
                "CONN_MAX_AGE": 60,
                "CONN_HEALTH_CHECKS": True,
                "OPTIONS": dict(parse_qsl(parts.query)),
            }
    raise ImproperlyConfigured(
        "REGISTRY_DATABASE_URL must be sqlite:///PATH (four slashes for an absolute path) or "
        "postgresql://USER:PASSWORD@HOST:PORT/NAME."
    )


def _secret_key(fast_passwords: bool) -> str:
    if key := os.environ.get("REGISTRY_SECRET_KEY"):
        return key
    if fast_passwords:
        return secrets.token_urlsafe(50)
    raise ImproperlyConfigured(
        "REGISTRY_SECRET_KEY is not set. Set it to a long random text that stays the same between starts."
    )


def _hosts() -> list[str]:
    """The names that are listed, and loopback's: no foreign page has one of those, as DNS rebinding needs."""
    listed = os.environ.get("REGISTRY_ALLOWED_HOSTS", "")
    return [*(host.strip() for host in listed.split(",") if host.strip()), "127.0.0.1", "localhost", "[::1]"]


_FAST_PASSWORDS = os.environ.get("REGISTRY_FAST_PASSWORDS") == "1"

DEBUG = False
SECRET_KEY = _secret_key(_FAST_PASSWORDS)
ALLOWED_HOSTS = _hosts()
ROOT_URLCONF = "aind_pipelines.services.registry.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": database_from_url(os.environ.get("REGISTRY_DATABASE_URL", ""))}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "django_filters",
    "nbank_registry",
    "aind_pipelines.services.registry.batch",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "aind_pipelines.services.registry.middleware.atomic_writes",
]
# Answers are JSON only: no HTML page of the registry needs templates or static files.
REST_FRAMEWORK = {
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    # Lists of resources come in pages (Link header): one answer of a large archive would outlast its readers.
    "PAGE_SIZE": 1000,
}
SILENCED_SYSTEM_CHECKS = ["rest_framework.W001"]  # PAGE_SIZE without a default class: the view has its own
if _FAST_PASSWORDS:
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
