"""A tunnel through an SSH bastion to one server behind it, that says which hop failed and can be restored.

Nothing of the caller's is used: no agent, no keys of ``~/.ssh``, no ``~/.ssh/config``.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import SecretStr

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    import paramiko
    from sshtunnel import SSHTunnelForwarder

SERVICE = "SSH bastion"
_LOCAL = "127.0.0.1"
_NOT_ALLOWED = 1
"""Reason code of RFC 4254, section 5.1: administratively prohibited."""

_log = logging.getLogger(__name__)

# Where nobody has set logging up, paramiko would write its stack to stderr, beside what we say of the failure.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _Notes(logging.Handler):
    """Keeps what sshtunnel logs, the only place where it says why it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def mention(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Tunnel:
    """One forwarded port: what connects to `local_port` on 127.0.0.1 reaches `target` through the bastion.

    Args:
        host: The bastion.
        port: Its SSH port.
        username: SSH user.
        password: SSH password, or None.
        key_file: Private key, or None.
        key_password: The key's passphrase.
        host_key: The bastion's public key (``ssh-ed25519 AAAA...``); None accepts any.
        target: (host, port) to reach, as the bastion names it.
        timeout: Seconds to wait for the bastion.

    Attributes:
        local_port: Free port chosen at the first `start`; it stays the same when the tunnel is restored.
    """

    def __init__(
        self,
        *,
        host: str,
        username: str,
        target: tuple[str, int],
        port: int = 22,
        password: SecretStr | None = None,
        key_file: Path | None = None,
        key_password: SecretStr | None = None,
        host_key: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._bastion = (host, port)
        self._username = username
        self._password = password
        self._key_file = key_file
        self._key_password = key_password
        self._host_key = host_key
        self._target = target
        self._timeout = timeout
        self._forwarder: SSHTunnelForwarder | None = None
        self._lock = threading.Lock()
        self.local_port = 0

    def __repr__(self) -> str:
        return f"Tunnel({self._username}@{self._where} -> {self._to}, local_port={self.local_port})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _where(self) -> str:
        return f"{self._bastion[0]}:{self._bastion[1]}"

    @property
    def _to(self) -> str:
        return f"{self._target[0]}:{self._target[1]}"

    @property
    def is_up(self) -> bool:
        """Whether the SSH connection stands; a bastion that just died may take a moment to be noticed."""
        return self._forwarder is not None and bool(self._forwarder.is_active)

    def start(self) -> None:
        """Log in, forward, and see that the target can be reached. Nothing stays open after an error.

        Raises:
            ServiceUnavailable: The bastion, or the target behind it, cannot be reached.
            AccessRefused: The bastion refused the login, or forwards nothing to the target.
            ServiceError: The key or the bastion's identity cannot be used.
        """
        with self._lock:
            if not self.is_up:
                self._open()

    def heal(self, *, force: bool = False) -> bool:
        """Open the tunnel again, on the same local port, if it is down; errors are those of `start`.

        Args:
            force: Even if it seems to be up.

        Returns:
            Whether it was opened again.
        """
        with self._lock:
            if self.is_up and not force:
                return False
            self._close()
            self._open()
            _log.info("the tunnel through %s to %s was opened again", self._where, self._to)
            return True

    def stop(self) -> None:
        """Close the tunnel and every connection in it. Doing it twice is no error."""
        with self._lock:
            self._close()

    def probe(self) -> None:
        """See whether the bastion forwards to the target and something answers there.

        Raises:
            ServiceUnavailable: The tunnel is down, or the target cannot be reached from the bastion.
            AccessRefused: The bastion forwards nothing to the target.
        """
        import paramiko

        forwarder = self._forwarder
        transport = None if forwarder is None else forwarder._transport
        if transport is None or not transport.is_active():
            raise ServiceUnavailable(SERVICE, f"the connection to {self._where} is lost. Repeat when it is back.")
        try:
            transport.open_channel(
                "direct-tcpip", self._target, (_LOCAL, self.local_port), timeout=self._timeout
            ).close()
        except paramiko.ChannelException as error:
            if error.code == _NOT_ALLOWED:
                raise AccessRefused(
                    SERVICE,
                    f"the tunnel failed: {self._where} let us in, but does not forward to {self._to}. "
                    "Check the target's host and port, or have it allowed there.",
                ) from None
            raise ServiceUnavailable(
                SERVICE,
                f"the tunnel failed: {self._where} let us in, but cannot reach {self._to} ({error.text}). "
                "Check the target's host and port and that it is up.",
            ) from None
        except paramiko.SSHException as error:
            raise ServiceUnavailable(
                SERVICE, f"the tunnel failed: {self._where} did not open a connection to {self._to} ({error})."
            ) from None

    def _open(self) -> None:
        import sshtunnel

        self._reach()
        notes = _Notes()
        logger = logging.Logger("sshtunnel", logging.DEBUG)
        logger.addHandler(notes)
        forwarder = _forwarder_class()(
            self._bastion,
            ssh_config_file=None,
            ssh_username=self._username,
            ssh_password=None if self._password is None else self._password.get_secret_value(),
            ssh_pkey=self._key(),
            ssh_host_key=self._known_host(),
            allow_agent=False,
            host_pkey_directories=[],
            remote_bind_address=self._target,
            local_bind_address=(_LOCAL, self.local_port),
            logger=logger,
        )
        try:
            forwarder.start()
        except sshtunnel.BaseSSHTunnelForwarderError:
            _abandon(forwarder)
            raise self._failure(notes) from None
        except BaseException:
            _abandon(forwarder)
            raise
        self._forwarder = forwarder
        try:
            self.local_port = int(forwarder.local_bind_port)
            self.probe()
        except sshtunnel.BaseSSHTunnelForwarderError:  # the bastion went away at once
            self._close()
            raise self._failure(notes) from None
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            forwarder.stop(force=True)

    def _reach(self) -> None:
        """A plain connection first: it is the hop that fails most often, and sshtunnel waits for it forever."""
        try:
            socket.create_connection(self._bastion, self._timeout).close()
        except OSError as error:
            raise ServiceUnavailable(
                SERVICE,
                f"the bastion {self._where} cannot be reached ({error}). Check DOC_DB_SSH_HOST and DOC_DB_SSH_PORT, "
                "the network, and that it is up.",
            ) from None

    def _failure(self, notes: _Notes) -> ServiceError:
        if notes.mention("Authentication error"):
            return AccessRefused(
                SERVICE,
                f"the login at the bastion {self._where} failed: it refused user {self._username!r} with this "
                f"{'key' if self._password is None else 'password'}. Check DOC_DB_SSH_USERNAME and "
                "DOC_DB_SSH_PASSWORD, or the key.",
            )
        said = next((line for line in notes.lines if "Could not connect" in line or "Problem setting" in line), "")
        if "Bad host key" in said or "host key" in said.lower():
            return ServiceError(SERVICE, f"the bastion {self._where} shows another host key than the one given.")
        reason = f" ({said})" if said else ""
        return ServiceUnavailable(
            SERVICE, f"the bastion {self._where} answers, but no SSH session came about{reason}. Check that it is one."
        )

    def _key(self) -> paramiko.PKey | None:
        if self._key_file is None:
            return None
        import paramiko

        passphrase = None if self._key_password is None else self._key_password.get_secret_value()
        for kind in (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey):
            try:
                return kind.from_private_key_file(str(self._key_file), passphrase)
            except OSError as error:
                raise ServiceError(SERVICE, f"the key {self._key_file} cannot be read: {error.strerror}.") from None
            except (paramiko.SSHException, ValueError):
                continue  # of another kind, or locked
        raise ServiceError(
            SERVICE, f"the key {self._key_file} cannot be used: it is no private key, or needs another passphrase."
        )

    def _known_host(self) -> paramiko.PKey | None:
        if self._host_key is None:
            return None
        import base64

        import paramiko
        from paramiko.pkey import UnknownKeyType

        kind, _, rest = self._host_key.strip().partition(" ")
        with contextlib.suppress(ValueError, paramiko.SSHException, UnknownKeyType):
            return paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split(" ")[0], validate=True))
        raise ServiceError(SERVICE, "the host key given is none; it looks like 'ssh-ed25519 AAAA...'.")


def _abandon(forwarder: Any) -> None:
    """Close what a failed start left: sshtunnel's own `stop` would wait for ever for servers that never served."""
    servers, forwarder._server_list = forwarder._server_list, []
    for server in servers:
        server.server_close()
    forwarder.stop(force=True)


def _forwarder_class() -> Any:
    from sshtunnel import SSHTunnelForwarder

    class Forwarder(SSHTunnelForwarder):  # type: ignore[misc]
        """As it is, but without the password in its text form."""

        def __str__(self) -> str:
            return f"SSHTunnelForwarder({self.ssh_host}:{self.ssh_port})"

        __repr__ = __str__

    return Forwarder
