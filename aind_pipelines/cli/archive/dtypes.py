"""``archive dtype list`` and ``archive dtype add``."""

from __future__ import annotations

from dataclasses import asdict

import click

from aind_pipelines.cli.archive.common import client, json_option, print_json


@click.group()
def dtype() -> None:
    """Data types of the registry."""


@dtype.command("list")
@json_option
def list_dtypes(as_json: bool) -> None:
    """List the registered data types."""
    with client() as registry:
        known = registry.dtypes()
    if as_json:
        print_json([asdict(entry) for entry in known])
        return
    for entry in known:
        click.echo(f"{entry.name:<25}\t({entry.content_type})")


@dtype.command("add")
@click.argument("name")
@click.argument("content_type")
def add_dtype(name: str, content_type: str) -> None:
    """Register the data type NAME with the MIME type CONTENT_TYPE."""
    with client() as registry:
        registry.add_dtype(name, content_type)
    click.echo(f"added data type {name} ({content_type})", err=True)
