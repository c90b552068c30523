"""What is wrong with a config, as data: all of it at once, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Path = tuple[str | int, ...]

_SECRET_KEY = re.compile(r"pass|secret|token|credential|_key$|^key$", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=//)[^/@\s]*@")


@dataclass(frozen=True)
class Problem:
    """One fault: where (`line` counts from 1, 0 is the file as a whole), what was found, what would be right."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """A config that cannot be used; `str()` is one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.key)))
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: Path) -> str:
    """`exporters.redis[0].url`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def shown(path: Path, value: Any) -> str:
    """A value as an error may show it: short, and without anything that looks like a secret."""
    if any(isinstance(part, str) and _SECRET_KEY.search(part) for part in path):
        return "a value (not shown)"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    text = _USERINFO.sub("***@", value) if isinstance(value, str) else value
    written = repr(text)
    return written if len(written) <= 60 else written[:57] + "..."
