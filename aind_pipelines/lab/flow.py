"""The whole flow on a real Dagster instance: one job per partitioning, in turn.

Dagster refuses a job over differently partitioned assets; in the UI one asset backfill over all assets does the same
as `run_flow`.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO, cast

import dagster as dg
from dagster import DagsterEvent, DagsterEventType, DagsterInstance

from aind_pipelines.assets.describe import IN_THIS_RUN
from aind_pipelines.definitions import build_defs
from aind_pipelines.jobs import FLOW
from aind_pipelines.lab import control
from aind_pipelines.lab.home import LabError, LabHome
from aind_pipelines.partitions import archives, months

StageEvent = Literal["started", "finished", "failed"]
_ROW_COUNT = "dagster/row_count"
_TOTALS = ("changed", "findings", "bytes")
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_STATEMENT_TIMEOUT = 60_000  # ms
_POOL_RECYCLE = 3_600  # s
_MAX_OVERFLOW = 20
_TELL_AGAIN_SECONDS = 30
_DATABASE_ERRORS = frozenset({"DatabaseError", "InterfaceError", "InternalError", "OperationalError"})
_LOST_EVENT = "Exception while writing logger call to event log"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One asset check's verdict."""

    name: str
    passed: bool
    blocking: bool
    description: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What one asset did in the flow.

    Attributes:
        name: The asset; of a step that makes several and failed, the step.
        seconds: Wall time of its step, which the assets of one step share.
        rows: What it holds now, None when it did not finish.
        changed: What this run changed in it.
        findings: How many findings stand.
        bytes: Bytes of content it read, None when it reads none.
        checks: Its asset checks.
        error: Why it failed; empty when it did not.
    """

    name: str
    seconds: float
    rows: int | None = None
    changed: int = 0
    findings: int = 0
    bytes: int | None = None
    checks: tuple[CheckOutcome, ...] = ()
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded and no blocking check failed."""
        return not self.error and all(check.passed or not check.blocking for check in self.checks)


@dataclass
class _Watch:
    """Follows a run's events, as they are stored: which steps started and ended, when, and what they did."""

    on_event: Callable[[StageEvent, str], None]
    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    events: list[DagsterEvent] = field(default_factory=list)
    failed: str | None = None

    def __call__(self, entry: Any, _cursor: str | None = None) -> None:
        event = entry.dagster_event
        if event is None or event.step_key is None:
            return
        self.events.append(event)
        kind = event.event_type
        if kind == DagsterEventType.STEP_START:
            self.started[event.step_key] = entry.timestamp
            self.on_event("started", event.step_key)
        elif kind in (DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE):
            self.ended[event.step_key] = entry.timestamp
            if kind == DagsterEventType.STEP_FAILURE:
                self.failed = self.failed or event.step_key
            self.on_event("finished" if kind == DagsterEventType.STEP_SUCCESS else "failed", event.step_key)

    def seconds(self, step: str) -> float:
        return max(0.0, self.ended.get(step, 0.0) - self.started[step]) if step in self.started else 0.0

    @property
    def running(self) -> str | None:
        """The step that started and did not end: where an interrupted run was."""
        return next((step for step in reversed(self.started) if step not in self.ended), None)


@contextmanager
def open_instance(
    home: LabHome, *, on_trouble: Callable[[str], None] = lambda _text: None
) -> Iterator[DagsterInstance]:
    """The lab's Dagster instance, open until the end of the block.

    Args:
        home: The lab.
        on_trouble: Told once in a while that Dagster waits for its storage, and once that it could not store an event;
            otherwise it would write to stderr itself.

    Raises:
        LabError: Its storage in the lab's Postgres cannot be used.
    """
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import SQLAlchemyError

    storage = f"Dagster's storage in Postgres at {_address(home)}"
    if down := control.kept_down(home, "postgres"):  # at once, and not after the retries
        raise LabError(f"{storage} cannot be used: {down}")
    try:
        with (
            _retries_told(f"waiting for {storage}", on_trouble),
            _lost_events_told(f"{storage} did not take an event. {_where_postgres_tells(home)}.", on_trouble),
            DagsterInstance.from_config(str(home.dagster_home)) as instance,
        ):
            # Otherwise each of the thousand events of a run is stored over a connection of its own.
            instance.optimize_for_webserver(
                statement_timeout=_STATEMENT_TIMEOUT, pool_recycle=_POOL_RECYCLE, max_overflow=_MAX_OVERFLOW
            )
            yield instance
    except (DagsterPostgresException, SQLAlchemyError) as error:
        raise LabError(_storage_failed(home, error)) from error


