"""The direct client: through a real bastion to a real DocDB, and back again when either goes away."""

import threading
import time
import traceback
from typing import Any

import pytest
from pymongo import MongoClient

from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials
from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable
from aind_pipelines.settings import SettingsError
from aind_pipelines_tests.clients.servers import DEAD_PORT, AwsServer, Bastion, DocDBServer, free_port

Mongo = MongoClient[dict[str, Any]]


def _credentials(docdb: DocDBServer, bastion: Bastion, **changes: Any) -> DocumentDbSSHCredentials:
    options: dict[str, Any] = {
        "host": "127.0.0.1", "port": docdb.port, "username": docdb.username, "password": docdb.password,
        "ssh_host": "127.0.0.1", "ssh_port": bastion.port, "ssh_username": bastion.username,
        "ssh_password": bastion.password,
    }  # fmt: skip
    return DocumentDbSSHCredentials(**(options | changes))


def _fill(mongo: Mongo, number: int) -> list[str]:
    ids = [f"id-{place:04d}" for place in range(number)]
    mongo.metadata_index.data_assets.insert_many({"_id": name, "n": place} for place, name in enumerate(ids))
    return ids


def test_records_are_read_whole_with_filter_projection_and_resume(
    docdb: DocDBServer, bastion: Bastion, mongo: Mongo
) -> None:
    ids = _fill(mongo, 25)
    mongo.metadata_index.data_assets.insert_many([{"_id": 3, "n": -1}, {"n": -2}])
    with DocumentDbSSHClient(credentials=_credentials(docdb, bastion)) as client:
        assert sorted(record["n"] for record in client.iter_records(page_size=4)) == [-2, -1, *range(25)]
        assert list(client.iter_records({"n": {"$gte": 23}}, {"n": 1, "_id": 0})) == [{"n": 23}, {"n": 24}]
        assert [r["_id"] for r in client.iter_records({"n": {"$gte": 0}}, after_id=ids[20])] == ids[21:]
        assert client.count({"n": {"$lt": 10, "$gte": 0}}) == 10
        assert client.collection.count_documents({}) == 27


def test_a_key_two_clients_at_once_and_another_collection(docdb: DocDBServer, bastion: Bastion, mongo: Mongo) -> None:
    _fill(mongo, 2)
    mongo.metadata_index_v2.data_assets.insert_one({"_id": "two"})
    by_key = _credentials(docdb, bastion, ssh_password=None, ssh_key_file=bastion.key_file)
    first = DocumentDbSSHClient(credentials=by_key)
    second = DocumentDbSSHClient(credentials=by_key, database="metadata_index_v2")
    with first, second:
        assert first.count() == 2
        assert [record["_id"] for record in second.iter_records()] == ["two"]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_the_options_of_the_published_connection_table_connect(
    docdb: DocDBServer, bastion: Bastion, mongo: Mongo, mechanism: Any
) -> None:
    _fill(mongo, 3)
    client = DocumentDbSSHClient(
        credentials=_credentials(docdb, bastion), replica_set="rs0", read_preference="secondaryPreferred",
        auth_mechanism=mechanism,
    )  # fmt: skip
    with client:
        assert client.count() == 3
        assert client.client.options.read_preference.name == "SecondaryPreferred"


def test_another_replica_set_or_tls_that_is_not_spoken_is_the_databases_failure(
    docdb: DocDBServer, bastion: Bastion
) -> None:
    login = _credentials(docdb, bastion)
    for options in ({"replica_set": "other"}, {"tls": True}):
        with pytest.raises(ServiceUnavailable, match="the database failed: the tunnel stands"):
            DocumentDbSSHClient(credentials=login, server_selection_timeout=0.5, **options).start()  # type: ignore[arg-type]
    with pytest.raises(ServiceError, match=r"ca\.pem"):
        DocumentDbSSHClient(credentials=login, tls=True, ca_file="/absent/ca.pem").start()


