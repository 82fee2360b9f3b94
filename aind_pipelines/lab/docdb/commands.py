"""MongoDB's commands, by name."""

from __future__ import annotations

import datetime as dt
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

import bson
from bson import Int64, ObjectId, Regex
from bson.raw_bson import RawBSONDocument

from aind_pipelines.lab.docdb import fields, limits
from aind_pipelines.lab.docdb import pipeline as pipelines
from aind_pipelines.lab.docdb.cursors import Cursors, check_result
from aind_pipelines.lab.docdb.errors import (
    AUTHENTICATION_FAILED,
    BSON_OBJECT_TOO_LARGE,
    CANNOT_CREATE_INDEX,
    COMMAND_NOT_FOUND,
    DISTINCT_TOO_LARGE,
    DUPLICATE_KEY,
    FAILED_TO_PARSE,
    INDEX_NOT_FOUND,
    INTERNAL_ERROR,
    INTERRUPTED_AT_SHUTDOWN,
    INVALID_BSON,
    INVALID_ID_FIELD,
    INVALID_LENGTH,
    INVALID_NAMESPACE,
    INVALID_OPTIONS,
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    OUT_OF_DISK_SPACE,
    OVERFLOW,
    PROTOCOL_ERROR,
    RETRYABLE_WRITES_UNSUPPORTED,
    TYPE_MISMATCH,
    UNAUTHORIZED,
    UNSUPPORTED_OP_QUERY,
    USER_NOT_FOUND,
    CommandError,
    bad_value,
    not_implemented,
)
from aind_pipelines.lab.docdb.limits import Limits
from aind_pipelines.lab.docdb.matching import compile_filter
from aind_pipelines.lab.docdb.planning import Sort
from aind_pipelines.lab.docdb.projection import compile_projection
from aind_pipelines.lab.docdb.protocol import MAX_DOCUMENT_BYTES, MAX_MESSAGE_BYTES, Request
from aind_pipelines.lab.docdb.query import Questions
from aind_pipelines.lab.docdb.scram import DIGESTS, Conversation
from aind_pipelines.lab.docdb.store import Collection, Index, Store, Stored
from aind_pipelines.lab.docdb.updates import (
    Update,
    check_field_name,
    check_same_id,
    compile_update,
    is_replacement,
    upsert_seed,
)
from aind_pipelines.lab.docdb.values import Document, decode, is_document, is_number, key, plain, whole_number

log = logging.getLogger(__name__)

REPLICA_SET = "rs0"
VERSION = "6.0.0"
MAX_WIRE_VERSION = 17
MAX_BATCH = 100_000
_INSERTS_PER_TRANSACTION = 500
_MAX_TOLD_BYTES = 2**20
"""Of the errors of one write command, those told with message and details; the rest has its code only."""
_MAX_DEPTH = 180
_UPSERT_ATTEMPTS = 3
_WITHOUT_LOGIN = {
    "hello", "ismaster", "ping", "buildinfo", "saslstart", "saslcontinue", "endsessions", "connectionstatus", "logout",
}  # fmt: skip
_GENERIC = {
    "$db", "lsid", "$readpreference", "$clustertime", "readconcern", "writeconcern", "comment", "apiversion",
    "apistrict", "apideprecationerrors", "maxtimems", "txnnumber", "autocommit", "starttransaction",
    "maxstalenessseconds", "$audit", "$client", "$configserverstate", "bypassdocumentvalidation", "let",
    "allowdiskuse", "hint",
}  # fmt: skip


@dataclass(slots=True)
class Session:
    """What a connection has established.

    Attributes:
        number: Its number, for ``hello``.
        user: Who logged in; None before.
        conversation: A login under way.
        proven: Whether its proof was accepted and only the closing empty message is missing.
    """

    number: int
    user: str | None = None
    conversation: Conversation | None = None
    proven: bool = False


