"""Progress bars on stderr, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """How far a command is: things done of all, and the bytes read for them. Threads may share it.

    Args:
        progress: What shows it; None shows nothing.
        task: Its task there.
    """

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None) -> None:
        self._progress = progress
        self._task = task
        self._mutex = threading.Lock()
        self._done = 0
        self._bytes = 0

    def advance(self) -> None:
        """One more is done."""
        with self._mutex:
            self._done += 1
            self._show(completed=self._done)

    def read(self, piece: bytes | memoryview) -> None:
        """These bytes were read."""
        if self._progress is None:
            return
        with self._mutex:
            self._bytes += len(piece)
            self._show(bytes=_size(self._bytes))

    def set(self, done: int, total: int, read: int) -> None:
        """`done` of `total` are done, for which `read` bytes were read."""
        with self._mutex:
            self._show(completed=done, total=total, bytes=_size(read))

    def _show(self, **values: object) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, **values)  # type: ignore[arg-type]


def _size(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)


@contextlib.contextmanager
def bar(name: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar called `name` for the block, of `total` things where that is known; it goes when the block ends."""
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[bytes]}"),
        TimeElapsedColumn(),
    )
    # What is printed on the same terminal has to go around the bar; what is piped away must not.
    around = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=around) as progress:
        yield Bar(progress, progress.add_task(name, total=total, bytes=""))
