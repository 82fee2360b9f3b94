"""The two REST blocks of the published guide run as they are printed there, the second with its import line changed.

Their host name is made to lead to the lab's gateway, behind a TLS front on a free port.
"""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import MongoClient

from aind_pipelines_tests.clients.servers import Gateway

HOST = "api.allenneuraldynamics.org"
RAW = """
import json
import requests

URL = "https://api.allenneuraldynamics.org/v1/metadata_index/data_assets"
filter = {"subject.subject_id": "731015"}
limit = 500
response = requests.get(URL, params={"filter": json.dumps(filter), "limit": limit})
print(response.json())
"""
CLIENT = """
from aind_pipelines.clients.docdb import MetadataDbClient

API_GATEWAY_HOST = "api.allenneuraldynamics.org"
# Default database and collection names are set in the client
# To override the defaults, provide the database and collection
# parameters in the constructor

docdb_api_client = MetadataDbClient(
   host=API_GATEWAY_HOST,
)

filter = {"subject.subject_id": "731015"}
response = docdb_api_client.retrieve_docdb_records(
   filter_query=filter,
)
print(response)
"""
RECORDS = [
    {"_id": "a", "name": "n", "subject": {"subject_id": "731015"}},
    {"_id": "c", "name": "m", "subject": {"subject_id": "731015"}},
]


def _certificate(home: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    chain, private = home / "front.pem", home / "front.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other direction may have ended first
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _relay(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        context.wrap_socket(plain, server_side=True) as inside,
        socket.create_connection(("127.0.0.1", port)) as outside,
    ):
        back = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
        back.start()
        _pump(inside, outside)
        back.join()


def _serve(server: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(plain, context, port), daemon=True).start()


@pytest.fixture
def _published_host(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    chain, private = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(chain))
    look_up = socket.getaddrinfo
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def local(host: Any, service: Any, *arguments: Any, **options: Any) -> Any:
            return look_up(*(("127.0.0.1", port) if host == HOST else (host, service)), *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", local)
        threading.Thread(target=_serve, args=(server, context, gateway.port), daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("_published_host")
@pytest.mark.parametrize("block", [RAW, CLIENT], ids=["raw HTTP", "client"])
def test_the_block_prints_the_records_of_its_subject(
    block: str, mongo: MongoClient[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    mongo.metadata_index.data_assets.insert_many([*RECORDS, {"_id": "b", "subject": {"subject_id": "775745"}}])
    exec(compile(block, "guide", "exec"), {})
    assert capsys.readouterr().out == f"{RECORDS}\n"
