from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from psycopg.pq import Conninfo

from aind_pipelines.lab import environment
from aind_pipelines.lab.home import LabHome

HOSTILE = {
    "HTTP_PROXY": "http://proxy.invalid:3128",
    "https_proxy": "http://proxy.invalid:3128",
    "ALL_PROXY": "socks5://proxy.invalid",
    "PGSERVICE": "production",
    "PGHOSTADDR": "203.0.113.1",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGDATESTYLE": "German, DMY",
    "PGTZ": "Nowhere/Nothing",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGGEQO": "perhaps",
    "PGCONNECT_TIMEOUT": "soon",
    "DAGSTER_HOME": "/nowhere",
    "DAGSTER_POSTGRES_PASSWORD": "theirs",
    "AWS_PROFILE": "production",
    "AWS_SESSION_TOKEN": "theirs",
    "AWS_ENDPOINT_URL_S3": "https://s3.invalid",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER": "https://secrets.invalid",
    "AWS_ENDPOINT_URL_SOME_SERVICE_OF_TOMORROW": "https://tomorrow.invalid",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "PGTARGETSESSIONATTRS": "standby",
    "PGSSLNEGOTIATION": "direct",
    "PGREQUIREAUTH": "none",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere",
    "CO_TOKEN": "cop_theirs",
    "DOC_DB_HOST": "production.invalid",
    "RDS_PASSWORD": "theirs",
    "PYTHONPATH": "/nowhere",
    "PYTHONSTARTUP": "/nowhere.py",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONWARNINGS": "error",
    "LD_PRELOAD": "",
    "NETRC": "/nowhere",
    "XDG_CONFIG_HOME": "/nowhere",
    "REQUESTS_CA_BUNDLE": "/nowhere",
}
HARMLESS = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "LC_TIME": "C", "TZ": "UTC", "TERM": "dumb", "CI": "1"}


@pytest.fixture
def home(tmp_path: Path) -> LabHome:
    made = LabHome(tmp_path / "it's a lab")
    made.initialise()
    return made


def test_nothing_hostile_of_the_callers_passes(home: LabHome) -> None:
    seen = environment.isolated(home, HOSTILE | HARMLESS | {"PYTHONINSPECT": "1"})
    assert "PYTHONINSPECT" not in seen
    assert not {name: value for name, value in HOSTILE.items() if seen.get(name) == value}
    # A Code Ocean token is found by its value, under any name.
    assert [value for value in seen.values() if value.startswith("cop_")] == [home.secrets["code_ocean_token"]]


