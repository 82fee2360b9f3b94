"""What is planted is found, each under its code and key, and nothing else is; a clean institute yields no finding."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aind_pipelines_tests.counts import SOAK
from aind_pipelines_tests.end_to_end.conftest import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ALSO_KNOWN_AS = {"subject_disagrees": {"genotype_differs", "sex_differs", "date_of_birth_differs"}}
"""What the seed calls one thing and the stages by what differs."""
SAID_TWICE = {"name_without_session"}
"""A name without a session is a finding on the record and, with the names of the other indexes, of the sessions."""

SEED = """
import json, random, sys
from functools import partial
from pathlib import Path
from aind_pipelines.lab.home import LabHome
from aind_pipelines.lab.seed import seed
from aind_pipelines.lab.seed.institute import generate
from aind_pipelines.lab.seed.troubles import plant

home, counts = LabHome(Path(sys.argv[1])), json.loads(sys.argv[4])

def make(sessions, number):
    institute = generate(sessions, number, troubles=False)
    plant(institute, random.Random(number), counts, as_many_as_fit=True)
    return institute

seed(home, sessions=int(sys.argv[2]), seed=int(sys.argv[3]), make=make)
"""


def check_findings(lab: Lab) -> None:
    """Compare the standing findings with what the seed says it planted."""
    found = {(code, key) for code, key in lab.sql("select code, key from public.findings")}
    expected: set[tuple[str, str]] = set()
    for code, keys in lab.troubles().items():
        for key in keys:
            names = ALSO_KNOWN_AS.get(code, {code})
            matches = {(name, key) for name in names} & found
            assert matches, f"{code} of {key} was planted and not found"
            expected |= matches
    surplus = {(code, key) for code, key in found - expected if code not in SAID_TWICE}
    assert not surplus
    for code in SAID_TWICE:
        by_stage = dict(lab.sql("select stage, count(*) from public.findings where code = %s group by stage", code))
        assert set(by_stage.values()) <= {len(lab.troubles().get(code, []))}


@contextmanager
def institute(folder: Path, sessions: int, number: int, counts: dict[str, int]) -> Iterator[Lab]:
    """A lab with an institute of the test's own making, after a demo."""
    lab = Lab(folder / "home")
    try:
        assert lab.command("lab", "up", "--home", str(lab.home)).returncode == 0
        from aind_pipelines.lab.environment import isolated
        from aind_pipelines.lab.home import LabHome

        made = subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(SEED),
                str(lab.home),
                str(sessions),
                str(number),
                json.dumps(counts),
            ],
            env=isolated(LabHome(lab.home)),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == 0, made.stderr
        demo = lab.command("demo", "--home", str(lab.home))
        assert demo.returncode == 0, demo.stdout + demo.stderr
        yield lab
    finally:
        lab.command("lab", "down", "--home", str(lab.home))


def test_the_usual_troubles_are_found_and_nothing_else(lab: Lab) -> None:
    assert sum(len(keys) for keys in lab.troubles().values()) > 0
    check_findings(lab)


def test_a_clean_institute_yields_no_finding(tmp_path: Path) -> None:
    with institute(tmp_path, 15, 3, {}) as clean:
        assert clean.sql("select * from public.findings") == []
        assert clean.troubles() == {} or not any(clean.troubles().values())


@pytest.mark.parametrize("attempt", range(8 if SOAK else 1))
def test_troubles_planted_at_random_are_found_and_nothing_else(tmp_path: Path, attempt: int) -> None:
    from aind_pipelines.lab.seed.troubles import TROUBLES

    number = random.SystemRandom().randrange(10**6)
    rng = random.Random(number)
    counts = {code: rng.randrange(3) for code in TROUBLES}
    print(f"seed {number}: {counts}")
    with institute(tmp_path, 30, number, counts) as troubled:
        check_findings(troubled)
