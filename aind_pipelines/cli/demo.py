"""``aind-pipelines demo``: the whole flow on the embedded lab."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aind_pipelines.cli.lab_options import home_option, open_home, records_option, service_uri_options
from aind_pipelines.cli.seeding import LEAST_ROOM, fill_if_empty, require_loaded, require_records

if TYPE_CHECKING:
    from rich.console import Console

    from aind_pipelines.lab.flow import Stage
    from aind_pipelines.lab.home import LabHome


_UI_PORT = 3000
_NEEDED_BYTES = 64 * 2**20
"""Free disk space below which a run would stop half-way."""

_WIDTH_ELSEWHERE = 100
"""Columns of the table where it does not go to a terminal, so that no name is cut."""


@click.command()
@home_option
@records_option
@click.option("--sessions", type=click.IntRange(min=1), help="sessions to generate in an empty home (default: 100)")
@click.option("--seed", "seed_number", type=int, default=0, show_default=True, help="seed number of the generator")
@click.option("--ui", is_flag=True, help="stay and serve the Dagster UI on the lab afterwards")
@service_uri_options
def demo(
    home: Path,
    records: Path | None,
    sessions: int | None,
    seed_number: int,
    ui: bool,
    docdb_uri: str | None,
    postgres_url: str | None,
) -> int:
    """Run the whole flow on the embedded lab and show the result.

    Starts the lab, seeds it if it is empty, runs every stage (metadata, tables, subjects, indexes, sessions,
    deposits, archive check, report) through a real Dagster instance, and stops the lab again unless it was already
    up. Exits 0 only if every stage succeeded, no blocking check failed and every file of --records was
    loaded.

    \b
    Examples:
        aind-pipelines demo
        aind-pipelines demo --sessions 20 --seed 7 --home /tmp/lab
        aind-pipelines demo --records path/to/records --home /tmp/real
    """
    from rich.console import Console

    from aind_pipelines.lab import control

    if records is not None:
        require_records(records)
    if ui:
        from aind_pipelines.lab.dagster_ui import require_free

        require_free(_UI_PORT)
    started = time.monotonic()
    messages = Console(stderr=True)
    lab_home = open_home(home)
    control.ensure_up(
        lab_home,
        docdb_uri=docdb_uri,
        postgres_url=postgres_url,
        on_progress=lambda text: _note(messages, "lab", text),
        while_used=True,
    )
    try:
        lab_home.check(_NEEDED_BYTES)
        unloadable = fill_if_empty(lab_home, sessions=sessions, number=seed_number, records=records)
        stages = _run(lab_home, messages)
        ok = bool(stages) and all(stage.ok for stage in stages)
        _show(stages, time.monotonic() - started)
        if not ok:
            lab_home.check(LEAST_ROOM)  # what fails for want of it seldom says so
        if ui and ok:
            from aind_pipelines.cli.dev import serve_ui

            serve_ui(lab_home, _UI_PORT)
    finally:
        control.leave(lab_home)
    if ok and not ui:
        click.echo(f"Look at it: {_ui_command(home)}   (Dagster UI on this lab)")
    require_loaded(unloadable)
    return 0 if ok else 1


def _ui_command(home: Path) -> str:
    if home == Path(".lab") and _beside_our_makefile():
        return "make ui"
    return f"aind-pipelines dev --home {shlex.quote(str(home))}"


def _beside_our_makefile() -> bool:
    """Whether the working directory is a checkout of this project."""
    try:
        return "aind_pipelines.cli dev" in Path("Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _note(console: Console, speaker: str, text: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((f"{speaker}: ", "dim"), text), soft_wrap=True)


def _run(home: LabHome, messages: Console) -> list[Stage]:
    """Run the flow with a progress bar on a terminal, and a line per stage elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    _note(messages, "dagster", "loading the definitions")
    import warnings

    import dagster as dg

    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    from aind_pipelines.lab.flow import StageEvent, open_instance, run_flow, step_names
    from aind_pipelines.settings import load_policy

    def on_trouble(text: str) -> None:
        _note(messages, "dagster", text)

    stages: list[Stage] = []
    interactive = messages.is_terminal  # asked now: a live display puts itself before stderr
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        # Outside: it takes stderr over too, and the instance has to see whole what Dagster writes there.
        Progress(*columns, console=messages, disable=not interactive, transient=True) as progress,
        open_instance(home, on_trouble=on_trouble) as instance,
    ):
        names = step_names()
        task = progress.add_task("flow", total=len(names))

        def on_event(event: StageEvent, step: str) -> None:
            if event == "finished" and step in names:
                progress.advance(task)
            if interactive:
                progress.update(task, description=step)
            elif event != "finished":
                click.echo(f"stage {step} {event}", err=True)

        stages.extend(run_flow(home, instance, sorted(load_policy().archives), on_event=on_event))
    return stages


def _show(stages: list[Stage], seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console()
    if not out.is_terminal:
        out = Console(width=_WIDTH_ELSEWHERE)
    table = Table(title="The flow", title_justify="left")
    for heading, right in (
        ("stage", False),
        ("rows", True),
        ("changed", True),
        ("bytes", True),
        ("findings", True),
        ("seconds", True),
        ("result", False),
    ):
        table.add_column(heading, justify="right" if right else "left")
    for stage in stages:
        table.add_row(
            stage.name,
            "" if stage.rows is None else f"{stage.rows:,}",
            f"{stage.changed:,}",
            "" if stage.bytes is None else f"{stage.bytes:,}",
            f"{stage.findings:,}",
            f"{stage.seconds:.1f}",
            "[green]ok[/]" if stage.ok else "[red]FAILED[/]",
        )
    out.print(table)
    for stage in stages:
        if stage.error:
            _tell(out, f"stage {stage.name} failed:", stage.error)
        for check in stage.checks:
            if not check.passed:
                kind = "blocking check" if check.blocking else "check"
                _tell(out, f"stage {stage.name}: {kind} {check.name} failed:", check.description)
    changed = sum(stage.changed for stage in stages)
    if stages and all(stage.ok for stage in stages):
        out.print("Nothing changed since the last run." if changed == 0 else f"{changed:,} changes.", highlight=False)
    count = "1 stage" if len(stages) == 1 else f"{len(stages)} stages"
    out.print(f"{count} in {seconds:.0f} s.", highlight=False)


def _tell(out: Console, what: str, why: str) -> None:
    """What failed and why, as it was said: names and paths may hold what rich takes for markup."""
    from rich.text import Text

    out.print(Text.assemble((what, "red"), f" {why}"), soft_wrap=True)
