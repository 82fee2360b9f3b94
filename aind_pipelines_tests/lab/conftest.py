"""Labs of tiny services, run by the real supervisor as a daemon and stopped after each test."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aind_pipelines.lab import control
from aind_pipelines.lab.home import LabHome

PROGRAM = (sys.executable, str(Path(__file__).with_name("fake_lab.py")))


class TinyLab:
    """A home whose table of services a test writes itself."""

    def __init__(self, root: Path) -> None:
        self.home = LabHome(root)
        self.said: list[str] = []

    def define(self, *rows: dict[str, Any]) -> None:
        self.home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home.root / ".fake.json").write_text(json.dumps(rows))

    def up(self, **options: Any) -> bool:
        return control.ensure_up(self.home, on_progress=self.said.append, program=PROGRAM, **options)

    def service(self, name: str) -> control.ServiceStatus:
        return next(service for service in control.status(self.home).services if service.name == name)

    def wait_for(self, name: str, condition: Callable[[control.ServiceStatus], bool]) -> control.ServiceStatus:
        deadline = time.monotonic() + 15
        while not condition(seen := self.service(name)):
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyLab]:
    lab = TinyLab(tmp_path / "a lab")
    lab.define({"name": "docdb"}, {"name": "docdb_gateway", "depends_on": ["docdb"]}, {"name": "aws"})
    yield lab
    control.stop(lab.home)
