"""SCRAM-SHA-1 and SCRAM-SHA-256 in MongoDB's form (RFC 5802, RFC 7677, its authentication specification)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from pymongo.saslprep import saslprep

from aind_pipelines.lab.docdb.errors import AUTHENTICATION_FAILED, CommandError

DIGESTS = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
_ITERATIONS = {"SCRAM-SHA-1": 10_000, "SCRAM-SHA-256": 15_000}
_SALT_BYTES = {"SCRAM-SHA-1": 16, "SCRAM-SHA-256": 28}


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """What a server keeps to check a password by one mechanism; the password cannot be read from it."""

    mechanism: str
    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def document(self) -> dict[str, Any]:
        """The form in which it is stored."""
        return {
            "mechanism": self.mechanism,
            "salt": self.salt,
            "iterations": self.iterations,
            "stored_key": self.stored_key,
            "server_key": self.server_key,
        }


def _salted(mechanism: str, username: str, password: str, salt: bytes, iterations: int) -> bytes:
    digest = DIGESTS[mechanism]
    if mechanism == "SCRAM-SHA-1":
        # MongoDB hashes the password this way before SCRAM-SHA-1; the wire format demands it.
        data = hashlib.md5(f"{username}:mongo:{password}".encode(), usedforsecurity=False).hexdigest().encode()
    else:
        data = str(saslprep(password)).encode()
    return hashlib.pbkdf2_hmac(digest, data, salt, iterations)


def _credential(mechanism: str, username: str, password: str, salt: bytes, iterations: int) -> Credential:
    digest = DIGESTS[mechanism]
    salted = _salted(mechanism, username, password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", digest)
    return Credential(
        mechanism=mechanism,
        salt=salt,
        iterations=iterations,
        stored_key=hashlib.new(digest, client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", digest),
    )


def credentials(username: str, password: str) -> dict[str, Credential]:
    """Fresh credentials of a user, one per mechanism."""
    return {
        mechanism: _credential(
            mechanism, username, password, secrets.token_bytes(_SALT_BYTES[mechanism]), _ITERATIONS[mechanism]
        )
        for mechanism in DIGESTS
    }


def matches(credential: Credential, username: str, password: str) -> bool:
    """Whether `password` is the one that `credential` was made from."""
    other = _credential(credential.mechanism, username, password, credential.salt, credential.iterations)
    return hmac.compare_digest(other.stored_key, credential.stored_key)


def failed() -> CommandError:
    """The one answer to every wrong user name, password or mechanism."""
    return CommandError(AUTHENTICATION_FAILED, "Authentication failed.")


def _attributes(message: str) -> dict[str, str]:
    attributes = dict(part.split("=", 1) for part in message.split(",") if "=" in part)
    if not attributes:
        raise failed()
    return attributes


class Conversation:
    """One SCRAM exchange on one connection.

    Args:
        mechanism: ``SCRAM-SHA-1`` or ``SCRAM-SHA-256``.
        first: The client's first message.
        users: Finds the credential of a user for a mechanism.
    """

    def __init__(self, mechanism: str, first: bytes, users: dict[str, dict[str, Credential]]) -> None:
        try:
            header, _, bare = first.decode().partition(",,")
        except UnicodeDecodeError:
            raise failed() from None
        if header not in ("n", "y") or mechanism not in DIGESTS:
            raise failed()
        attributes = _attributes(bare)
        if "n" not in attributes or not attributes.get("r"):
            raise failed()
        self.username = attributes["n"].replace("=2C", ",").replace("=3D", "=")
        credential = users.get(self.username, {}).get(mechanism)
        # An unknown user gets a challenge like a known one, and fails at the proof.
        self._credential = credential or credentials(self.username, secrets.token_hex())[mechanism]
        self._known = credential is not None
        self._bare = bare
        self._nonce = attributes["r"] + secrets.token_urlsafe(24)
        salt = base64.b64encode(self._credential.salt).decode()
        self._challenge = f"r={self._nonce},s={salt},i={self._credential.iterations}"

    def challenge(self) -> bytes:
        """The server's first message."""
        return self._challenge.encode()

    def verify(self, final: bytes) -> bytes:
        """Check the client's proof and return the server's.

        Raises:
            CommandError: The proof is wrong, whatever the reason.
        """
        try:
            text = final.decode()
            without_proof, _, proof = text.rpartition(",p=")
            claimed = base64.b64decode(proof, validate=True)
        except ValueError:
            raise failed() from None
        if _attributes(without_proof).get("r") != self._nonce:
            raise failed()
        digest = DIGESTS[self._credential.mechanism]
        message = f"{self._bare},{self._challenge},{without_proof}".encode()
        signature = hmac.digest(self._credential.stored_key, message, digest)
        if len(claimed) != len(signature):
            raise failed()
        client_key = bytes(a ^ b for a, b in zip(signature, claimed, strict=True))
        proven = hmac.compare_digest(hashlib.new(digest, client_key).digest(), self._credential.stored_key)
        if not (proven and self._known):
            raise failed()
        return b"v=" + base64.b64encode(hmac.digest(self._credential.server_key, message, digest))
