"""Bring a seed into a running lab.

Everything is added in steps that can be repeated: a seed that was killed is done again, from whatever stands. What has
been brought in completely is noted in ``<home>/seed/seed.json``. A made-up institute is left alone from then on, so
that a second call does not undo what was done with the lab meanwhile. Records from files are compared with what the
lab holds: who asks for a folder wants the lab to hold what it says now, whatever was loaded or edited in between.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aind_pipelines.clients.errors import ServiceError, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.lab.home import CAPSULE_ID, HomeError, LabHome
from aind_pipelines.lab.seed import code_ocean, files, real
from aind_pipelines.lab.seed.model import COLLECTION, DATABASES
from aind_pipelines.lab.seed.real import Unloadable

if TYPE_CHECKING:
    from aind_pipelines.lab.seed.model import Institute

Progress = Callable[[str], None]

_FORMAT = 1
_BATCH_BYTES = 8 * 2**20

DTYPES = {
    "session-raw": "application/x-directory",
    "session-derived": "application/x-directory",
    "session-metadata": "application/json",
}
"""Data types of the registry by name, with their content types."""

ARCHIVE = "live"
"""Name of the lab's archive, and of its folder."""

DOCDB_SECRET = "/doc/db/secret/name"  # noqa: S105 - a name, as the published guide writes it
SSH_SECRET = "/ssh/tunnel/secret/name"  # noqa: S105
RDS_SECRET = "aind/data/access/api/rds_tables"  # noqa: S105
PARAMETER = "/aind/pipelines/settings"

_TABLE = """
create table if not exists public.spike_sorting_urls (
    asset_name text not null,
    probe text not null,
    session_id text not null,
    subject_id text not null,
    url text not null,
    created timestamptz not null,
    primary key (asset_name, probe)
)
"""
_ROW = """
insert into public.spike_sorting_urls (asset_name, probe, session_id, subject_id, url, created)
values (%(asset_name)s, %(probe)s, %(session_id)s, %(subject_id)s, %(url)s, %(created)s)
on conflict do nothing
"""


class SeedRefused(HomeError):
    """This seed cannot go into this home; the message says why and what to do."""


@dataclass
class SeedReport:
    """What a seed brought in.

    Attributes:
        changed: False when all of it was there already and nothing was done.
        counts: What the seed holds, by kind, e.g. ``sessions``, ``v1 records``, ``objects``.
        unloadable: Record files that could not be loaded, each with its reason.
        without_files: Names of real records at whose location nothing could be put.
    """

    changed: bool = True
    counts: dict[str, int] = field(default_factory=dict)
    unloadable: list[Unloadable] = field(default_factory=list)
    without_files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Standing:
    """How far a home is seeded.

    Attributes:
        complete: Whether something was brought in completely: a made-up institute, or a folder of records.
        institute: Sessions and seed of the made-up institute that was begun and not finished.
        folders: Folders of records of which not all was brought in.
    """

    complete: bool = False
    institute: tuple[int, int] | None = None
    folders: tuple[Path, ...] = ()


def standing(home: LabHome) -> Standing:
    """How far a home is seeded.

    Raises:
        SeedRefused: What notes it cannot be read.
        OSError: Likewise.
    """
    marker = _read_marker(home)
    made_up = marker["generated"]
    parts = [*([made_up] if made_up else []), *marker["records"].values()]
    folders = {Path(part["folder"]) for part in marker["records"].values() if not part["done"]}
    begun = (made_up["sessions"], made_up["seed"]) if made_up and not made_up["done"] else None
    return Standing(any(part["done"] for part in parts), begun, tuple(sorted(folders)))


