"""Quality control of records, from either generation of their schema, and as data frames over many records.

Version 1 groups metrics below ``quality_control.evaluations``; version 2 has one list ``quality_control.metrics``.
Both keep a ``status_history`` per metric, oldest first. The names and parameters are those of
``aind_data_access_api.helpers.data_schema``; quality control comes as it is stored, not as a validated model, because
real records are often not valid. Rows are joined to what was asked by name or ``_id``, never by position.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aind_pipelines.clients.docdb.helpers import (
    Reader,
    RecordNotFound,
    fetch_records_by_filter_list,
    get_field_by_id,
    get_id_from_name,
)
from aind_pipelines.clients.docdb.pages import Query, Record

if TYPE_CHECKING:
    import pandas as pd

_PROJECTION: Query = {"name": 1, "quality_control": 1}
_Metric = tuple[str, Mapping[str, Any]]


def get_quality_control_by_id(client: Reader, _id: str) -> Record:
    """Quality control of the record with this ``_id``, as stored.

    Raises:
        RecordNotFound: There is no such record, or it has no quality control.
        ServiceError: DocDB refused or cannot be reached.
    """
    record = get_field_by_id(client, _id, "quality_control")
    if record is None:
        raise RecordNotFound(f"No record found with _id {_id}")
    quality_control = record.get("quality_control")
    if not isinstance(quality_control, dict) or not quality_control:
        raise RecordNotFound(f"No quality_control field found in record with _id {_id}")
    return quality_control


def get_quality_control_by_name(client: Reader, name: str) -> Record:
    """Quality control of the record with this name, as stored; of several, the one with the lowest ``_id``.

    Raises:
        RecordNotFound: There is no such record, or it has no quality control.
        ServiceError: DocDB refused or cannot be reached.
    """
    return get_quality_control_by_id(client, get_id_from_name(client, name))


def get_quality_control_by_names(client: Reader, names: Sequence[str]) -> list[Record | None]:
    """Quality control of many records, as stored: one item per name, in the order of the names.

    None stands for a name without record, or whose record has no quality control. Of several records with one name,
    the one with the lowest ``_id`` counts; the frames show all of them.

    Raises:
        ServiceError: DocDB refused or cannot be reached.
    """
    found = _by_value(client, "name", names)
    return [_stored(found[name][0]) if found.get(name) else None for name in names]


def get_quality_control_status_df(
    client: Reader,
    names: Sequence[str] | None = None,
    date: datetime | None = None,
    *,
    ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The status of every metric of many records.

    Args:
        client: Where to look.
        names: Names of the records; or give `ids`.
        date: Statuses given later do not count; None for the last one of each metric. Without zone it is UTC, as are
            timestamps in records; a status whose timestamp cannot be read does not count when a date is given.
        ids: ``_id`` of the records, instead of `names`.

    Returns:
        One row per record in the order asked, with the columns ``name``, ``_id`` and one per metric, called
        ``<evaluation>_<metric>`` in version 1 and ``<metric>`` in version 2; a further metric of the same name gets
        `` (2)`` and so on. NA where a record does not have the metric, or no status yet. A name or id without record
        has a row too, with an ``_id`` or name of NA; a name with several records has a row for each.

    Raises:
        ValueError: Neither or both of `names` and `ids` are given.
        ServiceError: DocDB refused or cannot be reached.
    """
    moment = None if date is None else _with_zone(date)
    return _frame(client, names, ids, lambda metric: _status(metric, moment))


def get_quality_control_value_df(
    client: Reader, names: Sequence[str] | None = None, *, ids: Sequence[str] | None = None
) -> pd.DataFrame:
    """The value of every metric of many records; rows and columns as `get_quality_control_status_df`.

    Raises:
        ValueError: Neither or both of `names` and `ids` are given.
        ServiceError: DocDB refused or cannot be reached.
    """
    return _frame(client, names, ids, lambda metric: metric.get("value"))


def metrics(quality_control: Any) -> Iterator[_Metric]:
    """The metrics of a record's quality control in either version, with their column names.

    What is no quality control, or no metric, is passed over.
    """
    if not isinstance(quality_control, Mapping):
        return
    for evaluation in _mappings(quality_control.get("evaluations")):
        for metric in _mappings(evaluation.get("metrics")):
            yield f"{evaluation.get('name')}_{metric.get('name')}", metric
    for metric in _mappings(quality_control.get("metrics")):
        yield str(metric.get("name")), metric


def _frame(
    client: Reader,
    names: Sequence[str] | None,
    ids: Sequence[str] | None,
    cell: Callable[[Mapping[str, Any]], Any],
) -> pd.DataFrame:
    import pandas as pd

    if (names is None) == (ids is None):
        raise ValueError("Give either names or ids.")
    key, asked = ("name", names) if names is not None else ("_id", ids)
    assert asked is not None
    found = _by_value(client, key, asked)
    columns: dict[str, None] = {"name": None, "_id": None}
    rows: list[dict[str, Any]] = []
    for value in dict.fromkeys(asked):
        for record in found.get(value) or [{key: value}]:
            row = {"name": record.get("name"), "_id": record.get("_id")}
            for column, metric in metrics(record.get("quality_control")):
                row[_free(column, row)] = cell(metric)
            columns |= dict.fromkeys(row)
            rows.append({name: pd.NA if item is None else item for name, item in row.items()})
    # Columns of objects: a list or a mapping is a value like any other, and a count stays an integer beside NA.
    cells = {name: pd.Series([row.get(name, pd.NA) for row in rows], dtype=object) for name in columns}
    return pd.DataFrame(cells, columns=list(columns))


def _by_value(client: Reader, key: str, values: Sequence[Hashable]) -> dict[Any, list[Record]]:
    found: dict[Any, list[Record]] = {}
    for record in fetch_records_by_filter_list(client, key, values, _PROJECTION):
        found.setdefault(record[key], []).append(record)
    for records in found.values():
        records.sort(key=lambda record: str(record["_id"]))
    return found


def _stored(record: Record) -> Record | None:
    quality_control = record.get("quality_control")
    return quality_control if isinstance(quality_control, dict) and quality_control else None


def _free(column: str, row: Mapping[str, Any]) -> str:
    number, name = 1, column
    while name in row:
        number += 1
        name = f"{column} ({number})"
    return name


def _status(metric: Mapping[str, Any], moment: datetime | None) -> Any:
    for entry in reversed(list(_mappings(metric.get("status_history")))):
        if moment is None:
            return entry.get("status")
        given = _time(entry.get("timestamp"))
        if given is not None and given <= moment:
            return entry.get("status")
    return None


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return _with_zone(value)
    try:
        return _with_zone(datetime.fromisoformat(str(value)))
    except ValueError:
        return None


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))
