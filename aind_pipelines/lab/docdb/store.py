"""Documents, their indexes and the users, in one SQLite file.

Layout of ``docdb.sqlite3``: ``documents`` gives every document a sequence number, which is its natural order;
``bodies`` holds it as the BSON bytes that the client sent; ``entries`` holds for every index the order-preserving keys
(see `aind_pipelines.lab.docdb.values`) with the document's ``_id`` key and its sequence number. The index ``_id_`` and
one on each modified time exist for every collection.

Reads run on connections of their own and see the last committed state (WAL); writes take turns. A write is committed
before it is acknowledged, which outlives a killed process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from itertools import product
from pathlib import Path
from typing import IO, Any

import bson
from bson.raw_bson import RawBSONDocument

from aind_pipelines.lab.docdb import fields, paths
from aind_pipelines.lab.docdb.errors import (
    CANNOT_CREATE_INDEX,
    DUPLICATE_KEY,
    INDEX_KEY_SPECS_CONFLICT,
    INDEX_OPTIONS_CONFLICT,
    CommandError,
)
from aind_pipelines.lab.docdb.scram import Credential, credentials, matches
from aind_pipelines.lab.docdb.values import ARRAY, MISSING, PLAIN, RAW, Document, key

FILE_NAME = "docdb.sqlite3"
MODIFIED_FIELDS = ("_last_modified", "last_modified")
"""The fields on which every collection is indexed without being asked: what ingest asks by, in both generations."""

CHUNK_ROWS = 256
FIRST_CHUNK = 16
"""Most questions want few documents: chunks begin small, then grow."""

_CHUNK_BYTES = 4 << 20
_MAX_COMPOUND_KEYS = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, initial BLOB NOT NULL, current BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT, database TEXT NOT NULL, name TEXT NOT NULL,
    documents INTEGER NOT NULL DEFAULT 0, UNIQUE (database, name));
CREATE TABLE IF NOT EXISTS documents (seq INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS documents_of_collection ON documents (collection);
CREATE TABLE IF NOT EXISTS bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS indexes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL, spec BLOB NOT NULL,
    listed INTEGER NOT NULL, multikey INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS entries (
    idx INTEGER NOT NULL, key BLOB NOT NULL, id_key BLOB NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (idx, key, id_key)) WITHOUT ROWID;
"""


class StoreUnavailable(Exception):
    """The data directory cannot be used; the message says why and what to do."""


@dataclass(slots=True)
class Index:
    """One index of a collection.

    Attributes:
        number: Its number in the file.
        spec: What the client asked for: ``key``, ``name``, and ``unique`` and ``sparse`` where set.
        fields: Its paths, split at the dots, in order.
        listed: Whether clients see it; the ones kept without being asked are not listed.
        multikey: Whether any document has, or had, an array in it: its order is then not that of a sort.
    """

    number: int
    spec: dict[str, Any]
    fields: list[tuple[str, ...]]
    listed: bool
    multikey: bool

    @property
    def unique(self) -> bool:
        """Whether two documents may not share a key."""
        return bool(self.spec.get("unique"))

    @property
    def sparse(self) -> bool:
        """Whether documents without any of the fields are left out."""
        return bool(self.spec.get("sparse"))

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.spec["name"])

    def keys(self, document: Document) -> set[bytes]:
        """The keys of a document in this index."""
        if self.sparse and not any(paths.exists(document, parts) for parts in self.fields):
            return set()
        per_field = [paths.index_keys(document, parts) for parts in self.fields]
        if len(per_field) == 1:
            return per_field[0]
        total = 1
        for keys in per_field:
            total *= len(keys)
        if total > _MAX_COMPOUND_KEYS:
            raise CommandError(CANNOT_CREATE_INDEX, f"index {self.name}: a document would have {total} keys")
        return {b"".join(combination) for combination in product(*per_field)}


