"""URLs of database servers, and what in them is secret.

A secret stays in the process that was given it: in messages it is starred, in pickles it is left out. The same process
finds it again when such a pickle comes back; another one is given it by the environment, as the driver reads it
(``PGPASSWORD``, ``~/.pgpass``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearnkit.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL

# What a URL may say in its query part that nobody else is to know.
_SECRET = ("password", "secret")
_ALIASES = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}

_given: dict[str, URL] = {}
"""Whole URLs by what a pickle says of them."""


def sqlalchemy() -> Any:
    """The library.

    Raises
    ------
    StoreError
        If it is not installed.
    """
    try:
        import sqlalchemy as sa
    except ImportError:
        raise StoreError(
            "A durable ledger needs SQLAlchemy; nothing was changed. Install it with: pip install 'unlearnkit[store]'"
        ) from None
    return sa


def url_of(text: str) -> URL:
    """The URL that is written in a text, with the secrets that this process was given for it.

    Raises
    ------
    StoreError
        If it is none.
    """
    sa = sqlalchemy()
    try:
        url: URL = sa.engine.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # Its message would quote what stands where a port is looked for: perhaps a part of the password.
        raise StoreError(
            "The URL of the ledger cannot be read; nothing was made. Write it as "
            "postgresql+psycopg://user:password@host/database, with special characters of the password as %40 for @."
        ) from None
    url = url.set(drivername=_ALIASES.get(url.drivername, url.drivername))
    return _given.get(str(url), url)


def without_secrets(text: str) -> str:
    """A URL as it may travel, whose secrets this process remembers; a path stays as it is."""
    if "://" not in text:
        return text
    url = url_of(text)
    if url.get_backend_name() == "sqlite":
        return text
    public = _public(url)
    if public != url:
        _given[str(public)] = url
    return str(public)


def shown(url: URL) -> str:
    """A URL as it may be read by others."""
    return url.set(query={}).render_as_string(hide_password=True)


def _public(url: URL) -> URL:
    sa = sqlalchemy()
    query = {name: value for name, value in url.query.items() if not name.lower().endswith(_SECRET)}
    public: URL = sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return public
