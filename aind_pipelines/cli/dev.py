"""``aind-pipelines dev``: the lab, the Dagster UI and the daemon; stays."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aind_pipelines.cli.lab_options import home_option, open_home, service_uri_options
from aind_pipelines.cli.seeding import fill_if_empty

if TYPE_CHECKING:
    from aind_pipelines.lab.home import LabHome


@click.command()
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="port of the UI")
@service_uri_options
def dev(home: Path, port: int, docdb_uri: str | None, postgres_url: str | None) -> int:
    """Start the lab with the Dagster UI and daemon, print the URL, and stay until Ctrl-C.

    An empty home is seeded first (100 sessions, seed 0).

    \b
    Examples:
        aind-pipelines dev
        aind-pipelines dev --home /tmp/lab --port 3001
    """
    from aind_pipelines.lab import control
    from aind_pipelines.lab.dagster_ui import require_free

    require_free(port)
    lab_home = open_home(home)
    control.ensure_up(
        lab_home,
        docdb_uri=docdb_uri,
        postgres_url=postgres_url,
        on_progress=lambda text: click.echo(f"lab: {text}", err=True),
        while_used=True,
    )
    try:
        fill_if_empty(lab_home, sessions=None, number=0, records=None)
        serve_ui(lab_home, port)
    finally:
        control.leave(lab_home)
    return 0


def serve_ui(home: LabHome, port: int) -> None:
    """Serve the UI until SIGINT or SIGTERM.

    Raises:
        LabError: It ended by itself, or its port is taken.
        ServiceError: It did not start.
    """
    from aind_pipelines.lab.dagster_ui import dagster_dev
    from aind_pipelines.lab.home import LabError

    def interrupted(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupted)
    click.echo("Dagster is starting ...", err=True)
    try:
        with dagster_dev(home, port) as process:
            click.echo(f"Dagster UI: http://127.0.0.1:{port}   (Ctrl-C ends it)")
            code = process.wait()
            raise LabError(f"The Dagster UI ended by itself with exit code {code}; see {home.log('dagster_dev')}.")
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        signal.signal(signal.SIGTERM, previous)
