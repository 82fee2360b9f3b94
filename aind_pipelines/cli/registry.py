"""``aind-pipelines registry``: look after the registry's own database and users."""

from __future__ import annotations

import os

import click

from aind_pipelines.cli import fail


@click.group()
def registry() -> None:
    """Migrate the neurobank registry and make its users.

    It is configured by REGISTRY_DATABASE_URL and REGISTRY_SECRET_KEY, and served by `aind-pipelines serve registry`.
    """


@registry.command()
def migrate() -> None:
    """Bring the registry's database to this release's schema."""
    from aind_pipelines.services.registry import server

    try:
        server.migrate()
    except server.RegistryNotReady as error:
        fail(str(error))
    click.echo("the registry's database is up to date", err=True)


@registry.command("create-user")
@click.argument("name")
@click.option("--superuser", is_flag=True, help="may do everything, deleting records included")
def create_user(name: str, superuser: bool) -> None:
    """Make the user NAME, or give an existing one a new password and these rights.

    The password is read from REGISTRY_USER_PASSWORD, or asked for on a terminal.
    """
    from aind_pipelines.services.registry import server

    password = os.environ.get("REGISTRY_USER_PASSWORD")
    if not password:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        created = server.create_user(name, password, superuser)
    except server.RegistryNotReady as error:
        fail(str(error))
    click.echo(f"{'made' if created else 'updated'} the user {name}", err=True)
