"""Identifiers of resources: their grammar, how a file's name gives one, and their full form as a URL.

The neurobank command also lets ``~`` pass, which its registry then refuses; it is refused here at once.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from urllib.parse import urlsplit

MAX_LENGTH = 255
_ID = re.compile(r"[-_0-9a-zA-Z]{1,255}")
_URL_PATH = re.compile(r"(\S+?/)resources/([-_0-9a-zA-Z]{1,255})/?")


class InvalidId(ValueError):
    """Text that cannot be an identifier; the message says why."""


def check_id(text: str) -> str:
    """`text`, when it is an identifier: 1 to 255 ASCII letters, digits, hyphens and underscores.

    A leading hyphen is refused too: commands would read such an identifier as an option.

    Raises:
        InvalidId: It is not.
    """
    if not text:
        raise InvalidId("an identifier cannot be empty")
    if len(text) > MAX_LENGTH:
        raise InvalidId(f"{text[:40]}... has {len(text)} characters; an identifier has at most {MAX_LENGTH}")
    if not _ID.fullmatch(text):
        raise InvalidId(f"{text!r} is no identifier: only ASCII letters, digits, '-' and '_' are allowed")
    if text.startswith("-"):
        raise InvalidId(f"{text!r} is no identifier: it starts with a hyphen")
    return text


def id_from_name(name: str) -> str:
    """The identifier that neurobank gives to a file called `name`: the name without its last suffix.

    Raises:
        InvalidId: What remains is no identifier, e.g. of ``x.nii.gz``.
    """
    stem = PurePath(name).stem
    try:
        return check_id(stem)
    except InvalidId as error:
        raise InvalidId(f"the name {name!r} gives no identifier: {error}") from None


def split_url(text: str) -> tuple[str | None, str]:
    """Registry address and identifier of a full identifier; a short one has no address.

    ``http://host/neurobank/resources/st32_1/`` gives ``("http://host/neurobank/", "st32_1")``.

    Raises:
        InvalidId: It is neither.
    """
    parts = urlsplit(text) if "://" in text else None
    if parts is None:
        return None, check_id(text)
    match = _URL_PATH.fullmatch(parts.path)
    if not parts.netloc or parts.scheme not in ("http", "https") or match is None:
        raise InvalidId(f"{text!r} is no resource's address: it should end in /resources/IDENTIFIER/")
    return parts._replace(path=match.group(1), query="", fragment="").geturl(), check_id(match.group(2))
