"""The one shape in which every benchmark reports."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        name: What was measured.
        unit: Its unit.
        value: Median of the samples.
        reach: The number to reach.
        ok: Whether the median reaches it.
        samples: Every sample, in the order taken.
        reason: Why it could not be measured; empty when it was.
    """

    name: str
    unit: str
    value: float
    reach: float
    ok: bool
    samples: tuple[float, ...]
    reason: str = ""


def at_most(name: str, unit: str, samples: Sequence[float], reach: float) -> Row:
    """A figure that must not be larger than `reach`."""
    return _row(name, unit, samples, reach, operator.le)


def at_least(name: str, unit: str, samples: Sequence[float], reach: float) -> Row:
    """A figure that must not be smaller than `reach`."""
    return _row(name, unit, samples, reach, operator.ge)


def not_measured(name: str, unit: str, reach: float, reason: str, samples: Sequence[float] = ()) -> Row:
    """A figure that was not reached, since it could not be measured, or not to the end."""
    return Row(name, unit, 0, reach, ok=False, samples=tuple(round(s, 3) for s in samples), reason=reason)


def _row(name: str, unit: str, samples: Sequence[float], reach: float, compare: object) -> Row:
    value = statistics.median(samples)
    assert callable(compare)
    return Row(name, unit, round(value, 3), reach, bool(compare(value, reach)), tuple(round(s, 3) for s in samples))
