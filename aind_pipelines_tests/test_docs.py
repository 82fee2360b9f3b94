"""The documents against the code: links lead somewhere, commands and policy are ones that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from aind_pipelines.cli import cli
from aind_pipelines.settings import Policy, load_policy
from aind_pipelines_tests.documents import DOCUMENTS, ROOT, fenced, indented

_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#([^)\s]+))?\)")
_INLINE = re.compile(r"`(aind-pipelines [^`]+)`")
_SHELL = re.compile(r"(?:^|\$\(|[;|] *|\w+=\S+ )(aind-pipelines [^#|;)]*)")


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text()):
        there = document.parent / target
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def commands() -> list[str]:
    found = set()
    for document in DOCUMENTS:
        found.update(_INLINE.findall(document.read_text()))
        for line in indented(document):
            found.update(_SHELL.findall(line))
    return sorted({command.strip(' "') for command in found})


@pytest.mark.parametrize("shown", commands())
def test_every_command_shown_exists_with_its_options(shown: str) -> None:
    words = shlex.split(re.sub(r"[\[\]]", "", shown))[1:]
    command: click.Command = cli
    context = click.Context(command)
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no {name!r}"
        command, context = found, click.Context(found, parent=context)
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in known] == []


def test_the_commands_are_found() -> None:
    shown = " ".join(commands())
    assert len(commands()) > 20
    for example in ("lab up --docdb-uri", "archive deposit", "registry create-user", "db status", "session "):
        assert example in shown


def test_the_policy_shown_is_the_default_but_for_its_archive(tmp_path: Path) -> None:
    (shown,) = fenced("docs/settings.md", "toml")
    file = tmp_path / "aind-pipelines.toml"
    file.write_text(shown)
    policy = load_policy(file)
    assert list(policy.archives) == ["live"]
    default = Policy()
    assert policy.docdb == default.docdb
    assert policy.metadata_service == default.metadata_service
    assert policy.deposits == default.deposits
