"""``.ci/run`` itself, with stand-ins for what its stages call: what it prints, installs, leaves out and ends with."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_REAL = ("bash", "basename", "cat", "chmod", "chown", "cp", "dirname", "env", "grep", "ls", "mkdir", "mktemp", "rm")
_REAL += ("tail", "tee", "timeout", "touch")
_ENGINES = "engines for the DocDB contract"
_CLOSING = "=== 12 passed, 1 skipped in 3.21s (0:00:03) ==="

_MAKE = """#!/bin/bash
echo "make $*" >>"$NOTES"
case "$*" in
    *print-python) echo "$STANDINS/python3";;
    test) echo "$CLOSING"; exit "$TESTS_EXIT";;
    .peers/*) [[ " $BROKEN " != *" $* "* ]];;
esac
"""
_PYTHON = """#!/bin/bash
[ "$1 $2" != "-m venv" ] || { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/aind-pipelines"; }
"""
_GIT = """#!/bin/bash
mkdir -p "$4"
"""
_APT = """#!/bin/bash
echo "apt-get $*" >>"$NOTES"
for package in "$@"; do
    case " $OFFERED " in *" $package "*) cp "$STANDINS/make" "$STANDINS/${package%lang-go}";; esac
done
"""


@dataclass(frozen=True)
class Machine:
    """A checkout and a PATH of stand-ins."""

    folder: Path

    def has(self, name: str, text: str) -> None:
        path = self.folder / "standins" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *, user: int, offered: str = "", broken: str = "", tests_exit: int = 0) -> tuple[int, str]:
        """Exit code, and both streams as a person sees them."""
        self.has("id", f"#!/bin/bash\necho {user}\n")
        standins = self.folder / "standins"
        environment = {"PATH": str(standins), "STANDINS": str(standins), "NOTES": str(self.folder / "notes")}
        environment |= {"OFFERED": offered, "BROKEN": broken, "CLOSING": _CLOSING, "TESTS_EXIT": str(tests_exit)}
        done = subprocess.run(
            [standins / "bash", self.folder / "a checkout" / ".ci" / "run"],
            env=environment | {"TMPDIR": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def asked(self) -> list[str]:
        return (self.folder / "notes").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One without npm and without Go."""
    (tmp_path / "standins").mkdir()
    for name in _REAL:
        (tmp_path / "standins" / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    (tmp_path / "a checkout" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "a checkout" / ".ci" / "run")
    made = Machine(tmp_path)
    for name, text in (("make", _MAKE), ("python3", _PYTHON), ("git", _GIT), ("apt-get", _APT)):
        made.has(name, text)
    return made


def line_of(stage: str, output: str) -> str:
    """What a stage printed at its end."""
    return next(line for line in output.splitlines() if line.startswith(f"{stage} "))


def test_every_stage_prints_its_time_and_the_test_runners_summary_is_last(machine: Machine) -> None:
    code, output = machine.run(user=1000)
    assert code == 0, output
    stages = [line[3:] for line in output.splitlines() if line.startswith("== ")]
    assert stages[-1] == "tests"
    for stage in stages:
        assert " s" in line_of(stage, output)[34:43]
    assert output.splitlines()[-1] == _CLOSING


def test_tests_that_fail_end_with_the_summary_too(machine: Machine) -> None:
    code, output = machine.run(user=1000, tests_exit=2)
    assert code == 2
    assert "== failed in stage: tests, after " in output
    assert output.splitlines()[-1] == _CLOSING


def test_an_ordinary_user_without_npm_and_go_skips_the_engines(machine: Machine) -> None:
    code, output = machine.run(user=1000)
    assert code == 0, output
    line = line_of(_ENGINES, output)
    assert "skipped: .peers/mingo/.installed (no npm, and not root" in line
    assert ".peers/ferretdb/bin/ferretdb (no go, and not root" in line
    assert not [call for call in machine.asked() if call.startswith("apt-get")]


def test_root_installs_what_makes_the_engines(machine: Machine) -> None:
    code, output = machine.run(user=0, offered="npm golang-go")
    assert code == 0, output
    assert "skipped" not in line_of(_ENGINES, output)
    calls = machine.asked()
    for package, engine in (("npm", ".peers/mingo/.installed"), ("golang-go", ".peers/ferretdb/bin/ferretdb")):
        assert calls.index(f"apt-get install -y -qq {package}") < calls.index(f"make {engine}")


def test_one_engine_is_enough_and_the_other_is_a_visible_skip(machine: Machine) -> None:
    code, output = machine.run(user=0, offered="npm golang-go", broken=".peers/ferretdb/bin/ferretdb")
    assert code == 0, output
    assert "skipped: .peers/ferretdb/bin/ferretdb (could not be made with go)" in line_of(_ENGINES, output)


@pytest.mark.parametrize(("user", "there"), [(0, []), (1000, ["npm"])])
def test_a_machine_that_could_make_an_engine_and_has_none_fails(machine: Machine, user: int, there: list[str]) -> None:
    for name in there:
        machine.has(name, _GIT)
    code, output = machine.run(user=user, broken=".peers/mingo/.installed .peers/ferretdb/bin/ferretdb")
    assert code == 1
    assert "No engine but our own answers the DocDB contract" in output
    assert "Check the network, or install npm, or Go" in output
    assert f"== failed in stage: {_ENGINES}, after " in output
    assert "make test" not in machine.asked()