def seed(
    home: LabHome,
    *,
    sessions: int | None = 100,
    seed: int = 0,
    records: Path | None = None,
    progress: Progress | None = None,
    make: Callable[[int, int], Institute] | None = None,
) -> SeedReport:
    """Bring a made-up institute, real records, or both into a lab that is up.

    Args:
        home: The lab.
        sessions: Raw sessions to make up; None or 0 makes none up.
        seed: The number they are made up from.
        records: Folder of real records, one DocDB record per ``*.json``.
        progress: Told what is being done, a line at a time.
        make: Makes the institute from `sessions` and `seed`; `institute.generate` when not given.

    Raises:
        SeedRefused: There is nothing to do, no file holds a record, the home holds another made-up institute, or
            another seed is running.
        FileNotFoundError: `records` is no folder, or holds no ``*.json``.
        ServiceError: A service of the lab failed; the same call again finishes the work.
    """
    say = progress or (lambda _: None)
    if sessions is not None and sessions < 0:
        raise SeedRefused(f"An institute cannot have {sessions} sessions; give 1 or more.")
    if not sessions and records is None:
        raise SeedRefused("There is nothing to seed: give a number of sessions, a folder of records, or both.")
    found = real.read_folder(records) if records is not None else None
    if found is not None and not any(found.records.values()):
        raise SeedRefused(found.refusal)
    home.environment()  # a home without a lab is said before anything is written
    with _alone(home):
        marker = _read_marker(home)
        _refuse_another(home, marker, sessions, seed)
        report = SeedReport(changed=False)
        if sessions:
            wanted = {"sessions": sessions, "seed": seed}
            if (done := marker["generated"]) and done["done"] and _holds_records(home):
                report.counts |= done["counts"]
                say(f"{sessions} sessions of seed {seed} are there already; nothing to do")
            else:
                marker["generated"] = wanted | {"done": False}
                _write_marker(home, marker)
                counts = _bring_institute(home, sessions, seed, make, say)
                marker["generated"] = wanted | {"done": True, "counts": counts}
                _write_marker(home, marker)
                report.changed = True
                report.counts |= counts
        if found is not None and records is not None:
            report.unloadable = list(found.unloadable)
            _seed_records(home, marker, found, str(records.absolute()), report, say)
        return report


def _seed_records(
    home: LabHome, marker: dict[str, Any], found: real.RealRecords, folder: str, report: SeedReport, say: Progress
) -> None:
    part = marker["records"].get(found.fingerprint)
    if part and part["done"]:
        refused_before = [Unloadable(*item) for item in part["refused"]]
        expected = _without(found, refused_before)
        known = real.known_from(expected)
        others = others_than(home, expected)
        if not others and files.hold_objects(home.seed_dir, known.objects):
            report.counts |= part["counts"]
            report.unloadable += refused_before
            report.without_files = known.without_files + part.get("left_out", [])
            say("the records are there already; nothing to do")
            return
        what = (
            f"{others} of them are not in DocDB as the files have them" if others else "their files in S3 are others"
        )
        say(f"these records were loaded before, but {what}; loading them again")
    marker["records"][found.fingerprint] = {"folder": folder, "done": False}
    _write_marker(home, marker)
    say("loading records into DocDB")
    refused = [
        Unloadable(found.files[database, repr(record_id)], f"DocDB refused it: {reason}")
        for database, record_id, reason in load_records(home, found.records)
    ]
    # Only DocDB itself can tell what it takes; of a record that it has not, no other service may know.
    loaded = _without(found, refused)
    known = real.known_from(loaded)
    counts, left_out = _bring_files(home, known, say)
    counts["real records"] = sum(map(len, loaded.values()))
    marker["records"][found.fingerprint] = {
        "folder": folder,
        "done": True,
        "counts": counts,
        "refused": [[item.file, item.reason] for item in refused],
        "left_out": left_out,
    }
    # What an earlier load of this folder did not finish, this one has, or the folder does not hold it any more.
    marker["records"] = {
        fingerprint: part
        for fingerprint, part in marker["records"].items()
        if part["done"] or part["folder"] != folder
    }
    _write_marker(home, marker)
    report.changed = True
    report.counts |= counts
    report.unloadable += refused
    report.without_files = known.without_files + left_out


def _without(found: real.RealRecords, refused: Iterable[Unloadable]) -> dict[str, list[dict[str, Any]]]:
    """The records by database, without those of refused files."""
    left_out = {item.file for item in refused}
    return {
        database: [record for record in records if found.files[database, repr(record["_id"])] not in left_out]
        for database, records in found.records.items()
    }


# --- the marker ------------------------------------------------------------------------------------------------------


def _marker_path(home: LabHome) -> Path:
    return home.seed_dir / "seed.json"


def _read_marker(home: LabHome) -> dict[str, Any]:
    empty: dict[str, Any] = {"format": _FORMAT, "generated": None, "records": {}}
    try:
        marker = empty | files.read_json(_marker_path(home))
    except ValueError as error:
        raise SeedRefused(
            f"{_marker_path(home)} cannot be read: {error}. Use another home (--home), or {_removal(home)}."
        ) from None
    if marker["format"] != _FORMAT:
        raise SeedRefused(
            f"{home.root} was seeded by another version. Use another home (--home), or {_removal(home)}."
        )
    return marker


