"""What the metadata-service says about subjects, kept in RDS, and where it disagrees with the records.

Each answer is stored as it comes, so that a fetch which ends early goes on where it stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Text, cast, func, literal, null, select
from sqlalchemy.dialects.postgresql import JSONB, insert

from aind_pipelines.clients.rds.errors import translated
from aind_pipelines.records.canonical import REPLACEMENT, UNSTORABLE_TEXT, canonicalise
from aind_pipelines.records.findings import Finding
from aind_pipelines.records.reading import Reader, shown
from aind_pipelines.records.subjects import SubjectFields, read_subject
from aind_pipelines.tables.findings import FindingsPass
from aind_pipelines.tables.schema import metadata_service_answers as answers
from aind_pipelines.tables.schema import metadata_service_findings, subjects

SUBJECT = "subject"
"""The endpoint asked."""

_COMPARED = ("genotype", "sex", "date_of_birth")
_NOT_VALID = (400, 406, 422)
_AT_A_TIME = 1_000


class Answer(Protocol):
    """An answer of the metadata-service, of either API generation."""

    @property
    def status(self) -> int:
        """HTTP status code, v1's meaning."""

    @property
    def message(self) -> str | None:
        """The service's message."""

    @property
    def data(self) -> Any:
        """The model, a list of models, or None."""


