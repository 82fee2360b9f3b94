"""The DataFrame of the tables benchmark, the same in every environment: pandas and numpy, nothing else."""

import numpy as np
import pandas as pd

COLUMNS = {
    "id": "text", "name": "text", "location": "text", "subject_id": "text", "platform": "text", "project_name": "text",
    "notes": "text", "acquired": "timestamptz", "created": "timestamptz", "modified": "timestamptz",
    "streams": "bigint", "files": "bigint", "bytes": "bigint", "age_days": "bigint", "duration": "double precision",
    "weight": "double precision", "rate": "double precision", "share": "double precision", "raw": "boolean",
    "video": "boolean",
}  # fmt: skip
PLATFORMS = ("ecephys", "SmartSPIM", "behavior", "multiplane-ophys", "FIP")
PROJECTS = ('Thalamus in the "middle"', "Cognitive flexibility", "Learning mFISH-V1omFISH", "")
_YEAR = 365 * 86_400 * 10**9


def frame(rows: int, seed: int, first: int = 0) -> pd.DataFrame:
    """A table of assets: every kind of column, NULLs, NaN, quotes, tabs, line ends and backslashes.

    Args:
        rows: How many.
        seed: Another seed gives other values everywhere but in ``id``.
        first: Number of the first row.
    """
    draw = np.random.default_rng([seed, first])
    numbers = range(first, first + rows)
    subjects = draw.integers(600_000, 800_000, rows)
    kinds = draw.integers(0, len(PLATFORMS), rows)
    when = 1_600_000_000 * 10**9 + draw.integers(0, _YEAR, rows) // 1000 * 1000
    missing = draw.random(rows) < 0.2
    names = [
        f"{PLATFORMS[kind]}_{subject}_{seed}-{number}"
        for kind, subject, number in zip(kinds, subjects, numbers, strict=True)
    ]
    notes = [
        None if number % 5 == 0 else f'seen by "A. Nobody"\tslot {number % 7}\\{seed}\nsecond line, it\'s ü{number}'
        for number in numbers
    ]
    modified = pd.Series(pd.to_datetime(when + _YEAR, utc=True))
    modified[missing] = pd.NaT
    return pd.DataFrame(
        {
            "id": [f"{number:08x}-0000-4000-8000-{number:012x}" for number in numbers],
            "name": names,
            "location": [f"s3://some-bucket/{name}" for name in names],
            "subject_id": [str(subject) for subject in subjects],
            "platform": [PLATFORMS[kind] for kind in kinds],
            "project_name": [PROJECTS[subject % len(PROJECTS)] for subject in subjects],
            "notes": notes,
            "acquired": pd.to_datetime(when, utc=True),
            "created": pd.to_datetime(when + 86_400 * 10**9, utc=True),
            "modified": modified,
            "streams": draw.integers(0, 40, rows),
            "files": draw.integers(0, 10**6, rows),
            "bytes": draw.integers(0, 2**50, rows),
            "age_days": draw.integers(30, 700, rows),
            "duration": np.where(missing, np.nan, draw.random(rows) * 7200),
            "weight": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(25, 3, rows)),
            "rate": draw.random(rows) * 30_000,
            "share": draw.random(rows),
            "raw": draw.random(rows) < 0.5,
            "video": draw.random(rows) < 0.9,
        }
    )
