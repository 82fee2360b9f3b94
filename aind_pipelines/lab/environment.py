"""The environment of everything that belongs to a lab.

Built from nothing: a few harmless names of the caller's pass, everything else is the lab's own. A proxy, an AWS
profile, a ``PGSERVICE`` or a ``DAGSTER_*`` of the caller's shell therefore never reaches the lab, the demo or the
Dagster processes on it.
"""

from __future__ import annotations

import os
import re
import shlex
import site
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import aind_pipelines
from aind_pipelines.lab.home import HOST, LabHome

_PASSES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "CI"})
_OVERRIDING = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION"),
    *("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ACCOUNT_ID"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_STS"),
    *("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_CA_BUNDLE"),
    # https://www.postgresql.org/docs/18/libpq-envars.html, without what changes nothing but the words of messages.
    *("PGHOSTADDR", "PGPASSFILE", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS"),
    *("PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGSSLCOMPRESSION", "PGSSLCERT", "PGSSLKEY", "PGSSLCERTMODE"),
    *("PGSSLROOTCERT", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLSNI", "PGREQUIREPEER", "PGSSLMINPROTOCOLVERSION"),
    *("PGSSLMAXPROTOCOLVERSION", "PGGSSENCMODE", "PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION"),
    *("PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION"),
    # How values are written, or a refusal of the connection where the server does not know what they say.
    *("PGCLIENTENCODING", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGCONNECT_TIMEOUT"),
)
"""Names that, left over in a shell, would win over what the lab sets, or keep it from being reached."""

_ENDPOINT = re.compile(r"AWS_ENDPOINT_URL_[A-Z0-9_]+")
"""One AWS service's address, which wins over the lab's ``AWS_ENDPOINT_URL``; there is a name for each service."""


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
    is imported from here on does not come from the caller's ``PYTHONPATH`` either, and ``PYTHONWARNINGS`` of the
    caller's does not make an error of a warning in somebody else's library.
    """
    if os.environ.get("PYTHONWARNINGS"):
        _default_warnings()
    environment = isolated(home) if home.exists else inherited() | home.places()
    theirs = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    theirs -= {Path(folder) for folder in (_checkout(),) if folder}
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in theirs]
    os.environ.clear()
    os.environ.update(environment)


def _default_warnings() -> None:
    """Filter warnings as a Python does that nobody told anything, here and in the Pythons that this one starts."""
    sys.warnoptions.clear()  # multiprocessing passes these on
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")


def entered(home: LabHome) -> bool:
    """Whether this process lives in the environment of the lab in `home`."""
    return os.environ.get("AIND_PIPELINES_CONFIG") == str(home.config_file)


def _to_unset(environment: Mapping[str, str], caller: Mapping[str, str]) -> list[str]:
    """Names that a shell must not have beside the lab's `environment`; of endpoints, those that `caller` has too."""
    from aind_pipelines.settings import Settings, setting_names

    settings = (name for field in Settings.model_fields for name in setting_names(field))
    endpoints = (name for name in sorted(caller) if _ENDPOINT.fullmatch(name))
    return [name for name in dict.fromkeys([*_OVERRIDING, *settings, *endpoints]) if name not in environment]


def exports(home: LabHome, caller: Mapping[str, str] | None = None) -> str:
    """Shell text that points psql, MongoDB clients, the AWS command line and Dagster of that shell at the lab.

    ``HOME`` is left alone: the shell stays the person's own.

    Args:
        home: A lab's home that was initialised.
        caller: The shell's environment; default: this process's.
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
        "unset " + " ".join(_to_unset(environment, os.environ if caller is None else caller)),
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