@dataclass(slots=True)
class Call:
    """One command with its arguments decoded, except documents to be stored.

    Attributes:
        name: As the client wrote it.
        arguments: The command document.
        database: The database it is for.
        session: The connection's state.
        limits: What may end it early.
    """

    name: str
    arguments: dict[str, Any]
    database: str
    session: Session
    limits: Limits

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or `default` when it is absent or null."""
        value = self.arguments.get(name)
        return default if value is None else value

    @property
    def target(self) -> str:
        """The collection that the command names."""
        name = self.arguments[self.name]
        if not isinstance(name, str):
            raise CommandError(INVALID_NAMESPACE, f"the collection of {self.name} must be a string, not {name!r}")
        check_namespace(self.database, name)
        return name

    def document(self, name: str) -> dict[str, Any]:
        """An argument that is a document; an empty one when absent."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise CommandError(FAILED_TO_PARSE, f"the argument {name} of {self.name} must be a document")
        return value

    def documents(self, name: str) -> list[Any]:
        """An argument that is a list of documents."""
        value = self.get(name, [])
        if not isinstance(value, list) or not all(is_document(item) for item in value):
            raise CommandError(FAILED_TO_PARSE, f"the argument {name} of {self.name} must be a list of documents")
        return value

    def whole(self, name: str, *, least: int = 0) -> int | None:
        """An argument that is a whole number; None when absent."""
        value = self.get(name)
        if value is None:
            return None
        return self.as_whole(name, value, least)

    def as_whole(self, name: str, value: Any, least: int = 0) -> int:
        """`value`, of the argument `name`, as the whole number that it must be."""
        number = whole_number(value)
        if number is None or number < least:
            raise CommandError(51024, f"the argument {name} of {self.name} must be a whole number of at least {least}")
        return number

    def batch_size(self) -> int | None:
        """The size of the first batch, of commands that have it in their argument ``cursor``."""
        size = self.document("cursor").get("batchSize")
        return None if size is None else self.as_whole("cursor.batchSize", size)

    def sort(self, name: str = "sort") -> Sort:
        """An argument that is a sort document."""
        order = self.document(name)
        return [] if order == {"$natural": 1} else pipelines.sort_of(order)

    def allow(self, *names: str) -> None:
        """Refuse arguments that this server would have to ignore."""
        known = {name.lower() for name in names} | {self.name.lower()} | _GENERIC
        for name, value in self.arguments.items():
            if name.lower() not in known and value not in (None, False, 0, {}, []):
                raise not_implemented(f"the argument {name} of {self.name}")


def check_namespace(database: str, collection: str) -> None:
    """Refuse names that no database or collection may have."""
    wrong = not collection or collection.startswith((".", "system.")) or "$" in collection or "\0" in collection
    if wrong or not database or any(letter in '/\\. "$\0' for letter in database) or len(database) > 63:
        raise CommandError(INVALID_NAMESPACE, f"Invalid namespace specified '{database}.{collection}'")


@dataclass(slots=True)
class _Writes:
    """What a write command has done so far."""

    matched: int = 0
    modified: int = 0
    upserted: list[dict[str, Any]] = default(default_factory=list)
    errors: list[dict[str, Any]] = default(default_factory=list)
    told: int = 0

    def failed(self, position: int, error: CommandError) -> None:
        full = {"index": position, "code": error.code, "errmsg": error.message, **error.details}
        size = len(bson.encode(full))
        if self.told + size > _MAX_TOLD_BYTES:
            # A hundred thousand of them, or a few with large values, would be no message that a client takes.
            full = {"index": position, "code": error.code, "errmsg": ""}
        else:
            self.told += size
        self.errors.append(full)


