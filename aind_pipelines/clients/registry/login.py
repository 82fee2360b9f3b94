"""Which login a registry gets: the one that is configured for it, else that of the user's netrc for its host."""

from __future__ import annotations

from urllib.parse import urlsplit

from requests.utils import get_netrc_auth

from aind_pipelines.settings import Settings, reads_files_of_the_caller


def login_for(url: str, settings: Settings) -> tuple[str, str] | None:
    """User and password for the registry at `url`.

    Args:
        url: The registry's address.
        settings: Its ``nbank_username`` and ``nbank_password`` win when both are set; when ``nbank_registry`` is set
            too, only for that one: an archive's nbank.json may name any registry, and none but the one that a login
            was set for may see it.

    Returns:
        The login, or None. A netrc (the file of ``NETRC``, else ``~/.netrc``) that is missing, unreadable or broken
        is like an empty one: reading needs no login, and a registry refuses to write without.
    """
    own = settings.nbank_registry is None or _origin(settings.nbank_registry) == _origin(url)
    if own and settings.nbank_username is not None and settings.nbank_password is not None:
        return settings.nbank_username, settings.nbank_password.get_secret_value()
    if not reads_files_of_the_caller():
        return None
    try:
        found = get_netrc_auth(url)
    except ValueError:  # not text in any encoding
        return None
    return found if found is not None and all(found) else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port (RFC 6454): what one login may be sent to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