def test_each_hop_that_fails_is_named_and_no_secret_is(docdb: DocDBServer, bastion: Bastion) -> None:
    cases: list[tuple[dict[str, Any], type[ServiceError], str]] = [
        ({"ssh_port": free_port()}, ServiceUnavailable, "the bastion .* cannot be reached"),
        ({"ssh_password": "canary-wrong"}, AccessRefused, "login at the bastion"),
        ({"port": free_port()}, AccessRefused, "tunnel failed"),
        ({"port": DEAD_PORT}, ServiceUnavailable, "tunnel failed"),
        ({"password": "canary-wrong"}, AccessRefused, "the authentication failed"),
    ]
    for changes, kind, said in cases:
        client = DocumentDbSSHClient(credentials=_credentials(docdb, bastion, **changes))
        with pytest.raises(kind, match=said) as raised:
            client.start()
        shown = "".join(traceback.format_exception(raised.value)) + repr(client) + repr(client.credentials)
        assert "canary" not in shown
        with pytest.raises(ServiceError, match="not connected"):
            _ = client.collection


def test_a_failed_login_at_the_database_closes_the_tunnel(docdb: DocDBServer, bastion: Bastion) -> None:
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(AccessRefused):
            DocumentDbSSHClient(credentials=_credentials(docdb, bastion, password="wrong")).start()
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_a_pass_goes_on_where_it_was_when_the_bastion_comes_back(
    docdb: DocDBServer, bastion: Bastion, mongo: Mongo
) -> None:
    ids = _fill(mongo, 60)
    read = []
    with DocumentDbSSHClient(credentials=_credentials(docdb, bastion), server_selection_timeout=1) as client:
        for record in client.iter_records(page_size=10):
            read.append(record["_id"])
            if len(read) == 15:
                bastion.kill()
                threading.Timer(0.8, bastion.start).start()
    assert read == ids


def test_a_bastion_that_stays_away_ends_the_pass_with_its_name(
    docdb: DocDBServer, bastion: Bastion, mongo: Mongo
) -> None:
    _fill(mongo, 30)
    login = _credentials(docdb, bastion)
    with DocumentDbSSHClient(credentials=login, server_selection_timeout=0.5, heal_seconds=1) as client:
        records = client.iter_records(page_size=10)
        next(records)
        bastion.kill()
        with pytest.raises(ServiceUnavailable, match="bastion"):
            list(records)


def test_a_bad_query_is_refused_at_once(docdb: DocDBServer, bastion: Bastion) -> None:
    with DocumentDbSSHClient(credentials=_credentials(docdb, bastion)) as client:
        started = time.monotonic()
        with pytest.raises(ServiceError, match="the database refused"):
            list(client.iter_records({"$nonsense": 1}))
        assert time.monotonic() - started < 5
        with pytest.raises(ValueError, match="page_size"):
            list(client.iter_records(page_size=0))


def test_credentials_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOC_DB_HOST", "h")
    monkeypatch.setenv("DOC_DB_PASSWORD", "canary")
    with pytest.raises(
        SettingsError, match="DOC_DB_USERNAME, DOC_DB_SSH_HOST, DOC_DB_SSH_USERNAME, DOC_DB_SSH_PASSWORD"
    ):
        DocumentDbSSHCredentials()
    with pytest.raises(SettingsError, match="DOC_DB_SSH_PORT"):
        DocumentDbSSHCredentials(username="u", ssh_host="h", ssh_username="u", ssh_key_file="k", ssh_port="many")


def test_environment_and_arguments_together_and_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "USERNAME", "PASSWORD", "SSH_HOST", "SSH_USERNAME", "SSH_PASSWORD"):
        monkeypatch.setenv(f"DOC_DB_{name}", f"canary-{name}")
    login = DocumentDbSSHCredentials(ssh_username="given")
    assert (login.port, login.ssh_port, login.database, login.collection) == (
        27017,
        22,
        "metadata_index",
        "data_assets",
    )
    assert (login.host, login.ssh_username) == ("canary-HOST", "given")
    assert login.password.get_secret_value() == "canary-PASSWORD"
    assert "canary-PASSWORD" not in repr(login)
    assert "canary-SSH_PASSWORD" not in repr(login)
    assert DocumentDbSSHCredentials(ssh_key_file="~/k").ssh_password is None


def test_a_secret_that_lacks_something_is_named(aws_environment: AwsServer) -> None:
    aws_environment.secret("direct/docdb", {"host": "h", "username": "u", "password": "canary"})
    aws_environment.secret("direct/ssh", {"host": "h", "password": "canary"})
    with pytest.raises(SettingsError, match="'direct/ssh' lacks username"):
        DocumentDbSSHCredentials.from_secrets_manager("direct/docdb", "direct/ssh")