def test_harmless_names_pass_and_this_pythons_commands_are_found(home: LabHome) -> None:
    seen = environment.isolated(home, HOSTILE | HARMLESS)
    assert {name: seen[name] for name in HARMLESS if name != "PATH"} == {
        name: value for name, value in HARMLESS.items() if name != "PATH"
    }
    assert seen["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


def test_a_process_with_this_environment_alone_can_import_the_package_from_anywhere(
    home: LabHome, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import aind_pipelines.lab.home, pathlib; print(pathlib.Path.home())"],
        env=environment.isolated(home, HOSTILE),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(home.root)


def test_entering_replaces_the_whole_environment_of_a_process(home: LabHome, tmp_path: Path) -> None:
    program = (
        "import json, os, sys; from aind_pipelines.lab import environment, home as homes;"
        "environment.enter(homes.LabHome(sys.argv[1])); print(json.dumps(dict(os.environ)))"
    )
    caller = HOSTILE | HARMLESS | {"PYTHONPATH": str(Path(environment.__file__).parents[2])}
    for folder in (home.root, tmp_path / "not a lab yet"):
        done = subprocess.run(
            [sys.executable, "-c", program, folder], env=caller, capture_output=True, text=True, check=True
        )
        seen = json.loads(done.stdout)
        assert not {name for name, value in HOSTILE.items() if seen.get(name) == value and name != "PYTHONPATH"}
        assert seen["HOME"] == str(folder)
    assert "RDS_HOST" not in seen


def test_what_is_imported_after_entering_does_not_come_from_the_callers_path(home: LabHome, tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise SystemExit('a module of the caller was imported')")
    program = (
        "import sys; from aind_pipelines.lab import environment, home as homes;"
        "environment.enter(homes.LabHome(sys.argv[1])); import colorsys; print(colorsys.__file__)"
    )
    paths = os.pathsep.join([os.path.relpath(tmp_path), str(Path(environment.__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", program, home.root],
        env=HARMLESS | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.startswith(str(tmp_path))


def test_a_shell_that_evaluates_the_exports_has_the_labs_values_and_keeps_its_home(home: LabHome) -> None:
    script = (
        environment.exports(home, HOSTILE) + 'exec "$0" -c "import json, os; print(json.dumps(dict(os.environ)))"\n'
    )
    done = subprocess.run(
        ["sh", "-euc", script, sys.executable],
        env=HOSTILE | HARMLESS | {"HOME": "/home/person"},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    expected = home.environment() | {"HOME": "/home/person"}
    assert {name: seen.get(name) for name in expected} == expected
    assert not {name for name in HOSTILE if name.startswith(("AWS_", "PG"))} & set(seen)


def test_of_what_libpq_reads_only_the_programs_name_stays_the_callers(home: LabHome) -> None:
    settled = {word.partition("=")[0] for word in environment.exports(home, {}).split()}
    read = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    assert {"PGHOST", "PGCLIENTENCODING"} <= read
    assert read - settled == {"PGAPPNAME"}


def test_a_name_that_the_lab_has_no_value_for_is_unset_and_no_other_is(home: LabHome) -> None:
    home.initialise(docdb_uri="mongodb://db.example/")
    hostile = {"AWS_ENDPOINT_URL_$(touch x)": "", "AWS_ENDPOINT_URL": "theirs", "PGAPPNAME": "theirs"}
    (line,) = (line for line in environment.exports(home, hostile).splitlines() if line.startswith("unset"))
    names = set(line.split()[1:])
    assert {"DOC_DB_USERNAME", "DOC_DB_PASSWORD", "AWS_PARAM_STORE_NAME"} <= names
    assert not names & (set(home.environment()) | set(hostile) | {"touch"})


def test_warnings_that_the_caller_makes_errors_are_none_after_entering(home: LabHome) -> None:
    program = (
        "import subprocess, sys, warnings; from aind_pipelines.lab import environment, home as homes;"
        "environment.enter(homes.LabHome(sys.argv[1]));"
        "warnings.warn('old', DeprecationWarning); "
        "exec('import warnings; warnings.warn(\"old\", DeprecationWarning)', {'__name__': 'x'}); warnings.warn('odd');"
        "print(subprocess._args_from_interpreter_flags())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, home.root],
        env=HARMLESS | {"PYTHONWARNINGS": "error", "PYTHONPATH": str(Path(environment.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "-W" not in done.stdout
    assert done.stderr.count("DeprecationWarning: old") == 1  # in the program itself, as without the caller's wish
    assert done.stderr.count("UserWarning: odd") == 1


def test_the_exports_name_the_other_command_lines(home: LabHome) -> None:
    comments = [line for line in environment.exports(home).splitlines() if line.startswith("#")]
    nbank = next(line for line in comments if "nbank -r" in line)
    assert f"-r {home.url('registry')} -a lab:{home.secrets['registry_password']}" in nbank
    direct, tunnelled = (line for line in comments if "mongosh" in line)
    assert f":{home.ports['docdb']}/metadata_index?" in direct
    assert home.secrets["docdb_password"] in unquote(direct)
    assert "127.0.0.1:27018/" in tunnelled
    assert any(f"-L 27018:127.0.0.1:{home.ports['docdb']}" in line for line in comments)


def test_the_exports_of_an_external_postgres_keep_its_ssl_mode(home: LabHome) -> None:
    home.initialise(postgres_url="postgresql://u:p@db.example/t?sslmode=require")
    lines = environment.exports(home).splitlines()
    assert "export PGSSLMODE=require" in lines
    assert not any(line.startswith("unset") and "PGSSLMODE" in line.split() for line in lines)
