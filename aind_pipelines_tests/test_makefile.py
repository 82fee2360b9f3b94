"""The Makefile's set-up, run by make itself with a stand-in for Python that only notes what it is asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGET = ".venv/.lab-installed"

# Says its version, answers the other checks, makes an "environment" whose python is this script again, and installs.
_PYTHON = """#!/bin/sh
echo "$*" >>"$NOTES"
env | grep "^PYTHON[A-Z]" >>"$NOTES"
case "$1 $2" in
    "-c import sys; print"*) [ -z "$DOES_NOT_RUN" ] || exit 127; echo "${VERSION:-3.12}";;
    "-m venv") [ -z "$NO_VENV" ] || exit 1; mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;
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


def test_clean_removes_a_lab_and_nothing_else(checkout: Checkout) -> None:
    lab, other = checkout.folder / ".lab", checkout.folder / "a person's own"
    for folder, name in ((lab, "lab.json"), (other, "thesis.tex")):
        folder.mkdir()
        (folder / name).touch()
    code, output = checkout.make("clean", f"HOME_DIR={other}")
    assert code == 2
    assert f"{other} holds no lab" in output
    assert checkout.make("clean", HOME_DIR=str(other))[0] == 0
    assert (other / "thesis.tex").exists()
    assert not lab.exists()
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
