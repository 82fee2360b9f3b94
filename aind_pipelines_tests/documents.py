"""What the documents show, taken out of them so that tests can run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md")])


def fenced(document: str, language: str) -> list[str]:
    """The blocks of one document that are fenced and marked with a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def indented(document: Path) -> Iterator[str]:
    """The lines of the indented blocks of one document, continued lines joined."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\\\n\s*", "", text)
    for block in re.findall(r"(?:(?<=\n\n) {4}.*\n(?:(?: {4}.*)?\n)*)", text):
        yield from (line.strip() for line in block.splitlines() if line.strip())


def statements(document: str) -> list[str]:
    """The SQL statements of one document's indented blocks."""
    lines = [line for line in indented(ROOT / document) if not line.startswith("--")]
    found, statement = [], ""
    for line in lines:
        if statement or line.startswith(("SELECT ", "WITH ")):
            statement = f"{statement} {line}".strip()
            if line.endswith(";"):
                found.append(statement)
                statement = ""
    return found
