"""The types of settings: durations, sizes, secrets, and the model that all settings derive from."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, WithJsonSchema

from deckwatch.durations import seconds_in


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys are errors, defaults are validated too.

    A field of type `Secret` named `password` may be given as `password_file: PATH` instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants")


#: A value that never appears in a log line, error, label or page.
Secret = SecretStr


class Substituted(str):
    """Text that `${...}` was filled into: YAML has not seen it, so that a number in it is still text."""

    __slots__ = ()


_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?")
_SIZE = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))?\s*([KMGTP]i?)?B?", re.IGNORECASE)

_LONGEST = 100 * 365 * 86400  # beyond it, dates and the system's timers overflow
_LARGEST = 2**63 - 1


def parse_duration(value: Any) -> float:
    """Seconds above 0, from `15s`, `1m30s`, `500ms`, `2h`, `1d` or a number of seconds. Raises ValueError."""
    seconds = _seconds(value)
    if seconds is None or not seconds > 0:
        raise ValueError("a duration above 0, such as 15s, 1m30s or 500ms")
    return seconds


def parse_duration_or_zero(value: Any) -> float:
    """Like `parse_duration`, where 0 (never, no limit) has a meaning too."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError("0 or a duration, such as 15s, 1m30s or 500ms")
    return seconds


def _seconds(value: Any) -> float | None:
    """Seconds, not below 0; None for what is no duration."""
    seconds: int | float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and (parsed := seconds_in(value)) is not None:
        seconds = parsed
    elif value == "0" or (isinstance(value, Substituted) and _NUMBER.fullmatch(value.strip())):
        seconds = float(value)
    if seconds is None or not seconds >= 0:
        return None
    if seconds > _LONGEST:
        raise ValueError("a duration of at most 100 years, such as 15s, 1m30s or 500ms")
    return float(seconds)


def parse_size(value: Any) -> int:
    """Bytes, from `512MiB`, `1GiB`, `10MB`, `1k` or a number of bytes. Raises ValueError."""
    size = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        whole, fraction, prefix = match.groups()
        if prefix:
            base = 1024 if prefix.lower().endswith("i") else 1000
            # In whole numbers: a float is exact up to 8 PiB only.
            factor = base ** ("kmgtp".index(prefix[0].lower()) + 1)
            size = int(whole + (fraction or "")) * factor // 10 ** len(fraction or "")
        elif not fraction:
            size = int(whole)
    if size is None or not 0 <= size <= _LARGEST:
        raise ValueError("a size such as 512MiB, 10MB or a number of bytes")
    return size


_DURATION_SCHEMA = r"^(([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+|.*\$\{.*)$"

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "description": "A duration: 15s, 1m30s, 500ms, 2h, 1d, or a number of seconds.",
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": _DURATION_SCHEMA}],
        }
    ),
]
DurationOrZero = Annotated[
    float,
    BeforeValidator(parse_duration_or_zero),
    WithJsonSchema(
        {
            "description": "0, or a duration: 15s, 1m30s, 500ms, 2h, 1d, or a number of seconds.",
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"const": "0"},
                {"type": "string", "pattern": _DURATION_SCHEMA},
            ],
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "description": "A size: 512MiB (1024), 10MB (1000), 1k, or a number of bytes.",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {
                    "type": "string",
                    "pattern": r"^([0-9]+\s*[bB]?|[0-9]+(\.[0-9]+)?\s*[kKmMgGtTpP][iI]?[bB]?|.*\$\{.*)$",
                },
            ],
        }
    ),
]
