"""A watermark tick beside a full pass over the same mirror: what each costs when little has changed.

The records are light, about 1 KB. Before each pass ten of them change. A full pass, which meets a mirror that holds
everything already, and a tick take turns; after each the mirror is compared with the source, record by record. Bytes
(both ways, as they are on the wire) and requests are counted in front of the server. Ticks are measured over the REST
gateway and through the SSH tunnel, there with what SSH adds, and once more without the indexes on the modified times.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.front import Traffic, front
from benchmarks.processes import run_lab
from benchmarks.rows import Row, at_least, at_most

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from sqlalchemy import Engine

    from aind_pipelines.mirror.docdb import Source

ROUNDS = 5
CHANGES = 10
MOST_BYTES, MOST_TIME = 1.0, 3.0
"""Per cent of a full pass."""

_DATABASE, _COLLECTION = "metadata_index", "data_assets"
_NAME = f"{_DATABASE}.{_COLLECTION}"
_MODIFIED = ("last_modified", "_last_modified")
_LOADED_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Way:
    """One transport.

    Attributes:
        name: How it is called.
        source: The collection behind it.
        traffic: What is counted in front of the server.
        counts_requests: Whether requests can be told there.
    """

    name: str
    source: Source
    traffic: Traffic
    counts_requests: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """What one pass cost: wall seconds, bytes both ways, HTTP requests."""

    seconds: float
    bytes: int
    requests: int


def measure(records: int = 100_000) -> list[Row]:
    """Ticks and full passes in turn, in a lab of their own.

    Raises:
        RuntimeError: A pass left a mirror that differs from the source; the message names the record.
    """
    from pymongo import MongoClient
    from sqlalchemy import create_engine

    from aind_pipelines.lab.home import LabHome
    from aind_pipelines.lab.seed.load import load_records
    from aind_pipelines.tables.migrate import migrate

    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-tick-"))
    with ExitStack() as opened:
        opened.callback(shutil.rmtree, scratch, ignore_errors=True)
        opened.callback(run_lab, "down", scratch / "lab")
        run_lab("up", scratch / "lab")
        lab = LabHome(scratch / "lab")
        load_records(lab, {})  # makes the indexes
        engine = create_engine(lab.postgres().url())
        opened.callback(engine.dispose)
        migrate(engine)
        mongo = opened.enter_context(MongoClient[dict[str, Any]](lab.docdb().uri))
        ways = [opened.enter_context(way(lab.environment())) for way in (over_rest, through_ssh)]
        return compare(mongo[_DATABASE][_COLLECTION], engine, ways, records)


def compare(
    collection: Collection[dict[str, Any]], engine: Engine, ways: Sequence[Way], records: int, rounds: int = ROUNDS
) -> list[Row]:
    """Fill an empty collection and an empty mirror, and measure.

    Args:
        collection: What the ways read; it should have indexes on the modified times.
        engine: On a database with our schema.
        ways: At least one.
        records: How many.
        rounds: Pairs of a full pass and a tick for each way.

    Raises:
        RuntimeError: As `measure`.
    """
    for batch in _made(records):
        collection.insert_many(batch, ordered=False)
    bench = Bench(collection, engine, records)
    first = bench.run(ways[0], "full")
    bench.run(ways[0], "tick")  # warms caches, connections and imports
    pairs = {way.name: [(bench.run(way, "full"), bench.run(way, "tick")) for _ in range(rounds)] for way in ways}
    for name in _MODIFIED:
        collection.drop_index(f"{name}_1")
    bare = [bench.run(ways[0], "tick") for _ in range(rounds)]
    what = f"{CHANGES} changes in {records}"
    rows = [at_least("docdb tick: first full pass, into an empty mirror", "s", [first.seconds], 0)]
    for way in ways:
        full, tick = ([pair[place] for pair in pairs[way.name]] for place in (0, 1))
        rows += _shares(f"docdb tick, {way.name}: {what}", full, tick, MOST_BYTES, MOST_TIME)
        for mode, passes in (("full pass", full), ("tick", tick)):
            rows += _figures(f"docdb tick, {way.name}: {mode}", passes, requests=way.counts_requests)
    full = [full for full, _ in pairs[ways[0].name]]
    rows += _shares(f"docdb tick, {ways[0].name}, without index: {what}", full, bare)
    rows += _figures(f"docdb tick, {ways[0].name}, without index: tick", bare, requests=ways[0].counts_requests)
    return rows


def _shares(
    name: str, full: list[Cost], tick: list[Cost], most_bytes: float | None = None, most_time: float | None = None
) -> list[Row]:
    """A tick in per cent of the full pass before it; only reported where nothing is said to be reached."""
    pairs = list(zip(full, tick, strict=True))
    parts = [100 * ours.bytes / whole.bytes for whole, ours in pairs]
    times = [100 * ours.seconds / whole.seconds for whole, ours in pairs]
    return [
        _share(f"{name}, bytes of a full pass", parts, most_bytes),
        _share(f"{name}, time of a full pass", times, most_time),
    ]


def _share(name: str, samples: list[float], most: float | None) -> Row:
    return at_least(name, "%", samples, 0) if most is None else at_most(name, "%", samples, most)


def _figures(name: str, passes: list[Cost], *, requests: bool) -> list[Row]:
    return [
        at_least(f"{name}, time", "s", [cost.seconds for cost in passes], 0),
        at_least(f"{name}, bytes", "kB", [cost.bytes / 1000 for cost in passes], 0),
        *([at_least(f"{name}, requests", "", [cost.requests for cost in passes], 0)] if requests else []),
    ]


class Bench:
    """Changes the source, runs a pass, and compares."""

    def __init__(self, collection: Collection[dict[str, Any]], engine: Engine, records: int) -> None:
        self._collection = collection
        self._engine = engine
        self._records = records
        self._rng = random.Random(0)

    def run(self, way: Way, mode: Literal["full", "tick"]) -> Cost:
        """Make one pass after some changes.

        Raises:
            RuntimeError: The mirror differs from the source afterwards.
        """
        from aind_pipelines.mirror.docdb import update

        self._change()
        before = replace(way.traffic)
        started = time.monotonic()
        ((_, result),) = update(self._engine, way.source, mode)
        seconds = time.monotonic() - started
        after = replace(way.traffic)
        print(f"{mode} pass, {way.name}: {seconds:.2f} s", file=sys.stderr, flush=True)
        self._check(f"{mode} pass, {way.name}")
        if result.written < CHANGES:
            raise RuntimeError(f"a {mode} pass, {way.name}, wrote {result.written} of {CHANGES} changes")
        return Cost(
            seconds,
            after.sent + after.received - before.sent - before.received,
            after.requests - before.requests,
        )

    def _change(self) -> None:
        """Edit some records, as their owners do: with the time of the edit."""
        from pymongo import UpdateOne

        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        chosen = self._rng.sample(range(self._records), CHANGES)
        edits = [
            UpdateOne({"_id": _id(n)}, {"$set": {_modified_field(n): now, "subject.notes": f"weighed at {now}"}})
            for n in chosen
        ]
        self._collection.bulk_write(edits)

    def _check(self, after: str) -> None:
        with closing(self._mirrored()) as mirror:
            for stored, mirrored in zip_longest(self._stored(), mirror):
                if stored != mirrored:
                    raise RuntimeError(f"after a {after}, the mirror differs: {mirrored!r}, stored is {stored!r}")

    def _stored(self) -> Iterator[tuple[str, str]]:
        for record in self._collection.find().sort("_id"):
            yield record["_id"], json.dumps(record, sort_keys=True)

    def _mirrored(self) -> Generator[tuple[str, str], None, None]:
        from sqlalchemy import text

        query = text('select id, body from docdb.records where source = :source order by id collate "C"')
        with (
            self._engine.connect().execution_options(yield_per=2_000) as connection,
            connection.execute(query, {"source": _NAME}) as rows,
        ):
            for identity, body in rows:
                yield identity, json.dumps(body, sort_keys=True)


@contextmanager
def over_rest(environment: Mapping[str, str]) -> Iterator[Way]:
    """The gateway that `environment` names, with a front that counts."""
    from aind_pipelines.clients.docdb import MetadataDbClient
    from aind_pipelines.mirror.docdb import CollectionSource

    traffic = Traffic()
    with (
        front(environment["DOC_DB_API_HOST"], traffic) as port,
        MetadataDbClient(f"http://127.0.0.1:{port}", _DATABASE, _COLLECTION) as client,
    ):
        yield Way("REST", CollectionSource(client, _NAME), traffic, counts_requests=True)


@contextmanager
def through_ssh(environment: Mapping[str, str]) -> Iterator[Way]:
    """DocDB behind the bastion that `environment` names, with a front before the bastion that counts."""
    from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials
    from aind_pipelines.mirror.docdb import CollectionSource

    traffic = Traffic()
    bastion = f"ssh://{environment['DOC_DB_SSH_HOST']}:{environment['DOC_DB_SSH_PORT']}"
    with front(bastion, traffic) as port:
        credentials = DocumentDbSSHCredentials(
            host=environment["DOC_DB_HOST"],
            port=environment["DOC_DB_PORT"],
            username=environment["DOC_DB_USERNAME"],
            password=environment["DOC_DB_PASSWORD"],
            database=_DATABASE,
            collection=_COLLECTION,
            ssh_host="127.0.0.1",
            ssh_port=port,
            ssh_username=environment["DOC_DB_SSH_USERNAME"],
            ssh_password=environment["DOC_DB_SSH_PASSWORD"],
        )
        with DocumentDbSSHClient(credentials) as client:
            yield Way("SSH", CollectionSource(client, _NAME), traffic, counts_requests=False)


def _id(number: int) -> str:
    return f"{number:08d}"


def _modified_field(number: int) -> str:
    """Both spellings of the modified time are there."""
    return _MODIFIED[number % len(_MODIFIED)]


def _made(records: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, records, _LOADED_AT_ONCE):
        yield [_record(number) for number in range(start, min(start + _LOADED_AT_ONCE, records))]


def _record(number: int) -> dict[str, Any]:
    """About 1 KB in the shape of a metadata record, modified at some minute of the years before."""
    subject, taken = str(600_000 + number % 5_000), datetime(2022, 1, 1, tzinfo=UTC) + timedelta(minutes=7 * number)
    name = f"ecephys_{subject}_{taken:%Y-%m-%d_%H-%M-%S}"
    return {
        "_id": _id(number),
        "name": name,
        "location": f"s3://aind-open-data/{name}",
        "schema_version": "1.0.2",
        "created": taken.isoformat(),
        _modified_field(number): (taken + timedelta(days=1)).isoformat().replace("+00:00", "Z"),
        "subject": {"subject_id": subject, "species": {"name": "Mus musculus"}, "sex": "Female", "notes": None},
        "session": {
            "session_start_time": taken.isoformat(),
            "session_end_time": (taken + timedelta(hours=1)).isoformat(),
        },
        "data_description": {
            "project_name": "Light records",
            "data_level": "raw",
            "institution": {"abbreviation": "AIND"},
            "modality": [{"abbreviation": "ecephys", "name": "Extracellular electrophysiology"}],
            "creation_time": taken.isoformat(),
            "data_summary": "A record as small as it can be and still say what was done. " * 6,
        },
        "external_links": {"Code Ocean": [f"{number:032x}"]},
    }
