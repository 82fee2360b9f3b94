"""Code Ocean's search language: ``name:ecephys_676909 tag:raw "some words" subject id:676909``.

The same field twice means either, different fields mean both, quotes make a phrase, nothing is a wildcard and case
does not count. Custom metadata fields are fields too, and their names may hold spaces.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

FIELDS: frozenset[str] = frozenset({"name", "tag", "run_script", "commit_id", "contained_data_id"})
LONGEST_WORD = 20
"""Characters; a longer word finds nothing by name, as observed by the users of the real service."""

_TOKEN = re.compile(r'"([^"]*)"|(\S+?):(?:"([^"]*)"|(\S*))|(\S+)')


@dataclass(frozen=True)
class Term:
    """One thing to look for, in lower case."""

    text: str
    phrase: bool = False

    @property
    def too_long(self) -> bool:
        """Whether Code Ocean's index knows no word of this length."""
        return not self.phrase and len(self.text) > LONGEST_WORD


@dataclass
class Query:
    """What a search expression asks for.

    Attributes:
        fields: Alternatives by field name; every field must match.
        words: Free text; every word must be found somewhere.
    """

    fields: dict[str, list[Term]] = field(default_factory=dict)
    words: list[Term] = field(default_factory=list)


def parse(text: str | None, custom_fields: Collection[str] = ()) -> Query:
    """Understand a search expression.

    Args:
        text: The expression; None or blank asks for everything.
        custom_fields: Lower-case names of the custom metadata fields that exist; names with spaces are found only
            through this.
    """
    query = Query()
    for match in _TOKEN.finditer((text or "").lower()):
        free_phrase, name, phrase, value, word = match.groups()
        if free_phrase is not None:
            query.words.append(Term(free_phrase, phrase=True))
        elif name is None:
            query.words.append(Term(word))
        else:
            term = Term(value if phrase is None else phrase, phrase=phrase is not None)
            query.fields.setdefault(_whole_name(name, query.words, custom_fields), []).append(term)
    return query


def _whole_name(last_word: str, words: list[Term], custom_fields: Collection[str]) -> str:
    """The field's name including words before it, which are then no longer free text."""
    if last_word in FIELDS:
        return last_word
    for count in range(len(words), 0, -1):
        before = words[-count:]
        name = " ".join([*(term.text for term in before), last_word])
        if name in custom_fields and not any(term.phrase for term in before):
            del words[-count:]
            return name
    return last_word
