"""URLs that can be read in one way only: no piece of an unencoded password becomes a host, a path or an option."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_AUTHORITY = re.compile(r"(?:[^@\[\]]*@)?(?:\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^@:\[\]]+)(?::[0-9]{1,5})?", re.ASCII)
_ENCODED = "/, ?, #, @, [ and ] in a user or password as %2F, %3F, %23, %40, %5B and %5D"


def split_http_url(url: str) -> SplitResult:
    """Split a URL of http or https. Raises ValueError with the right form, which repeats nothing of the URL."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in ("http", "https") or not rest.strip("/"):
        raise ValueError("a URL such as http://127.0.0.1:3100")
    if not url.isprintable() or " " in url:
        raise ValueError("a URL without blanks and control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message quotes the URL
        raise ValueError(f"a URL with {_ENCODED}, and a port between 1 and 65535") from None
    if "#" in url or "@" in parts.path + parts.query or not _AUTHORITY.fullmatch(parts.netloc) or port == 0:
        raise ValueError(f"a URL with {_ENCODED}")
    return parts
