"""``quality_control``: metrics and their status. v1 keeps them in evaluations, v2 in one list with tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aind_pipelines.records.normalise import NormalisedRecord
from aind_pipelines.records.reading import LONGEST_TEXT, Reader
from aind_pipelines.tables.derivations.derivation import Row
from aind_pipelines.tables.derivations.values import as_json, first, mappings, modality, texts, time

_EVALUATIONS = "quality_control.evaluations"
_METRICS = "quality_control.metrics"


def metric_rows(_record: NormalisedRecord, reader: Reader) -> Iterator[Row]:
    """The quality metrics of a record; an evaluation without metrics is a row too."""
    section = reader.section("quality_control")
    evaluations = mappings(reader, section.get("evaluations"), _EVALUATIONS, "evaluation_unreadable")
    for index, evaluation in evaluations:
        path = f"{_EVALUATIONS}.{index}"
        about = {
            "evaluation_name": reader.text(first(evaluation, "name", "evaluation_name"), f"{_EVALUATIONS}.name"),
            "evaluation_status": _evaluation_status(reader, evaluation),
            "stage": reader.text(first(evaluation, "stage", "evaluation_stage"), f"{_EVALUATIONS}.stage"),
            "modality": modality(
                reader, first(evaluation, "modality", "evaluation_modality"), f"{_EVALUATIONS}.modality"
            ),
            "tags": _tags(reader, evaluation.get("tags"), f"{_EVALUATIONS}.tags"),
        }
        place = f"{_EVALUATIONS}.metrics"
        metrics = list(
            mappings(reader, first(evaluation, "metrics", "qc_metrics"), f"{path}.metrics", "metric_unreadable")
        )
        for metric_index, metric in metrics:
            yield {"path": f"{path}.metrics.{metric_index}", **about, **_metric(reader, metric, place)}
        if not metrics:
            yield {"path": path, **about, **_metric(reader, {}, place)}
    for index, metric in mappings(reader, section.get("metrics"), _METRICS, "metric_unreadable"):
        yield {
            "path": f"{_METRICS}.{index}",
            "evaluation_name": None,
            "evaluation_status": None,
            "stage": reader.text(metric.get("stage"), f"{_METRICS}.stage"),
            "modality": modality(reader, metric.get("modality"), f"{_METRICS}.modality"),
            "tags": _tags(reader, metric.get("tags"), f"{_METRICS}.tags"),
            **_metric(reader, metric, _METRICS),
        }


def _evaluation_status(reader: Reader, evaluation: Mapping[Any, Any]) -> str | None:
    status = evaluation.get("latest_status")
    if status is None:
        status = _last(reader, evaluation.get("evaluation_status"), f"{_EVALUATIONS}.status")[1].get("status")
    return reader.text(status, f"{_EVALUATIONS}.status")


def _tags(reader: Reader, value: object, field: str) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}:{text}" for key in sorted(value, key=str) for text in texts(reader, value[key], field)]
    return texts(reader, value, field)


def _metric(reader: Reader, metric: Mapping[Any, Any], place: str) -> Row:
    history = f"{place}.status_history"
    count, last = _last(reader, first(metric, "status_history", "metric_status_history"), history)
    evaluator = reader.text(last.get("evaluator"), f"{history}.evaluator")
    return {
        "metric_name": reader.text(metric.get("name"), f"{place}.name"),
        "metric_type": reader.text(metric.get("object_type"), f"{place}.object_type"),
        "status": reader.text(last.get("status"), f"{history}.status"),
        "status_time": time(reader, last.get("timestamp"), f"{history}.timestamp"),
        "status_count": count,
        "automated": None if evaluator is None else evaluator.casefold() == "automated",
        "value": as_json(reader, metric.get("value"), f"{place}.value", "metric_value_left_out"),
        "reference": reader.text(metric.get("reference"), f"{place}.reference", longest=LONGEST_TEXT),
    }


def _last(reader: Reader, history: object, field: str) -> tuple[int, Mapping[Any, Any]]:
    """How many statuses a history has, and the last one."""
    statuses = [status for _, status in mappings(reader, history, field, "status_unreadable")]
    return len(statuses), statuses[-1] if statuses else {}
