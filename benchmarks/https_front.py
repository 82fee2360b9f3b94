"""TLS in front of a plain HTTP service of the lab: the published DocDB client knows nothing but https."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.front import Traffic, front


@contextmanager
def https_front(url: str, folder: Path, traffic: Traffic | None = None) -> Iterator[tuple[int, Path]]:
    """Terminate TLS for ``https://localhost:<port>``; gives the port and the certificate to trust."""
    context, trusted = tls(folder)
    with front(url, traffic, wrapped=lambda plain: context.wrap_socket(plain, server_side=True)) as port:
        yield port, trusted


def tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server for ``localhost`` needs, and the certificate to trust; both are kept in `folder`."""
    trusted, private = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted


def _certificate(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "front.pem", folder / "front.key"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return trusted, private