def _removal(home: LabHome) -> str:
    """How to remove this very home: `make clean` by itself removes the default one, whichever was asked for."""
    path = shlex.quote(str(home.root))
    return f"remove this one: aind-pipelines lab down --home {path} && rm -r {path}"


def _write_marker(home: LabHome, marker: Mapping[str, Any]) -> None:
    files.write(_marker_path(home), files.as_json(marker))


def _refuse_another(home: LabHome, marker: Mapping[str, Any], sessions: int | None, seed: int) -> None:
    there = marker["generated"]
    if not sessions or not there or (there["sessions"], there["seed"]) == (sessions, seed):
        return
    if not there["done"]:
        raise SeedRefused(
            f"{there['sessions']} sessions of seed {there['seed']} were begun in {home.root} and not finished. "
            f"Finish them: aind-pipelines lab seed --sessions {there['sessions']} --seed {there['seed']} "
            f"--home {home.root}. For {sessions} of seed {seed} use another home (--home), or {_removal(home)}."
        )
    raise SeedRefused(
        f"{home.root} holds {there['sessions']} sessions of seed {there['seed']} already, and cannot hold {sessions} "
        f"of seed {seed} too. Use another home (--home), or {_removal(home)}."
    )


@contextlib.contextmanager
def _alone(home: LabHome) -> Iterator[None]:
    """Only one process seeds a home at a time; the lock goes with the process, however it ends."""
    home.seed_dir.mkdir(parents=True, exist_ok=True)
    with (home.seed_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeedRefused(f"Another process is seeding {home.root}. Wait until it is done.") from None
        yield


# --- a made-up institute ---------------------------------------------------------------------------------------------


def _bring_institute(
    home: LabHome, sessions: int, seed: int, make: Callable[[int, int], Institute] | None, say: Progress
) -> dict[str, int]:
    from aind_pipelines.lab.seed.institute import generate

    say(f"making up {sessions} sessions from seed {seed}")
    institute = (make or generate)(sessions, seed)
    say("writing files")
    folder = home.seed_dir
    files.write(folder / "troubles.json", files.as_json(institute.troubles))
    if left_out := files.add_objects(folder, institute.objects):
        raise SeedRefused(
            f"The files of s3://{'/'.join(left_out[0])} cannot be laid out in {folder}: others are in their place, "
            "or the path is too long. Use another home (--home) with a shorter path."
        )
    files.add_code_ocean(folder / "code_ocean.json", institute.code_ocean)
    files.add_answers(folder / "metadata_service.json", institute.answers)
    _bring_common(home, institute.spike_sorting_urls, say)
    say("loading records into DocDB")
    refused = load_records(home, institute.records)
    if refused:
        database, record_id, reason = refused[0]
        raise UnexpectedAnswer("DocDB", f"refused record {record_id!r} of {database}: {reason}.")
    return _counts(institute)


def _counts(institute: Institute) -> dict[str, int]:
    return {
        "sessions": len(institute.sessions),
        "assets": len(institute.assets),
        "subjects": len(institute.subjects),
        **{
            f"{version} records": len(records)
            for version, records in zip(("v1", "v2"), institute.records.values(), strict=True)
        },
        "objects": sum(len(bodies) for prefixes in institute.objects.values() for bodies in prefixes.values()),
        "Code Ocean assets": len(institute.code_ocean["data_assets"]),
        "subject answers": len(institute.answers["subjects"]),
        "troubles": sum(len(keys) for keys in institute.troubles.values()),
    }


# --- real records ----------------------------------------------------------------------------------------------------


def _bring_files(home: LabHome, known: real.Known, say: Progress) -> tuple[dict[str, int], list[str]]:
    """Returns counts, and the names of the records whose files could not be laid out."""
    say("writing files")
    folder = home.seed_dir
    no_place = files.add_objects(folder, known.objects)
    capsule = code_ocean.capsule(CAPSULE_ID, "Session explorer")
    files.add_code_ocean(
        folder / "code_ocean.json",
        {"data_assets": _by_id(known.data_assets), "capsules": [capsule], "computations": []},
    )
    files.add_answers(folder / "metadata_service.json", {"subjects": known.subjects})
    _bring_common(home, [], say)
    counts = {
        "real objects": sum(len(prefixes) for prefixes in known.objects.values()) - len(no_place),
        "real subject answers": len(known.subjects),
    }
    return counts, [name for place in no_place for name in known.names[place]]


def _by_id(assets: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({asset["id"]: asset for asset in assets}.values())


# --- what every seed brings ------------------------------------------------------------------------------------------


def _bring_common(home: LabHome, sorting_urls: list[dict[str, Any]], say: Progress) -> None:
    folder = home.seed_dir
    files.add_named(folder / "aws" / "secrets.json", lab_secrets(home))
    files.add_named(folder / "aws" / "parameters.json", {PARAMETER: lab_parameter(home)})
    say("loading S3, secrets and parameters")
    _reload_aws(home)
    say("filling spike_sorting_urls")
    _fill_rds(home, sorting_urls)
    say("initialising the archive")
    _prepare_archive(home)


def lab_secrets(home: LabHome) -> dict[str, dict[str, Any]]:
    """The secrets that the published guide names, with the lab's logins."""
    environment = home.environment()
    return {
        DOCDB_SECRET: {
            "host": environment["DOC_DB_HOST"],
            "port": int(environment["DOC_DB_PORT"]),
            "username": environment.get("DOC_DB_USERNAME"),
            "password": environment.get("DOC_DB_PASSWORD"),
        },
        SSH_SECRET: {
            "host": environment["DOC_DB_SSH_HOST"],
            "port": int(environment["DOC_DB_SSH_PORT"]),
            "username": environment["DOC_DB_SSH_USERNAME"],
            "password": environment["DOC_DB_SSH_PASSWORD"],
        },
        RDS_SECRET: {
            "host": environment["RDS_HOST"],
            "port": int(environment["RDS_PORT"]),
            "username": environment["RDS_USER"],
            "password": environment.get("RDS_PASSWORD"),
            "database": environment["RDS_DATABASE"],
        },
    }


def lab_parameter(home: LabHome) -> dict[str, str]:
    """Settings as the one JSON parameter that ``AWS_PARAM_STORE_NAME`` can name; without what AWS itself needs."""
    prefixes = ("DOC_DB_", "RDS_", "CODE_OCEAN_", "METADATA_SERVICE_", "NBANK_")
    return {name: value for name, value in sorted(home.environment().items()) if name.startswith(prefixes)}


def _reload_aws(home: LabHome) -> None:
    import requests

    from aind_pipelines.lab.aws import RELOAD_PATH

    url = home.url("aws")
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{url}{RELOAD_PATH}", timeout=300)
    except requests.RequestException as error:
        raise ServiceUnavailable(
            "AWS", f"the lab's moto at {url} does not answer ({error}). Is the lab up?"
        ) from error
    if answer.status_code != 200:
        raise UnexpectedAnswer("AWS", f"the lab's moto at {url} cannot load the seed: {answer.text[:500]}")


def _fill_rds(home: LabHome, rows: list[dict[str, Any]]) -> None:
    import psycopg

    server = home.postgres()
    try:
        with psycopg.connect(server.url("postgresql"), connect_timeout=10) as connection:
            connection.execute("select pg_advisory_xact_lock(hashtext('spike_sorting_urls'))")
            connection.execute(_TABLE)
            connection.cursor().executemany(_ROW, rows)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ServiceUnavailable("RDS", f"spike_sorting_urls cannot be filled: {reason}. Is the lab up?") from error


def _prepare_archive(home: LabHome) -> None:
    from aind_pipelines.archive.errors import ArchiveError
    from aind_pipelines.archive.layout import init_archive
    from aind_pipelines.clients.registry import RegistryClient

    environment = home.environment()
    login = environment["NBANK_USERNAME"], environment["NBANK_PASSWORD"]
    with RegistryClient(environment["NBANK_REGISTRY"], login) as registry:
        known = {dtype.name for dtype in registry.dtypes()}
        for name, content_type in DTYPES.items():
            if name not in known:
                registry.add_dtype(name, content_type)
        path = home.archives_dir / ARCHIVE
        registered = registry.get_archive(ARCHIVE)
        if registered is not None and Path(registered.root) == path.resolve() and path.is_dir():
            return
        home.archives_dir.mkdir(parents=True, exist_ok=True)
        try:
            init_archive(path, registry, ARCHIVE)
        except ArchiveError as error:
            raise ServiceError("archive", str(error)) from error


# --- DocDB -----------------------------------------------------------------------------------------------------------

_DUPLICATE_KEY = 11000
_INDEXES = (
    "name", "location", "subject.subject_id", "data_description.project_name", "last_modified", "_last_modified",
)  # fmt: skip
"""Of both generations, whose records may have either spelling of the modified time."""


def load_records(
    home: LabHome, records: Mapping[str, list[dict[str, Any]]], *, patience: float = 10.0
) -> list[tuple[str, object, str]]:
    """Put records into DocDB, each replacing what has its ``_id``; makes the indexes too.

    Args:
        home: The lab.
        records: Records by database.
        patience: Seconds to wait for DocDB to answer at all.

    Returns:
        Those that DocDB refused: database, ``_id``, reason.

    Raises:
        ServiceUnavailable: DocDB does not answer.
    """
    refused: list[tuple[str, object, str]] = []
    with _collections(home, patience) as collections:
        for database, collection in collections.items():
            for name in _INDEXES:
                collection.create_index(name)
            for batch in _batches(records.get(database, [])):
                refused += [(database, record_id, reason) for record_id, reason in _put(collection, batch)]
    return refused


def others_than(home: LabHome, records: Mapping[str, list[dict[str, Any]]]) -> int:
    """How many records DocDB holds with another content, or not at all.

    Args:
        home: The lab.
        records: Records by database.

    Raises:
        ServiceUnavailable: DocDB does not answer.
    """
    others = 0
    with _collections(home) as collections:
        for database, collection in collections.items():
            for batch in _batches(records.get(database, [])):
                found = collection.find({"_id": {"$in": [record["_id"] for record in batch]}})
                there = {repr(record["_id"]): _comparable(record) for record in found}
                others += sum(there.get(repr(record["_id"])) != _comparable(record) for record in batch)
    return others


def _comparable(record: dict[str, Any]) -> str:
    """Text that is the same for the same content: the order of fields is none, but 1, 1.0 and true differ."""
    return json.dumps(record, sort_keys=True, default=repr)


def _holds_records(home: LabHome) -> bool:
    """Whether DocDB holds any record; one that was emptied, or was put in another's place, does not."""
    with _collections(home) as collections:
        return any(collection.find_one({}, {"_id": 1}) is not None for collection in collections.values())


@contextlib.contextmanager
def _collections(home: LabHome, patience: float = 10.0) -> Iterator[dict[str, Any]]:
    """The collection of records of each database."""
    from bson import CodecOptions
    from bson.codec_options import DatetimeConversion
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    # A record that somebody edited may hold any time that BSON can.
    options = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    try:
        with MongoClient[dict[str, Any]](home.docdb().uri, serverSelectionTimeoutMS=int(patience * 1000)) as client:
            yield {name: client[name].get_collection(COLLECTION, codec_options=options) for name in DATABASES}
    except PyMongoError as error:
        # What follows is the state of every member.
        cause = re.split(r" \(configured timeouts:|, Timeout: |\.?, full error: ", " ".join(str(error).split()))[0]
        raise ServiceUnavailable("DocDB", f"records cannot be loaded: {cause}. Is the lab up?") from error


def _batches(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    import bson

    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        weight = len(bson.encode(record))
        if batch and size + weight > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += weight
    if batch:
        yield batch


def _put(collection: Any, batch: list[dict[str, Any]]) -> list[tuple[object, str]]:
    """Insert what is new, which is quicker, and replace what is there; returns what DocDB refused."""
    from pymongo import InsertOne, ReplaceOne

    refused = _write(collection, [InsertOne(record) for record in batch])
    there = [batch[place] for place, code, _ in refused if code == _DUPLICATE_KEY]
    replaced = _write(
        collection,
        # The driver takes a document whose first key begins with "$" for something else.
        [ReplaceOne({"_id": record["_id"]}, {"_id": record["_id"], **record}, upsert=True) for record in there],
    )
    return [
        *((batch[place]["_id"], reason) for place, code, reason in refused if code != _DUPLICATE_KEY),
        *((there[place]["_id"], reason) for place, _, reason in replaced),
    ]


def _write(collection: Any, operations: list[Any]) -> list[tuple[int, int, str]]:
    """Carry out all that can be; returns place, code and reason of what was refused."""
    from pymongo.errors import BulkWriteError

    if not operations:
        return []
    try:
        collection.bulk_write(operations, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        if not details.get("writeErrors"):
            raise
        return [(item["index"], item.get("code", 0), str(item.get("errmsg"))) for item in details["writeErrors"]]
    return []
