"""The environment of a benchmark and of every process that it starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from aind_pipelines.lab.environment import enter
from aind_pipelines.lab.home import LabHome


@contextmanager
def isolated() -> Iterator[None]:
    """Have of the caller's environment only what a lab has of it, and an empty home directory.

    What is imported or started inside meets no ``PYTHONPATH``, proxy, ``.env``, policy file, netrc, AWS profile or
    ``PG*`` of the caller's.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="aind-bench-home-") as folder:
        home = LabHome(folder)
        home.config_file.touch()
        home.dagster_home.mkdir()
        enter(home)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