class Commands:
    """Executes commands on a store.

    Args:
        store: Where the documents are.
        address: ``host:port`` that clients shall know this member of the replica set by.
        stopping: Set when the server shuts down.
    """

    def __init__(self, store: Store, address: str, stopping: threading.Event) -> None:
        self._store = store
        self._questions = Questions(store)
        self._cursors = Cursors()
        self._address = address
        self._stopping = stopping
        self._started = time.monotonic()
        self._commands: dict[str, Callable[[Call], dict[str, Any]]] = {
            "aggregate": self._aggregate,
            "buildinfo": self._build_info,
            "collstats": self._collection_stats,
            "connectionstatus": self._connection_status,
            "count": self._count,
            "create": self._create,
            "createindexes": self._create_indexes,
            "dbstats": self._database_stats,
            "delete": self._delete,
            "distinct": self._distinct,
            "drop": self._drop,
            "dropdatabase": self._drop_database,
            "dropindexes": self._drop_indexes,
            "deleteindexes": self._drop_indexes,
            "endsessions": self._nothing,
            "explain": self._explain,
            "find": self._find,
            "findandmodify": self._find_and_modify,
            "getmore": self._get_more,
            "hello": self._hello,
            "insert": self._insert,
            "ismaster": self._hello,
            "killcursors": self._kill_cursors,
            "listcollections": self._list_collections,
            "listdatabases": self._list_databases,
            "listindexes": self._list_indexes,
            "logout": self._logout,
            "ping": self._nothing,
            "saslcontinue": self._sasl_continue,
            "saslstart": self._sasl_start,
            "serverstatus": self._server_status,
            "update": self._update,
            "updateuser": self._update_user,
        }

    # -- one command --------------------------------------------------------------------------------------------

    def run(self, request: Request, session: Session) -> dict[str, Any]:
        """Execute one request and return the reply, whatever happens."""
        try:
            return {**self._execute(request, session), "ok": 1.0}
        except CommandError as error:
            return error.document()
        except RecursionError:
            return CommandError(OVERFLOW, "a document or filter is nested too deeply").document()
        except (bson.errors.InvalidBSON, bson.errors.InvalidDocument) as error:
            return CommandError(INVALID_BSON, f"invalid BSON: {error}").document()
        except sqlite3.Error as error:
            if self._stopping.is_set():
                return CommandError(INTERRUPTED_AT_SHUTDOWN, "the server is shutting down").document()
            log.exception("the data file failed")
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            code = OUT_OF_DISK_SPACE if full else INTERNAL_ERROR
            return CommandError(code, f"the data file cannot be used: {error}").document()
        except Exception as error:  # the boundary: client and log learn of it
            log.exception("a command failed unexpectedly")
            return CommandError(INTERNAL_ERROR, f"{type(error).__name__}: {error}").document()

    def _execute(self, request: Request, session: Session) -> dict[str, Any]:
        name = next(iter(request.body), "")
        lowered = name.lower()
        command = self._commands.get(lowered)
        if request.database is not None and lowered not in ("hello", "ismaster"):
            raise CommandError(
                UNSUPPORTED_OP_QUERY,
                f"Unsupported OP_QUERY command: {name}. The client driver may require an upgrade.",
            )
        if command is None:
            raise CommandError(COMMAND_NOT_FOUND, f"no such command: '{name}'")
        if session.user is None and lowered not in _WITHOUT_LOGIN:
            raise CommandError(UNAUTHORIZED, f"command {name} requires authentication")
        arguments = {
            argument: value if argument == "documents" else plain(value) for argument, value in request.body.items()
        }
        for argument, documents in request.sequences.items():
            arguments[argument] = (
                documents if argument == "documents" else [decode(document) for document in documents]
            )
        call = Call(
            name, arguments, str(request.database or arguments.get("$db", "")), session, Limits(self._stopping)
        )
        self._check_generic(call)
        limits.current.set(call.limits)
        return command(call)

    @staticmethod
    def _check_generic(call: Call) -> None:
        if "startTransaction" in call.arguments or "autocommit" in call.arguments:
            raise not_implemented("a transaction")
        if "txnNumber" in call.arguments:
            raise CommandError(
                RETRYABLE_WRITES_UNSUPPORTED,
                "Retryable writes are not supported: add retryWrites=false to the connection string",
            )
        if call.document("readConcern").get("level") == "snapshot":
            raise not_implemented("the read concern snapshot")
        for name in ("collation", "let"):
            if call.get(name):
                raise not_implemented(f"the argument {name}")
        milliseconds = call.whole("maxTimeMS")
        if milliseconds:
            call.limits.deadline = time.monotonic() + milliseconds / 1000

    # -- the connection -----------------------------------------------------------------------------------------

    def _nothing(self, _: Call) -> dict[str, Any]:
        return {}

    def _hello(self, call: Call) -> dict[str, Any]:
        reply: dict[str, Any] = {
            "helloOk": True,
            "isWritablePrimary" if call.name == "hello" else "ismaster": True,
            "secondary": False,
            "setName": REPLICA_SET,
            "setVersion": 1,
            "hosts": [self._address],
            "primary": self._address,
            "me": self._address,
            "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
            "maxMessageSizeBytes": MAX_MESSAGE_BYTES,
            "maxWriteBatchSize": MAX_BATCH,
            "localTime": dt.datetime.now(dt.UTC),
            "logicalSessionTimeoutMinutes": 30,
            "connectionId": call.session.number,
            "minWireVersion": 0,
            "maxWireVersion": MAX_WIRE_VERSION,
            "readOnly": False,
        }
        if "saslSupportedMechs" in call.arguments:
            reply["saslSupportedMechs"] = list(DIGESTS)
        return reply

    def _build_info(self, _: Call) -> dict[str, Any]:
        return {
            "version": VERSION,
            "versionArray": [int(part) for part in VERSION.split(".")] + [0],
            "gitVersion": "embedded",
            "modules": [],
            "bits": 64,
            "debug": False,
            "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
        }

    def _sasl_start(self, call: Call) -> dict[str, Any]:
        mechanism = str(call.get("mechanism"))
        call.session.user = None
        call.session.proven = False
        if mechanism not in DIGESTS:
            raise CommandError(AUTHENTICATION_FAILED, f"the mechanism {mechanism} is not supported")
        if call.database != "admin":
            raise CommandError(AUTHENTICATION_FAILED, "Authentication failed.")
        conversation = Conversation(mechanism, bytes(call.get("payload", b"")), self._store.users())
        call.session.conversation = conversation
        return {"conversationId": 1, "done": False, "payload": conversation.challenge()}

    def _sasl_continue(self, call: Call) -> dict[str, Any]:
        conversation = call.session.conversation
        if conversation is None:
            raise CommandError(PROTOCOL_ERROR, "No SASL session state found")
        payload = bytes(call.get("payload", b""))
        if call.session.proven:
            if payload:
                raise CommandError(AUTHENTICATION_FAILED, "Authentication failed.")
            call.session.conversation = None
            call.session.user = conversation.username
            return {"conversationId": 1, "done": True, "payload": b""}
        call.session.conversation = None
        proof = conversation.verify(payload)
        call.session.conversation, call.session.proven = conversation, True
        return {"conversationId": 1, "done": False, "payload": proof}

    def _logout(self, call: Call) -> dict[str, Any]:
        call.session.user = None
        return {}

    def _connection_status(self, call: Call) -> dict[str, Any]:
        user = call.session.user
        return {
            "authInfo": {
                "authenticatedUsers": [] if user is None else [{"user": user, "db": "admin"}],
                "authenticatedUserRoles": [] if user is None else [{"role": "root", "db": "admin"}],
            }
        }

    def _update_user(self, call: Call) -> dict[str, Any]:
        call.allow("pwd", "digestPassword")
        name = str(call.arguments[call.name])
        if name != call.session.user:
            raise CommandError(USER_NOT_FOUND, f"User {name}@{call.database} not found")
        password = call.get("pwd")
        if call.get("digestPassword") is False:
            raise not_implemented("updateUser with a digested password")
        if not isinstance(password, str) or not password:
            raise bad_value("updateUser needs pwd, a password that is not empty")
        self._store.change_password(name, password)
        log.info("the password of %s was changed", name)
        return {}

    # -- reading ------------------------------------------------------------------------------------------------

    def _collection(self, call: Call, name: str | None = None) -> Collection | None:
        return self._store.collection(call.database, call.target if name is None else name)

    def _find(self, call: Call) -> dict[str, Any]:
        call.allow(
            "filter", "sort", "projection", "skip", "limit", "batchSize", "singleBatch", "noCursorTimeout",
            "allowPartialResults", "oplogReplay",
        )  # fmt: skip
        collection = self._collection(call)
        transform = compile_projection(call.document("projection"))
        limit = call.whole("limit") or 0
        found = self._questions.find(
            collection,
            call.document("filter"),
            call.sort(),
            call.whole("skip") or 0,
            limit,
            limits=call.limits,
        )
        documents: Iterator[Document] = (stored.document for stored in found)
        if transform is not None:
            needed = fields.of_projection(call.document("projection"))
            documents = (transform(fields.trimmed(stored.document, needed)) for stored in found)
        return self._cursors.first(
            f"{call.database}.{call.target}",
            documents,
            call.whole("batchSize"),
            limit=limit,
            single=bool(call.get("singleBatch")),
        )

    def _get_more(self, call: Call) -> dict[str, Any]:
        number, collection = call.arguments[call.name], call.get("collection")
        if not isinstance(number, int) or not isinstance(collection, str):
            raise CommandError(FAILED_TO_PARSE, "getMore needs a cursor id and a collection")
        return self._cursors.more(number, f"{call.database}.{collection}", call.whole("batchSize"))

    def _kill_cursors(self, call: Call) -> dict[str, Any]:
        return self._cursors.kill([int(number) for number in call.get("cursors", []) if isinstance(number, int)])

    def _count(self, call: Call) -> dict[str, Any]:
        call.allow("query", "skip", "limit", "fields")
        limit = abs(call.whole("limit", least=-(2**63)) or 0)
        amount = self._questions.count(
            self._collection(call), call.document("query"), call.whole("skip") or 0, limit, limits=call.limits
        )
        return {"n": amount}

    def _distinct(self, call: Call) -> dict[str, Any]:
        call.allow("key", "query")
        path = call.get("key")
        if not isinstance(path, str) or not path:
            raise CommandError(TYPE_MISMATCH, "distinct needs a key")
        values = self._questions.distinct(self._collection(call), path, call.document("query"), limits=call.limits)
        if len(bson.encode({"values": values})) > MAX_DOCUMENT_BYTES:
            raise CommandError(DISTINCT_TOO_LARGE, "distinct too big, 16mb cap")
        return {"values": values}

    def _aggregate(self, call: Call) -> dict[str, Any]:
        call.allow("pipeline", "cursor")
        if call.get("explain"):
            raise not_implemented("explain")
        collection = self._collection(call)
        question = pipelines.split(call.documents("pipeline"))
        size = call.batch_size()
        namespace = f"{call.database}.{call.target}"
        counted = pipelines.counts_only(question.rest)
        if counted is not None:
            amount = self._questions.count(
                collection, question.query, question.skip, question.limit, limits=call.limits
            )
            documents: Iterator[Document] = iter([{"_id": counted[0], counted[1]: amount}] if amount else [])
            return self._cursors.first(namespace, documents, size)
        stages = pipelines.compile_stages(question.rest, self._lookup(call))
        found = self._questions.find(
            collection, question.query, question.sort, question.skip, question.limit, limits=call.limits
        )
        needed = fields.of_stages(question.rest)
        return self._cursors.first(
            namespace, stages(fields.trimmed(stored.document, needed) for stored in found), size
        )

    def _lookup(self, call: Call) -> pipelines.Lookup:
        def lookup(name: str, path: str, value: Any) -> list[Document]:
            condition = {"$in": value} if isinstance(value, list) else {"$eq": value}
            collection = self._store.collection(call.database, name)
            return [
                stored.document for stored in self._questions.find(collection, {path: condition}, limits=call.limits)
            ]

        return lookup

    # -- writing ------------------------------------------------------------------------------------------------

    def _insert(self, call: Call) -> dict[str, Any]:
        call.allow("documents", "ordered")
        name, documents = call.target, call.documents("documents")
        _check_batch(documents)
        ordered = bool(call.get("ordered", True))
        done = _Writes()
        for start in range(0, len(documents), _INSERTS_PER_TRANSACTION):
            call.limits.check()
            prepared: list[tuple[int, bytes, Document] | None] = []
            for position, document in enumerate(documents[start : start + _INSERTS_PER_TRANSACTION], start):
                try:
                    prepared.append((position, *prepare(document)))
                except CommandError as error:
                    done.failed(position, error)
                    if ordered:
                        break
            with self._store.writing():
                collection = self._store.ensure_collection(call.database, name)
                for position, body, decoded in filter(None, prepared):
                    try:
                        self._store.insert(collection, body, decoded)
                    except CommandError as error:
                        if ordered:
                            done.errors.clear()  # what was found wrong further on was never reached
                        done.failed(position, error)
                        if ordered:
                            break
                    else:
                        done.matched += 1
            if ordered and done.errors:
                break
        return _written(done, {"n": done.matched})

    def _update(self, call: Call) -> dict[str, Any]:
        call.allow("updates", "ordered")
        name, updates = call.target, call.documents("updates")
        _check_batch(updates)
        done = _Writes()
        for position, statement in enumerate(updates):
            try:
                self._update_one_statement(call, name, position, statement, done)
            except CommandError as error:
                done.failed(position, error)
                if call.get("ordered", True):
                    break
        reply: dict[str, Any] = {"n": done.matched + len(done.upserted), "nModified": done.modified}
        if done.upserted:
            reply["upserted"] = done.upserted
        return _written(done, reply)

    def _update_one_statement(
        self, call: Call, name: str, position: int, statement: Mapping[str, Any], done: _Writes
    ) -> None:
        _allow_in(statement, "update", "q", "u", "multi", "upsert", "hint")
        query, change = statement["q"], statement["u"]
        multi = bool(statement.get("multi"))
        if multi and is_replacement(change):
            raise CommandError(FAILED_TO_PARSE, "multi update is not supported for replacement-style update")
        update = compile_update(change)

        def change_one(collection: Collection, stored: Stored) -> None:
            done.modified += self._apply(collection, stored, update)[1]
            done.matched += 1

        for attempt in range(_UPSERT_ATTEMPTS):
            if self._for_each(call, name, query, change_one, multi=multi) or not statement.get("upsert"):
                return
            document = self._upsert(call, name, query, update, last=attempt == _UPSERT_ATTEMPTS - 1)
            if document is not None:
                done.upserted.append({"index": position, "_id": document["_id"]})
                return

    def _for_each(
        self,
        call: Call,
        name: str,
        query: Mapping[str, Any],
        action: Callable[[Collection, Stored], None],
        sort: Sort = (),
        *,
        multi: bool,
    ) -> int:
        """Do something to the first match or to every match, and return how many there were.

        Matches are looked for while others may write, so that a slow search holds nobody up; each is checked
        again where it was changed since, and dealt with, when no other write can take place.
        """
        matches = compile_filter(query)
        found: Iterator[Stored] = self._questions.find(
            self._store.collection(call.database, name), query, sort, limits=call.limits
        )
        chosen: Iterable[tuple[int, int]] = ((stored.seq, hash(bytes(stored.document.raw))) for stored in found)
        if multi:
            # All are chosen before the first is changed: a change must not bring one back into the search.
            chosen = list(chosen)
        done = 0
        for seq, known in chosen:
            call.limits.check()
            with self._store.writing():
                collection = self._store.collection(call.database, name)
                stored = None if collection is None else self._store.current(seq)
                if collection is None or stored is None:
                    continue
                if hash(bytes(stored.document.raw)) == known or matches(stored.document):
                    action(collection, stored)
                    done += 1
            if done and not multi:
                break
        return done

    def _apply(self, collection: Collection, stored: Stored, update: Update) -> tuple[Document, bool]:
        """Change one document; returns the new one and whether it differs."""
        old = decode(stored.document)
        identity = old["_id"]
        new = update(old, False)
        check_same_id(identity, new)
        body = _encoded(new)
        if body == bytes(stored.document.raw):
            return stored.document, False
        self._store.replace(collection, stored, body, new)
        return new, True

    def _upsert(
        self, call: Call, name: str, query: Mapping[str, Any], update: Update, *, last: bool
    ) -> Document | None:
        """Insert what an upsert makes; None when a match has appeared meanwhile and the search should be repeated."""
        seed = upsert_seed(query)
        new = update(dict(seed), True)
        if "_id" in seed:
            check_same_id(seed["_id"], new)
        body, document = prepare(new)
        with self._store.writing():
            collection = self._store.ensure_collection(call.database, name)
            if self._questions.plan(collection, query).accesses is not None and any(
                self._questions.find(collection, query, limits=call.limits)
            ):
                return None
            try:
                self._store.insert(collection, body, document)
            except CommandError as error:
                if error.code != DUPLICATE_KEY or last:
                    raise
                return None
        return document

    def _delete(self, call: Call) -> dict[str, Any]:
        call.allow("deletes", "ordered")
        name, deletes = call.target, call.documents("deletes")
        _check_batch(deletes)
        done = _Writes()
        for position, statement in enumerate(deletes):
            try:
                _allow_in(statement, "delete", "q", "limit", "hint")
                multi = not statement.get("limit")
                done.matched += self._for_each(call, name, statement["q"], self._store.delete, multi=multi)
            except CommandError as error:
                done.failed(position, error)
                if call.get("ordered", True):
                    break
        return _written(done, {"n": done.matched})

    def _find_and_modify(self, call: Call) -> dict[str, Any]:
        call.allow("query", "sort", "remove", "update", "new", "fields", "upsert")
        name, query = call.target, call.document("query")
        remove, upsert = bool(call.get("remove")), bool(call.get("upsert"))
        change = call.get("update")
        if remove == (change is not None):
            raise CommandError(FAILED_TO_PARSE, "Either an update or remove=true must be specified")
        if remove and (upsert or call.get("new")):
            raise CommandError(FAILED_TO_PARSE, "Cannot specify both upsert or new=true and remove=true")
        transform = compile_projection(call.document("fields"))
        update = None if remove else compile_update(change)
        found: list[Document] = []

        def shown(document: Document) -> Document:
            if transform is None:
                return document
            projected = transform(document)
            check_result(bson.encode(projected))
            return projected

        def change_one(collection: Collection, stored: Stored) -> None:
            if update is None:
                self._store.delete(collection, stored)
                document: Document = stored.document
            else:
                new, _ = self._apply(collection, stored, update)
                document = new if call.get("new") else stored.document
            # Within the transaction: what cannot be answered is not done either.
            found.append(shown(document))

        for attempt in range(_UPSERT_ATTEMPTS):
            if self._for_each(call, name, query, change_one, call.sort(), multi=False):
                last_error = {"n": 1} if update is None else {"n": 1, "updatedExisting": True}
                return {"lastErrorObject": last_error, "value": found[0]}
            if update is None:
                return {"lastErrorObject": {"n": 0}, "value": None}
            if not upsert:
                break
            with self._store.writing():
                document = self._upsert(call, name, query, update, last=attempt == _UPSERT_ATTEMPTS - 1)
                value = shown(document) if document is not None and call.get("new") else None
            if document is not None:
                return {
                    "lastErrorObject": {"n": 1, "updatedExisting": False, "upserted": document["_id"]},
                    "value": value,
                }
        return {"lastErrorObject": {"n": 0, "updatedExisting": False}, "value": None}

    # -- indexes and collections --------------------------------------------------------------------------------

    def _existing(self, call: Call) -> Collection:
        collection = self._collection(call)
        if collection is None:
            raise CommandError(NAMESPACE_NOT_FOUND, f"ns not found: {call.database}.{call.target}")
        return collection

    def _create_indexes(self, call: Call) -> dict[str, Any]:
        call.allow("indexes", "commitQuorum", "ignoreUnknownIndexOptions")
        specs = [_index_spec(spec) for spec in call.documents("indexes")]
        if not specs:
            raise bad_value("Must specify at least one index to create")
        with self._store.writing():
            existed = self._collection(call) is not None
            collection = self._store.ensure_collection(call.database, call.target)
            before = sum(index.listed for index in collection.indexes)
            for spec in {spec["name"]: spec for spec in specs}.values():
                self._store.create_index(collection, spec, call.limits.check)
        collection = self._existing(call)
        return {
            "numIndexesBefore": before,
            "numIndexesAfter": sum(index.listed for index in collection.indexes),
            "createdCollectionAutomatically": not existed,
        }

    def _list_indexes(self, call: Call) -> dict[str, Any]:
        call.allow("cursor")
        collection = self._existing(call)
        specs: list[Document] = [index.spec for index in collection.indexes if index.listed]
        return self._cursors.first(f"{call.database}.{call.target}", iter(specs), call.batch_size())

    def _drop_indexes(self, call: Call) -> dict[str, Any]:
        call.allow("index")
        wanted = call.get("index")
        with self._store.writing():
            collection = self._existing(call)
            listed = [index for index in collection.indexes if index.listed]
            for index in _chosen(listed, wanted):
                self._store.drop_index(collection, index)
        return {"nIndexesWas": len(listed)}

    def _create(self, call: Call) -> dict[str, Any]:
        call.allow("autoIndexId", "idIndex")
        with self._store.writing():
            if self._collection(call) is not None:
                raise CommandError(NAMESPACE_EXISTS, f"Collection {call.database}.{call.target} already exists.")
            self._store.ensure_collection(call.database, call.target)
        return {}

    def _drop(self, call: Call) -> dict[str, Any]:
        with self._store.writing():
            collection = self._existing(call)
            self._store.drop_collection(collection)
        return {"ns": collection.namespace, "nIndexesWas": sum(index.listed for index in collection.indexes)}

    def _drop_database(self, call: Call) -> dict[str, Any]:
        with self._store.writing():
            for collection in self._of_database(call.database):
                self._store.drop_collection(collection)
        return {"dropped": call.database}

    def _of_database(self, database: str) -> list[Collection]:
        return [collection for collection in self._store.collections() if collection.database == database]

    def _list_collections(self, call: Call) -> dict[str, Any]:
        call.allow("filter", "nameOnly", "cursor", "authorizedCollections")
        matches = compile_filter(call.document("filter"))
        described: list[Document] = []
        for collection in self._of_database(call.database):
            entry: dict[str, Any] = {"name": collection.name, "type": "collection"}
            if not call.get("nameOnly"):
                entry["options"] = {}
                entry["info"] = {"readOnly": False}
                entry["idIndex"] = collection.indexes[0].spec
            if matches(entry):
                described.append(entry)
        size = call.batch_size()
        return self._cursors.first(f"{call.database}.$cmd.listCollections", iter(described), size)

    def _list_databases(self, call: Call) -> dict[str, Any]:
        call.allow("filter", "nameOnly", "authorizedDatabases")
        matches = compile_filter(call.document("filter"))
        names = list(dict.fromkeys(collection.database for collection in self._store.collections()))
        described = []
        for name in names:
            entry: dict[str, Any] = {"name": name}
            if not call.get("nameOnly"):
                entry["sizeOnDisk"] = Int64(sum(self._store.size(each) for each in self._of_database(name)))
                entry["empty"] = not any(each.documents for each in self._of_database(name))
            if matches(entry):
                described.append(entry)
        reply: dict[str, Any] = {"databases": described}
        if not call.get("nameOnly"):
            reply["totalSize"] = Int64(sum(entry["sizeOnDisk"] for entry in described))
        return reply

    # -- about the server ---------------------------------------------------------------------------------------

    def _collection_stats(self, call: Call) -> dict[str, Any]:
        collection = self._collection(call)
        size = 0 if collection is None else self._store.size(collection)
        documents = 0 if collection is None else collection.documents
        return {
            "ns": f"{call.database}.{call.target}",
            "count": documents,
            "size": Int64(size),
            "avgObjSize": size // documents if documents else 0,
            "nindexes": 0 if collection is None else sum(index.listed for index in collection.indexes),
        }

    def _database_stats(self, call: Call) -> dict[str, Any]:
        collections = self._of_database(call.database)
        return {
            "db": call.database,
            "collections": len(collections),
            "objects": sum(collection.documents for collection in collections),
            "dataSize": Int64(sum(self._store.size(collection) for collection in collections)),
            "indexes": sum(index.listed for collection in collections for index in collection.indexes),
        }

    def _server_status(self, _: Call) -> dict[str, Any]:
        examined = self._store.examined
        return {
            "host": self._address,
            "version": VERSION,
            "process": "embedded-docdb",
            "pid": Int64(os.getpid()),
            "uptime": time.monotonic() - self._started,
            "repl": {"setName": REPLICA_SET, "me": self._address, "isWritablePrimary": True},
            "metrics": {
                "cursor": {"open": {"total": len(self._cursors)}},
                "queryExecutor": {"scanned": Int64(examined.entries), "scannedObjects": Int64(examined.documents)},
            },
        }

    def _explain(self, _: Call) -> dict[str, Any]:
        raise not_implemented("explain")


