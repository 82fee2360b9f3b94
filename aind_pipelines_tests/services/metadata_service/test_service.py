"""The service as a process, asked by our client and by the published snippets, in both generations."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from aind_pipelines.clients.errors import ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.http import build_session
from aind_pipelines.clients.metadata_service import AindMetadataServiceClient
from aind_pipelines_tests.services.processes import answers, free_port, module, wait_for

SERVICE = "aind_pipelines.services.metadata_service"
NCBI = {"name": "National Center for Biotechnology Information", "abbreviation": "NCBI"}
ROR = {"name": "Research Organization Registry", "abbreviation": "ROR"}
INSTITUTE = {"name": "Allen Institute", "abbreviation": "AI", "registry": ROR, "registry_identifier": "03cpe7c52"}


def subject(key: str) -> dict[str, Any]:
    """In the recorded shape of v1."""
    return {
        "describedBy": "https://raw.githubusercontent.com/AllenNeuralDynamics/aind-data-schema/main/subject.py",
        "schema_version": "1.0.2",
        "subject_id": key,
        "sex": "Female",
        "date_of_birth": "2022-05-01",
        "genotype": "Adora2a-Cre/wt",
        "species": {"name": "Mus musculus", "registry": NCBI, "registry_identifier": "NCBI:txid10090"},
        "alleles": [],
        "background_strain": None,
        "breeding_info": {
            "breeding_group": "Adora2a-Cre",
            "maternal_id": "107392",
            "maternal_genotype": "C57BL6J_NP",
            "paternal_id": "107384",
            "paternal_genotype": "Adora2a-Cre/wt",
        },
        "source": INSTITUTE,
        "rrid": None,
        "restrictions": None,
        "wellness_reports": [],
        "housing": None,
        "notes": None,
    }


SUBJECT_V2 = {
    "object_type": "Subject",
    "describedBy": subject("775745")["describedBy"],
    "schema_version": "2.3.1",
    "subject_id": "775745",
    "subject_details": {
        "object_type": "Mouse subject",
        "sex": "Female",
        "date_of_birth": "2022-05-01",
        "strain": {"name": "Unknown", "species": "Mus musculus", "registry": None, "registry_identifier": None},
        "species": {
            "name": "Mus musculus",
            "common_name": "House mouse",
            "registry": "National Center for Biotechnology Information (NCBI)",
            "registry_identifier": "NCBI:txid10090",
        },
        "alleles": [],
        "genotype": "Adora2a-Cre/wt",
        "breeding_info": {"object_type": "Breeding info", **subject("1")["breeding_info"]},
        "wellness_reports": [],
        "housing": None,
        "source": {**INSTITUTE, "registry": "Research Organization Registry (ROR)"},
        "restrictions": None,
        "rrid": None,
    },
    "notes": None,
}

FUNDING = {"funder": INSTITUTE, "grant_number": None, "fundee": "A B, C D", "investigators": "E F"}
MEASUREMENT = {"fiber_name": "Fiber_0", "intended_measurement_R": "acetylcholine"}
RUNS = [
    {
        "experiment_run_created_on": f"2023-{month:02}-15T23:30:00-08:00",
        "subject_id": "775745",
        "session_name": f"s{month}",
    }
    for month in (1, 6, 12)
]
TABLES: dict[str, Any] = {
    "subjects": {
        "775745": [subject("775745")],
        "2": [subject("2"), subject("2")],
        "3": [subject("3") | {"sex": None}],
    },
    "procedures": {"775745": [{"subject_id": "775745", "subject_procedures": []}]},
    "intended_measurements": {"775745": [MEASUREMENT, MEASUREMENT]},
    "injection_materials": {"VT3214G": [{"material_type": "Virus", "name": "rAAV-MGT_789"}]},
    "protocols": {"Protocol-123": [{"protocol_name": "Protocol-123"}], "A/B ?": [{"protocol_name": "A/B ?"}]},
    "mgi_alleles": {"Pvalb": [{"name": "Pvalb"}]},
    "perfusions": {"775745": [{"procedure_type": "Surgery"}]},
    "funding": {"Project-ABC": [FUNDING], "P - S1": [FUNDING]},
    "project_names": ["P - S1", "Project-ABC"],
    "ecephys_sessions": RUNS,
    "smartspim_imaging": RUNS,
    "histology": RUNS,
    "water_restriction": [],
    "instruments": {
        "440_SmartSPIM1": [{"instrument_id": "440_SmartSPIM1"}],
        "441_SmartSPIM1": [{"instrument_id": "441"}],
    },
    "rigs": {"323_EPHYS1": [{"rig_id": "323_EPHYS1"}]},
    "invalid": {"subjects": {"3": "1 validation error for Subject\nsex\n  Input should be 'Female' or 'Male' é"}},
}


class Running:
    def __init__(self, port: int, tables: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.tables = tables
        session = build_session(retries=1, backoff=0.01)
        self.v1 = AindMetadataServiceClient(self.url, session=session)
        self.v2 = AindMetadataServiceClient(self.url, session=session, version="v2")

    def hold(self, **changes: Any) -> None:
        staged = self.tables.with_suffix(".new")
        staged.write_text(json.dumps(TABLES | changes))
        staged.replace(self.tables)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=5)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port = free_port()
    tables = tmp_path_factory.mktemp("tables") / "metadata_service.json"
    with module(SERVICE, "--host", "127.0.0.1", "--port", str(port), "--tables", str(tables)) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/v2/healthcheck"), "the start", child)
        yield Running(port, tables)


@pytest.fixture
def service(process: Running) -> Running:
    process.hold()
    return process


def test_the_published_snippet_runs_with_its_import_changed(service: Running) -> None:
    client = AindMetadataServiceClient(domain=service.url)
    assert client.get_subject("775745").json()["data"]["genotype"] == "Adora2a-Cre/wt"
    assert client.get_procedures("775745").json()["message"] == "Valid Model."
    assert len(client.get_intended_measurements("775745").json()["data"]) == 2
    assert client.get_injection_materials("VT3214G").json()["data"]["name"] == "rAAV-MGT_789"
    assert len(client.get_ecephys_sessions("775745").json()["data"]) == 3
    assert client.get_perfusions("775745").json()["data"] == {"procedure_type": "Surgery"}
    assert client.get_protocols("Protocol-123").json()["data"] == {"protocol_name": "Protocol-123"}
    assert client.get_funding("Project-ABC").json()["data"] == FUNDING
    assert client.get_project_names().json() == {"message": "Success", "data": ["P - S1", "Project-ABC"]}
    imaging = client.get_smartspim_imaging(
        subject_id="775745", start_date_gte="2023-01-01", end_date_lte="2023-12-31"
    ).json()
    assert (imaging["message"], len(imaging["data"])) == ("Data from SLIMS", 3)
    assert len(client.get_histology(subject_id="775745").json()["data"]) == 3
    assert client.get_mgi_allele("Pvalb").status_code == 200
    assert client.get_rig("323_EPHYS1").json()["data"] == {"rig_id": "323_EPHYS1"}
    assert client.get_instrument("SmartSPIM1", partial_match=True).status_code == 300
    assert client.get_water_restriction("775745").status_code == 404
    assert client.get_viral_injections("775745").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "message", "data"),
    [
        ("/subject/775745", 200, "Valid Model.", subject("775745")),
        ("/subject/999999", 404, "No Data Found.", None),
        ("/subject/abc", 404, "No Data Found.", None),
        ("/subject/2", 300, "Multiple Items Found. All Models Valid.", [subject("2"), subject("2")]),
        ("/slims/smartspim_imaging?start_date_gte=zzz", 400, "zzz is not valid ISOFormat!", None),
        ("/slims/histology?subject_id=", 400, "subject_id cannot be an empty string!", None),
        ("/slims/histology?subject_id=1", 404, "No Data Found.", None),
        ("/protocols/A%2FB%20%3F", 200, "Valid Model.", {"protocol_name": "A/B ?"}),
        ("/instrument/440_SmartSPIM1", 200, "Valid Model.", {"instrument_id": "440_SmartSPIM1"}),
        ("/instrument/SmartSPIM1", 404, "No Data Found.", None),
    ],
)
def test_v1_answers_in_its_envelope(service: Running, path: str, status: int, message: str, data: Any) -> None:
    response = service.get(path)
    assert (response.status_code, response.json()) == (status, {"message": message, "data": data})


def test_data_that_fails_validation_is_there_in_both_generations(service: Running) -> None:
    one, two = service.v1.ask("subject", "3"), service.v2.ask("subject", "3")
    assert (one.status, one.data, one.valid) == (406, subject("3") | {"sex": None}, False)
    assert one.message.startswith("Validation Errors: 1 validation error for Subject")
    assert (two.status, two.data["subject_details"]["sex"], two.valid) == (400, None, False)
    assert json.loads(two.message)[0]["msg"].startswith("1 validation error for Subject\nsex")


def test_the_list_of_problems_in_the_header_is_bounded(service: Running) -> None:
    service.hold(invalid={"subjects": {"3": "long " * 2000}})
    assert "too many" in service.v2.ask("subject", "3").message


def test_v2_answers_with_the_model_in_its_own_shape(service: Running) -> None:
    assert service.v2.ask("subject", "775745").data == SUBJECT_V2
    assert service.get("/api/v2/healthcheck").json()["status"] == "OK"
    funding = service.v2.ask("funding", "P - S1").data
    assert funding[0]["funder"]["registry"] == "Research Organization Registry (ROR)"
    assert [person["name"] for person in funding[0]["fundee"]] == ["A B", "C D"]
    assert [person["name"] for person in service.v2.ask("investigators", "P - S1").data] == ["E F"]
    assert service.v2.ask("project_names").data == ["P - S1", "Project-ABC"]
    assert service.v2.ask("intended_measurements", "775745").data == [MEASUREMENT, MEASUREMENT]
    assert service.v2.ask("injection_materials", "VT3214G").data["name"] == "rAAV-MGT_789"
    assert service.v2.ask("instrument", "440_SmartSPIM1").data == [{"instrument_id": "440_SmartSPIM1"}]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/api/v2/subject/999", 404, {"detail": "Not found"}),
        ("/api/v2/subject/abc", 406, {"detail": "Subject ID abc is not valid. Please specify a numeric subject ID."}),
        ("/api/v2/subject/2", 500, {"detail": "Internal Server Error"}),
        (
            "/api/v2/funding/P",
            406,
            {
                "detail": "Project 'P' has subprojects. "
                "Please specify a subproject in the format: 'P - Subproject Name'"
            },
        ),
        ("/api/v2/funding/none", 404, {"detail": "Not found"}),
        ("/api/v2/slims/histology", 404, {"detail": "Not Found"}),
        ("/ecephys_sessions_by_subject/775745", 404, {"detail": "Not Found"}),
    ],
)
def test_v2_says_no_as_recorded(service: Running, path: str, status: int, body: Any) -> None:
    response = service.get(path)
    assert (response.status_code, response.json()) == (status, body)


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ("start_date_gte=2023-06-01", ["s6", "s12"]),
        ("end_date_lte=2023-01-16", ["s1"]),  # 15 January, 23:30 in Seattle, is the 16th in UTC
        ("start_date_gte=2023-01-16T07:30:00%2B00:00&end_date_lte=2023-06-16", ["s1", "s6"]),
        ("session_name=s6", ["s6"]),
    ],
)
def test_runs_are_found_between_two_dates(service: Running, parameters: str, found: list[str]) -> None:
    rows = service.get(f"/slims/ecephys_sessions?subject_id=775745&{parameters}").json()["data"]
    assert [row["session_name"] for row in rows] == found


def test_a_source_that_cannot_be_reached_is_a_503_never_a_404(service: Running) -> None:
    service.hold(outages=["subjects", "ecephys_sessions", "funding"])
    assert service.get("/subject/775745").json() == {"message": "Connection Error.", "data": None}
    for path in (
        "/subject/775745",
        "/subject/999",
        "/slims/ecephys_sessions",
        "/api/v2/subject/999",
        "/api/v2/funding/P",
    ):
        assert service.get(path).status_code == 503
    for client in (service.v1, service.v2):
        with pytest.raises(ServiceUnavailable, match="503"):
            client.ask("subject", "999")
    assert service.get("/procedures/775745").status_code == 200


@pytest.mark.parametrize(
    "content", ["{half", "[]", '{"subjects": []}', '{"subjects": {"1": {}}}', '{"project_names": {}}']
)
def test_tables_that_cannot_be_read_are_an_outage_until_they_are_mended(service: Running, content: str) -> None:
    service.tables.write_text(content)
    assert service.get("/subject/775745").status_code == 503
    assert service.get("/subject/775745").status_code == 503
    service.hold()
    assert service.get("/subject/775745").status_code == 200


def test_the_log_says_why_an_answer_is_a_503(tmp_path: Path) -> None:
    tables = tmp_path / "tables.json"
    tables.write_text('{"subjects": {"1": {"subject_id": "1"}}}')
    port = free_port()
    with module(SERVICE, "--port", str(port), "--tables", str(tables)) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/v2/healthcheck"), "the start", child)
        for path in ("subject/1", "api/v2/subject/1"):
            assert answers(f"http://127.0.0.1:{port}/{path}")
        child.terminate()
        _, log = child.communicate(timeout=10)
    assert log.count(f"{tables}: subjects must map keys to lists of models") == 2


def test_missing_tables_are_empty_and_new_ones_are_heard(service: Running) -> None:
    service.tables.unlink()
    assert service.get("/subject/775745").status_code == 404
    assert service.get("/project_names").json()["data"] == []
    service.hold(subjects={"5": [subject("5")]})
    assert service.v1.ask("subject", "5").found


def test_a_failure_of_its_own_is_a_500_in_the_words_of_its_generation(service: Running) -> None:
    service.hold(
        ecephys_sessions=["not an object"], funding={"x": [{"investigators": "E F", "funder": 1}]}, invalid=[]
    )
    assert service.get("/slims/ecephys_sessions?subject_id=1").json() == {
        "message": "Internal Server Error.",
        "data": None,
    }
    assert service.get("/api/v2/subject/775745").json() == {"detail": "Internal Server Error"}
    assert {service.get(path).status_code for path in ("/subject/775745", "/api/v2/subject/775745")} == {500}


def test_an_endpoint_of_another_generation_is_named(service: Running) -> None:
    assert service.v2.ask("ecephys_sessions", "775745").status == 200  # unprefixed paths answer beside v2
    with pytest.raises(ValueError, match="no endpoint 'investigators'"):
        service.v1.ask("investigators", "P")
    elsewhere = AindMetadataServiceClient(f"{service.url}/docs", session=build_session(retries=0))
    with pytest.raises(UnexpectedAnswer, match="offer this path"):
        elsewhere.ask("subject", "1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with module(SERVICE, "--port", str(port), "--tables", str(tmp_path / "none.json")) as child:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/v2/healthcheck"), "the start", child)
        child.send_signal(number)
        assert child.wait(timeout=2) == 0
