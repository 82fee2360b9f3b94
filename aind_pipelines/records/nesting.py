"""How deeply JSON is nested, told from its text."""

from __future__ import annotations

DEEPEST = 200
"""Levels that a record may have; MongoDB itself allows 100."""

_OF_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(text: bytes) -> bool:
    """Whether JSON has, or may have, more levels than `DEEPEST`.

    Pairs of brackets with nothing between them are taken out until none are left, as many times as there are levels.
    Brackets within texts may leave some that have no partner; each of these may be a level.

    Args:
        text: JSON in UTF-8.
    """
    brackets = text.translate(_OF_ONE_KIND, _ALL_BUT_BRACKETS)
    levels = 0
    while brackets:
        rest = brackets.replace(b"[]", b"")
        if len(rest) == len(brackets):
            return levels + len(rest) > DEEPEST
        brackets = rest
        levels += 1
        if levels > DEEPEST:
            return True
    return False
