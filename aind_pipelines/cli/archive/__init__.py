"""``aind-pipelines archive``: make archives, deposit, find and check; options mean what they mean to ``nbank``.

One module per kind of command. Heavy libraries are imported by the commands that use them.
"""

from __future__ import annotations

import logging
import sys

import click

from aind_pipelines.cli.archive.checking import check, verify
from aind_pipelines.cli.archive.copies import copy, fetch
from aind_pipelines.cli.archive.deposits import deposit, recover
from aind_pipelines.cli.archive.dtypes import dtype
from aind_pipelines.cli.archive.making import init
from aind_pipelines.cli.archive.places import list_archives, locate
from aind_pipelines.cli.archive.records import info, modify, search


@click.group()
def archive() -> None:
    """Keep files and directories in neurobank archives.

    \b
    Make an archive and deposit into it:
        aind-pipelines archive init /data/live
        aind-pipelines archive deposit /data/live -d session-raw --copy SESSION...
    Read every byte and compare it with the registry:
        aind-pipelines archive check /data/live
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")


for _command in (
    check,
    copy,
    deposit,
    dtype,
    fetch,
    info,
    init,
    list_archives,
    locate,
    modify,
    recover,
    search,
    verify,
):
    archive.add_command(_command)
