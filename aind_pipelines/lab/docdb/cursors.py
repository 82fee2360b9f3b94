"""Cursors: answers that are fetched in batches, each document when it is asked for."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import bson
from bson import Int64
from bson.raw_bson import RawBSONDocument

from aind_pipelines.lab.docdb.errors import BSON_OBJECT_TOO_LARGE, CURSOR_NOT_FOUND, UNAUTHORIZED, CommandError
from aind_pipelines.lab.docdb.protocol import MAX_DOCUMENT_BYTES
from aind_pipelines.lab.docdb.values import RAW, Document

DEFAULT_FIRST_BATCH = 101
IDLE_SECONDS = 600.0


def check_result(body: bytes) -> bytes:
    """Refuse an encoded document of an answer that is larger than documents may be.

    Raises:
        CommandError: It is, as a stage or a projection can make it.
    """
    if len(body) > MAX_DOCUMENT_BYTES:
        raise CommandError(
            BSON_OBJECT_TOO_LARGE,
            f"BSONObj size: {len(body)} is invalid. Size must be between 0 and {MAX_DOCUMENT_BYTES}",
        )
    return body


class Cursor:
    """The rest of one answer.

    Attributes:
        namespace: ``database.collection``.
        used: When it was last asked, on the monotonic clock.
    """

    def __init__(self, namespace: str, documents: Iterator[Document], limit: int = 0) -> None:
        self.namespace = namespace
        self._left = limit or None
        self.used = time.monotonic()
        self._documents = documents
        self._held: RawBSONDocument | None = None
        self._lock = threading.Lock()
        self.exhausted = False

    def batch(self, size: int | None) -> list[RawBSONDocument]:
        """The next documents, encoded.

        Args:
            size: At most so many; None means no bound but that of a batch, 16 MB.

        Raises:
            CommandError: A document is larger than documents may be.
        """
        with self._lock:
            batch: list[RawBSONDocument] = []
            total = 0
            while size is None or len(batch) < size:
                document = self._next()
                if document is None:
                    break
                total += len(document.raw) + len(str(len(batch))) + 2  # in an array, type and position come before it
                if batch and total > MAX_DOCUMENT_BYTES:
                    self._held = document
                    break
                batch.append(document)
            self.used = time.monotonic()
            return batch

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self.exhausted and self._held is None

    def _next(self) -> RawBSONDocument | None:
        if self._held is not None:
            held, self._held = self._held, None
            return held
        document = next(self._documents, None) if self._left != 0 else None
        if document is None:
            self.exhausted = True
            return None
        if self._left is not None:
            self._left -= 1
            self.exhausted = self._left == 0  # said with the last batch, without looking for one more match
        if isinstance(document, RawBSONDocument):
            return document
        return RawBSONDocument(check_result(bson.encode(document)), RAW)


class Cursors:
    """The open cursors of a server; one that nobody asks for ten minutes is closed."""

    def __init__(self) -> None:
        self._open: dict[int, Cursor] = {}
        self._lock = threading.Lock()

    def first(
        self,
        namespace: str,
        documents: Iterator[Document],
        size: int | None,
        *,
        limit: int = 0,
        single: bool = False,
    ) -> dict[str, Any]:
        """Open a cursor and answer its first batch; a cursor at its end gets the id 0 and is not kept."""
        cursor = Cursor(namespace, documents, limit)
        batch = cursor.batch(DEFAULT_FIRST_BATCH if size is None else size)
        number = 0
        if not cursor.done and not single:
            with self._lock:
                self._close_idle()
                while not number or number in self._open:
                    number = secrets.randbits(62)
                self._open[number] = cursor
        return {"cursor": {"firstBatch": batch, "id": Int64(number), "ns": namespace}}

    def more(self, number: int, namespace: str, size: int | None) -> dict[str, Any]:
        """Answer the next batch.

        Raises:
            CommandError: There is no such cursor (any more), or it belongs to another collection.
        """
        with self._lock:
            cursor = self._open.get(number)
        if cursor is None:
            raise CommandError(CURSOR_NOT_FOUND, f"cursor id {number} not found")
        if cursor.namespace != namespace:
            raise CommandError(UNAUTHORIZED, f"the cursor {number} belongs to {cursor.namespace}, not to {namespace}")
        try:
            batch = cursor.batch(size or None)
        except BaseException:
            self.kill([number])
            raise
        if cursor.done:
            self.kill([number])
            number = 0
        return {"cursor": {"nextBatch": batch, "id": Int64(number), "ns": namespace}}

    def kill(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Close cursors, and say which there were."""
        with self._lock:
            killed = [number for number in numbers if self._open.pop(number, None) is not None]
        return {
            "cursorsKilled": [Int64(number) for number in killed],
            "cursorsNotFound": [Int64(number) for number in numbers if number not in killed],
            "cursorsAlive": [],
            "cursorsUnknown": [],
        }

    def _close_idle(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        for number in [number for number, cursor in self._open.items() if cursor.used < limit]:
            del self._open[number]

    def __len__(self) -> int:
        return len(self._open)
