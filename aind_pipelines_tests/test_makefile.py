"""The Makefile's set-up, run by make itself with a stand-in for Python that only notes what it is asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aind_pipelines.lab.home import LabHome

ROOT = Path(__file__).parents[1]
TARGET = ".venv/.lab-installed"

# Says its version, answers the other checks, makes an "environment" whose python is this script again, and installs.
_PYTHON = """#!/bin/sh
echo "$*" >>"$NOTES"
env | grep "^PYTHON[A-Z]" >>"$NOTES"
case "$1 $2" in
    "-E -c") cat "${0%/*}/version" 2>/dev/null || echo "${VERSION:-3.12}";;
    "-c import sys; print"*) [ -z "$DOES_NOT_RUN" ] || exit 127; echo "${VERSION:-3.12}";;
    "-m venv") [ -z "$NO_VENV" ] || exit 1
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "${VERSION:-3.12}" >"$3/bin/version";;
    "-m pip") [ "$3" != install ] || sleep "${INSTALL_SECONDS:-0}"; exit "${PIP_EXIT:-0}";;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A folder with the Makefile."""

    folder: Path

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "NOTES": str(self.folder / "notes"), **variables}
        return subprocess.Popen(
            ["make", f"PYTHON={self.folder.parent / 'python'}", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, *arguments: str, **variables: str) -> tuple[int, str]:
        process = self.start(*arguments, **variables)
        output, _ = process.communicate(timeout=30)
        return process.returncode, output

    def asked(self, what: str) -> int:
        notes = self.folder / "notes"
        return sum(line.startswith(what) for line in notes.read_text().splitlines()) if notes.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    (tmp_path / "python").write_text(_PYTHON)
    (tmp_path / "python").chmod(0o755)
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return Checkout(folder)


def test_a_second_make_installs_nothing(checkout: Checkout) -> None:
    assert checkout.make(TARGET)[0] == 0
    assert (checkout.asked("-m venv"), checkout.asked("-m pip install")) == (1, 1)
    assert checkout.make(TARGET)[0] == 0
    assert (checkout.asked("-m venv"), checkout.asked("-m pip install")) == (1, 1)


def test_an_install_that_was_killed_is_made_anew(checkout: Checkout) -> None:
    process = checkout.start(TARGET, INSTALL_SECONDS="60")
    deadline = time.monotonic() + 20
    while not checkout.asked("-m pip install"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    left_over = checkout.folder / ".venv" / "half a package"
    left_over.touch()
    code, output = checkout.make(TARGET)
    assert code == 0, output
    assert not left_over.exists()
    assert checkout.asked("-m venv") == 2


def test_an_environment_without_pip_is_made_anew(checkout: Checkout) -> None:
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    (checkout.folder / ".venv" / "bin" / "python").symlink_to("/nonexistent/python")
    code, output = checkout.make(TARGET)
    assert code == 0, output
    assert (checkout.asked("-m venv"), checkout.asked("-m pip install")) == (1, 1)


def test_an_environment_that_somebody_made_is_kept(checkout: Checkout) -> None:
    own = checkout.folder / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    shutil.copy(checkout.folder.parent / "python", own)
    assert checkout.make(TARGET)[0] == 0
    assert (checkout.asked("-m venv"), checkout.asked("-m pip install")) == (0, 1)


def test_an_environment_of_another_version_gives_way_to_the_python_that_is_named(checkout: Checkout) -> None:
    assert checkout.make(TARGET, VERSION="3.11")[0] == 0
    code, output = checkout.make(TARGET, VERSION="3.13")
    assert code == 0, output
    assert ".venv is of Python 3.11 and is replaced by one of Python 3.13" in output
    assert (checkout.asked("-m venv"), checkout.asked("-m pip install")) == (2, 2)
    assert checkout.make(TARGET, VERSION="3.13")[0] == 0
    assert (checkout.asked("-m venv"), checkout.asked("-m pip install")) == (2, 2)


def test_a_moved_checkout_gets_an_environment_of_its_own(checkout: Checkout) -> None:
    assert checkout.make(TARGET)[0] == 0
    moved = Checkout(checkout.folder.rename(checkout.folder.with_name("moved to here")))
    assert moved.make(TARGET)[0] == 0
    assert moved.asked("-m venv") == 2


def test_an_install_that_fails_says_what_to_do_and_keeps_what_it_has(checkout: Checkout) -> None:
    code, output = checkout.make(TARGET, PIP_EXIT="1")
    assert code == 2
    assert "Check the network" in output
    assert checkout.make(TARGET)[0] == 0
    assert checkout.asked("-m venv") == 1


def test_an_environment_that_cannot_be_made_leaves_nothing(checkout: Checkout) -> None:
    code, output = checkout.make(TARGET, NO_VENV="1")
    assert code == 2
    assert "could not be created" in output
    assert not (checkout.folder / ".venv").exists()


def test_a_python_that_does_not_run_is_not_called_one_without_venv(checkout: Checkout) -> None:
    code, output = checkout.make(TARGET, DOES_NOT_RUN="1")
    assert code == 2
    assert "does not run" in output
    assert "venv module" not in output


def test_a_python_of_another_version_is_refused_by_name(checkout: Checkout) -> None:
    code, output = checkout.make(TARGET, VERSION="3.10")
    assert code == 2
    assert f"{checkout.folder.parent / 'python'} is Python 3.10" in output
    assert not (checkout.folder / ".venv").exists()


def test_what_the_callers_shell_tells_python_reaches_none(checkout: Checkout) -> None:
    said = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"}
    assert checkout.make(TARGET, **said)[0] == 0
    assert checkout.asked("-m pip install") == 1
    assert [name for name in said if checkout.asked(f"{name}=")] == []


def filled(folder: Path, names: Sequence[str]) -> Path:
    """`folder` with empty files, and with folders where a name ends in a slash; a ``lab.json`` is a lab's."""
    folder.mkdir()
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text('{"secrets": {"registry_secret_key": "x"}}' if name == "lab.json" else "")
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ["lab.json", "lock", "notes of a person"],
        [],
        ["logs/supervisor.log"],
        ["lock", "logs/supervisor.log", ".supervisor.json.4711"],
        ["lock", "logs/supervisor.log", "supervisor.json", ".probe.4711", "data/postgres/", "inbox/", ".lab.json.47"],
    ],
    ids=["whole", "empty", "before its lock", "with its lock", "before its lab.json"],
)
def test_clean_removes_a_lab_also_one_that_was_half_made(names: list[str], checkout: Checkout) -> None:
    home = filled(checkout.folder / "a lab", names)
    code, output = checkout.make("clean", f"HOME_DIR={home}")
    assert code == 0, output
    assert not home.exists()


