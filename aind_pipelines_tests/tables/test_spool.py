"""Rows that wait on disk."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.tables.spool import Spool


@given(st.lists(st.lists(st.integers(), max_size=700), max_size=6))
def test_what_goes_in_comes_out_in_order_as_often_as_one_likes(parts: list[list[int]]) -> None:
    with Spool() as spool:
        for part in parts:
            spool.extend(part)
        whole = [item for part in parts for item in part]
        assert list(spool) == whole
        assert list(spool) == whole


def test_nothing_is_left_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool() as spool:
        spool.extend([random.random() for _ in range(2_000)])
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    full = lambda **_: Path("/dev/full").open("wb")  # noqa: E731, SIM115 - the spool closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with (
        pytest.raises(OSError, match=r"temporary directory .* No space left on device.*TMPDIR"),
        Spool() as spool,
    ):
        spool.extend(list(range(1_000)))