class Client(Protocol):
    """What is asked; `aind_pipelines.clients.metadata_service.AindMetadataServiceClient` is one."""

    def ask(self, endpoint: str, key: str) -> Answer:
        """The answer for a key; raises when the service fails, and never gives that as an answer."""


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch did.

    Attributes:
        asked: Subjects that were asked for.
        changed: Answers among these that are new, or not what was stored.
        fresh: Subjects that were not asked for, since their stored answer was young enough.
        by_status: How many answers of each HTTP status there are for these subjects now.
        findings_by_code: What is odd about these answers.
    """

    asked: int
    changed: int
    fresh: int
    by_status: Counter[int] = field(default_factory=Counter)
    findings_by_code: Counter[str] = field(default_factory=Counter)


def fetch_subjects(
    engine: Engine,
    client: Client,
    subject_ids: Iterable[str],
    *,
    requests_per_second: float,
    max_age: timedelta,
    run_id: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FetchResult:
    """Have an answer of the metadata-service for each subject, and compare it with the records.

    Where every stored answer is young enough, the oldest is asked for all the same: a service that is down is then
    never taken for one that had nothing to say.

    Args:
        engine: On a database with our schema.
        client: Asks the service.
        subject_ids: Subjects wanted.
        requests_per_second: Upper bound; requests are spaced evenly.
        max_age: A stored answer younger than this is not asked for again, unless all are.
        run_id: Dagster run, if any.
        on_progress: Called after each request with how many are done and how many there are to do.

    Raises:
        ServiceUnavailable: The service, or Postgres, cannot be reached. The answers got so far are stored.
        ServiceError: Whatever else the client raises.
    """
    if requests_per_second <= 0:
        raise ValueError(f"requests_per_second must be more than 0, not {requests_per_second}")
    wanted = list(dict.fromkeys(subject_ids))
    fresh = _fresh(engine, wanted, max_age)
    to_ask = [subject_id for subject_id in wanted if subject_id not in fresh] or list(fresh)[:1]
    changed = 0
    for done, subject_id in enumerate(_paced(to_ask, requests_per_second), start=1):
        changed += _store(engine, subject_id, client.ask(SUBJECT, subject_id), run_id)
        if on_progress is not None:
            on_progress(done, len(to_ask))
    with translated("comparing subjects"), engine.begin() as connection:
        statuses, findings = _compare(connection, wanted, run_id=run_id)
    return FetchResult(len(to_ask), changed, len(wanted) - len(to_ask), statuses, findings)


def _fresh(engine: Engine, wanted: Collection[str], max_age: timedelta) -> dict[str, None]:
    """Subjects with a young answer, the one with the oldest first."""
    among = set(wanted)
    with translated("reading metadata_service.answers"), engine.connect() as connection:
        young = answers.c.fetched_at > func.now() - max_age
        stored = select(answers.c.key).where(answers.c.endpoint == SUBJECT, young).order_by(answers.c.fetched_at)
        return dict.fromkeys(key for key in connection.scalars(stored) if key in among)


def _paced(items: Iterable[str], per_second: float) -> Iterator[str]:
    """The items, no sooner one after another than the rate allows."""
    due = time.monotonic()
    for item in items:
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        due = max(due, time.monotonic()) + 1 / per_second
        yield item


def _store(engine: Engine, subject_id: str, answer: Answer, run_id: str | None) -> bool:
    """Keep an answer; whether it is new, or not what was stored."""
    message = None if answer.message is None else UNSTORABLE_TEXT.sub(REPLACEMENT, answer.message)
    data = null() if answer.data is None else cast(literal(canonicalise(answer.data).text, Text), JSONB)
    statement = insert(answers).values(
        endpoint=SUBJECT, key=subject_id, status=answer.status, message=message, data=data, run_id=run_id
    )
    written = ("status", "message", "data", "run_id")
    same = select(answers.c.key).where(
        answers.c.endpoint == SUBJECT,
        answers.c.key == subject_id,
        answers.c.status == answer.status,
        answers.c.message.is_not_distinct_from(message),
        answers.c.data.is_not_distinct_from(data),
    )
    with translated("storing an answer of the metadata-service"), engine.begin() as connection:
        changed = connection.scalar(same) is None
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[answers.c.endpoint, answers.c.key],
                set_={name: statement.excluded[name] for name in written} | {"fetched_at": func.clock_timestamp()},
            )
        )
    return changed


def _compare(connection: Connection, wanted: list[str], *, run_id: str | None) -> tuple[Counter[int], Counter[str]]:
    """Findings about the answers for `wanted`; those about subjects that no record names any more are resolved."""
    comparison = FindingsPass(connection, metadata_service_findings, scope=SUBJECT, run_id=run_id)
    statuses: Counter[int] = Counter()
    for start in range(0, len(wanted), _AT_A_TIME):
        part = wanted[start : start + _AT_A_TIME]
        findings: list[Finding] = []
        for subject_id, status, message, data, *recorded in connection.execute(
            select(
                answers.c.key,
                answers.c.status,
                answers.c.message,
                answers.c.data,
                *(subjects.c[name.name] for name in fields(SubjectFields)),
            )
            .outerjoin(subjects, subjects.c.subject_id == answers.c.key)
            .where(answers.c.endpoint == SUBJECT, answers.c.key == func.any(part))
        ):
            statuses[status] += 1
            findings += answer_findings(subject_id, status, message, data, SubjectFields(*recorded))
        comparison.add(connection, findings, keys=part)
    standing = metadata_service_findings.c
    forgotten = select(standing.key).where(
        standing.scope == SUBJECT, standing.resolved_at.is_(None), standing.key.not_in(select(subjects.c.subject_id))
    )
    # Subjects asked for on purpose, without a record, keep theirs.
    comparison.add(connection, (), keys=set(connection.scalars(forgotten)).difference(wanted))
    return statuses, comparison.counts(connection)


def answer_findings(
    subject_id: str, status: int, message: str | None, data: object, recorded: SubjectFields
) -> list[Finding]:
    """What is odd about an answer, and where it disagrees with the records.

    Args:
        subject_id: The subject asked for.
        status: HTTP status code: 200 valid, 300 several models, 404 none, 406 (v2: 400) a model that is not valid.
        message: The service's message.
        data: The model, or a list of them.
        recorded: What the records say; what they do not say is not compared.
    """
    said = f" It says: {message[:300]}" if message else ""
    found: list[Finding] = []
    # v2 answers 406 without data to a key that cannot be a subject's; v1's 406 comes with the model.
    if status == 404 or (status in _NOT_VALID and data is None):
        found.append(Finding("subject_unknown", subject_id, "", f"The metadata-service knows no such subject.{said}"))
    elif status == 300:
        found.append(Finding("subject_ambiguous", subject_id, "", f"It has more than one model of the subject.{said}"))
    elif status in _NOT_VALID:
        found.append(Finding("subject_invalid", subject_id, "", f"Its model of the subject is not valid.{said}"))
    elif not 200 <= status < 300:
        found.append(Finding("subject_status_unknown", subject_id, "", f"It answered with status {status}.{said}"))
    if isinstance(data, Mapping):
        reader = Reader({}, subject_id)
        answered = read_subject(reader, data)
        found += reader.findings
        found += _differences(subject_id, answered, recorded)
    return found


def _differences(subject_id: str, answered: SubjectFields, recorded: SubjectFields) -> Iterator[Finding]:
    for name in _COMPARED:
        theirs, ours = getattr(answered, name), getattr(recorded, name)
        if theirs is not None and ours is not None and theirs != ours:
            message = f"The metadata-service says {shown(str(theirs))}, the records say {shown(str(ours))}."
            yield Finding(f"{name}_differs", subject_id, name, message)
