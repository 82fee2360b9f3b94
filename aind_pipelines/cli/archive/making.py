"""``archive init``."""

from __future__ import annotations

from pathlib import Path

import click

from aind_pipelines.cli.archive.common import archive_errors, client


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-n", "--name", help="name in the registry (default: the folder's)")
@click.option("-u", "--umask", default="002", show_default=True, help="mode bits that nothing may have, octal")
@click.option("-g", "--group", help="owning group (default: yours)")
@click.option("--shared", is_flag=True, help="several people deposit under their own accounts")
@click.option("--sticky", is_flag=True, help="only its owner may remove or rename what is deposited")
@click.option("--acl", is_flag=True, help="give what other programs make there the same rights: a default ACL")
def init(
    directory: Path, name: str | None, umask: str, group: str | None, shared: bool, sticky: bool, acl: bool
) -> None:
    """Make an archive in the new folder DIRECTORY and register it."""
    from aind_pipelines.archive.layout import init_archive

    try:
        bits = int(umask, 8)
    except ValueError:
        raise click.BadParameter(f"{umask!r} is not octal", param_hint="-u") from None
    with archive_errors(), client() as registry:
        made = init_archive(directory, registry, name, bits, group=group, shared=shared, sticky=sticky, acl=acl)
        click.echo(f"made {made.path}, registered as archive {made.name_in(registry)}", err=True)
        for weaker in made.filesystem().promises:
            click.echo(f"warning: {weaker}", err=True)
