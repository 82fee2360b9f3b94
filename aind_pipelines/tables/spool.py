"""Rows that wait on disk: one pass over the records feeds many tables, whose rows are loaded one table at a time."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any

_AT_A_TIME = 500


class Spool:
    """Objects in the order in which they were added, in constant memory; a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="aind-pipelines-")  # noqa: SIM115 - closed by `__exit__`
        self._held: list[Any] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing writes what is buffered, which nobody will read any more.
        with contextlib.suppress(OSError):
            self._file.close()

    def extend(self, items: list[Any]) -> None:
        """Add objects.

        Raises:
            OSError: The temporary directory does not take them.
        """
        self._held += items
        if len(self._held) >= _AT_A_TIME:
            self._write()

    def _write(self) -> None:
        try:
            pickle.dump(self._held, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._file.flush()
        except OSError as error:
            raise OSError(
                error.errno,
                f"The temporary directory {tempfile.gettempdir()} does not take the rows that wait there for their "
                f"transaction: {error.strerror}. Free space in it, or name another one in TMPDIR",
            ) from error
        self._held = []

    def __iter__(self) -> Iterator[Any]:
        """All objects, from the first one."""
        self._write()
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            yield from pickle.load(self._file)  # noqa: S301 - written above, into a file without a name
