"""``aind-pipelines lab``: the embedded institute, up, down and looked at."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aind_pipelines.cli.lab_options import home_option, records_option, service_uri_options
from aind_pipelines.cli.seeding import fill, require_loaded, require_records
from aind_pipelines.lab import control, environment
from aind_pipelines.lab.home import SERVICES, LabError, LabHome
from aind_pipelines.lab.services import table
from aind_pipelines.lab.supervisor import log_to, supervise

_COLOURS = {"ready": "green", "held": "yellow", "starting": "yellow", "restarting": "yellow", "waiting": "yellow"}


_service_argument = click.argument("service", required=False, type=click.Choice(SERVICES), metavar="[SERVICE]")


def _seed_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--seed", default=0, show_default=True, help="number from which everything is generated"),
        click.option("--sessions", type=click.IntRange(min=1), help="generate an institute with this many sessions"),
        records_option,
    ):
        command = option(command)
    return command


def _say(message: str) -> None:
    click.echo(message, err=True)


@click.group()
def lab() -> None:
    """A whole institute on loopback: Postgres, DocDB, S3, registry and the rest.

    \b
    Start it, use it from this shell, stop it:
        aind-pipelines lab up --sessions 100
        eval "$(aind-pipelines lab env)"
        psql -c 'select * from data_assets limit 5'
        aind-pipelines lab down
    """


@lab.command()
@_service_argument
@home_option
@click.option("--foreground", is_flag=True, help="stay, with the services' states on stderr, until Ctrl-C")
@service_uri_options
@_seed_options
def up(
    service: str | None,
    home: Path,
    foreground: bool,
    docdb_uri: str | None,
    postgres_url: str | None,
    sessions: int | None,
    seed: int,
    records: Path | None,
) -> None:
    """Start the lab, or one SERVICE that was held down; return when it is ready.

    \b
    An institute of 100 sessions:              aind-pipelines lab up --sessions 100
    Your own records, nothing generated:       aind-pipelines lab up --records DIR
    Another MongoDB:                           aind-pipelines lab up --docdb-uri mongodb://USER:PASSWORD@HOST/
    A service that was held down:              aind-pipelines lab up metadata_service
    """
    lab_home = LabHome(home)
    seeding = sessions is not None or records is not None
    if service is not None:
        if foreground or docdb_uri or postgres_url or seeding:
            raise click.UsageError("With a SERVICE, the only option is --home.")
        control.release(lab_home, service)
        _say(f"{service} is up: {lab_home.url(service)}")
        return
    if foreground:
        if seeding:
            raise click.UsageError("--foreground stays, so seed from another terminal: aind-pipelines lab seed")
        _stay(lab_home, docdb_uri, postgres_url)
        return
    if records is not None:
        require_records(records)
    started = control.ensure_up(lab_home, docdb_uri=docdb_uri, postgres_url=postgres_url, on_progress=_say)
    _say(f"The lab is {'up' if started else 'already up'} in {lab_home.root}")
    _tell_what_is_wrong(lab_home)
    if seeding:
        _seed(lab_home, sessions, seed, records)


def _tell_what_is_wrong(home: LabHome) -> None:
    services = {one.name: one for one in control.status(home).services}
    needs = {spec.name: spec.depends_on for spec in table(home)}
    for name, one in services.items():
        below = [need for need in needs.get(name, ()) if need in services and not services[need].healthy]
        if one.health in {"held", "failed"}:
            _say(f"{name} is {one.health}. Start it: aind-pipelines lab up {name} --home {home.root}")
        elif below and not one.healthy:
            _say(f"{name} is {one.health}: it needs {below[0]}, which is {services[below[0]].health}")
        elif not one.healthy:
            _say(f"{name} is {one.health}{f': {one.reason}' if one.reason else ''}")


def _stay(home: LabHome, docdb_uri: str | None, postgres_url: str | None) -> None:
    log_to(sys.stderr)

    def show(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            _say(event["message"])
        elif event["event"] == "ready":
            _say(f"The lab is up in {home.root} ({event['seconds']:.1f} s). Ctrl-C stops it.")

    reason = supervise(home, docdb_uri=docdb_uri, postgres_url=postgres_url, report=show)
    _say(f"The lab has stopped: {reason}")


@lab.command()
@_service_argument
@home_option
def down(service: str | None, home: Path) -> None:
    """Stop the lab, or hold one SERVICE down until `lab up SERVICE`. Its data stays.

    \b
    See what an outage looks like:             aind-pipelines lab down metadata_service
    """
    lab_home = LabHome(home)
    if service is not None:
        control.hold(lab_home, service)
        _say(f"{service} is held down. Start it: aind-pipelines lab up {service} --home {lab_home.root}")
    elif control.stop(lab_home):
        _say(f"The lab in {lab_home.root} has stopped")
    else:
        _say(f"The lab in {lab_home.root} is not up")


@lab.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="one JSON document on stdout")
def status(home: Path, as_json: bool) -> None:
    """Every service with its state; exit code 1 unless all are ready and answer."""
    seen = control.status(LabHome(home))
    if as_json:
        click.echo(json.dumps(seen.as_json(), indent=2))
    else:
        _table(seen)
    raise SystemExit(0 if seen.healthy else 1)


def _table(seen: control.LabStatus) -> None:
    if not seen.services:
        click.echo(f"There is no lab in {seen.home}. Start one: aind-pipelines lab up --home {seen.home}")
        return
    if seen.reason:
        click.echo(f"{click.style('supervisor unresponsive', fg='red')}: {seen.reason}\n")
    click.echo(f"{'service':<17} {'state':<13} {'pid':>7} {'restarts':>8}  {'since':<25} url")
    for one in seen.services:
        state = click.style(f"{one.health:<13}", fg=_COLOURS.get(one.health, "red"))
        where = f"{one.url} (external)" if one.external else one.url
        click.echo(f"{one.name:<17} {state} {one.pid or '-':>7} {one.restarts:>8}  {one.since or '-':<25} {where}")
    for one in seen.services:
        if one.reason:
            click.echo(f"\n{one.name}: {one.reason}")


@lab.command()
@home_option
def env(home: Path) -> None:
    """Shell exports that point psql, MongoDB clients, the AWS command line and dagster at the lab.

    \b
    eval "$(aind-pipelines lab env)"
    """
    click.echo(environment.exports(LabHome(home)), nl=False)


@lab.command()
@home_option
@_seed_options
def seed(home: Path, sessions: int | None, seed: int, records: Path | None) -> None:
    """Fill a lab that is up: a generated institute, real records, or both. The same again changes nothing.

    Records that were edited in DocDB since become again what their files say; the institute stays as it is. Files
    that hold no record are listed, the others are loaded, and the exit code is 1.

    \b
    aind-pipelines lab seed --sessions 100 --seed 0
    aind-pipelines lab seed --records path/to/records
    """
    if sessions is None and records is None:
        raise click.UsageError("Say what to load: --sessions N, --records DIR, or both.")
    lab_home = LabHome(home)
    if records is not None:
        require_records(records)
    if not (seen := control.status(lab_home)).up:
        raise LabError(
            seen.reason
            or f"The lab in {lab_home.root} is not up. Start it: aind-pipelines lab up --home {lab_home.root}"
        )
    _seed(lab_home, sessions, seed, records)


def _seed(home: LabHome, sessions: int | None, number: int, records: Path | None) -> None:
    environment.enter(home)
    os.chdir(home.root)
    require_loaded(fill(home, sessions=sessions, number=number, records=records))
