"""Where a record's data comes from: the assets it was made of, and what was run on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aind_pipelines.records.names import AssetName
from aind_pipelines.records.reading import Reader, shown

_SOURCE_KEYS = ("input_data_name", "source_data")
_DEEPEST_LIST = 20


@dataclass(frozen=True, slots=True)
class Process:
    """One step that was run on the data, as the record tells it.

    Attributes:
        path: Where in the record it stands, dotted.
        process_type: Kind of step, e.g. ``Spike sorting``; v1 calls it ``name``.
        name: The step's own name, which only v2 gives.
        stage: ``Processing`` or ``Analysis``; v1 keeps the two in lists of their own.
        software_name: Name of the code, which only v2 gives.
        software_version: Version of the software: v1's ``software_version`` (``version`` before schema 0.4), v2's
            ``code.version``.
        code_url: Where the code is.
        code_version: v1's ``code_version``, which v2 does not have.
        pipeline_name: Name of the pipeline it ran in, which only v2 gives.
        pipeline_url: Where the code of that pipeline is.
        pipeline_version: Version of that pipeline.
        start: When it started, UTC (also where the record states no zone).
        end: When it ended, in the same way.
    """

    path: str
    process_type: str | None
    name: str | None
    stage: str | None
    software_name: str | None
    software_version: str | None
    code_url: str | None
    code_version: str | None
    pipeline_name: str | None
    pipeline_url: str | None
    pipeline_version: str | None
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class _Pipeline:
    name: str | None = None
    url: str | None = None
    version: str | None = None


_NO_PIPELINE = _Pipeline()


def read_source_names(reader: Reader, description: Mapping[Any, Any], parsed: AssetName) -> tuple[str, ...]:
    """Names of the assets that a data description says this one was made of, in its order, each once.

    They are v1's ``input_data_name`` and v2's ``source_data``.

    Args:
        reader: Takes the findings.
        description: The ``data_description``.
        parsed: The asset's name.
    """
    found: dict[str, None] = {}
    for key in _SOURCE_KEYS:
        field = f"data_description.{key}"
        value = description.get(key)
        for item in value if isinstance(value, list | tuple) else (value,):
            name = item.get("name") if isinstance(item, Mapping) else item
            if (text := reader.text(name, field)) is not None:
                found[text] = None
    if parsed.name in found:
        reader.note("source_is_itself", "data_description", f"The asset is said to be made of {shown(parsed.name)}.")
        del found[parsed.name]
    return tuple(found)


def count_investigators(reader: Reader, description: Mapping[Any, Any]) -> int | None:
    """How many investigators a data description names; None when it says nothing of them.

    Their names stay in the record. A list counts its people, each an object or a text.
    """
    value = description.get("investigators")
    if value is None:
        return None
    field = "data_description.investigators"
    if not isinstance(value, list | tuple):
        reader.note("investigators_unreadable", field, f"Expected a list of people, found {type(value).__name__}.")
        return None
    people = [person for person in value if isinstance(person, Mapping | str) and person]
    if len(people) < len(value):
        reader.note("investigators_unreadable", field, f"{len(value) - len(people)} of the list are no people.")
    return len(people)


def read_processes(reader: Reader) -> tuple[Process, ...]:
    """What was run on the data, in the record's order: the pipeline's steps, other steps, analyses.

    Read are v2's ``processing.data_processes``, v1's ``processing.processing_pipeline.data_processes`` and
    ``processing.analyses``, and ``processing.data_processes`` of schemas before 0.3. Lists within these lists are
    read through.
    """
    processing = reader.section("processing")
    if not processing:
        return ()
    older = reader.section("processing_pipeline", processing)
    pipelines = _pipelines(reader, processing)
    of_v1 = _Pipeline(
        None,
        reader.text(older.get("pipeline_url", processing.get("pipeline_url")), "processing.pipeline_url"),
        reader.text(older.get("pipeline_version", processing.get("pipeline_version")), "processing.pipeline_version"),
    )
    places = (
        ("processing.processing_pipeline.data_processes", older.get("data_processes"), "Processing"),
        ("processing.data_processes", processing.get("data_processes"), "Processing"),
        ("processing.analyses", processing.get("analyses"), "Analysis"),
    )
    return tuple(
        _process(reader, step, path, place, stage, of_v1, pipelines)
        for place, steps, stage in places
        for path, step in _steps(reader, steps, place, place, 0)
    )


def _pipelines(reader: Reader, processing: Mapping[Any, Any]) -> dict[str, _Pipeline]:
    found: dict[str, _Pipeline] = {}
    value = processing.get("pipelines")
    for code in value if isinstance(value, list | tuple) else ():
        if isinstance(code, Mapping) and (name := reader.text(code.get("name"), "processing.pipelines")):
            url = reader.text(code.get("url"), "processing.pipelines")
            found[name] = _Pipeline(name, url, reader.text(code.get("version"), "processing.pipelines"))
    return found


def _steps(
    reader: Reader, value: object, place: str, path: str, depth: int
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if isinstance(value, Mapping):
        yield path, value
    elif isinstance(value, list | tuple) and depth < _DEEPEST_LIST:
        if depth == 1:
            reader.note("processes_nested", place, "A list stands where a process should; its processes are read.")
        for index, inner in enumerate(value):
            yield from _steps(reader, inner, place, f"{path}.{index}", depth + 1)
    elif value is not None:
        reader.note("process_unreadable", path, f"Expected a process, found {shown(value)}.")


def _process(
    reader: Reader,
    step: Mapping[Any, Any],
    path: str,
    place: str,
    stage: str,
    of_v1: _Pipeline,
    pipelines: Mapping[str, _Pipeline],
) -> Process:
    text = reader.text
    in_v2 = "process_type" in step or "code" in step
    code = reader.section("code", step)
    pipeline_name = text(step.get("pipeline_name"), place)
    if in_v2:
        pipeline = pipelines.get(pipeline_name, _Pipeline(pipeline_name)) if pipeline_name else _NO_PIPELINE
    else:
        pipeline = of_v1 if stage == "Processing" else _NO_PIPELINE
    return Process(
        path=path,
        process_type=text(step.get("process_type") if in_v2 else step.get("name"), place),
        name=text(step.get("name"), place) if in_v2 else None,
        stage=text(step.get("stage"), place) if in_v2 else stage,
        software_name=text(code.get("name"), place),
        software_version=text(code.get("version") if in_v2 else _first(step, "software_version", "version"), place),
        code_url=text(code.get("url") if in_v2 else step.get("code_url"), place),
        code_version=text(step.get("code_version"), place),
        pipeline_name=pipeline.name,
        pipeline_url=pipeline.url,
        pipeline_version=pipeline.version,
        start=_time(reader, step, "start_date_time", place),
        end=_time(reader, step, "end_date_time", place),
    )


def _first(step: Mapping[Any, Any], *keys: str) -> object:
    return next((step[key] for key in keys if step.get(key) not in (None, "")), None)


def _time(reader: Reader, step: Mapping[Any, Any], key: str, place: str) -> datetime | None:
    moment = reader.moment(step.get(key), f"{place}.{key}", "process_time_unreadable")
    if moment is None:
        return None
    if not moment.has_zone:
        reader.note("process_time_without_zone", place, "Times of processes state no zone; they are taken for UTC.")
    return moment.value
