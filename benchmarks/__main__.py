"""Run one benchmark by name."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from dataclasses import asdict
from types import FrameType
from typing import NoReturn

from benchmarks.environment import isolated

NAMES = ("deposit", "docdb", "lab", "tables")
_SIZES = {"deposit": ("files", "gigabytes"), "docdb": ("records",), "tables": ("rows",)}


def main() -> int:
    """Print the rows of one benchmark; exit 1 when a figure is not reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--records", type=int, help="docdb: how many records (default: 20000)")
    parser.add_argument("--rows", type=int, help="tables: how many rows (default: 200000)")
    parser.add_argument("--files", type=int, help="deposit: how many small files (default: 10000)")
    parser.add_argument("--gigabytes", type=float, help="deposit: size of the large file in GiB (default: 4)")
    arguments = parser.parse_args()
    sizes = [name for names in _SIZES.values() for name in names]
    options = {name: number for name in sizes if (number := getattr(arguments, name)) is not None}
    for name in options:
        if name not in _SIZES.get(arguments.name, ()):
            parser.error(f"--{name} says nothing to {arguments.name}")
    # What a measurement started, a lab for one, it stops when it is left.
    signal.signal(signal.SIGTERM, _leave)
    with isolated():
        rows = importlib.import_module(f"benchmarks.{arguments.name}").measure(**options)
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        for row in rows:
            samples = " ".join(f"{sample:g}" for sample in row.samples)
            verdict = "ok" if row.ok else f"NOT REACHED ({row.reason})" if row.reason else "NOT REACHED"
            print(f"{row.name:44} {row.value:10g} {row.unit:6} reach {row.reach:g}: {verdict}   [{samples}]")
    return 0 if all(row.ok for row in rows) else 1


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
