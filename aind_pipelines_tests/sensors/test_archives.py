"""What waits in inboxes leads to one run per archive; an inbox that cannot be seen fails the evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aind_pipelines.definitions import build_defs
from aind_pipelines.sensors import archives as sensors

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two archives, the first with two inboxes."""
    path = tmp_path / "aind-pipelines.toml"
    lines = [f'[archives.{name}]\npath = "{name}"\n' for name in ("live", "cold")]
    for name, archive in (("songs", "live"), ("notes", "live"), ("films", "cold")):
        (tmp_path / name).mkdir()
        lines.append(f'[inboxes.{name}]\npath = "{name}"\narchive = "{archive}"\ndtype = "d"\nready_marker = ".ok"\n')
    path.write_text("".join(lines))
    monkeypatch.setenv("AIND_PIPELINES_CONFIG", str(path))
    return path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def evaluate(instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    defs = build_defs()
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources={"policy": defs.resources["policy"]}
    ) as context:
        return sensors.inbox_files(context)


def put(folder: Path, name: str, *, ready: bool = True) -> None:
    (folder / name).write_bytes(os.fsencode(name))
    if ready:
        (folder / f"{name}.ok").touch()


def test_each_archive_is_asked_for_once_for_what_is_ready(policy: Path, instance: dg.DagsterInstance) -> None:
    asked = evaluate(instance)
    assert isinstance(asked, dg.SkipReason)
    put(policy.parent / "songs", "one")
    put(policy.parent / "notes", "two")
    put(policy.parent / "films", "three", ready=False)
    asked = evaluate(instance)
    assert [request.partition_key for request in asked.run_requests] == ["live"]
    assert [request.partition_keys for request in asked.dynamic_partitions_requests] == [["live"]]
    again = evaluate(instance, asked.cursor)
    assert isinstance(again, dg.SkipReason)
    assert again.skip_message == "1 are not ready, 2 wait for the run that was asked for."
    (policy.parent / "films" / "three.ok").touch()
    more = evaluate(instance, asked.cursor)
    assert [request.partition_key for request in more.run_requests] == ["cold"]
    assert isinstance(evaluate(instance, more.cursor), dg.SkipReason)


def test_what_still_lies_there_after_a_while_is_asked_for_again(
    policy: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(policy.parent / "songs", "one")
    cursor = evaluate(instance).cursor
    assert isinstance(evaluate(instance, cursor), dg.SkipReason)
    monkeypatch.setattr(sensors, "ASK_AGAIN_SECONDS", 0)
    assert [request.partition_key for request in evaluate(instance, cursor).run_requests] == ["live"]


def test_an_inbox_that_cannot_be_seen_fails_the_evaluation_after_the_others_were_asked_for(
    policy: Path, instance: dg.DagsterInstance
) -> None:
    (policy.parent / "films").rmdir()
    put(policy.parent / "songs", "one")
    asked = evaluate(instance)
    assert [request.partition_key for request in asked.run_requests] == ["live"]
    with pytest.raises(Exception, match=r"films cannot be listed: No such file or directory"):
        evaluate(instance, asked.cursor)


def test_names_that_are_no_text_are_asked_for_like_any(policy: Path, instance: dg.DagsterInstance) -> None:
    put(policy.parent / "songs", os.fsdecode(b"\xff\xfe"))
    assert [request.partition_key for request in evaluate(instance).run_requests] == ["live"]


def test_a_look_that_takes_too_long_asks_for_what_it_saw(
    policy: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        put(policy.parent / "songs", f"n{number}")
    monkeypatch.setattr(sensors, "BUDGET_SECONDS", -1)
    assert [request.partition_key for request in evaluate(instance).run_requests] == ["live"]
