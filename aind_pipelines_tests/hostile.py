"""A caller whose shell, home and working directory are full of things that must not reach what the tests start."""

from __future__ import annotations

import os
from pathlib import Path

_NOBODY = "http://127.0.0.1:9"


def plant(folder: Path) -> dict[str, str]:
    """Fill `folder`, which becomes the caller's working directory, with traps.

    Returns:
        The caller's whole environment. A process that takes anything from it, or from the files that it points to,
        finds nobody, the wrong login, or Python modules that end it.
    """
    home = folder / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "config").write_text(f"[default]\nregion = nowhere-1\nendpoint_url = {_NOBODY}\n")
    (home / ".aws" / "credentials").write_text("[default]\naws_access_key_id = stray\naws_secret_access_key = stray\n")
    (home / ".netrc").write_text("default login stray password stray\n")
    (home / ".netrc").chmod(0o600)
    for place in (home, folder):
        (place / ".env").write_text(f"RDS_HOST=127.0.0.1\nRDS_PORT=9\nDOC_DB_API_HOST={_NOBODY}\n")
    (folder / "workspace.yaml").write_text("load_from: []\n")
    (folder / "aind-pipelines.toml").write_text("[broken\n")
    modules = folder / "modules"
    modules.mkdir()
    for name in ("dagster", "psycopg", "yaml"):
        (modules / f"{name}.py").write_text('raise SystemExit("a module of the caller\'s was imported")\n')
    # Python runs this at every start that sees the folder.
    (modules / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"with open({str(folder / 'started')!r}, 'a') as file:\n"
        "    print(os.getpid(), sys.orig_argv, file=file)\n"
    )
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(modules),
        "NETRC": str(home / ".netrc"),
        "AWS_PROFILE": "stray",
        "AWS_ENDPOINT_URL": _NOBODY,
        "AWS_ENDPOINT_URL_S3": _NOBODY,
        "AWS_SESSION_TOKEN": "stray",
        "RDS_HOST": "stray.invalid",
        "RDS_USERNAME": "stray",
        "PGHOST": "stray.invalid",
        "PGSSLMODE": "verify-full",
        "PGSERVICE": "stray",
        "DOC_DB_HOST": "stray.invalid",
        "NBANK_REGISTRY": f"{_NOBODY}/neurobank/",
        "CODE_OCEAN_API_TOKEN": "cop_stray",
        "COP_TOKEN": "cop_stray",
        "METADATA_SERVICE_URL": _NOBODY,
        "AIND_PIPELINES_CONFIG": str(folder / "aind-pipelines.toml"),
        "DAGSTER_HOME": str(folder),
        "HTTP_PROXY": _NOBODY,
        "http_proxy": _NOBODY,
        "ALL_PROXY": _NOBODY,
        "DJANGO_SETTINGS_MODULE": "stray",
        "REQUESTS_CA_BUNDLE": str(folder / "none.pem"),
    }


def started_by_the_callers_python(folder: Path) -> list[str]:
    """Pid and command line of each Python that was started with the ``PYTHONPATH`` of `plant`."""
    return (folder / "started").read_text().splitlines()
