"""Records as the gateway sends them, taken out of a page without being read.

Making Python objects of everything a record holds costs many times what it takes to find where it begins and ends.
Who stores records as they are needs a few of their fields only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class RecordText:
    """A record that was not read.

    Attributes:
        id: Its ``_id``.
        text: The whole record, strict JSON in UTF-8.
    """

    id: Any
    text: bytes


class _Identified(msgspec.Struct):
    identity: Any = msgspec.field(name="_id")


_PAGES = msgspec.json.Decoder(list[msgspec.Raw])
_IDENTITIES = msgspec.json.Decoder(_Identified)


def records_in(page: bytes) -> list[RecordText] | None:
    """The records of a JSON list.

    Args:
        page: What the gateway answered.

    Returns:
        The records in their order; None when the page holds what strict JSON does not allow (as ``NaN``, which
        Python writes), or anything but records with an ``_id``: who reads it whole can say more.
    """
    try:
        if not page.isascii():
            page.decode()
        return [RecordText(_IDENTITIES.decode(text).identity, bytes(text)) for text in _PAGES.decode(page)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
