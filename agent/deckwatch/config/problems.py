"""What is wrong with a config, as data: all of it at once, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Path = tuple[str | int, ...]

HIDDEN = "a value (not shown)"

_SECRET_KEY = re.compile(r"pass|secret|token|credential|_key$|^key$", re.IGNORECASE)
# Passwords stand unencoded in URLs more often than not: nothing after the scheme is known to be none.
_AFTER_SCHEME = re.compile(r"(?<=//).+", re.DOTALL)
_WORD = re.compile(r"\S+")
# Each name is looked at once, from its beginning: the time grows with the text.
_ASSIGNED = re.compile(
    r"""((?<![\w-])(?=[\w-]*(?:pass|pwd|secret|token|credential|api_?key))[\w-]+\s*[=:]\s*)"""
    r"""('[^']*'?|"[^"]*"?|[^\s&;,]+)""",
    re.IGNORECASE,
)
_LONGEST = 1000  # characters of a text of which an error shows the beginning


@dataclass(frozen=True)
class Problem:
    """One fault: where (`line` and `column` count from 1, 0 is unknown), what was found, what would be right.

    `message` is both in a sentence; `found` and `expected` are empty where the message says all (`unknown key`).
    """

    file: str
    line: int
    key: str
    message: str
    column: int = 0
    found: str = ""
    expected: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """A config that cannot be used; `str()` is one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        # An alias repeats what it stands for, and so its faults.
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.key)))
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: Path) -> str:
    """`exporters.redis[0].url`"""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        word = part if part.isprintable() else repr(part)[1:-1]  # a line break in a key would break the message
        word = word if len(word) <= 60 else word[:57] + "..."
        text += f".{word}" if text else word
    return text


def is_secret_key(path: Path) -> bool:
    """Whether what stands here is called like a secret."""
    return any(isinstance(part, str) and _SECRET_KEY.search(part) for part in path)


def redacted(text: str) -> str:
    """A text without URLs (`redis://***`), users (`***@host`) and passwords of connection strings (`password=***`)."""
    return _ASSIGNED.sub(r"\1***", _WORD.sub(_without_user, _AFTER_SCHEME.sub("***", text)))


def _without_user(word: re.Match[str]) -> str:
    user, at, host = word[0].rpartition("@")
    return f"***@{host}" if at and ":" in user else word[0]


def shown(path: Path, value: Any) -> str:
    """A value as an error may show it: short, and without anything that looks like a secret."""
    if is_secret_key(path):
        return HIDDEN
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**60:
        return "a number of more than 60 digits"  # Python refuses to print very long ones
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"a text of more than {_LONGEST} characters"
    written = repr(redacted(str(value))) if isinstance(value, str) else repr(value)
    return written if len(written) <= 60 else written[:57] + "..."


def without(text: str, secrets: set[str]) -> str:
    """A text (what a validator says, say) with none of these values in it."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for form in {secret, repr(secret)[1:-1]}:
            # A short one inside another word is no disclosure, and taking it out would leave no readable sentence.
            pattern = re.escape(form) if len(form) >= 4 else rf"(?<!\w){re.escape(form)}(?!\w)"
            text = re.sub(pattern, "***", text)
    return text