@dataclass(slots=True)
class Collection:
    """One collection as the catalogue knows it."""

    number: int
    database: str
    name: str
    documents: int
    indexes: list[Index] = default(default_factory=list)

    @property
    def namespace(self) -> str:
        """``database.name``."""
        return f"{self.database}.{self.name}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored document and where it lies."""

    seq: int
    document: RawBSONDocument


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of index keys; see `aind_pipelines.lab.docdb.values`."""

    low: bytes
    high: bytes


@dataclass(slots=True)
class Examined:
    """How many index entries and documents queries have read since the start; exact enough for a test of cost."""

    entries: int = 0
    documents: int = 0


class _Readers:
    """SQLite connections for reading, each used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def take(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or _connect(self._path)
        try:
            yield connection
        finally:
            with self._lock:
                self._idle.append(connection)

    def close(self) -> None:
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -2048")
    return connection


class Store:
    """The whole content of one data directory.

    Args:
        directory: Created when missing. One process at a time may use it.

    Raises:
        StoreUnavailable: Another process uses the directory, or it cannot be read or written.
    """

    def __init__(self, directory: Path) -> None:
        self.examined = Examined()
        self._write_lock = threading.RLock()
        self._catalogue: dict[tuple[str, str], Collection] = {}
        self._after_commit: list[Callable[[], None]] = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_file = _lock(directory)
            self._writer = _connect(directory / FILE_NAME)
            self._writer.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the data directory {directory} cannot be used: {error}") from error
        self._readers = _Readers(directory / FILE_NAME)
        self._load_catalogue()

    def close(self) -> None:
        """Wait for the write under way and close the file; the directory is free afterwards."""
        with self._write_lock:
            self._readers.close()
            self._writer.close()
            self._lock_file.close()

    # -- the catalogue ------------------------------------------------------------------------------------------

    def _load_catalogue(self) -> None:
        catalogue: dict[tuple[str, str], Collection] = {}
        by_number: dict[int, Collection] = {}
        for number, database, name, documents in self._writer.execute(
            "SELECT id, database, name, documents FROM collections ORDER BY id"
        ):
            catalogue[database, name] = by_number[number] = Collection(number, database, name, documents)
        for number, collection, spec, listed, multikey in self._writer.execute(
            "SELECT id, collection, spec, listed, multikey FROM indexes ORDER BY id"
        ):
            by_number[collection].indexes.append(
                _index(number, bson.decode(spec, PLAIN), bool(listed), bool(multikey))
            )
        self._catalogue = catalogue

    def collection(self, database: str, name: str) -> Collection | None:
        """The collection of that name, if there is one."""
        return self._catalogue.get((database, name))

    def collections(self) -> list[Collection]:
        """Every collection, oldest first."""
        return sorted(self._catalogue.values(), key=lambda collection: collection.number)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction; nested uses join it. When an exception leaves the outermost, nothing of it remains."""
        with self._write_lock:
            if self._writer.in_transaction:
                yield
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                self._after_commit.clear()
                self._load_catalogue()
                raise
            for publish in self._after_commit:
                publish()
            self._after_commit.clear()

    def ensure_collection(self, database: str, name: str) -> Collection:
        """The collection of that name, created when missing."""
        with self.writing():
            found = self.collection(database, name)
            if found is not None:
                return found
            number = self._writer.execute(
                "INSERT INTO collections (database, name) VALUES (?, ?)", (database, name)
            ).lastrowid
            assert number is not None
            collection = Collection(number, database, name, 0)
            collection.indexes = [
                self._add_index(collection, {"v": 2, "key": {"_id": 1}, "name": "_id_", "unique": True}, listed=True),
                *(
                    self._add_index(collection, {"v": 2, "key": {path: 1}, "name": f"{path}_1"}, listed=False)
                    for path in MODIFIED_FIELDS
                ),
            ]
            self._catalogue = {**self._catalogue, (database, name): collection}
            return collection

    def drop_collection(self, collection: Collection) -> None:
        """Remove a collection with everything in it."""
        with self.writing():
            number = (collection.number,)
            self._writer.execute(
                "DELETE FROM entries WHERE idx IN (SELECT id FROM indexes WHERE collection = ?)", number
            )
            self._writer.execute(
                "DELETE FROM bodies WHERE seq IN (SELECT seq FROM documents WHERE collection = ?)", number
            )
            self._writer.execute("DELETE FROM documents WHERE collection = ?", number)
            self._writer.execute("DELETE FROM indexes WHERE collection = ?", number)
            self._writer.execute("DELETE FROM collections WHERE id = ?", number)
            self._catalogue = {
                place: known for place, known in self._catalogue.items() if known.number != collection.number
            }

    # -- indexes ------------------------------------------------------------------------------------------------

    def _add_index(self, collection: Collection, spec: dict[str, Any], *, listed: bool) -> Index:
        number = self._writer.execute(
            "INSERT INTO indexes (collection, spec, listed) VALUES (?, ?, ?)",
            (collection.number, bson.encode(spec), listed),
        ).lastrowid
        assert number is not None
        return _index(number, spec, listed, multikey=False)

    def create_index(self, collection: Collection, spec: dict[str, Any], check: Callable[[], None]) -> bool:
        """Create an index and fill it.

        Args:
            collection: Where.
            spec: ``key``, ``name``, and ``unique`` and ``sparse`` where set.
            check: Called now and then; what it raises ends the work, and leaves nothing of it.

        Returns:
            False when it existed already.

        Raises:
            CommandError: Another index has its name or its keys, or the documents are not unique.
        """
        with self.writing():
            for known in collection.indexes:
                same_keys = list(known.spec["key"].items()) == list(spec["key"].items())
                same_options = known.unique == bool(spec.get("unique")) and known.sparse == bool(spec.get("sparse"))
                if known.listed and known.name == spec["name"]:
                    if same_keys and (same_options or known.name == "_id_"):
                        return False
                    raise CommandError(
                        INDEX_KEY_SPECS_CONFLICT, f"An index named {known.name!r} exists with other keys or options"
                    )
                if known.listed and same_keys:
                    if known.name == "_id_":
                        return False
                    raise CommandError(INDEX_OPTIONS_CONFLICT, f"Index already exists with another name: {known.name}")
                if not known.listed and same_keys and same_options:
                    known.listed = True
                    known.spec = spec
                    self._writer.execute(
                        "UPDATE indexes SET listed = 1, spec = ? WHERE id = ?", (bson.encode(spec), known.number)
                    )
                    return True
            index = self._add_index(collection, spec, listed=True)
            for chunk in self._scan(self._writer, collection, after=0):
                check()
                for stored in chunk:
                    document = _indexed_part(stored.document, [index])
                    keys = index.keys(document)
                    id_key = key(document["_id"])
                    self._check_unique(collection, index, keys, document, id_key)
                    self._add_entries(index, keys, id_key, stored.seq)
            # Only a filled and committed index may answer questions.
            self._after_commit.append(lambda: collection.indexes.append(index))
            return True

    def drop_index(self, collection: Collection, index: Index) -> None:
        """Remove an index."""
        with self.writing():
            self._writer.execute("DELETE FROM entries WHERE idx = ?", (index.number,))
            self._writer.execute("DELETE FROM indexes WHERE id = ?", (index.number,))
            collection.indexes = [known for known in collection.indexes if known is not index]

    def _check_unique(
        self, collection: Collection, index: Index, keys: set[bytes], document: Document, id_key: bytes
    ) -> None:
        if not index.unique:
            return
        for encoded in keys:
            taken = self._writer.execute(
                "SELECT 1 FROM entries WHERE idx = ? AND key = ? AND id_key != ? LIMIT 1",
                (index.number, encoded, id_key),
            ).fetchone()
            if taken:
                raise _duplicate(collection, index, document)

    def _add_entries(self, index: Index, keys: set[bytes], id_key: bytes, seq: int) -> None:
        if _from_array(keys):
            self._mark_multikey(index)
        self._writer.executemany(
            "INSERT INTO entries (idx, key, id_key, seq) VALUES (?, ?, ?, ?)",
            [(index.number, encoded, id_key, seq) for encoded in keys],
        )

    def _mark_multikey(self, index: Index) -> None:
        if not index.multikey:
            index.multikey = True
            self._writer.execute("UPDATE indexes SET multikey = 1 WHERE id = ?", (index.number,))

    def _remove_entries(self, index: Index, keys: set[bytes], id_key: bytes) -> None:
        self._writer.executemany(
            "DELETE FROM entries WHERE idx = ? AND key = ? AND id_key = ?",
            [(index.number, encoded, id_key) for encoded in keys],
        )

    # -- documents: writing -------------------------------------------------------------------------------------

    def insert(self, collection: Collection, body: bytes, document: Document) -> None:
        """Store a new document.

        Args:
            collection: Where.
            body: Its BSON, ``_id`` included.
            document: The same, decoded.

        Raises:
            CommandError: Its ``_id`` or another unique key is taken.
        """
        with self.writing():
            # Everything that can refuse the document comes before the first change.
            id_key = key(document["_id"])
            keys = [(index, index.keys(document)) for index in collection.indexes]
            for index, own in keys:
                if index.name == "_id_" and self._taken(index, id_key):
                    raise _duplicate(collection, index, document)
                self._check_unique(collection, index, own, document, id_key)
            seq = self._writer.execute("INSERT INTO documents (collection) VALUES (?)", (collection.number,)).lastrowid
            assert seq is not None
            self._writer.execute("INSERT INTO bodies (seq, body) VALUES (?, ?)", (seq, body))
            for index, own in keys:
                self._add_entries(index, own, id_key, seq)
            self._count(collection, 1)

    def _taken(self, index: Index, encoded: bytes) -> bool:
        return (
            self._writer.execute(
                "SELECT 1 FROM entries WHERE idx = ? AND key = ? LIMIT 1", (index.number, encoded)
            ).fetchone()
            is not None
        )

    def replace(self, collection: Collection, old: Stored, body: bytes, document: Document) -> None:
        """Put a document in the place of one with the same ``_id``.

        Raises:
            CommandError: Another document has one of its unique keys.
        """
        with self.writing():
            id_key = key(document["_id"])
            former = _indexed_part(old.document, collection.indexes)
            changes = [(index, index.keys(former), index.keys(document)) for index in collection.indexes]
            for index, before, after in changes:
                self._check_unique(collection, index, after - before, document, id_key)
            for index, before, after in changes:
                self._remove_entries(index, before - after, id_key)
                self._add_entries(index, after - before, id_key, old.seq)
                if _from_array(after):
                    self._mark_multikey(index)
            self._writer.execute("UPDATE bodies SET body = ? WHERE seq = ?", (body, old.seq))

    def delete(self, collection: Collection, stored: Stored) -> None:
        """Remove a document."""
        with self.writing():
            document = _indexed_part(stored.document, collection.indexes)
            id_key = key(document["_id"])
            for index in collection.indexes:
                self._remove_entries(index, index.keys(document), id_key)
            self._writer.execute("DELETE FROM bodies WHERE seq = ?", (stored.seq,))
            self._writer.execute("DELETE FROM documents WHERE seq = ?", (stored.seq,))
            self._count(collection, -1)

    def _count(self, collection: Collection, change: int) -> None:
        collection.documents += change
        self._writer.execute(
            "UPDATE collections SET documents = documents + ? WHERE id = ?", (change, collection.number)
        )

    def current(self, seq: int) -> Stored | None:
        """A document as the transaction under way sees it; for use inside `writing`."""
        row = self._writer.execute("SELECT body FROM bodies WHERE seq = ?", (seq,)).fetchone()
        self.examined.documents += 1
        return None if row is None else Stored(seq, RawBSONDocument(row[0], RAW))

    # -- documents: reading -------------------------------------------------------------------------------------

    def read(self, seqs: Sequence[int]) -> Iterator[Stored]:
        """Documents by sequence number, in the order asked for; those deleted meanwhile are left out.

        A few megabytes are read at a time, however large the documents are.
        """
        waiting = iter(seqs)
        while True:
            found: list[Stored] = []
            size = 0
            with self._readers.take() as connection:
                for seq in waiting:
                    row = connection.execute("SELECT body FROM bodies WHERE seq = ?", (seq,)).fetchone()
                    if row is None:
                        continue
                    found.append(Stored(seq, RawBSONDocument(row[0], RAW)))
                    size += len(row[0])
                    if size >= _CHUNK_BYTES:
                        break
            if not found:
                return
            self.examined.documents += len(found)
            yield from found

    def scan(self, collection: Collection, *, skip: int = 0) -> Iterator[list[Stored]]:
        """Every document in natural order, in chunks; each chunk is read when it is asked for.

        Args:
            collection: Which.
            skip: Documents to pass over; they are counted in an index and not read.
        """
        after = 0
        if skip:
            with self._readers.take() as connection:
                row = connection.execute(
                    "SELECT seq FROM documents WHERE collection = ? ORDER BY seq LIMIT 1 OFFSET ?",
                    (collection.number, skip - 1),
                ).fetchone()
            if row is None:
                return
            after = row[0]
        while True:
            with self._readers.take() as connection:
                chunk = next(self._scan(connection, collection, after=after), [])
            self.examined.documents += len(chunk)
            if not chunk:
                return
            after = chunk[-1].seq
            yield chunk

    @staticmethod
    def _scan(connection: sqlite3.Connection, collection: Collection, *, after: int) -> Iterator[list[Stored]]:
        while True:
            rows = connection.execute(
                "SELECT seq, body FROM documents JOIN bodies USING (seq) "
                "WHERE collection = ? AND seq > ? ORDER BY seq",
                (collection.number, after),
            )
            chunk = []
            size = 0
            for seq, body in rows:
                chunk.append(Stored(seq, RawBSONDocument(body, RAW)))
                size += len(body)
                if len(chunk) >= CHUNK_ROWS or size >= _CHUNK_BYTES:
                    break
            rows.close()
            if not chunk:
                return
            after = chunk[-1].seq
            yield chunk

    def entries(
        self, index: Index, spans: Sequence[Span], *, descending: bool = False, skip: int = 0
    ) -> Iterator[list[tuple[bytes, int]]]:
        """Index entries in key order, in chunks; each chunk is read when it is asked for.

        Args:
            index: Which.
            spans: Ranges of keys that do not overlap, in ascending order.
            descending: Walk from the end.
            skip: Entries to pass over, over all spans together.

        Yields:
            Chunks of (``_id`` key, sequence number).
        """
        statement = _DESCENDING if descending else _ASCENDING
        chunk = FIRST_CHUNK
        for span in reversed(spans) if descending else spans:
            if skip:
                size = self.count_entries(index, [span])
                if size <= skip:
                    skip -= size
                    continue
            # A bound is (key, id_key): half-open spans, so the first bound is never an entry itself.
            position = (span.high, b"") if descending else (span.low, b"")
            other = span.low if descending else span.high
            while True:
                with self._readers.take() as connection:
                    rows = connection.execute(statement, (index.number, *position, other, chunk, skip)).fetchall()
                skip = 0
                self.examined.entries += len(rows)
                if rows:
                    position = (rows[-1][0], rows[-1][1])
                    yield [(id_key, seq) for _, id_key, seq in rows]
                if len(rows) < chunk:
                    break
                chunk = min(chunk * 4, CHUNK_ROWS)

    def count_entries(self, index: Index, spans: Sequence[Span], enough: int | None = None) -> int:
        """How many entries lie in the spans; counting stops at `enough`."""
        total = 0
        with self._readers.take() as connection:
            for span in spans:
                most = -1 if enough is None else enough - total
                total += connection.execute(
                    "SELECT count(*) FROM (SELECT 1 FROM entries WHERE idx = ? AND key >= ? AND key < ? LIMIT ?)",
                    (index.number, span.low, span.high, most),
                ).fetchone()[0]
        return total

    def size(self, collection: Collection) -> int:
        """The bytes of all documents of a collection."""
        with self._readers.take() as connection:
            total: int = connection.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM documents JOIN bodies USING (seq) WHERE collection = ?",
                (collection.number,),
            ).fetchone()[0]
        return total

    # -- users --------------------------------------------------------------------------------------------------

    def set_up_user(self, name: str, password: str) -> None:
        """Make sure that the configured user exists and nobody else does.

        A password changed later (`change_password`) holds until another one is configured.
        """
        with self.writing():
            row = self._writer.execute("SELECT initial FROM users WHERE name = ?", (name,)).fetchone()
            if row is None or not matches(_credentials(row[0])["SCRAM-SHA-256"], name, password):
                made = _encoded(credentials(name, password))
                self._writer.execute(
                    "REPLACE INTO users (name, initial, current) VALUES (?, ?, ?)", (name, made, made)
                )
            self._writer.execute("DELETE FROM users WHERE name != ?", (name,))

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password; the old one is refused from now on."""
        with self.writing():
            self._writer.execute(
                "UPDATE users SET current = ? WHERE name = ?", (_encoded(credentials(name, password)), name)
            )

    def users(self) -> dict[str, dict[str, Credential]]:
        """The credentials of every user, by name and mechanism."""
        with self._readers.take() as connection:
            rows = connection.execute("SELECT name, current FROM users").fetchall()
        return {name: _credentials(current) for name, current in rows}


_ASCENDING = """
SELECT key, id_key, seq FROM entries WHERE idx = ? AND (key, id_key) > (?, ?) AND key < ?
ORDER BY key, id_key LIMIT ? OFFSET ?
"""
_DESCENDING = """
SELECT key, id_key, seq FROM entries WHERE idx = ? AND (key, id_key) < (?, ?) AND key >= ?
ORDER BY key DESC, id_key DESC LIMIT ? OFFSET ?
"""


def _lock(directory: Path) -> IO[str]:
    handle = (directory / "lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise StoreUnavailable(
            f"the data directory {directory} is in use by the process with pid {holder}; stop it first"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _index(number: int, spec: dict[str, Any], listed: bool, multikey: bool) -> Index:
    return Index(number, spec, [tuple(path.split(".")) for path in spec["key"]], listed, multikey)


def _indexed_part(document: RawBSONDocument, indexes: Sequence[Index]) -> RawBSONDocument:
    """The fields of a document that some indexes look at, and its ``_id``."""
    names = {parts[0] for index in indexes for parts in index.fields}
    return fields.trimmed(document, frozenset({"_id", *names}))


def _from_array(keys: set[bytes]) -> bool:
    """Whether a document's keys come from an array; an empty one has a single key, and sorts elsewhere than there."""
    return len(keys) > 1 or any(encoded[0] == ARRAY for encoded in keys)


def _duplicate(collection: Collection, index: Index, document: Document) -> CommandError:
    values = {".".join(parts): next(iter(paths.leaves(document, parts)), None) for parts in index.fields}
    shown = {path: None if value is MISSING else value for path, value in values.items()}
    described = ", ".join(f"{path}: {value!r}" for path, value in shown.items())
    return CommandError(
        DUPLICATE_KEY,
        f"E11000 duplicate key error collection: {collection.namespace} index: {index.name} "
        f"dup key: {{ {described} }}",
        {"keyPattern": index.spec["key"], "keyValue": shown},
    )


def _encoded(by_mechanism: dict[str, Credential]) -> bytes:
    return bson.encode({mechanism: credential.document() for mechanism, credential in by_mechanism.items()})


def _credentials(stored: bytes) -> dict[str, Credential]:
    return {mechanism: Credential(**fields) for mechanism, fields in bson.decode(stored, PLAIN).items()}
