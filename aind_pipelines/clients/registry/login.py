"""Which login a registry gets: the one that is configured, else that of the user's netrc for its host."""

from __future__ import annotations

from requests.utils import get_netrc_auth

from aind_pipelines.settings import Settings, reads_files_of_the_caller


def login_for(url: str, settings: Settings) -> tuple[str, str] | None:
    """User and password for the registry at `url`.

    Args:
        url: The registry's address.
        settings: Its ``nbank_username`` and ``nbank_password`` win when both are set.

    Returns:
        The login, or None. A netrc (the file of ``NETRC``, else ``~/.netrc``) that is missing, unreadable or broken
        is like an empty one: reading needs no login, and a registry refuses to write without.
    """
    if settings.nbank_username is not None and settings.nbank_password is not None:
        return settings.nbank_username, settings.nbank_password.get_secret_value()
    if not reads_files_of_the_caller():
        return None
    try:
        found = get_netrc_auth(url)
    except ValueError:  # not text in any encoding
        return None
    return found if found is not None and all(found) else None
