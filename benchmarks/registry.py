"""A registry process of a benchmark: ours, or the same server with what we added to it hidden."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, child_environment

USER, PASSWORD = "depositor", "password"
_ADDED = ("/neurobank/capabilities/", "/neurobank/batch/")


@contextmanager
def registry(folder: Path, *, plain: bool = False, cheap_passwords: bool = True) -> Iterator[str]:
    """Run one on an empty SQLite database in `folder`; yields its address.

    Args:
        folder: An existing folder.
        plain: Whether to answer like a django-neurobank alone.
        cheap_passwords: Whether a password costs next to nothing; else it costs what Django's own hasher does.
    """
    environment = child_environment(
        {
            "HOME": str(folder),
            "REGISTRY_DATABASE_URL": f"sqlite:///{folder / 'registry.sqlite'}",
            "REGISTRY_USER_PASSWORD": PASSWORD,
            "REGISTRY_SECRET_KEY": "a benchmark's, with no secret behind it",
        }
    )
    if cheap_passwords:
        environment["REGISTRY_FAST_PASSWORDS"] = "1"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = [sys.executable, "-m", "aind_pipelines.services.registry"]
    for step in (["migrate"], ["create-user", USER]):
        subprocess.run([*ours, *step], env=environment, cwd=ROOT, check=True)
    command = [sys.executable, "-m", "benchmarks.registry", str(port)] if plain else [*ours, "--port", str(port)]
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}/neurobank/"
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the registry did not start; its log is beside its database") from None
            time.sleep(0.05)
        else:
            return


def _without_ours(application: Callable[..., Any]) -> Callable[..., Any]:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        if path.startswith(_ADDED) or path.endswith("/contents/"):
            environ["PATH_INFO"] = "/neurobank/no-such-route/"
        return application(environ, start_response)

    return answer


def main() -> None:
    """Serve a plain registry on the port that the command line names."""
    from django.core import wsgi

    from aind_pipelines.services.registry.server import serve

    genuine = wsgi.get_wsgi_application
    wsgi.get_wsgi_application = lambda: _without_ours(genuine())
    serve("127.0.0.1", int(sys.argv[1]))


if __name__ == "__main__":
    main()
