"""Secrets that stand in the config file itself, and secret files that everybody on the machine can read."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Any

from .problems import dotted, is_secret_key
from .source import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as FilePath

    from .problems import Path

#: A password in a URL, or in a PostgreSQL connection string of keywords.
_IN_ADDRESS = re.compile(r"://[^/?#@\s]*:[^/?#@\s]+@|[?&\s]password=[^&\s]|^password=[^\s]")


def plain_secrets(path: FilePath) -> list[str]:
    """Return the places in a config file of secrets that are neither from the environment nor from a file, such as
    `exporters.redis[0].password (line 12)`. Raises ConfigError if the file cannot be read."""
    source = read(path, None)
    return [
        f"{dotted(where)} (line {source.line(where)})"
        for where, value in _texts(source.values, ())
        if "${" not in value and value and _is_secret(where, value)
    ]


def readable_secret_files(path: FilePath) -> list[FilePath]:
    """Return the secret files named in a config file that all users of the machine can read. Raises ConfigError."""
    found = []
    for where, value in _texts(read(path, None).values, ()):
        if _names_file(where) and (is_secret_key(where) or where[-1] == "key_file"):
            file = path.parent / value
            if file.is_file() and file.stat().st_mode & stat.S_IROTH:
                found.append(file)
    return found


def _is_secret(where: Path, value: str) -> bool:
    if _names_file(where):
        return False
    # A Redis key is called `key`, too.
    return (is_secret_key(where) and where[-1] != "key") or _IN_ADDRESS.search(value) is not None


def _names_file(where: Path) -> bool:
    return str(where[-1]).endswith("_file")


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str) and path:
        yield path, value
