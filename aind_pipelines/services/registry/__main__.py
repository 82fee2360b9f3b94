"""``python -m aind_pipelines.services.registry``: migrate and serve, or one of its commands."""

from __future__ import annotations

import argparse
import os
import sys

from aind_pipelines.services.registry.server import RegistryNotReady, create_user, migrate, serve


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0 when done and 1 when it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m aind_pipelines.services.registry", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8901)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("migrate", help="bring the database to this release's schema")
    user = commands.add_parser("create-user", help="make a user; password from REGISTRY_USER_PASSWORD")
    user.add_argument("name")
    user.add_argument("--superuser", action="store_true", help="may do everything")
    options = parser.parse_args(arguments)
    try:
        if options.command == "migrate":
            migrate()
        elif options.command == "create-user":
            create_user(options.name, os.environ.get("REGISTRY_USER_PASSWORD", ""), options.superuser)
        else:
            serve(options.host, options.port)
    except RegistryNotReady as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is the command's own output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