def prepare(document: Document) -> tuple[bytes, Document]:
    """A document as it is stored: its BSON with ``_id`` in front, and the same decoded.

    Raises:
        CommandError: It is too large, or has an ``_id`` or field name that MongoDB refuses.
    """
    decoded = decode(document) if isinstance(document, RawBSONDocument) else dict(document)
    for name in decoded:
        check_field_name(name)
    _check_depth(decoded)
    raw = bytes(document.raw) if isinstance(document, RawBSONDocument) else b""
    if "_id" not in decoded:
        decoded = {"_id": ObjectId(), **decoded}
        raw = b""
    elif next(iter(decoded)) != "_id":
        decoded = {"_id": decoded["_id"], **decoded}
        raw = b""
    identity = decoded["_id"]
    if isinstance(identity, list | Regex):
        raise CommandError(INVALID_ID_FIELD, "The '_id' value cannot be an array or a regular expression")
    key(identity)
    return _check_size(raw or bson.encode(decoded)), decoded


def _encoded(document: dict[str, Any]) -> bytes:
    for name in document:
        check_field_name(name)
    _check_depth(document)
    return _check_size(bson.encode(document))


def _check_size(body: bytes) -> bytes:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise CommandError(
            BSON_OBJECT_TOO_LARGE, f"object to insert too large. size in bytes: {len(body)}, max: {MAX_DOCUMENT_BYTES}"
        )
    return body