@contextmanager
def _retries_told(text: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Say in our words, and not each time, that dagster_postgres tries again; it logs that to the root logger."""
    told = float("-inf")

    def keep(record: logging.LogRecord) -> bool:
        nonlocal told
        if not str(record.msg).startswith("Retrying failed database"):
            return True
        if time.monotonic() - told > _TELL_AGAIN_SECONDS:
            told = time.monotonic()
            on_wait(text)
        return False

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


class _WithoutLostEvents:
    """A stream that passes on everything but what Dagster writes of an event that a database did not take.

    That is the whole statement with its parameters, each time; it is written while the error is handled.
    """

    def __init__(self, stream: TextIO, on_lost: Callable[[], None]) -> None:
        self._stream = stream
        self._on_lost = on_lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        error = sys.exception()
        if error is None or not text.startswith(_LOST_EVENT) or _failure_of_postgres(error) is None:
            return self._stream.write(text)
        self._on_lost()
        return len(text)


@contextmanager
def _lost_events_told(text: str, on_lost: Callable[[str], None]) -> Iterator[None]:
    """Say in our words, and once, that Dagster could not store an event; it writes that to stderr itself."""
    told = False

    def tell() -> None:
        nonlocal told
        if not told:
            told = True
            on_lost(text)

    with redirect_stderr(cast("TextIO", _WithoutLostEvents(sys.stderr, tell))):
        yield


def _address(home: LabHome) -> str:
    server = home.dagster_postgres()
    return f"{server.host}:{server.port}"


def _storage_failed(home: LabHome, error: BaseException) -> str:
    down = control.kept_down(home, "postgres")
    return (
        f"Dagster's storage in Postgres at {_address(home)} cannot be used: {_first_line(error)}. "
        f"{_where_postgres_tells(home)}" + (f". {down}" if down else "; is the disk full, or was Postgres stopped?")
    )


def _where_postgres_tells(home: LabHome) -> str:
    return "See the server's log" if "postgres" in home.external else f"See {home.log('postgres')}"


def _failure_of_postgres(error: BaseException) -> BaseException | None:
    """The innermost error of a database in what led to an error, or None."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import SQLAlchemyError

    found, seen, current = None, set[int](), error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, DagsterPostgresException | SQLAlchemyError):
            found = getattr(current, "orig", None) or current
        current = current.__cause__ or current.__context__  # type: ignore[assignment]
    return found


def step_names() -> set[str]:
    """The steps that materialize assets in the flow; its other steps are those of asset checks."""
    graph = build_defs().resolve_asset_graph()
    return {graph.get(key).assets_def.op.name for key in graph.materializable_asset_keys}


def run_flow(
    home: LabHome,
    instance: DagsterInstance,
    archive_names: Sequence[str],
    *,
    on_event: Callable[[StageEvent, str], None] = lambda _event, _step: None,
) -> Iterator[Stage]:
    """Run the flow's jobs in turn; stop after the first job in which a stage failed.

    Args:
        home: The lab.
        instance: The Dagster instance that records the runs.
        archive_names: Archives to check; their partitions are added.
        on_event: Told of every step that starts, finishes or fails.

    Yields:
        Each stage, when its job has ended.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came during a run; Dagster has recorded it as failed.
    """
    defs = build_defs()
    instance.add_dynamic_partitions("archives", list(archive_names))
    for job in FLOW:
        resolved = defs.resolve_job_def(job.name)
        for selection in _partition_selections(resolved, archive_names):
            stages = list(_run_job(home, resolved, instance, selection, on_event))
            yield from stages
            if not all(stage.ok for stage in stages):
                return


def _partition_selections(job: dg.JobDefinition, archive_names: Sequence[str]) -> list[dict[str, Any]]:
    partitions = job.partitions_def
    if partitions == months:
        keys = months.get_partition_keys()
        return [{"tags": {_RANGE_START: keys[0], _RANGE_END: keys[-1]}}]
    if partitions == archives:
        return [{"partition_key": name} for name in archive_names]
    return [{}]


