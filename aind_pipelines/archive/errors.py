"""What goes wrong with an archive, apart from one resource being refused."""

from __future__ import annotations


class ArchiveError(Exception):
    """An archive cannot be used or changed; the message names the path, the cause and the next step."""


class NotAnArchive(ArchiveError):
    """The folder lacks the archive's marker: it is another folder, or its file system is not mounted."""


class ArchiveWriteFailed(ArchiveError):
    """A write into an archive failed; what was begun is taken back now or by the next recovery."""


class JournalDamaged(ArchiveError):
    """A journal holds what no killed writer leaves behind; it is not touched."""


class OfAnotherMachine(ArchiveError):
    """A journal was written on another machine, whose locks are not seen here: its writer may be alive."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"it was written on {host}, whose locks are not seen through this file system; recover it there, or, when "
            f"nothing deposits there now, here with: archive recover --of {host}"
        )
