"""Headers that the config adds to requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .values import Secret

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")


def check_headers(headers: Mapping[str, Secret], own: Collection[str]) -> None:
    """Raise ValueError for a header that HTTP does not allow, or that Deckwatch sets (`own`, in lower case)."""
    for name, value in headers.items():
        text = value.get_secret_value()
        if not _NAME.fullmatch(name) or name.lower() in own:
            raise ValueError(f"headers other than {', '.join(own)}, with names such as X-Api-Key")
        if not text.isprintable() or not text.isascii():
            raise ValueError("values of headers in printable ASCII")
