"""Regular expressions of clients, who may write anything: compiled and searched for within limits.

What an expression means is what Python's `re` says. It is carried out by the library `regex`, which can be interrupted
and lets other threads run meanwhile; `re` can do neither, and a pattern such as ``(a|aa)+$`` keeps it for ever. Where
the two read a pattern differently it is rewritten: `regex` takes ``a{e}`` for an approximate match.

A search may take half a second of computing time, as PCRE has a match limit; a pattern that its repetitions blow up is
refused as too large, as PCRE does; searches that may need much memory take turns.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import regex

from aind_pipelines.lab.docdb.errors import INVALID_REGEX, REGEX_LIMIT, CommandError, bad_value
from aind_pipelines.lab.docdb.limits import NONE, Limits

MATCH_SECONDS = 0.5
"""Computing time that one search may take; where other threads compute too, at least half of it is this one's."""

MAX_PATTERN_BYTES = 32_764
"""MongoDB's limit."""

_MAX_NODES = 50_000
"""What a pattern may come to with its repetitions written out; each takes about 350 bytes."""
_KEPT = 16
_CHEAP_STEPS = 1_000_000
_MAX_CHEAP_REPEATS = 4
_MAX_RUN = 64
_NOTHING = "(?!(?!))"
"""Holds everywhere, in one way. `regex` does not see that it does; what it sees to be empty it leaves out."""

_LIGHT = 1 << 20
"""Up to this product of pattern and text a search needs some ten megabytes at most."""

_turns = threading.Lock()

