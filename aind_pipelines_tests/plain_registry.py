"""django-neurobank by itself: what our client must work with too, and what ours is compared with.

As a program, the registry's own with this module for its settings.
"""

from __future__ import annotations

import sys

from aind_pipelines.services.registry.site import *  # noqa: F403
from aind_pipelines.services.registry.site import INSTALLED_APPS as _APPS

ROOT_URLCONF = "aind_pipelines_tests.plain_registry_urls"
INSTALLED_APPS = [app for app in _APPS if not app.startswith("aind_pipelines")]

if __name__ == "__main__":
    from aind_pipelines.services.registry import __main__ as program
    from aind_pipelines.services.registry import server

    server.SETTINGS_MODULE = "aind_pipelines_tests.plain_registry"
    sys.exit(program.main())