@pytest.mark.parametrize(
    "names",
    [
        ["thesis.tex"],
        ["lock", "thesis.tex"],
        ["lock", ".git/HEAD"],
        ["lock", "data/thesis.csv"],
        ["lock", "logs/mine"],
    ],
    ids=str,
)
def test_clean_leaves_what_is_no_lab(names: list[str], checkout: Checkout) -> None:
    own = filled(checkout.folder / "a person's own", names)
    code, output = checkout.make("clean", f"HOME_DIR={own}")
    assert code == 2
    assert f"{own} holds no lab" in output
    assert names[-1].partition("/")[0] in output
    assert (own / names[-1]).exists()


@pytest.mark.parametrize("name", ["lab.json", "lock"])
def test_clean_leaves_a_folder_where_a_file_has_a_labs_name_and_other_content(name: str, checkout: Checkout) -> None:
    own = filled(checkout.folder / "own", [])
    (own / name).write_text('{"experiments": []}')
    assert checkout.make("clean", f"HOME_DIR={own}")[0] == 2
    assert (own / name).exists()


def test_a_labs_own_lab_json_is_known_by_clean(checkout: Checkout) -> None:
    home = LabHome(checkout.folder / ".lab")
    home.initialise()
    (home.data("postgres") / "PG_VERSION").write_text("18")
    assert checkout.make("clean")[0] == 0
    assert not home.root.exists()


def test_clean_takes_its_home_from_the_command_line_alone(checkout: Checkout) -> None:
    lab, other = filled(checkout.folder / ".lab", ["lab.json"]), filled(checkout.folder / "other", ["lab.json"])
    assert checkout.make("clean", HOME_DIR=str(other))[0] == 0
    assert (lab.exists(), other.exists()) == (False, True)
    assert checkout.make("clean")[0] == 0


def test_a_python_of_the_callers_shell_is_not_taken(checkout: Checkout) -> None:
    done = subprocess.run(
        ["make", "-s", "--no-print-directory", "print-python"],
        cwd=checkout.folder,
        env={"PATH": os.environ["PATH"], "PYTHON": "/nonexistent/python2"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "python3" in done.stdout


_PARTLY = """#!/bin/sh
case "$*" in
    *ensurepip*) [ -n "{venv}" ];;
    "-c import sys; print"*) echo 3.11;;
esac
"""


@pytest.mark.parametrize(("having", "taken"), [({"python3.12"}, "python3.12"), (set(), "python3")])
def test_a_python_without_venv_is_passed_over_where_another_has_it(
    having: set[str], taken: str, checkout: Checkout, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("python3", "python3.12"):
        (programs / name).write_text(_PARTLY.format(venv="yes" if name in having else ""))
        (programs / name).chmod(0o755)
    for name in ("make", "sh"):
        (programs / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        ["make", "-s", "--no-print-directory", "print-python"],
        cwd=checkout.folder,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if having:
        assert (done.returncode, done.stdout.strip()) == (0, taken), done.stderr
    else:
        assert done.returncode == 2
        assert f"{taken} has no venv module" in done.stderr
        assert "make PYTHON=" in done.stderr
