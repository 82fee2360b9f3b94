"""The ``aind-pipelines`` command.

One module per subcommand, imported only when it is called, so that ``--help`` stays quick. Data goes to stdout,
progress and messages to stderr. Exit codes: 0 done, 1 something failed or was found bad, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
from types import TracebackType
from typing import Any, NoReturn


def _without_stack(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an exception that nothing has caught; a Ctrl-C, after which Python ends as killed by it, in one word."""
    # Before Python 3.12, what interrupts the making of a class is the cause of a RuntimeError.
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


# Before anything that takes long enough to be interrupted is imported; `main` catches only what comes after.
sys.excepthook = _without_stack

import click  # noqa: E402

_COMMANDS = {
    "archive": "aind_pipelines.cli.archive:archive",
    "db": "aind_pipelines.cli.db:db",
    "demo": "aind_pipelines.cli.demo:demo",
    "dev": "aind_pipelines.cli.dev:dev",
    "doctor": "aind_pipelines.cli.doctor:doctor",
    "lab": "aind_pipelines.cli.lab:lab",
    "registry": "aind_pipelines.cli.registry:registry",
    "serve": "aind_pipelines.cli.serve:serve",
    "session": "aind_pipelines.cli.session:session",
}


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What writing to a stream fails with where its file can take no more; the error names no file then."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand's module when that subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, attribute = target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-r", "--registry", "registry_url", metavar="URL", help="neurobank registry (default: NBANK_REGISTRY)")
@click.option("-a", "--auth", metavar="USER:PASSWORD", help="registry login (default: NBANK_USERNAME, netrc)")
@click.version_option(package_name="aind-pipelines")
@click.pass_context
def cli(ctx: click.Context, registry_url: str | None, auth: str | None) -> None:
    """Metadata, tables, session assets and archives of a neuroscience institute, kept true to each other.

    \b
    Try it on the embedded lab:
        aind-pipelines demo
    See what is configured here:
        aind-pipelines doctor
    """
    ctx.obj = {"registry_url": registry_url, "auth": auth}


def fail(message: str) -> NoReturn:
    """End the command with exit code 1 and `message` on stderr."""
    click.echo(f"error: {message}", err=True)
    raise SystemExit(1)


def _write_no_more() -> None:
    """Send to nowhere what stdout was not given: Python tries it again at exit, and would say that it failed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``aind-pipelines`` command."""
    # Commands that go through files by the hundred thousand make few cycles, and would be looked through all the time.
    gc.set_threshold(50_000)
    options: dict[str, Any] = {"prog_name": "aind-pipelines", "standalone_mode": False}
    try:
        # Here, since they take long enough to be interrupted.
        from aind_pipelines.clients.errors import ServiceError
        from aind_pipelines.settings import SettingsError

        result = cli.main(args=arguments, **options)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):  # click makes the first of the second
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read our output has ended
        _write_no_more()
        sys.exit(1)
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _write_no_more()
        if error.filename is None and error.errno not in _NO_ROOM:
            raise  # it says not of what: its stack has to
        click.echo(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", err=True)
        sys.exit(1)
    except (SettingsError, ServiceError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)