_POSIX = r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]"
_TOKENS = rf"""
    \\ (?: x [\dA-Fa-f]{{2}} | u [\dA-Fa-f]{{4}} | U [\dA-Fa-f]{{8}} | N \{{ [^}}]* \}} | 0 [0-7]{{0,2}} | [0-7]{{3}} )
  | (?P<reference> \\ [1-9] [0-9]? | \( \?P= \w+ \) )
  | \\ .
  | (?P<set> \[ \^? \]? (?: {_POSIX} | \\ . | [^]\\] )* \] )
  | (?P<nothing> \( \? (?: \# [^)]* | [a-zA-Z]+ ) \) %s )
  | (?P<open> \( (?: \? (?: P<\w+> | [a-zA-Z-]* : | <? [=!] | > | \( \w+ \) ) )? )
  | (?P<close> \) \s* )
  | (?P<repeat> (?: (?P<optional> \? ) | [*+] | \{{ (?: (?P<least> \d+ ) (?: , \d* )? | , \d* ) \}} ) [+?]? )
  | (?P<brace> \{{ )
  | (?P<bar> \| )
"""
_TOKEN = re.compile(_TOKENS % "", re.VERBOSE | re.DOTALL)
_VERBOSE_TOKEN = re.compile(_TOKENS % r"| \# [^\n]* | \s+", re.VERBOSE | re.DOTALL)
_PARTLY_VERBOSE = re.compile(r"\(\?[a-zA-Z-]*x[a-zA-Z-]*:")
_OPEN_BRACKET = re.compile(rf"\\.|{_POSIX}|\[", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a pattern may cost.

    Attributes:
        text: The pattern as `regex` has to read it.
        nodes: Its size with the repetitions written out that `regex` writes out.
        repeats: How many parts repeat; None where a group does, which may take exponential time.
        choices: In how many ways its alternatives and optional parts can be combined.
    """

    text: str
    nodes: int
    repeats: int | None
    choices: int


def _shape(pattern: str, *, verbose: bool) -> _Shape:
    """Read a pattern that `re` has accepted."""
    written: list[str] = []
    sizes = [0]
    repeats: int | None = 0
    choices = 1
    end = 0
    closed = 0  # the size of the group or part that a repetition would be of
    of_group = False
    run = 0
    for token in (_VERBOSE_TOKEN if verbose else _TOKEN).finditer(pattern):
        between = pattern[end : token.start()]
        end = token.end()
        text = token.group()
        if between:
            sizes[-1] += len(between)
            closed, of_group = 1, False
        if token["set"]:
            text = "[" + _OPEN_BRACKET.sub(lambda found: "\\[" if found[0] == "[" else found[0], text[1:])
        elif token["brace"]:
            text = "\\{"
        letter = token.lastgroup in (None, "set", "brace")
        pieces, run = _broken([*between, text] if letter else list(between), run)
        written += [pieces] if letter else [pieces, text]
        if token["repeat"]:
            least = int(token["least"]) if token["least"] else int(text[0] == "+")
            # As many copies as there have to be, and the body of the loop.
            sizes[-1] += closed * least
            if token["optional"]:
                choices *= 2
            else:
                repeats = None if of_group or repeats is None else repeats + 1
        elif token["nothing"]:
            pass  # a repetition after it is of what comes before it
        elif token["open"]:
            sizes.append(1)
        elif token["close"]:
            closed, of_group = sizes.pop() + 1, True
            sizes[-1] += closed
        else:
            sizes[-1] += 1
            closed, of_group = 1, False
            if token["reference"]:
                repeats = None if repeats is None else repeats + 1
            if token["bar"]:
                choices *= 2
    written.append(_broken(list(pattern[end:]), run)[0])
    return _Shape("".join(written), sizes[0] + len(pattern) - end, repeats, choices)


def _broken(letters: list[str], run: int) -> tuple[str, int]:
    """Letters of a pattern with something in between that holds everywhere, and how many come after the last such.

    Before `regex` looks for a word it prepares for that in time that grows with the cube of its length, and cannot be
    interrupted in it. Groups and classes of one letter do not end a word.
    """
    written = []
    for letter in letters:
        if run == _MAX_RUN:
            written.append(_NOTHING)
            run = 0
        written.append(letter)
        run += 1
    return "".join(written), run


def _bound(shape: _Shape) -> tuple[int, int] | None:
    """A factor and a power of a text's length that bound the steps of a search; None where that says nothing."""
    if shape.repeats is None or shape.repeats > _MAX_CHEAP_REPEATS or shape.choices > _CHEAP_STEPS:
        return None
    return max(1, shape.nodes) * shape.choices, shape.repeats + 1


class Expression:
    """A compiled regular expression.

    Attributes:
        pattern: As the client wrote it.
        flags: Those of `re`, the ones written into the pattern included.
    """

    __slots__ = ("_cheap", "_compiled", "_nodes", "flags", "pattern")

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self.flags = re.compile(pattern, flags).flags
        shape = _shape(pattern, verbose=bool(self.flags & re.VERBOSE))
        if _PARTLY_VERBOSE.search(pattern) and "#" in pattern:
            raise CommandError(INVALID_REGEX, "Regular expression is invalid: (?x:...) beside a # is not supported")
        if shape.nodes > _MAX_NODES:
            raise CommandError(INVALID_REGEX, "Regular expression is invalid: regular expression is too large")
        self._nodes = shape.nodes
        self._cheap = _bound(shape)
        self._compiled = regex.compile(shape.text, _regex_flags(flags), cache_pattern=False)

    def finds(self, text: str, limits: Limits = NONE) -> bool:
        """Whether something in `text` matches.

        Raises:
            CommandError: The search came to its limit, or to one of `limits`.
        """
        # What is surely short needs no clock, which costs ten times the search.
        if self._cheap is not None and self._cheap[0] * (len(text) + 1) ** self._cheap[1] <= _CHEAP_STEPS:
            return self._compiled.search(text) is not None
        limits.check()
        if self._nodes * len(text) <= _LIGHT:
            return self._search(text, limits)
        with _turn(limits):
            return self._search(text, limits)

    def _search(self, text: str, limits: Limits) -> bool:
        allowed = MATCH_SECONDS
        while True:
            begin = time.thread_time()
            try:
                return self._compiled.search(text, timeout=limits.left(allowed), concurrent=True) is not None
            except TimeoutError:
                limits.check()
                # The library's clock is that of the process: where others compute too, this thread had less.
                if time.thread_time() - begin > MATCH_SECONDS / 2:
                    raise _exceeded("time") from None
            except MemoryError:
                raise _exceeded("memory") from None
            allowed *= 2


def _exceeded(what: str) -> CommandError:
    return CommandError(
        REGEX_LIMIT,
        "Error occurred while executing the regular expression: match limit exceeded "
        f"(its {what} in one text; {MATCH_SECONDS:g} s of computing time are allowed)",
    )


@contextmanager
def _turn(limits: Limits) -> Iterator[None]:
    while not _turns.acquire(timeout=0.05):
        limits.check()
    try:
        yield
    finally:
        _turns.release()


def _regex_flags(flags: int) -> int:
    pairs = (
        (re.IGNORECASE, regex.IGNORECASE),
        (re.MULTILINE, regex.MULTILINE),
        (re.DOTALL, regex.DOTALL),
        (re.VERBOSE, regex.VERBOSE),
        (re.ASCII, regex.ASCII),
    )
    return int(regex.VERSION0) | sum(int(other) for flag, other in pairs if flags & flag)


@lru_cache(_KEPT)
def _kept(pattern: str, flags: int) -> Expression:
    return Expression(pattern, flags)


def compiled(pattern: str, flags: int) -> Expression:
    """The expression of a pattern with some flags of `re`.

    Raises:
        CommandError: It is no regular expression, or too large.
    """
    if len(pattern.encode("utf-8", "surrogatepass")) > MAX_PATTERN_BYTES:
        raise bad_value("Regular expression is too long")
    try:
        return _kept(pattern, flags)
    except (re.error, regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise CommandError(INVALID_REGEX, f"Regular expression is invalid: {error}") from None
