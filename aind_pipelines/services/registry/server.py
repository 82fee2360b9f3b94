"""Migrating, users and serving of the registry, for its own process and for the command line."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

SETTINGS_MODULE = "aind_pipelines.services.registry.site"
DEPOSITOR_RIGHTS = (
    "add_resource",
    "change_resource",
    "add_location",
    "delete_location",
    "add_archive",
    "change_archive",
    "add_datatype",
)
"""What a user who is no superuser may do: deposit, copy, register tapes, prune; never delete a resource's record."""


class RegistryNotReady(Exception):
    """The registry cannot be set up as configured; the message says why and what to do."""


def setup() -> None:
    """Load Django with the registry's settings; more calls do nothing.

    Raises:
        RegistryNotReady: A setting is missing or cannot be used.
    """
    import django
    from django.core.exceptions import ImproperlyConfigured

    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS_MODULE
    try:
        django.setup()
    except ImproperlyConfigured as error:
        raise RegistryNotReady(str(error)) from None


def migrate() -> None:
    """Bring the database to the schema of this release. Idempotent.

    Raises:
        RegistryNotReady: The database cannot be reached or changed.
    """
    setup()
    from django.core.management import call_command
    from django.db import Error

    try:
        call_command("migrate", verbosity=0, interactive=False)
    except Error as error:
        reason = " ".join(str(error).split())
        raise RegistryNotReady(f"The registry's database cannot be migrated: {reason}") from error


def create_user(username: str, password: str, superuser: bool = False) -> bool:
    """Make the user, or give an existing one this password and these rights. Idempotent.

    Args:
        username: Name to log in with.
        password: The password; it is stored by its hash only.
        superuser: May do everything, deleting records included; otherwise `DEPOSITOR_RIGHTS`.

    Returns:
        Whether the user is new.

    Raises:
        RegistryNotReady: The name or password is empty, or the database lacks its tables.
    """
    if not username or not password:
        raise RegistryNotReady("A registry user needs a name and a password (environment REGISTRY_USER_PASSWORD).")
    setup()
    from django.contrib.auth.models import Permission, User
    from django.db import OperationalError, ProgrammingError, transaction

    try:
        with transaction.atomic():
            user, created = User.objects.get_or_create(username=username)
            user.is_superuser = user.is_staff = superuser
            user.is_active = True
            if created or not user.check_password(password):
                user.set_password(password)
            user.save()
            rights = Permission.objects.filter(content_type__app_label="nbank_registry", codename__in=DEPOSITOR_RIGHTS)
            user.user_permissions.set([] if superuser else rights)
    except (OperationalError, ProgrammingError) as error:
        raise RegistryNotReady(f"The registry's users cannot be changed: {error}. Migrate it first.") from error
    return bool(created)


def serve(host: str, port: int, *, threads: int = 8) -> None:
    """Migrate, then answer on `host`:`port` until SIGTERM or SIGINT.

    Raises:
        RegistryNotReady: The database or the port cannot be used.
    """
    migrate()
    import waitress
    from django.core.wsgi import get_wsgi_application

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        server = waitress.create_server(get_wsgi_application(), host=host, port=port, threads=threads, ident=None)
    except OSError as error:
        raise RegistryNotReady(f"The registry cannot listen on {host}:{port}: {error.strerror}.") from error

    def stop(_signal: int, _frame: Any) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    logging.getLogger(__name__).info("registry at http://%s:%d/neurobank/", host, port)
    try:
        server.run()
    finally:
        server.close()
