"""Fetching what the metadata-service says about subjects, into a real Postgres."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, insert, select, text

from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines.clients.metadata_service import AindMetadataServiceClient
from aind_pipelines.mirror.metadata_service import FetchResult, answer_findings, fetch_subjects
from aind_pipelines.records.subjects import SubjectFields
from aind_pipelines.tables.schema import metadata_service_answers, metadata_service_findings, subjects
from aind_pipelines_tests.services.processes import accepts, free_port, module, wait_for

RECORDED = SubjectFields("Female", date(2024, 3, 14), "wt/wt", "Mus musculus")
MODEL = {
    "schema_version": "1.0.2",
    "subject_id": "700001",
    "sex": "Female",
    "date_of_birth": "2024-03-14",
    "genotype": "wt/wt",
    "species": {"name": "Mus musculus"},
}


@dataclass
class _Answer:
    status: int
    message: str | None
    data: Any


@dataclass
class _Service:
    """A metadata-service in memory that can be put out of order."""

    answers: dict[str, _Answer] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def ask(self, endpoint: str, key: str) -> _Answer:
        assert endpoint == "subject"
        self.asked.append(key)
        if key in self.down:
            raise ServiceUnavailable("metadata-service", f"no answer about subject {key}")
        return self.answers.get(key, _Answer(404, "No Data Found.", None))


def _record_subjects(engine: Engine, *subject_ids: str) -> None:
    with engine.begin() as connection:
        for subject_id in subject_ids:
            connection.execute(
                insert(subjects).values(
                    subject_id=subject_id,
                    asset_count=1,
                    sex=RECORDED.sex,
                    date_of_birth=RECORDED.date_of_birth,
                    genotype=RECORDED.genotype,
                    species=RECORDED.species,
                )
            )


def _fetch(engine: Engine, service: _Service, ids: list[str], **options: Any) -> FetchResult:
    options = {"requests_per_second": 10_000, "max_age": timedelta(days=7)} | options
    return fetch_subjects(engine, service, ids, **options)


def _standing(engine: Engine) -> set[tuple[str, str]]:
    table = metadata_service_findings.c
    with engine.connect() as connection:
        found = connection.execute(select(table.code, table.key).where(table.resolved_at.is_(None)))
        return {(code, key) for code, key in found}


def _stored(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row["key"]: row for row in connection.execute(select(metadata_service_answers)).mappings()}


def test_every_answer_is_stored_with_its_status(engine: Engine) -> None:
    _record_subjects(engine, "1", "2", "3", "4")
    service = _Service(
        {
            "1": _Answer(200, "Valid Model.", MODEL),
            "2": _Answer(406, "Validation Errors: sex", MODEL | {"sex": None}),
            "3": _Answer(300, "There were multiple models.", [MODEL, MODEL]),
        }
    )
    result = _fetch(engine, service, ["1", "2", "3", "4", "1"], run_id="run-1")
    assert (result.asked, result.fresh) == (4, 0)
    assert result.by_status == {200: 1, 406: 1, 300: 1, 404: 1}
    assert result.findings_by_code == {"subject_invalid": 1, "subject_ambiguous": 1, "subject_unknown": 1}
    assert _standing(engine) == {("subject_invalid", "2"), ("subject_ambiguous", "3"), ("subject_unknown", "4")}
    stored = _stored(engine)
    assert (stored["1"]["status"], stored["1"]["data"], stored["1"]["run_id"]) == (200, MODEL, "run-1")
    assert (stored["4"]["status"], stored["4"]["message"], stored["4"]["data"]) == (404, "No Data Found.", None)


def test_disagreements_with_the_records_are_findings_until_they_end(engine: Engine) -> None:
    _record_subjects(engine, "1", "2", "3")
    different = {"genotype": "Sst-IRES-Cre/wt", "sex": "Male", "date_of_birth": "2024-03-15"}
    service = _Service(
        {
            "1": _Answer(200, None, MODEL | different),
            "2": _Answer(200, None, {"subject_id": "2", "subject_details": MODEL | {"genotype": "Sst-IRES-Cre/wt"}}),
            "3": _Answer(200, None, MODEL | {"genotype": None, "sex": None}),
        }
    )
    assert _fetch(engine, service, ["1", "2", "3"]).findings_by_code == {
        "genotype_differs": 2,
        "sex_differs": 1,
        "date_of_birth_differs": 1,
    }
    service.answers["1"] = _Answer(200, None, MODEL)
    again = _fetch(engine, service, ["1", "2", "3"], max_age=timedelta(0))
    assert again.findings_by_code == {"genotype_differs": 1}
    assert _standing(engine) == {("genotype_differs", "2")}


def test_a_young_answer_is_not_asked_for_again_but_still_compared(engine: Engine) -> None:
    _record_subjects(engine, "1", "2")
    service = _Service({"1": _Answer(200, None, MODEL), "2": _Answer(200, None, MODEL)})
    _fetch(engine, service, ["1", "2"])
    with engine.begin() as connection:
        connection.execute(text("UPDATE public.subjects SET sex = 'Male' WHERE subject_id = '1'"))
        old = "UPDATE metadata_service.answers SET fetched_at = now() - interval '8 days' WHERE key = '2'"
        connection.execute(text(old))
    service.asked.clear()
    result = _fetch(engine, service, ["1", "2"])
    assert (service.asked, result.asked, result.fresh) == (["2"], 1, 1)
    assert result.by_status == {200: 2}
    assert result.findings_by_code == {"sex_differs": 1}


def test_where_all_answers_are_young_the_oldest_is_asked_for_and_an_outage_shows(engine: Engine) -> None:
    _record_subjects(engine, "1", "2")
    service = _Service({"1": _Answer(200, None, MODEL)})
    assert _fetch(engine, service, ["1", "2"]).changed == 2
    service.asked.clear()
    for subject_id in ("1", "2", "1"):
        result = _fetch(engine, service, ["1", "2"])
        assert (result.asked, result.changed, result.fresh, service.asked.pop()) == (1, 0, 1, subject_id)
    service.down.update({"1", "2"})
    with pytest.raises(ServiceUnavailable, match="subject 2"):
        _fetch(engine, service, ["1", "2"])
    assert _fetch(engine, service, []).asked == 0


@pytest.mark.parametrize(
    "answer",
    [_Answer(200, None, MODEL | {"sex": "Male"}), _Answer(406, None, MODEL), _Answer(200, "Valid.", MODEL)],
)
def test_an_answer_that_differs_in_anything_is_a_change(engine: Engine, answer: _Answer) -> None:
    _fetch(engine, _Service({"1": _Answer(200, None, MODEL)}), ["1"])
    service = _Service({"1": answer})
    assert _fetch(engine, service, ["1"]).changed == 1
    assert _fetch(engine, service, ["1"]).changed == 0


def test_an_outage_propagates_after_the_answers_got_are_stored_and_the_next_run_goes_on(engine: Engine) -> None:
    ids = [str(number) for number in range(10)]
    _record_subjects(engine, *ids)
    service = _Service({subject_id: _Answer(200, None, MODEL) for subject_id in ids}, down={"6"})
    with pytest.raises(ServiceUnavailable, match="subject 6"):
        _fetch(engine, service, ids)
    assert set(_stored(engine)) == set(ids[:6])
    service.down.clear()
    service.asked.clear()
    result = _fetch(engine, service, ids)
    assert (result.asked, result.fresh, service.asked) == (4, 6, ids[6:])


def test_an_outage_leaves_the_findings_that_stand(engine: Engine) -> None:
    _record_subjects(engine, "1")
    service = _Service()
    _fetch(engine, service, ["1"])
    service.down.add("1")
    with pytest.raises(ServiceUnavailable):
        _fetch(engine, service, ["1"], max_age=timedelta(0))
    assert _standing(engine) == {("subject_unknown", "1")}
    assert _stored(engine)["1"]["status"] == 404


def test_findings_about_subjects_outside_this_fetch_stand_until_no_record_names_them(engine: Engine) -> None:
    _record_subjects(engine, "1", "2")
    _fetch(engine, _Service(), ["1", "2"])
    service = _Service({"1": _Answer(200, None, MODEL)})
    _fetch(engine, service, ["1"], max_age=timedelta(0))
    assert _standing(engine) == {("subject_unknown", "2")}
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM public.subjects WHERE subject_id = '2'"))
    _fetch(engine, service, ["1"])
    assert _standing(engine) == set()


def test_requests_are_spaced_and_progress_is_told(engine: Engine) -> None:
    ids = [str(number) for number in range(6)]
    progress: list[tuple[int, int]] = []
    started = time.monotonic()
    _fetch(engine, _Service(), ids, requests_per_second=20, on_progress=lambda *step: progress.append(step))
    assert time.monotonic() - started >= 5 / 20
    assert progress == [(number, 6) for number in range(1, 7)]
    with pytest.raises(ValueError, match="requests_per_second"):
        _fetch(engine, _Service(), ids, requests_per_second=0)


def test_an_answer_that_jsonb_cannot_hold_is_stored_all_the_same(engine: Engine) -> None:
    _record_subjects(engine, "1")
    service = _Service({"1": _Answer(200, "a\x00b", MODEL | {"notes": "c\x00d", "weight": float("nan")})})
    _fetch(engine, service, ["1"])
    stored = _stored(engine)["1"]
    assert (stored["message"], stored["data"]["notes"], stored["data"]["weight"]) == ("a\ufffdb", "c\ufffdd", "NaN")


@pytest.mark.parametrize(
    ("status", "data", "codes"),
    [
        (200, MODEL, []),
        (207, MODEL, []),
        (404, None, ["subject_unknown"]),
        (300, [MODEL], ["subject_ambiguous"]),
        (406, MODEL | {"sex": "Male"}, ["subject_invalid", "sex_differs"]),
        (400, MODEL, ["subject_invalid"]),
        (406, None, ["subject_unknown"]),
        (418, None, ["subject_status_unknown"]),
        (
            200,
            MODEL | {"sex": ["Female"], "date_of_birth": "spring"},
            ["date_of_birth_unreadable", "field_unreadable"],
        ),
    ],
)
def test_each_status_has_its_meaning(status: int, data: object, codes: list[str]) -> None:
    found = [finding.code for finding in answer_findings("700001", status, None, data, RECORDED)]
    assert sorted(found) == sorted(codes)


def test_what_the_records_do_not_say_is_no_disagreement() -> None:
    assert answer_findings("700001", 200, None, MODEL, SubjectFields()) == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_real_client_and_service_of_either_generation_are_understood(
    engine: Engine, tmp_path: Path, version: Literal["v1", "v2"]
) -> None:
    _record_subjects(engine, "700001", "700002", "700003", "700004")
    models = {
        "700001": [MODEL],
        "700002": [MODEL | {"subject_id": "700002", "genotype": "Sst-IRES-Cre/wt"}],
        "700003": [MODEL | {"subject_id": "700003", "source": None}],
    }
    invalid = {"subjects": {"700003": "Validation Errors: 1 validation error for Subject"}}
    tables = tmp_path / "tables.json"
    tables.write_text(json.dumps({"subjects": models, "invalid": invalid}))
    port = free_port()
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--tables", str(tables)]
    with (
        module("aind_pipelines.services.metadata_service", *arguments) as child,
        AindMetadataServiceClient(f"http://127.0.0.1:{port}", version=version) as client,
    ):
        wait_for(lambda: accepts(port), "the start of the metadata-service", child)
        ids = ["700001", "700002", "700003", "700004"]
        result = fetch_subjects(engine, client, ids, requests_per_second=1000, max_age=timedelta(days=1))
    assert result.asked == 4
    assert _standing(engine) == {
        ("genotype_differs", "700002"),
        ("subject_invalid", "700003"),
        ("subject_unknown", "700004"),
    }
    assert _stored(engine)["700001"]["status"] == 200
