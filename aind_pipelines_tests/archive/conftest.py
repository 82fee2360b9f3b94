"""What the archive's tests share: one registry, and a fresh archive in it for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from aind_pipelines.archive.layout import Archive, init_archive
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines_tests.registry_process import RegistryProcess

_numbers = itertools.count()


@pytest.fixture
def registry(registry_process: RegistryProcess) -> Iterator[RegistryClient]:
    with registry_process.client() as client:
        yield client


@pytest.fixture
def archive(tmp_path: Path, registry: RegistryClient) -> Archive:
    return init_archive(tmp_path / "live", registry, f"live{next(_numbers)}")


@pytest.fixture
def second(tmp_path: Path, registry: RegistryClient) -> Archive:
    """Another archive of the same registry."""
    return init_archive(tmp_path / "second", registry, f"second{next(_numbers)}")


@pytest.fixture
def third(tmp_path: Path, registry: RegistryClient) -> Archive:
    return init_archive(tmp_path / "third", registry, f"third{next(_numbers)}")


@pytest.fixture
def unique() -> str:
    """Part of identifiers and contents: the tests share one registry, which keeps both unique."""
    return f"t{next(_numbers)}"
