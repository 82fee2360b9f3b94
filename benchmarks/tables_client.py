"""One client process of the tables benchmark, of ours or of the peer's environment; prints its figures as JSON.

The call's CPU and wall seconds count what the client itself needs, its import and its connection included; making the
DataFrame is counted to nobody. Memory is the peak during the call over what the process held with the DataFrame made.

    python tables_client.py ours|peer TABLE ROWS SEED
    python tables_client.py stream TABLE ROWS SEED        ours, from an iterator of batches
    python tables_client.py loop TABLE ROWS TIMES         ours, again and again
"""

import gc
import json
import re
import sys
import time
from pathlib import Path

from tables_frame import frame

BATCH = 10_000
MEGABYTE = 1e6
STATUS, RESET_PEAK = Path("/proc/self/status"), "5"


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024 / MEGABYTE


def _overwrite(who: str, table: str, data: object) -> None:
    if who == "peer":
        from aind_data_access_api.rds_tables import Client, RDSCredentials
    else:
        from aind_pipelines.clients.rds import Client, RDSCredentials
    client = Client(credentials=RDSCredentials())
    client.overwrite_table_with_df(data, table)


def _stream(table: str, rows: int, seed: int) -> None:
    from sqlalchemy import MetaData, Table

    from aind_pipelines.clients.rds import Client, RDSCredentials, publish

    with Client(credentials=RDSCredentials()) as client:
        known = Table(table, MetaData(), autoload_with=client.engine)
        batches = (frame(min(BATCH, rows - start), seed, start) for start in range(0, rows, BATCH))
        publish(client.engine, known, batches, key=["id"], max_shrink=1)


def main() -> None:
    """Do what the arguments say."""
    who, table, rows, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if who == "loop":
        for number in range(seed):
            _overwrite("ours", table, frame(rows, number))
        return
    data = None if who == "stream" else frame(rows, seed)
    frame(BATCH, seed)
    gc.collect()
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = _memory("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    if who == "stream":
        _stream(table, rows, seed)
    else:
        _overwrite(who, table, data)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu": cpu, "wall": wall, "memory": _memory("VmHWM") - before, "base": before}))


main()