def _run_job(
    home: LabHome,
    job: dg.JobDefinition,
    instance: DagsterInstance,
    selection: Mapping[str, Any],
    on_event: Callable[[StageEvent, str], None],
) -> Iterator[Stage]:
    watch = _Watch(on_event)
    run_id = str(uuid.uuid4())
    instance.add_event_listener(run_id, watch)
    try:
        result = job.execute_in_process(
            instance=instance, run_id=run_id, run_config=_QUIET, raise_on_error=False, **selection
        )
    except Exception as error:  # noqa: BLE001 - the boundary of the flow: Dagster's own storage may be what failed
        yield from _broken_off(home, job, watch, error)
        return
    if _interrupted(result):
        raise KeyboardInterrupt
    stages = [stage for step in watch.started for stage in _stages(home, job, step, result.all_events, watch)]
    yield from stages
    if not result.success and all(stage.ok for stage in stages):
        where = watch.running or job.name
        yield Stage(where, watch.seconds(where), error=f"run {run_id} failed; see its log in the UI")


def _broken_off(home: LabHome, job: dg.JobDefinition, watch: _Watch, error: Exception) -> Iterator[Stage]:
    """What is known of a run that Dagster itself gave up: what had ended before, then where it broke off."""
    where = watch.running or watch.failed
    for step in watch.ended:
        if step != where:
            yield from _stages(home, job, step, watch.events, watch)
    lost = _failure_of_postgres(error)
    reason = f"the run could not go on: {_first_line(error)}." if lost is None else _storage_failed(home, lost)
    if where is not None:
        yield Stage(where, watch.seconds(where), error=reason)
        return
    # What it was at could not be stored, and so was not told.
    begun = f"Stages that had started: {', '.join(watch.started)}" if watch.started else "No stage had started"
    yield Stage(job.name, 0.0, error=f"{reason} {begun}.")


def _stages(
    home: LabHome, job: dg.JobDefinition, step: str, events: Sequence[DagsterEvent], watch: _Watch
) -> Iterator[Stage]:
    """What a step did, for each asset it makes; nothing for an asset check, whose verdict is told with its asset."""
    failures = [
        event for event in events if event.is_step_failure and event.step_key == step and not _is_failed_check(event)
    ]
    error = _failure(home, failures[0]) if failures else ""
    made: dict[dg.AssetKey, list[dg.AssetMaterialization]] = {}
    for event in events:
        if event.step_key == step and event.is_step_materialization:
            made.setdefault(event.materialization.asset_key, []).append(event.materialization)
    evaluations = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    if failures and not made:
        yield Stage(step, watch.seconds(step), error=error)
    graph = job.asset_layer.asset_graph
    for key, materialized in made.items():
        whole = _totals({name: value.value for name, value in materialized[0].metadata.items()})
        rows: list[Any] = [each.metadata[_ROW_COUNT].value for each in materialized if _ROW_COUNT in each.metadata]
        checks = tuple(
            CheckOutcome(
                name=check.check_name,
                passed=check.passed,
                blocking=graph.get_check_spec(check.asset_check_key).blocking
                and check.severity == dg.AssetCheckSeverity.ERROR,
                description=check.description or "",
            )
            for check in evaluations
            if check.asset_key == key
        )
        yield Stage(
            name=key.to_user_string(),
            seconds=watch.seconds(step),
            rows=sum(rows) if rows else None,
            changed=whole["changed"] or 0,
            findings=whole["findings"] or 0,
            bytes=whole["bytes"],
            checks=checks,
            error=error,
        )


def _totals(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a run did altogether, by the metadata of one of its partitions, which all tell the same of the run."""
    return {name: metadata.get(name + IN_THIS_RUN, metadata.get(name)) for name in _TOTALS}


def _interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C or SIGTERM ended the run: Dagster turns them into the failure of the steps that were running."""
    errors = (event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    return any(error is not None and error.cls_name == "DagsterExecutionInterruptedError" for error in errors)


def _is_failed_check(event: Any) -> bool:
    """A blocking check that failed ends its step with this error; its verdict is among its asset's checks."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def _failure(home: LabHome, event: Any) -> str:
    """What the stage itself raised, the innermost error of ours; with the server where it is Postgres's.

    A library's error, which may be its cause, names neither the thing nor the next step.
    """
    chain = []
    error = event.step_failure_data.error
    while error is not None:
        chain.append(error)
        error = error.cause
    if not chain:
        return "failed without an error"
    error = next((each for each in reversed(chain) if str(each.message).startswith("aind_pipelines.")), chain[-1])
    message = str(error.message).strip()
    lost = error.cls_name == "ServiceUnavailable" and "ServiceUnavailable: RDS: " in message
    if lost or chain[-1].cls_name in _DATABASE_ERRORS:
        server = home.postgres()
        message += f" The lab's Postgres is at {server.host}:{server.port}. {_where_postgres_tells(home)}."
        if down := control.kept_down(home, "postgres"):
            message += f" {down}"
    return message


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".")
