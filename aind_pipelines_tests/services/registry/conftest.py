"""The registry on each engine that it is made for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.engine import URL

from aind_pipelines_tests.postgres import debian_postgres_url, new_database
from aind_pipelines_tests.registry_process import (
    RegistryProcess,
    running_registry,
)

__all__ = ["debian_postgres_url"]

_ENGLISH = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en'"
"""A database that sorts as people do: its order is not that of the bytes."""
NewRegistry = Callable[[], contextlib.AbstractContextManager[RegistryProcess]]


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def new_registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewRegistry:
    """Makes registries on one of the engines, each with its users and nothing else."""
    server: URL | None = request.getfixturevalue("debian_postgres_url") if request.param == "postgres" else None

    @contextlib.contextmanager
    def made() -> Iterator[RegistryProcess]:
        with contextlib.ExitStack() as stack:
            database = None
            if server is not None:
                url = stack.enter_context(new_database(server, options=_ENGLISH)).set(drivername="postgresql")
                database = url.render_as_string(hide_password=False)
            yield stack.enter_context(running_registry(tmp_path_factory.mktemp("registry"), database, empty=True))

    return made


@pytest.fixture(scope="session")
def registry(new_registry: NewRegistry) -> Iterator[RegistryProcess]:
    """Our registry on one of the engines, with a data type and two archives, for many tests."""
    with new_registry() as running:
        yield filled(running)


def filled(running: RegistryProcess) -> RegistryProcess:
    with running.client() as client:
        client.add_dtype("session-raw", "application/x-session")
        for name in ("one", "two"):
            client.add_archive(name, f"/archives/{name}")
    return running


@pytest.fixture
def unique() -> str:
    """The start of identifiers that no other test has."""
    return "t" + os.urandom(5).hex()
