"""Celery's broker URLs as this agent's: kombu has its own schemes and options.

https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from deckwatch.exporter import Secret

_NO_VERIFICATION = frozenset({"none", "cert_none"})
_TLS_FILES = {"ssl_ca_certs": "ca_file", "ssl_certfile": "cert_file", "ssl_keyfile": "key_file"}


def with_kombu_url(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that accept a `url` of kombu, converted to a URL and TLS settings."""
    given = settings.get("url")
    url = given.get_secret_value() if isinstance(given, Secret) else given
    if not isinstance(url, str):
        return settings
    url = re.sub(r"^redis\+socket://", "unix://", url)
    try:
        query = urlsplit(url).query
    except ValueError:
        return settings  # the check of the URL says what is wrong
    if not query or "@" in query:
        return settings
    # All other options are kombu's and concern its own connections.
    options = {key.lower(): value for key, value in parse_qsl(query, keep_blank_values=True)}
    tls: dict[str, Any] = {ours: options[theirs] for theirs, ours in _TLS_FILES.items() if theirs in options}
    if options.get("ssl_cert_reqs", "").lower() in _NO_VERIFICATION:
        tls["verify"] = False
    database = options.get("db") or options.get("virtual_host", "").lstrip("/")
    url = url.replace(f"?{query}", f"?db={quote(database)}" if database else "", 1)
    changed = {**settings, "url": Secret(url) if isinstance(given, Secret) else url}
    return changed if not tls else {**changed, "tls": {**tls, **settings.get("tls", {})}}
