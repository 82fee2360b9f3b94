"""Records that move between two sources, compared after every run with what the sources hold."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.mirror.docdb import DeletionGuard, IngestResult, PassRefused, update
from aind_pipelines.mirror.docdb.errors import CollectionEmpty
from aind_pipelines.mirror.docdb.passes import Mode
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.mirror.test_docdb_history import V1, V2, as_of, check_history, clock, held, record
from aind_pipelines_tests.mirror.test_docdb_passes import MemorySource

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
ANY = DeletionGuard(1.0, 1000)


def _at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


class _Source(MemorySource):
    """As the transports are: a collection that is empty of a sudden is not believed."""

    down = False

    def by_ids(self, ids: Sequence[Any]) -> Any:
        if self.down:
            raise ServiceUnavailable("DocDB", "gone")
        yield from super().by_ids(ids)
        if ids and not self.records:
            raise CollectionEmpty("DocDB", f"{self.name} says that it has none")


@pytest.fixture(params=[(V1, V2), (V2, V1)], ids=["v1 first", "v2 first"])
def two(request: pytest.FixtureRequest) -> tuple[_Source, ...]:
    """Two collections in either order, of ten records each."""
    both = tuple(_Source(name=name) for name in request.param)
    for source in both:
        first = 0 if source.name == V1 else 100
        source.put(*(record(first + number, last_modified=_at(number)) for number in range(10)))
    return both


def _named(two: Sequence[_Source], name: str) -> _Source:
    return next(source for source in two if source.name == name)


def _run(engine: Engine, two: Sequence[_Source], mode: Mode = "auto", **options: Any) -> list[IngestResult]:
    options = {"guard": ANY} | options
    return [result for source in two for _, result in update(engine, source, mode, sources=two, batch=4, **options)]


def _written(results: list[IngestResult]) -> int:
    return sum(result.written for result in results)


def _state(engine: Engine) -> list[tuple[str, str, str]]:
    """What stands, of records and of findings."""
    queries = (
        "SELECT record_version || '/' || id, source, content_hash FROM docdb.records",
        "SELECT code, key, field FROM docdb.findings WHERE resolved_at IS NULL",
    )
    with engine.connect() as connection:
        return sorted(tuple(row) for query in queries for row in connection.execute(text(query)))


def _claims(engine: Engine) -> set[tuple[str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT key, scope FROM docdb.findings WHERE code = 'held_twice' AND resolved_at IS NULL")
        )
        return {(key, scope) for key, scope in rows}


def _gaps(engine: Engine) -> int:
    """How many versions of a record begin later than the one before ended."""
    query = """
        SELECT count(*) FROM (SELECT valid_from, lag(valid_to) OVER (PARTITION BY record_version, id
        ORDER BY valid_from) AS before FROM docdb.record_versions) AS versions WHERE valid_from > before
    """
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


@pytest.mark.parametrize("mode", ["auto", "manifest", "full"])
def test_a_record_that_its_other_source_had_all_along_is_never_gone(
    engine: Engine, two: tuple[_Source, ...], mode: Mode
) -> None:
    one, other = _named(two, V1), _named(two, V2)
    _run(engine, two)
    before = _state(engine)
    key = "v1/id-000003"
    original = one.records["id-000003"]
    other.put(original | {"last_modified": _at(30), "note": "copied"})
    assert _written(_run(engine, two, mode)) == 1
    assert _claims(engine) == {(key, V1)}, "the run that takes it over says that the other has it too"
    state = _state(engine)
    assert _written(_run(engine, two, mode)) == 0
    assert _state(engine) == state
    del other.records["id-000003"]
    assert [result.vanished for result in _run(engine, two, mode)] == [0] * (4 if mode == "auto" else 2)
    assert _state(engine) == before
    assert as_of(engine, clock(engine))["v1", "id-000003"] == original
    assert _written(_run(engine, two, mode)) == 0
    assert _gaps(engine) == 0
    check_history(engine)


def test_a_tick_says_at_once_that_a_record_is_held_twice_and_not_when_it_moved(
    engine: Engine, two: tuple[_Source, ...]
) -> None:
    one, other = _named(two, V1), _named(two, V2)
    _run(engine, two)
    other.put(one.records["id-000003"] | {"last_modified": _at(30)})
    other.put(one.records.pop("id-000004") | {"last_modified": _at(30)})
    assert _written(_run(engine, two, "tick")) == 2
    assert _claims(engine) == {("v1/id-000003", V1)}
    state = _state(engine)
    _run(engine, two, "manifest")
    assert _state(engine) == state
    assert _gaps(engine) == 0


def test_one_that_is_set_back_or_upgraded_leaves_the_others_to_be_mirrored(
    engine: Engine, two: tuple[_Source, ...]
) -> None:
    one, other = _named(two, V1), _named(two, V2)
    _run(engine, two)
    for number in (8, 9):
        other.put(record(number, last_modified=_at(30), note="copied"))
    _run(engine, two, "tick")
    assert _claims(engine) == {("v1/id-000008", V1), ("v1/id-000009", V1)}
    other.put(record(8, last_modified=_at(7.5), note="set back"))
    other.put(record(9, last_modified=_at(31), note="upgraded", object_type="Metadata"))
    _run(engine, two, "manifest")
    now = as_of(engine, clock(engine))
    assert now["v1", "id-000008"] == one.records["id-000008"]
    assert now["v1", "id-000009"] == one.records["id-000009"]
    assert now["v2", "id-000009"] == other.records["id-000009"]
    assert _claims(engine) == {("v1/id-000008", V2)}
    assert _written(_run(engine, two)) == 0
    assert _gaps(engine) == 0
    check_history(engine)


def test_a_large_loss_is_held_though_another_source_has_it_and_handed_over_once_confirmed(
    engine: Engine, two: tuple[_Source, ...]
) -> None:
    one, other = _named(two, V1), _named(two, V2)
    for number in range(200, 240):
        one.put(record(number, last_modified=_at(1), note="old"))
        other.put(record(number, last_modified=_at(20), note="new"))
    _run(engine, two)
    lost = [f"id-{number:06d}" for number in range(200, 240)]
    copies = [other.records.pop(identity) for identity in lost]
    del one.records["id-000239"]
    with pytest.raises(PassRefused, match="no longer has 40 of the 50"):
        _run(engine, (other, one), "manifest", guard=DeletionGuard())
    assert held(engine) == set(lost)
    now = as_of(engine, clock(engine))
    assert [now["v1", copied["_id"]] for copied in copies] == copies
    _run(engine, (other, one), "manifest", guard=DeletionGuard(), confirm_deletions=True)
    assert held(engine) == set()
    assert as_of(engine, clock(engine)) == one.snapshot() | other.snapshot()
    assert _claims(engine) == set()
    check_history(engine)


def test_an_outage_of_the_other_source_removes_nothing_that_it_may_hold(
    engine: Engine, two: tuple[_Source, ...]
) -> None:
    one, other = _named(two, V1), _named(two, V2)
    other.put(record(3, last_modified=_at(30)))
    _run(engine, two)
    before = _state(engine)
    del other.records["id-000003"]
    one.down = True
    with pytest.raises(ServiceUnavailable):
        update(engine, other, "manifest", sources=two)
    assert _state(engine) == before
    one.down, whole = False, one.records
    one.records = {}
    update(engine, other, "manifest", sources=two)
    assert _state(engine) == before, "nor does one that says it is empty"
    one.records = whole
    _run(engine, two, "manifest")
    assert as_of(engine, clock(engine)) == one.snapshot() | other.snapshot()
    assert _gaps(engine) == 0


def _move(rng: random.Random, two: Sequence[_Source], minute: int) -> None:
    """One thing that happens to a record of one source or of both."""
    one, other = rng.sample(list(two), 2)
    identity = f"id-{rng.choice([rng.randrange(10), 100 + rng.randrange(10), 200 + rng.randrange(4)]):06d}"
    mine = copy.deepcopy(one.records.get(identity)) or record(int(identity[3:]))
    kind = rng.choice(["edit", "edit", "delete", "copy", "copy", "copy as it is", "move", "move as it is", "set back"])
    time = rng.uniform(0, minute) if kind == "set back" else minute + rng.random()
    location = rng.choice([mine["location"], "s3://aind-open-data/shared", None])
    edited = mine | {"last_modified": _at(time), "note": rng.random(), "location": location}
    if rng.random() < 0.2:
        edited |= {"object_type": "Metadata"}
    if kind in ("delete", "move", "move as it is"):
        if identity not in one.records or len(one.records) < 4:
            return
        del one.records[identity]
    if kind in ("copy", "move"):
        other.put(edited)
    elif kind in ("copy as it is", "move as it is"):
        other.put(mine)
    elif kind != "delete":
        one.put(edited)


def _expected(two: Sequence[_Source], mirrored: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """The union by identity, of two the later modified; of two of one time whichever is mirrored."""
    (first, second) = (source.snapshot() for source in two)
    union = first | second
    for identity in first.keys() & second.keys():
        times = [datetime.fromisoformat(each[identity]["last_modified"]) for each in (first, second)]
        if times[0] > times[1] or (times[0] == times[1] and mirrored.get(identity) == first[identity]):
            union[identity] = first[identity]
    return union


class _Killed(BaseException):
    """In the place of SIGKILL: nothing catches it."""


def _dying(rng: random.Random, source: _Source) -> None:
    """Let the source end the run at some item, once."""
    give, left = source._give, [rng.randrange(30)]

    def giving(records: Sequence[dict[str, Any]], light: bool = False) -> Any:
        for item in give(records, light):
            left[0] -= 1
            if left[0] < 0:
                raise _Killed
            yield item

    source._give = giving  # type: ignore[method-assign]


@pytest.mark.parametrize("attempt", range(examples(3)))
def test_whatever_moves_between_runs_the_mirror_is_the_union_and_a_second_run_has_nothing_to_say(
    engine: Engine, two: tuple[_Source, ...], attempt: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, attempt {attempt}")
    rng = random.Random(seed)
    _run(engine, two)
    for step in range(1, 9):
        for _ in range(rng.randrange(1, 7)):
            _move(rng, two, 20 * step)
        if rng.random() < 0.5:
            _run(engine, rng.sample(two, 2), "tick")
            check_history(engine)
        if rng.random() < 0.4:
            dying = rng.choice(two)
            _dying(rng, dying)
            try:
                _run(engine, two, rng.choice(["auto", "full", "tick", "manifest"]))
            except _Killed:
                check_history(engine)
            del dying._give  # type: ignore[attr-defined]
        order = rng.sample(two, 2)
        _run(engine, order, rng.choice(["auto", "full", "manifest"]), reconcile_passes=1)
        now = as_of(engine, clock(engine))
        assert now == _expected(two, now), f"step {step}"
        check_history(engine)
        both = two[0].snapshot().keys() & two[1].snapshot().keys()
        assert {key for key, _ in _claims(engine)} == {"/".join(identity) for identity in both}
        state = _state(engine)
        again = _run(engine, rng.sample(two, 2), rng.choice(["auto", "full", "manifest", "tick"]), reconcile_passes=1)
        assert _written(again) == 0, f"step {step}"
        assert _state(engine) == state, f"step {step}"
