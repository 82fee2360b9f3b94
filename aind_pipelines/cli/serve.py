"""``aind-pipelines serve``: the services that we host, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

_host = click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")


@click.group()
def serve() -> None:
    """Host a service of ours until Ctrl-C.

    \b
    Examples:
        aind-pipelines serve registry --port 8901
        aind-pipelines serve metadata --tables answers.json
    """


@serve.command()
@_host
@click.option("--port", type=click.IntRange(1, 65535), default=8901, show_default=True, help="port to listen on")
def registry(host: str, port: int) -> None:
    """The neurobank registry: migrates its database, then serves it.

    Its settings are REGISTRY_DATABASE_URL (sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME) and
    REGISTRY_SECRET_KEY. Make a user first: aind-pipelines registry create-user NAME.
    """
    _become("aind_pipelines.services.registry", "--host", host, "--port", str(port))


@serve.command()
@_host
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="port to listen on")
@click.option(
    "--tables",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    required=True,
    help="JSON file with the answers by endpoint and key; read again when it changes",
)
def metadata(host: str, port: int, tables: Path) -> None:
    """The metadata-service: v1 answers in their envelope, v2 answers below /api/v2."""
    _become("aind_pipelines.services.metadata_service", "--host", host, "--port", str(port), "--tables", str(tables))


def _become(module: str, *arguments: str) -> NoReturn:
    """Replace this process by the service's: signals and the exit code are then the service's own."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - no shell is wanted
