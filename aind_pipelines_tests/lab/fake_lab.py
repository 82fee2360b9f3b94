"""The supervisor with a table of tiny services, run as a program like the real one.

``.fake.json`` in the home says what is in the table, as a list of {"name", "arguments", "depends_on", "deadline",
"program", "faulty"}; {"name", "real": true} stands for a row of the real table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from aind_pipelines.lab import probes, supervisor
from aind_pipelines.lab.home import HOST, LabHome
from aind_pipelines.lab.services import Runner, ServiceSpec, table

SERVICE = Path(__file__).with_name("fake_service.py")


async def _fault(_: Runner) -> None:
    raise ZeroDivisionError


def fake_table(home: LabHome) -> Sequence[ServiceSpec]:
    rows = json.loads((home.root / ".fake.json").read_text())
    real = {spec.name: spec for spec in table(home)} if any(row.get("real") for row in rows) else {}
    return [
        real[row["name"]]
        if row.get("real")
        else ServiceSpec(
            row["name"],
            home.url(row["name"]),
            probes.http(f"http://{HOST}:{home.ports[row['name']]}/"),
            (
                row.get("program", sys.executable),
                str(SERVICE),
                "--port",
                str(home.ports[row["name"]]),
                *row.get("arguments", ()),
            ),
            port=home.ports[row["name"]],
            depends_on=tuple(row.get("depends_on", ())),
            deadline=row.get("deadline", 20.0),
            before=_fault if row.get("faulty") else None,
        )
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(supervisor.main(services=fake_table))
