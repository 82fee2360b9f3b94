from __future__ import annotations

import os
import sys

import pytest

from benchmarks.processes import timed

_ENVIRONMENT = {"PATH": os.environ["PATH"]}


def test_a_process_is_measured_alone_whatever_the_benchmark_itself_holds() -> None:
    held = b"x" * 400_000_000
    cpu, wall, memory = timed([sys.executable, "-c", "import time; time.sleep(0.5)"], _ENVIRONMENT)
    assert memory < 100
    assert wall >= 0.5 > cpu
    hungry = "held = b'x' * 200_000_000\nwhile sum(range(1_000_000)) and __import__('time').process_time() < 0.5: pass"
    cpu, wall, memory = timed([sys.executable, "-c", hungry], _ENVIRONMENT)
    assert 200 <= memory < 300
    assert wall * 1.1 >= cpu >= 0.5
    assert len(held) == 400_000_000


def test_a_process_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3: lost\n"):
        timed([sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit(3)"], _ENVIRONMENT, b"lost")
    with pytest.raises(RuntimeError, match="no-such-program"):
        timed(["no-such-program"], _ENVIRONMENT)
