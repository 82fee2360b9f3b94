"""The lab's supervisor with only those services that a seed is loaded into, run as a program like the real one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aind_pipelines.lab import supervisor
from aind_pipelines.lab.home import LabHome
from aind_pipelines.lab.services import ServiceSpec, table

NEEDED = {"postgres", "docdb", "aws", "registry"}


def small_table(home: LabHome) -> Sequence[ServiceSpec]:
    return [service for service in table(home) if service.name in NEEDED]


if __name__ == "__main__":
    sys.exit(supervisor.main(services=small_table))
