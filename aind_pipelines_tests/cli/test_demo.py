"""What the demo prints: messages as they were said, and a next step that works where it stands."""

from __future__ import annotations

import io
import shlex
import shutil
from pathlib import Path

import click
import pytest
from rich.console import Console

from aind_pipelines.cli.demo import _note, _show, _ui_command
from aind_pipelines.cli.dev import dev
from aind_pipelines.lab.flow import CheckOutcome, Stage

ROOT = Path(__file__).parents[2]
SAID = "no archive 'live'. Add [archives.live] with its path: /lab[/x]/[red]/a:100:b, or 'x' :smile:"


def test_a_failure_is_shown_as_it_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Stage(name="deposited_resources", seconds=1.0, error=SAID)
    checked = Stage(name="s3_index", seconds=1.0, checks=(CheckOutcome("agree", False, True, SAID),))
    _show([failed, checked], 2.0)
    shown = capsys.readouterr().out
    assert f"stage deposited_resources failed: {SAID}\n" in shown
    assert f"stage s3_index: blocking check agree failed: {SAID}\n" in shown


@pytest.mark.parametrize(("count", "words"), [(1, "1 stage in 2 s."), (2, "2 stages in 2 s.")])
def test_one_stage_is_not_called_stages(count: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    _show([Stage(name="s3_index", seconds=1.0)] * count, 2.0)
    assert f"\n{words}\n" in capsys.readouterr().out


def test_progress_names_a_path_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=40)
    _note(console, "lab", SAID)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"lab: {SAID}\n"


def test_the_ui_is_offered_through_make_only_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _ui_command(Path(".lab")) == "aind-pipelines dev --home .lab"
    Path("Makefile").write_text("ui:\n\techo of another project\n")
    assert _ui_command(Path(".lab")) == "aind-pipelines dev --home .lab"
    shutil.copy(ROOT / "Makefile", "Makefile")
    assert _ui_command(Path(".lab")) == "make ui"


@pytest.mark.parametrize("home", ["elsewhere", "a lab", "it's", "lab[/x]"])
def test_the_command_for_the_ui_names_this_home(home: str) -> None:
    words = shlex.split(_ui_command(Path(home)))
    assert words[:2] == ["aind-pipelines", "dev"]
    with click.Context(dev) as context:
        dev.parse_args(context, words[2:])
        assert context.params["home"] == Path(home)