def _check_depth(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise CommandError(OVERFLOW, f"a document may not be nested deeper than {_MAX_DEPTH} levels")


def _check_batch(items: Sequence[Any]) -> None:
    if not 1 <= len(items) <= MAX_BATCH:
        raise CommandError(INVALID_LENGTH, f"Write batch sizes must be between 1 and {MAX_BATCH}. Got {len(items)}")


def _allow_in(statement: Mapping[str, Any], command: str, *names: str) -> None:
    for name in names[: 2 if command == "update" else 1]:
        if name not in statement:
            raise CommandError(FAILED_TO_PARSE, f"a statement of {command} needs {name}")
    if not isinstance(statement["q"], Mapping):
        raise CommandError(FAILED_TO_PARSE, f"q in {command} must be a document")
    for name, value in statement.items():
        if name not in names and value not in (None, False, {}, []):
            raise not_implemented(f"{name} in {command}")


def _written(done: _Writes, reply: dict[str, Any]) -> dict[str, Any]:
    if done.errors:
        reply["writeErrors"] = sorted(done.errors, key=lambda error: int(error["index"]))
    return reply


def _index_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    keys = spec.get("key")
    if not isinstance(keys, Mapping) or not keys:
        raise CommandError(CANNOT_CREATE_INDEX, "an index needs a key that is not empty")
    for path, direction in keys.items():
        if not is_number(direction) or "$**" in path:
            raise not_implemented(f"an index of the kind {direction!r} on {path!r}")
        if not path or not all(path.split(".")) or path.startswith("$") or direction == 0:
            raise CommandError(CANNOT_CREATE_INDEX, f"{path!r}: {direction!r} is no valid key of an index")
    for option, value in spec.items():
        known = option in ("key", "name", "v", "unique", "sparse", "background", "ns")
        if not known and value not in (None, False):
            raise not_implemented(f"the index option {option}")
    name = spec.get("name") or "_".join(f"{path}_{int(direction)}" for path, direction in keys.items())
    made: dict[str, Any] = {"v": 2, "key": dict(keys), "name": str(name)}
    for option in ("unique", "sparse"):
        if spec.get(option):
            made[option] = True
    return made


def _chosen(listed: Sequence[Index], wanted: Any) -> list[Index]:
    if wanted == "*":
        return [index for index in listed if index.name != "_id_"]
    names = wanted if isinstance(wanted, list) else [wanted]
    chosen = []
    for name in names:
        found = [
            index
            for index in listed
            if index.name == name
            or (isinstance(name, Mapping) and list(index.spec["key"].items()) == list(name.items()))
        ]
        if not found:
            raise CommandError(INDEX_NOT_FOUND, f"index not found with name [{name}]")
        chosen.extend(found)
    if any(index.name == "_id_" for index in chosen):
        raise CommandError(INVALID_OPTIONS, "cannot drop _id index")
    return chosen
