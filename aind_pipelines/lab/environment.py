"""The environment of everything that belongs to a lab.

Built from nothing: a few harmless names of the caller's pass, everything else is the lab's own. A proxy, an AWS
profile, a ``PGSERVICE`` or a ``DAGSTER_*`` of the caller's shell therefore never reaches the lab, the demo or the
Dagster processes on it.
"""

from __future__ import annotations

import os
import shlex
import site
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import aind_pipelines
from aind_pipelines.lab.home import HOST, LabHome

_PASSES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "CI"})
_OVERRIDING = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PARAM_STORE_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "OS_CAPSULE_ID",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLMODE",
    "PGSSLROOTCERT",
)
"""Names that, left over in a shell, would win over what the lab sets."""


def _checkout() -> str | None:
    """The folder to import this package from, when it is not an installed one."""
    folder = Path(aind_pipelines.__file__).resolve().parent.parent
    return None if folder.name in {"site-packages", "dist-packages"} else str(folder)


def inherited(caller: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a Python process of the lab may have of its caller's, plus what it needs to import this package.

    Args:
        caller: The caller's environment; default: this process's.
    """
    caller = os.environ if caller is None else caller
    passed = {name: value for name, value in caller.items() if name in _PASSES or name.startswith("LC_")}
    commands = str(Path(sys.executable).parent)
    path = passed.get("PATH") or os.defpath
    passed["PATH"] = path if commands in path.split(os.pathsep) else f"{commands}{os.pathsep}{path}"
    passed["PYTHONUNBUFFERED"] = "1"
    if folder := _checkout():
        passed["PYTHONPATH"] = folder
    if site.ENABLE_USER_SITE and Path(site.getusersitepackages()).is_dir():
        # HOME moves, and the user's own site-packages are found through it.
        passed["PYTHONUSERBASE"] = site.getuserbase()
    return passed


def isolated(home: LabHome, caller: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a process that works on the lab.

    Args:
        home: A lab's home that was initialised.
        caller: The caller's environment; default: this process's.
    """
    return inherited(caller) | home.environment()


def enter(home: LabHome) -> None:
    """Replace this process's environment by the lab's, for commands that work on the lab in their own process.

    Before there is a lab in `home`, only what was the caller's goes; `control.ensure_up` then brings the rest. What
    is imported from here on does not come from the caller's ``PYTHONPATH`` either.
    """
    environment = isolated(home) if home.exists else inherited() | home.places()
    theirs = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    theirs -= {Path(folder) for folder in (_checkout(),) if folder}
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in theirs]
    os.environ.clear()
    os.environ.update(environment)


def entered(home: LabHome) -> bool:
    """Whether this process lives in the environment of the lab in `home`."""
    return os.environ.get("AIND_PIPELINES_CONFIG") == str(home.config_file)


def exports(home: LabHome) -> str:
    """Shell text that points psql, MongoDB clients, the AWS command line and Dagster of that shell at the lab.

    ``HOME`` is left alone: the shell stays the person's own.
    """
    environment = home.environment()
    del environment["HOME"]
    server, docdb = home.postgres(), home.docdb()
    bastion = home.ports["bastion"]
    key = home.data("bastion") / "client_key"
    database = environment["DOC_DB_DATABASE"]
    login = f"{quote(docdb.username, safe='')}:{quote(docdb.password or '', safe='')}@" if docdb.username else ""
    host, port = docdb.hosts[0]
    forward = "ssh -N -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    tunnelled = f"mongodb://{login}{HOST}:27018/{database}?authSource=admin&directConnection=true&retryWrites=false"
    direct = docdb.uri.replace("/?", f"/{database}?", 1)
    lines = [
        f"# The lab in {home.root}. Use it in this shell:",
        f'#   eval "$(aind-pipelines lab env --home {shlex.quote(str(home.root))})"',
        "unset " + " ".join(name for name in _OVERRIDING if name not in environment),
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())),
        "",
        "# neurobank's own command line:",
        "#   nbank -r {} -a {}".format(
            environment["NBANK_REGISTRY"],
            shlex.quote(f"{environment['NBANK_USERNAME']}:{environment['NBANK_PASSWORD']}"),
        ),
        "# MongoDB clients, directly:",
        f"#   mongosh {shlex.quote(direct)}",
        "# and through the bastion (a second terminal keeps the tunnel; password: DOC_DB_SSH_PASSWORD, or this key):",
        f"#   {forward} -p {bastion} -i {shlex.quote(str(key))} -L 27018:{host}:{port} bastion@{HOST}",
        f"#   mongosh {shlex.quote(tunnelled)}",
        "# RDS through the bastion: the same with",
        f"#   -L 5433:{server.host}:{server.port}",
    ]
    return "\n".join(lines) + "\n"
