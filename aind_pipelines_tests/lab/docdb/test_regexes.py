"""Regular expressions: what they mean, what they may cost, and that others are answered meanwhile."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, ExecutionTimeout, OperationFailure

from aind_pipelines.lab.docdb import regexes
from aind_pipelines.lab.docdb.errors import CommandError
from aind_pipelines.lab.docdb.limits import Limits

ENDLESS = {"$regex": "(a|aa)+$"}
LIMIT = 51156


@pytest.fixture(scope="module")
def slow(server: Any) -> Any:
    """Records of which the second keeps a backtracking search busy for ever."""
    collection = server.client().tests.slow
    collection.insert_many([{"_id": 1, "name": "aaa"}, {"_id": 2, "name": "a" * 60 + "!", "all": ["a" * 60 + "!"]}])
    return collection


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "find": lambda c: list(c.find({"name": ENDLESS})),
    "count": lambda c: c.count_documents({"name": ENDLESS}),
    "$match": lambda c: list(c.aggregate([{"$addFields": {"n": "$name"}}, {"$match": {"n": ENDLESS}}])),
    "update": lambda c: c.update_many({"name": ENDLESS}, {"$set": {"seen": 1}}),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_an_endless_expression_ends_with_an_error_and_holds_nobody_up(
    server: Any, slow: Any, question: Callable[[Any], Any]
) -> None:
    other = server.client(socketTimeoutMS=5000)
    other.admin.command("ping")
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            question(slow)
        except OperationFailure as error:
            raised.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    pings = []
    while asking.is_alive():
        begin = time.monotonic()
        other.admin.command("ping")
        other.tests.elsewhere.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
        pings.append(time.monotonic() - begin)
        assert sum(pings) < 60, "the question does not end"
    assert len(pings) > 10, "others were hardly answered"
    assert [getattr(error, "code", None) for error in raised] == [LIMIT]
    assert "match limit exceeded" in str(raised[0])
    assert slow.count_documents({"seen": 1}) == 0


@pytest.mark.parametrize(
    "question",
    [
        lambda c: list(c.aggregate([{"$project": {"x": {"$regexMatch": {"input": "$name", "regex": "(a|aa)+$"}}}}])),
        lambda c: c.delete_many({"name": ENDLESS}),
        lambda c: c.update_one({"_id": 2}, {"$pull": {"all": ENDLESS}}),
    ],
    ids=["$regexMatch", "delete", "$pull"],
)
def test_the_limit_holds_wherever_an_expression_is_used(slow: Any, question: Callable[[Any], Any]) -> None:
    with pytest.raises(OperationFailure) as refused:
        question(slow)
    assert refused.value.code == LIMIT
    assert slow.count_documents({}) == 2


def test_what_came_before_the_limit_in_a_batch_is_done(slow: Any) -> None:
    changes = [UpdateOne({"_id": n, "name": ENDLESS}, {"$set": {"batch": 1}}) for n in (1, 2, 1)]
    with pytest.raises(BulkWriteError) as refused:
        slow.bulk_write(changes)
    assert [(error["index"], error["code"]) for error in refused.value.details["writeErrors"]] == [(1, LIMIT)]
    assert refused.value.details["nModified"] == 1
    assert slow.distinct("_id", {"batch": 1}) == [1]


def test_a_search_ends_at_the_deadline_of_its_question(slow: Any) -> None:
    with pytest.raises(ExecutionTimeout):
        list(slow.find({"name": ENDLESS}).max_time_ms(50))


def test_a_cursor_keeps_the_deadline_of_its_question(slow: Any) -> None:
    with slow.find({"name": ENDLESS}, batch_size=1).max_time_ms(1500).sort("_id") as cursor:
        assert next(cursor)["_id"] == 1
        time.sleep(1.5)
        with pytest.raises(ExecutionTimeout):
            next(cursor)


AGREEING = [
    r"^s3://bucket-3/ecephys_\d+$", r"\d", r"\w+", r"\s", r"\bé", "[ab]{2,3}", "a{,2}b", "a{2", "a{e}", "a{e<=1}",
    "(?:ab){s}", "b {e}", r"a\{e}", "[{e}]", "[[a]", "[]a]", "[^]a]", "[a&&b]", "[a||b]", "a$", r"a\Z", r"\Aa", "^b",
    ".b", "(?s:.)b", "(?i)AB", "(?i:A)b", "(?m)^b", "(?x) a b # c", "(?x) (?:a # (\n) {2}", "(?P<n>a)(?P=n)",
    r"(a)\1", "(?>a+)b", "a++b", "a+?b", "(a)?(?(1)b|c)", "(?=a)ab", "(?<!a)b", "(?#c)a", r"\x61", r"\101", r"\u00e9",
    r"\N{LATIN SMALL LETTER A}b", r"\0?a", "a" * 64 + "+", "a" * 70 + "?b",
    "(a|b)+$", "ecephys|behavior",
]  # fmt: skip
TEXTS = [
    "", "a", "b", "ab", "aab", "aaab", "AB", "a\n", "\nb", "a\nb", "é", "٣", "a{e}", "a{2", "b {e}", "ab{s}", "[", "]",
    "{", "&", "|", "s3://bucket-3/ecephys_77", "ecephys_7\n", "a{e<=1}", "\xa0",
    "a" * 64, "a" * 69 + "b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", AGREEING)
def test_an_expression_means_what_it_means_to_python(pattern: str) -> None:
    for flags in (re.ASCII, re.IGNORECASE, re.MULTILINE | re.ASCII, re.DOTALL | re.ASCII, re.VERBOSE | re.ASCII):
        expected = [re.search(pattern, text, flags) is not None for text in TEXTS]
        assert [regexes.compiled(pattern, int(flags)).finds(text) for text in TEXTS] == expected


def test_character_classes_of_posix_are_known() -> None:
    expression = regexes.compiled("^[[:alpha:]]+$", int(re.ASCII))
    assert [expression.finds(text) for text in ("ab", "a1", ":]")] == [True, False, False]


INVALID = [
    "(", ")", "[", "*a", "a**", "[z-a]", "a{3,2}", r"\p{L}", r"\L<x>", "(?R)a", "(?P>n)(?P<n>a)", "(?r)a", "(?V1)a",
    "(?e)a", "(?<=a+)b", "a(?i)b", "(?P<a>x)(?P<a>y)", r"\1(a)", "(?:" * 3000 + "a" + ")" * 3000,
    "a(?x: # (\n)b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", INVALID, ids=[pattern[:20] for pattern in INVALID])
def test_an_invalid_expression_is_refused(pattern: str) -> None:
    with pytest.raises(CommandError) as refused:
        regexes.compiled(pattern, int(re.ASCII))
    assert refused.value.code == 51091


TOO_LARGE = {
    "nested": "(?:" * 60 + "a" + "){1,65535}" * 60,
    "nested plus": "(?:" * 60 + "a" + ")+" * 60,
    "copies of copies": "(?:(?:ab){1000}){1000}",
    "behind a comment": "(?:" * 60 + "a" + ")(?#x)+" * 60,
    "with spaces": "(?x)" + "(?:" * 60 + "a" + ") # x\n + " * 60,
    "behind a class": "[(?:]" + "(?:" * 60 + "a" + ")+" * 60 + "[)+]",
}


@pytest.mark.parametrize("pattern", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_an_expression_whose_repetitions_blow_it_up_is_refused(pattern: str) -> None:
    with pytest.raises(CommandError, match="too large") as refused:
        regexes.compiled(pattern, int(re.ASCII))
    assert refused.value.code == 51091


def test_a_pattern_longer_than_mongodb_takes_is_refused() -> None:
    assert regexes.compiled("a" * 32_764, int(re.ASCII)).finds("a" * 32_764)
    with pytest.raises(CommandError, match="too long") as refused:
        regexes.compiled("a" * 32_763 + "é", int(re.ASCII))
    assert refused.value.code == 2


@pytest.mark.parametrize(
    "pattern",
    [
        "a" * 30_000,
        "a" * 30_000 + "+b?",
        "x*" + "a" * 30_000 + r"\.",
        "(?i)" + "a" * 30_000,
        "(b|" + "a" * 30_000 + ")",
        "[a]" * 5_000,
        "(?:a)" * 5_000,
        "a(?#x)" * 5_000,
        "(?x)" + "a " * 5_000,
        r"\x61" * 5_000,
    ],
    ids=[
        "word",
        "repeated",
        "after a repetition",
        "any case",
        "alternative",
        "sets",
        "groups",
        "comments",
        "spaces",
        "x",
    ],
)
def test_a_long_word_is_looked_for_at_once(pattern: str) -> None:
    expression = regexes.compiled(pattern, int(re.ASCII))
    begin = time.monotonic()
    assert expression.finds("a" * 30_000 + ".")
    assert not expression.finds("c" * 60_000)
    assert time.monotonic() - begin < 5


def test_what_holds_everywhere_holds_in_one_way() -> None:
    assert not regexes.compiled("^" * 20_000 + "[yz]", int(re.ASCII)).finds("a")


def test_a_search_that_needs_much_memory_ends_at_the_limit_too() -> None:
    expression = regexes.compiled("^" + "(" * 60 + "a|b" + ")" * 60 + "*[yz]", int(re.ASCII))
    with pytest.raises(CommandError, match="match limit exceeded") as refused:
        expression.finds("a" * 8_000_000)
    assert refused.value.code == LIMIT


def test_a_search_waiting_for_its_turn_ends_at_its_deadline() -> None:
    expression = regexes.compiled("(x.*){3}[yz]", int(re.ASCII))
    limits = Limits(deadline=time.monotonic() + 0.2)
    with regexes._turns, pytest.raises(CommandError) as refused:
        expression.finds("x" * 1_000_000, limits)
    assert refused.value.code == 50


def test_trimming_many_letters_lets_others_run(server: Any, collection: Any) -> None:
    letters = "".join(map(chr, range(0x10000, 0x10000 + 300_000))) + "a"
    collection.insert_one({"_id": 1, "text": "a" * 2_000_000})
    trimmed = collection.aggregate(
        [{"$project": {"left": {"$strLenCP": {"$trim": {"input": "$text", "chars": letters}}}}}], maxTimeMS=20_000
    )
    assert list(trimmed) == [{"_id": 1, "left": 0}]
